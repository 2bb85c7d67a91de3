"""websockets: threads and asyncio, client and server, through proxies."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator

import websockets.asyncio.client
import websockets.asyncio.server
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

import pellucid
from pellucid.explain import Recorder
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.peers import BODY
from tests.ecosystem.trial import Trial

library("websockets")
empty("websockets", "HTTP/2", "it begins with an HTTP/1.1 upgrade; WebSockets over HTTP/2 (RFC 8441) it does not know")
empty(
    "websockets", "start_tls", "wss is TLS from the first byte; what a proxy's CONNECT leads to is in the column proxy"
)

MESSAGE = bytes(range(256)) * 1200


@contextlib.contextmanager
def _served(context: ssl.SSLContext) -> Iterator[int]:
    """Give the port of an echo server, in threads."""

    def echo(connection: websockets.sync.server.ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with websockets.sync.server.serve(echo, "127.0.0.1", 0, ssl=context) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join(10)


@cell("websockets", "client")
def websockets_connects(trial: Trial) -> None:
    context = trial.client(trace=Recorder)
    with _served(trial.stdlib_server()) as port:
        with websockets.sync.client.connect(f"wss://localhost:{port}", ssl=context, proxy=None) as socket:
            assert isinstance(pellucid.trace_of(socket), Recorder)
            socket.send(MESSAGE)
            assert socket.recv(timeout=20) == MESSAGE
        with trial.refuses(ssl.SSLCertVerificationError):
            websockets.sync.client.connect(f"wss://127.0.0.1:{port}", ssl=context, proxy=None)
        with trial.refuses(ssl.SSLCertVerificationError, code="X509-UNKNOWN-CA"):
            websockets.sync.client.connect(f"wss://localhost:{port}", ssl=trial.stranger(), proxy=None)


@cell("websockets", "server")
def websockets_serves(trial: Trial) -> None:
    with _served(trial.asking_server()) as port:
        identified = trial.stdlib_client(certificate=True)
        with websockets.sync.client.connect(f"wss://localhost:{port}", ssl=identified, proxy=None) as socket:
            socket.send(MESSAGE)
            assert socket.recv(timeout=20) == MESSAGE
        with contextlib.suppress(OSError, websockets.exceptions.WebSocketException):  # the alert, or what follows it
            websockets.sync.client.connect(f"wss://localhost:{port}", ssl=trial.stdlib_client(), proxy=None).close()
            raise AssertionError("a client without a certificate was served")
    assert len(trial.handshakes) == 1


@cell("websockets", "async")
def websockets_on_asyncio(trial: Trial) -> None:
    """Ours at both ends, many at once."""

    async def echo(connection: websockets.asyncio.server.ServerConnection) -> None:
        assert isinstance(pellucid.trace_of(connection), Recorder)
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        context = trial.client(trace=Recorder)
        server = trial.server(trace=Recorder)
        async with websockets.asyncio.server.serve(echo, "127.0.0.1", 0, ssl=server) as running:
            port = next(iter(running.sockets)).getsockname()[1]

            async def exchange() -> None:
                async with websockets.asyncio.client.connect(
                    f"wss://localhost:{port}", ssl=context, proxy=None
                ) as socket:
                    assert isinstance(pellucid.trace_of(socket), Recorder)
                    await socket.send(MESSAGE)
                    assert await socket.recv() == MESSAGE

            await asyncio.gather(*(exchange() for _ in range(4)))
            with trial.refuses(ssl.SSLCertVerificationError):
                await websockets.asyncio.client.connect(f"wss://127.0.0.1:{port}", ssl=context, proxy=None)

    asyncio.run(asyncio.wait_for(main(), 30))


@cell("websockets", "proxy")
def websockets_goes_through_proxies(trial: Trial) -> None:
    context = trial.client()

    async def main(port: int, proxy: str, proxy_ssl: ssl.SSLContext | None) -> None:
        async with websockets.asyncio.client.connect(
            f"wss://localhost:{port}", ssl=context, proxy=proxy, proxy_ssl=proxy_ssl
        ) as socket:
            await socket.send(BODY)
            assert await socket.recv() == BODY

    with _served(trial.stdlib_server()) as port:
        for address in (trial.peers.proxy, trial.peers.tls_proxy):
            proxy_ssl = context if address.url.startswith("https") else None
            asyncio.run(asyncio.wait_for(main(port, address.url, proxy_ssl), 30))
            through = {"ssl": context, "proxy": address.url, "proxy_ssl": proxy_ssl}
            with websockets.sync.client.connect(f"wss://localhost:{port}", **through) as socket:
                socket.send(MESSAGE)
                assert socket.recv(timeout=20) == MESSAGE
            with trial.refuses(ssl.SSLCertVerificationError):
                websockets.sync.client.connect(f"wss://127.0.0.1:{port}", **through)
