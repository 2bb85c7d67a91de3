"""The page served as `pellucid page` serves it, in a thread; and a proxy that keeps every byte that passes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pellucid.config import ClientConfig, Credential, ServerConfig
from pellucid.explain.recorder import Recorder
from pellucid.integrations.asgi import LiveRecorder
from pellucid.integrations.serving import Listening, Server
from pellucid.integrations.ssl_context import SSLContext
from pellucid.net.tcp import bind_listener
from pellucid.registry import NamedGroup
from pellucid.testing.ca import CA, Issued
from pellucid.web.asgi import application

START_SECONDS = 20.0


@functools.cache
def authority() -> tuple[CA, Issued]:
    """The root and the server's certificate of every page that this process serves: one browser takes them all."""
    ca = CA("Test root of the page")
    return ca, ca.issue("localhost", "127.0.0.1", purposes=("server",))


def spki() -> str:
    """Return what Chromium is told to take: the SHA-256 of the server's key, in base64."""
    key = authority()[1].private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


class RunningPage:
    """A server on two free ports, the second with a HelloRetryRequest for all. recorders: of its connections."""

    def __init__(self, app: Any = None, *, secrets: bool = True, records: bool = True) -> None:
        self.ca, leaf = authority()
        self.config = ServerConfig(
            credentials=(Credential.from_pem(leaf.chain_pem, leaf.key_pem),),
            alpn=("h2", "http/1.1"),
            trace_records=True,
        )
        self.recorders: list[Recorder] = []
        self._sockets = [_listening() for _ in range(2)]
        self.port, self.retry_port = (sock.getsockname()[1] for sock in self._sockets)
        self.url = f"https://localhost:{self.port}/"
        self.retry_url = f"https://localhost:{self.retry_port}/"
        self.app = app or application(secrets=secrets, port=self.port, retry_port=self.retry_port)
        self._records = records
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

    @property
    def client(self) -> SSLContext:
        """A context for clients of ours, which resumes nothing."""
        return SSLContext(ClientConfig(trust=self.ca.trust, sessions=None))

    def _recorder(self) -> Recorder:
        self.recorders.append(LiveRecorder())
        return self.recorders[-1]

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        configs = (self.config, replace(self.config, groups=(NamedGroup.SECP384R1, NamedGroup.SECP521R1)))
        recorder = self._recorder if self._records else None
        listeners = [
            Listening(sock=sock, config=config, recorder=recorder)
            for sock, config in zip(self._sockets, configs, strict=True)
        ]
        self._loop = asyncio.get_running_loop()
        self._server = Server(self.app, listeners, grace=0.2, ready=self._ready.set, keep_alive=60)
        await self._server.run()

    def __enter__(self) -> RunningPage:
        self._thread.start()
        assert self._ready.wait(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(START_SECONDS)
        for sock in self._sockets:
            sock.close()
        assert not self._thread.is_alive()


def _listening() -> socket.socket:
    sock, _ = bind_listener("127.0.0.1", 0, backlog=16, keep_syn=True)
    sock.setblocking(False)
    return sock


class RecordingProxy:
    """Passes TCP connections on to *port* and keeps what their clients send. streams: the bytes of each, in order."""

    def __init__(self, port: int) -> None:
        self.streams: list[bytearray] = []
        self._target = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"https://localhost:{self.port}/"
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> RecordingProxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(START_SECONDS)

    def _start(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._socket.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._target))
                kept = bytearray()
                self.streams.append(kept)
                self._open += [client, server]
                self._start(_pump, client, server, kept)
                self._start(_pump, server, client, bytearray())


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            kept += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def no_exceptions_in_threads() -> Iterator[None]:
    """Have what a thread of the block died of fail the test."""
    seen: list[Any] = []
    before = threading.excepthook
    threading.excepthook = seen.append
    try:
        yield
    finally:
        threading.excepthook = before
    assert not seen
