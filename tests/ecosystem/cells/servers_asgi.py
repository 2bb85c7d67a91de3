"""Servers of ASGI: uvicorn, and hypercorn on asyncio and on trio. OpenSSL asks them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import httpx
import hypercorn.asyncio
import hypercorn.trio
import trio
import uvicorn
import uvloop
import websockets.sync.client
from hypercorn.config import Config

import pellucid
import pellucid.uvicorn
from pellucid.explain import Recorder
from pellucid.integrations.hypercorn import connections
from pellucid.integrations.hypercorn_trio import trio_connections
from pellucid.integrations.uvicorn import uvicorn_protocol
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.peers import BODY, fetched
from tests.ecosystem.trial import Trial

_SERVER = "it is a server, and no client"
_NO_PROXY = "a server does not go through proxies; what they pass on is TLS as any"
_FROM_THE_START = "HTTPS is TLS from the first byte"
SECONDS: Final = 20.0
LARGE: Final = b"x" * 300_000

Event = dict[str, Any]
"""ASGI's"""


class Application:
    """Answers what was posted, or BODY; echoes over WebSockets. scopes: of all that were asked, in order."""

    def __init__(self) -> None:
        self.scopes: list[Event] = []

    async def __call__(
        self, scope: Event, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
            return
        self.scopes.append(dict(scope))
        if scope["type"] == "websocket":
            await self._echo(receive, send)
            return
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        headers = [(b"content-length", str(len(body or BODY)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body or BODY})

    async def _echo(self, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]) -> None:
        while (event := await receive())["type"] != "websocket.disconnect":
            if event["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            else:
                await send({"type": "websocket.send", "bytes": event["bytes"]})


class _Running:
    """A server in a thread of its own: its port, and the application that it serves."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.application = Application()

    def answers(self, context: ssl.SSLContext) -> None:
        """Have OpenSSL, by the standard library, ask twice over one connection."""
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=SECONDS, context=context)
        with contextlib.closing(connection):
            for body, answer in ((LARGE, LARGE), (None, BODY)):
                connection.request("POST" if body else "GET", "/", body=body)
                with contextlib.closing(connection.getresponse()) as response:
                    assert response.status == 200 and response.read() == answer
        assert {scope["scheme"] for scope in self.application.scopes} == {"https"}

    def answers_http2(self, context: ssl.SSLContext) -> None:
        with httpx.Client(http2=True, verify=context, timeout=SECONDS, trust_env=False) as client:
            for body, answer in ((LARGE, LARGE), (None, BODY)):
                response = client.request("POST" if body else "GET", f"https://localhost:{self.port}/", content=body)
                assert (response.status_code, response.http_version) == (200, "HTTP/2")
                assert response.content == answer
        assert {scope["http_version"] for scope in self.application.scopes} == {"2"}

    def echoes(self, context: ssl.SSLContext) -> None:
        """Over a WebSocket."""
        with websockets.sync.client.connect(f"wss://localhost:{self.port}/", ssl=context, proxy=None) as websocket:
            for data in (b"hello", LARGE):
                websocket.send(data)
                assert websocket.recv(SECONDS) == data
        assert self.application.scopes[-1]["scheme"] == "wss"

    def sees_its_clients(self, trial: Trial) -> None:
        """ASGI's tls extension, all six fields, of a client that shows a certificate; who shows none is refused."""
        assert fetched(self.port, context=trial.stdlib_client("http/1.1", certificate=True)) == BODY
        (handshake,) = trial.handshakes
        shown = ssl.DER_cert_to_PEM_cert(trial.credential.chain[0])
        extensions = self.application.scopes[-1]["extensions"]
        assert extensions["tls"] == {
            "server_cert": shown,
            "client_cert_chain": (shown, trial.authority.root_pem.decode("ascii")),  # OpenSSL sends the root as well
            "client_cert_name": "CN=localhost",
            "client_cert_error": None,
            "tls_version": 0x0304,
            "cipher_suite": handshake.cipher_suite,
        }
        assert extensions["pellucid"]["negotiated"]["version"] == "TLSv1.3"
        assert extensions["pellucid"]["verification"].accepted
        with contextlib.suppress(OSError, http.client.HTTPException):
            fetched(self.port, context=trial.stdlib_client("http/1.1"))
            raise AssertionError("it answered somebody without a certificate")

    def survives(self) -> None:
        """Say what is no TLS, and leave in the middle of a handshake: others are served all the same."""
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(("127.0.0.1", self.port), SECONDS) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while sock.recv(2**12):
                        pass
        assert fetched(self.port) == BODY


def _in_a_thread(main: Callable[[threading.Event], Any]) -> tuple[threading.Thread, threading.Event]:
    """Run main(stop) in a thread; it returns once *stop* is set."""
    stop = threading.Event()
    thread = threading.Thread(target=main, args=(stop,), daemon=True)
    thread.start()
    return thread, stop


def _ended(thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    thread.join(SECONDS)
    assert not thread.is_alive()


# ---- uvicorn ---------------------------------------------------------------------------------------------------------

library("uvicorn")
empty("uvicorn", "client", _SERVER)
empty("uvicorn", "HTTP/2", "it speaks HTTP/1.1 only")
empty("uvicorn", "proxy", _NO_PROXY)
empty("uvicorn", "start_tls", _FROM_THE_START)


@contextlib.contextmanager
def _uvicorn(context: ssl.SSLContext, **settings: Any) -> Iterator[_Running]:  # Any: uvicorn's own
    """uvicorn with a context, which its event loop does TLS with."""
    settings["ssl_context_factory"] = lambda config, default: context
    with _serving(uvicorn.Server, **settings) as running:
        yield running


@contextlib.contextmanager
def _native(trial: Trial, **settings: Any) -> Iterator[_Running]:  # Any: uvicorn's own
    """uvicorn over `pellucid.asyncio`, which asks clients for certificates if they have any."""
    config = pellucid.ServerConfig(
        credentials=(trial.credential,),
        client_authentication=pellucid.ClientAuthentication.OPTIONAL,
        client_trust=trial.authority.trust,
    )

    def recorder() -> Recorder:
        made = Recorder()
        trial.seen(made)
        return made

    with _serving(lambda own: pellucid.uvicorn.Server(own, config, trace=recorder), **settings) as running:
        yield running


@contextlib.contextmanager
def _serving(make: Callable[[uvicorn.Config], uvicorn.Server], **settings: Any) -> Iterator[_Running]:
    listener = socket.create_server(("127.0.0.1", 0))
    running = _Running(listener.getsockname()[1])
    config = uvicorn.Config(
        running.application, log_config=None, access_log=False, timeout_graceful_shutdown=1, **settings
    )
    server = make(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        listener.close()
        assert not thread.is_alive()


@cell("uvicorn", "server", "h11")
def uvicorn_h11_answers(trial: Trial) -> None:
    with _uvicorn(trial.server(), http="h11", loop="asyncio") as running:
        running.answers(trial.stdlib_client())
        running.survives()


@cell("uvicorn", "server", "httptools")
def uvicorn_httptools_answers(trial: Trial) -> None:
    with _uvicorn(trial.server(), http="httptools", loop="asyncio") as running:
        running.answers(trial.stdlib_client())
        running.survives()


@cell("uvicorn", "server", "tls extension")
def uvicorn_knows_its_clients(trial: Trial) -> None:
    with _uvicorn(trial.asking_server(), http=uvicorn_protocol("httptools"), loop="asyncio") as running:
        running.sees_its_clients(trial)


@cell("uvicorn", "async", "websockets", side="server", verifies=False)
def uvicorn_echoes_over_websockets(trial: Trial) -> None:
    with _uvicorn(trial.server(), loop="asyncio") as running:
        running.echoes(trial.stdlib_client())


@cell("uvicorn", "async", "uvloop", side="server", verifies=False)
def uvicorn_runs_on_uvloop(trial: Trial) -> None:
    with _uvicorn(trial.server(), http="httptools", loop="uvloop") as running:
        running.answers(trial.stdlib_client())
        running.echoes(trial.stdlib_client())
        running.survives()


@cell("uvicorn", "server", "pellucid.uvicorn")
def uvicorn_native_answers(trial: Trial) -> None:
    with _native(trial, http="h11", loop="asyncio") as running:
        running.answers(trial.stdlib_client())
        running.survives()


@cell("uvicorn", "async", "pellucid.uvicorn, uvloop", side="server", verifies=False)
def uvicorn_native_runs_on_uvloop(trial: Trial) -> None:
    with _native(trial, http="httptools", loop="uvloop") as running:
        running.answers(trial.stdlib_client(certificate=True))
        assert running.application.scopes[-1]["extensions"]["tls"]["client_cert_name"] == "CN=localhost"
        running.echoes(trial.stdlib_client())
        running.survives()


# ---- hypercorn -------------------------------------------------------------------------------------------------------

for _loop in ("asyncio", "trio"):
    library(f"hypercorn ({_loop})", "hypercorn")
    empty(f"hypercorn ({_loop})", "client", _SERVER)
    empty(f"hypercorn ({_loop})", "proxy", _NO_PROXY)
    empty(f"hypercorn ({_loop})", "start_tls", _FROM_THE_START)


class _Config(Config):
    """What hypercorn needs to take a context: it has a hook for it, and no parameter."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context
        self.errorlog = self.accesslog = None
        self.graceful_timeout = self.shutdown_timeout = 0.5

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        return self._context


@contextlib.contextmanager
def _hypercorn(context: ssl.SSLContext, run: Callable[[Any, Config, threading.Event], None]) -> Iterator[_Running]:
    listener = socket.create_server(("127.0.0.1", 0))
    running = _Running(listener.getsockname()[1])
    config = _Config(context)
    config.bind = [f"fd://{listener.detach()}"]
    thread, stop = _in_a_thread(lambda stop: run(running.application, config, stop))
    try:
        yield running
    finally:
        _ended(thread, stop)


def _on_asyncio(application: Any, config: Config, stop: threading.Event) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # of those who say what is no TLS
        await hypercorn.asyncio.serve(application, config, shutdown_trigger=lambda: asyncio.to_thread(stop.wait))

    asyncio.run(main())


def _on_uvloop(application: Any, config: Config, stop: threading.Event) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await hypercorn.asyncio.serve(application, config, shutdown_trigger=lambda: asyncio.to_thread(stop.wait))

    uvloop.run(main())


def _on_trio(application: Any, config: Config, stop: threading.Event) -> None:
    async def stopped() -> None:
        await trio.to_thread.run_sync(stop.wait)

    async def main() -> None:
        await hypercorn.trio.serve(application, config, shutdown_trigger=stopped)

    trio.run(main)


@cell("hypercorn (asyncio)", "server")
def hypercorn_asyncio_answers(trial: Trial) -> None:
    with _hypercorn(trial.server(alpn=("http/1.1",)), _on_asyncio) as running:
        running.answers(trial.stdlib_client("http/1.1"))
        running.survives()


@cell("hypercorn (asyncio)", "server", "tls extension")
def hypercorn_asyncio_knows_its_clients(trial: Trial) -> None:
    with connections(), _hypercorn(trial.asking_server(alpn=("http/1.1",)), _on_asyncio) as running:
        running.sees_its_clients(trial)


@cell("hypercorn (asyncio)", "HTTP/2", side="server", verifies=False)
def hypercorn_asyncio_speaks_http2(trial: Trial) -> None:
    with _hypercorn(trial.server(alpn=("h2", "http/1.1")), _on_asyncio) as running:
        running.answers_http2(trial.stdlib_client("h2", "http/1.1"))


@cell("hypercorn (asyncio)", "async", "websockets", side="server", verifies=False)
def hypercorn_asyncio_echoes_over_websockets(trial: Trial) -> None:
    with _hypercorn(trial.server(alpn=("h2", "http/1.1")), _on_asyncio) as running:
        running.echoes(trial.stdlib_client("http/1.1"))


@cell("hypercorn (asyncio)", "async", "uvloop", side="server", verifies=False)
def hypercorn_runs_on_uvloop(trial: Trial) -> None:
    with _hypercorn(trial.server(alpn=("h2", "http/1.1")), _on_uvloop) as running:
        running.answers_http2(trial.stdlib_client("h2"))
        running.survives()


@cell("hypercorn (trio)", "server")
def hypercorn_trio_answers(trial: Trial) -> None:
    with _hypercorn(trial.server(alpn=("http/1.1",)), _on_trio) as running:
        running.answers(trial.stdlib_client("http/1.1"))
        running.survives()


@cell("hypercorn (trio)", "server", "tls extension")
def hypercorn_trio_knows_its_clients(trial: Trial) -> None:
    with trio_connections(), _hypercorn(trial.asking_server(alpn=("http/1.1",)), _on_trio) as running:
        running.sees_its_clients(trial)


@cell("hypercorn (trio)", "HTTP/2", side="server", verifies=False)
def hypercorn_trio_speaks_http2(trial: Trial) -> None:
    with _hypercorn(trial.server(alpn=("h2", "http/1.1")), _on_trio) as running:
        running.answers_http2(trial.stdlib_client("h2", "http/1.1"))


@cell("hypercorn (trio)", "async", side="server", verifies=False)
def hypercorn_trio_echoes_over_websockets(trial: Trial) -> None:
    with _hypercorn(trial.server(alpn=("h2", "http/1.1")), _on_trio) as running:
        running.echoes(trial.stdlib_client("http/1.1"))
