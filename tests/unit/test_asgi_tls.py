"""ASGI's tls extension, all six fields, and what Pellucid adds: over uvicorn and hypercorn, HTTP and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import hypercorn.asyncio
import hypercorn.trio
import pytest
import trio
import uvicorn
import websockets.sync.client
from cryptography import x509
from hypercorn.config import Config

import pellucid
import pellucid.testing.ca
from pellucid import Connection, ServerConfig, SSLContext
from pellucid.config import ClientAuthentication, ClientConfig, Credential
from pellucid.crypto.pyca import PYCA
from pellucid.errors import UsageError
from pellucid.integrations.asgi import OwnConnection, own_connection, tls_extension
from pellucid.integrations.hypercorn import connections
from pellucid.integrations.hypercorn_trio import trio_connections
from pellucid.integrations.uvicorn import uvicorn_protocol
from pellucid.sessions.client import MemorySessionStore
from pellucid.sessions.early_data import StrikeRegister
from pellucid.verify import AllowKeys, dangerous_accept_any, spki_pin
from tests.support.pair import NAME, Pair, authority, credential, issued, server_config
from tests.support.resuming import settle

HOST = "localhost"
SHOWN = credential("ed25519", "client.test")
SECONDS = 20.0

SERVER = ServerConfig(credentials=(credential("p256", HOST),), alpn=("http/1.1",))
ASKING = ServerConfig(
    credentials=SERVER.credentials,
    alpn=("http/1.1",),
    client_authentication=ClientAuthentication.OPTIONAL,
    client_trust=authority().trust,
)


class Application:
    """Answers "ok", echoes over WebSockets. scopes: of all that were asked."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                await send({"type": (await receive())["type"] + ".complete"})
            return
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "hello"})
            await send({"type": "websocket.close"})
            return
        while (await receive()).get("more_body"):
            continue
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Running:
    def __init__(self, port: int, application: Application) -> None:
        self.port = port
        self.application = application

    def ask(self, client: ClientConfig, *, early: bool = False) -> dict[str, Any]:
        """The extensions that the application saw."""
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with pellucid.connect(HOST, self.port, client, early_data=request if early else b"") as stream:
            if not early:
                stream.sendall(request)
            stream.settimeout(SECONDS)
            answer = b""
            while not answer.endswith(b"ok"):  # trio's servers end without close_notify
                answer += stream.recv()
        extensions: dict[str, Any] = self.application.scopes[-1]["extensions"]
        return extensions

    def talk(self, context: ssl.SSLContext) -> dict[str, Any]:
        with websockets.sync.client.connect(f"wss://localhost:{self.port}/", ssl=context) as connection:
            assert connection.recv() == "hello"
        scope = self.application.scopes[-1]
        assert scope["type"] == "websocket"
        extensions: dict[str, Any] = scope["extensions"]
        return extensions


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def on_uvicorn(http: str, ws: str, **options: Any) -> Callable[[ServerConfig], Any]:
    @contextlib.contextmanager
    def serving(config: ServerConfig) -> Iterator[Running]:
        application = Application()
        sock = socket.create_server(("127.0.0.1", 0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of websockets' older interface, at its import
            settings = uvicorn.Config(
                application,
                http=uvicorn_protocol(http),
                ws=ws,  # type: ignore[arg-type]
                ssl_context_factory=lambda *_: SSLContext(config),
                log_level="critical",
                **options,
            )
            settings.load()
        server = uvicorn.Server(settings)
        thread = in_thread(lambda: asyncio.run(server.serve(sockets=[sock])))
        try:
            yield Running(sock.getsockname()[1], application)
        finally:
            server.should_exit = True
            thread.join(SECONDS)
            sock.close()
            assert not thread.is_alive()

    return serving


class HypercornConfig(Config):
    def __init__(self, context: ssl.SSLContext, listener: socket.socket) -> None:
        super().__init__()
        self._context = context
        self.bind = [f"fd://{listener.detach()}"]
        self.errorlog = self.accesslog = None
        self.graceful_timeout = self.shutdown_timeout = 0.5

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        return self._context


def on_hypercorn(introduced: Any, run: Callable[[Any, Config, threading.Event], None]) -> Callable[[ServerConfig], Any]:
    @contextlib.contextmanager
    def serving(config: ServerConfig) -> Iterator[Running]:
        application, stop = Application(), threading.Event()
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        settings = HypercornConfig(SSLContext(config), listener)
        with introduced():
            thread = in_thread(lambda: run(application, settings, stop))
            try:
                yield Running(port, application)
            finally:
                stop.set()
                thread.join(SECONDS)
                assert not thread.is_alive()

    return serving


def asyncio_run(application: Any, config: Config, stop: threading.Event) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await hypercorn.asyncio.serve(application, config, shutdown_trigger=lambda: asyncio.to_thread(stop.wait))

    asyncio.run(main())


def trio_run(application: Any, config: Config, stop: threading.Event) -> None:
    async def stopped() -> None:
        await trio.to_thread.run_sync(stop.wait)

    async def main() -> None:
        await hypercorn.trio.serve(application, config, shutdown_trigger=stopped)

    trio.run(main)


SERVERS = {
    "uvicorn, h11, wsproto": on_uvicorn("h11", "wsproto"),
    "uvicorn, httptools, websockets": on_uvicorn("httptools", "websockets-sansio"),
    "hypercorn, asyncio": on_hypercorn(connections, asyncio_run),
    "hypercorn, trio": on_hypercorn(trio_connections, trio_run),
}


@pytest.fixture(params=SERVERS)
def serving(request: pytest.FixtureRequest) -> Any:
    return SERVERS[request.param]


def client(**changes: Any) -> ClientConfig:
    return ClientConfig(**({"trust": authority().trust} | changes))


def pems(*ders: bytes) -> list[str]:
    return [ssl.DER_cert_to_PEM_cert(der) for der in ders]


def test_scope_has_the_tls_extension_of_a_client_without_a_certificate(serving: Any) -> None:
    with serving(SERVER) as running:
        found = running.ask(client())
    assert found["tls"] == {
        "server_cert": pems(SERVER.credentials[0].chain[0])[0],
        "client_cert_chain": (),
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1301,
    }
    told = found["pellucid"]
    assert told["early_data"] is False
    assert isinstance(told["connection"], OwnConnection)
    assert told["verification"] is None
    assert told["negotiated"] == {
        "version": "TLSv1.3",
        "cipher_suite": "TLS_AES_128_GCM_SHA256",
        "group": "X25519MLKEM768",
        "signature_scheme": "ecdsa_secp256r1_sha256",
        "client_signature_scheme": None,
        "alpn": None,
        "server_name": "localhost",
        "resumed": False,
        "early_data": told["connection"].negotiated.early_data.name.lower(),
    }


def test_scope_has_the_chain_and_the_name_of_a_client_and_of_its_resumed_session(serving: Any) -> None:
    ours = client(credentials=(SHOWN,), sessions=MemorySessionStore())
    with serving(ASKING) as running:
        for resumed in (False, True):
            found = running.ask(ours)
            told, tls = found["pellucid"], found["tls"]
            assert told["negotiated"]["resumed"] is resumed
            assert tls["client_cert_chain"][0] == pems(SHOWN.chain[0])[0]
            assert tls["client_cert_name"] == "CN=client.test"
            assert tls["client_cert_error"] is None
            assert (tls["server_cert"] is None) is resumed
            assert told["verification"].accepted
            assert told["connection"].peer.leaf.der == SHOWN.chain[0]


def test_scope_says_why_a_certificate_that_was_let_pass_is_not_to_be_trusted(serving: Any) -> None:
    stranger = pellucid_stranger()
    config = ServerConfig(
        credentials=SERVER.credentials,
        client_authentication=ClientAuthentication.OPTIONAL,
        verifier=dangerous_accept_any(authority().trust),
    )
    with serving(config) as running:
        tls = running.ask(client(credentials=(stranger,)))["tls"]
        assert tls["client_cert_error"]
        assert tls["client_cert_chain"][0] == pems(stranger.chain[0])[0]
        assert tls["client_cert_name"] == "CN=stranger.test"
        good = running.ask(client(credentials=(SHOWN,)))["tls"]
        assert good["client_cert_error"] is None


def pellucid_stranger() -> Credential:
    leaf = pellucid.testing.ca.CA("Nobody's").issue("stranger.test")
    return Credential.from_pem(leaf.chain_pem, leaf.key_pem)


def test_websocket_scope_has_both_extensions(serving: Any) -> None:
    context = pellucid.SSLContext(client(credentials=(SHOWN,)))
    with serving(ASKING) as running:
        found = running.talk(context)
    assert found["tls"]["client_cert_name"] == "CN=client.test"
    assert found["pellucid"]["negotiated"]["version"] == "TLSv1.3"


def test_request_that_came_early_says_so_and_the_next_does_not(serving: Any) -> None:
    # Its window began long ago: a register takes no early data that one before it may have seen.
    guard = StrikeRegister(dataclasses.replace(PYCA, now=lambda: PYCA.now() - 3600))
    config = ServerConfig(credentials=SERVER.credentials, max_early_data=16_384, replay_guard=guard)
    ours = client(sessions=MemorySessionStore(), early_data=True)
    with serving(config) as running:
        running.ask(ours)
        found = running.ask(ours, early=True)
        assert found["pellucid"]["early_data"] is True
        assert found["pellucid"]["negotiated"]["early_data"] == "accepted"
        assert found["tls"]["tls_version"] == 0x0304
        assert running.ask(ours)["pellucid"]["early_data"] is False


def test_request_counts_as_early_where_the_server_hides_which_was() -> None:
    guard = StrikeRegister(dataclasses.replace(PYCA, now=lambda: PYCA.now() - 3600))
    config = ServerConfig(credentials=SERVER.credentials, max_early_data=16_384, replay_guard=guard)
    ours = client(sessions=MemorySessionStore(), early_data=True)
    with on_uvicorn("h11", "wsproto", reset_contextvars=True)(config) as running:
        assert running.ask(ours)["pellucid"]["early_data"] is False
        assert running.ask(ours, early=True)["pellucid"]["early_data"] is True


def test_two_requests_on_a_connection_have_dictionaries_of_their_own(serving: Any) -> None:
    with serving(SERVER) as running:
        context = ssl.create_default_context(cadata=authority().root_pem.decode())
        connection = http.client.HTTPSConnection(HOST, running.port, context=context, timeout=SECONDS)
        for _ in range(2):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"ok"
        connection.close()
        one, other = (scope["extensions"] for scope in running.application.scopes)
    assert one["tls"] == other["tls"]
    assert one["tls"] is not other["tls"]
    assert one["pellucid"]["connection"] is other["pellucid"]["connection"]


def test_scope_over_another_tls_is_the_servers_own() -> None:
    application = Application()
    sock = socket.create_server(("127.0.0.1", 0))
    settings = uvicorn.Config(application, http=uvicorn_protocol("h11"), ws="none", log_level="critical")
    server = uvicorn.Server(settings)
    thread = in_thread(lambda: asyncio.run(server.serve(sockets=[sock])))
    connection = http.client.HTTPConnection(HOST, sock.getsockname()[1], timeout=SECONDS)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"ok"
    connection.close()
    server.should_exit = True
    thread.join(SECONDS)
    sock.close()
    assert "tls" not in (application.scopes[0].get("extensions") or {})
    assert own_connection(application.scopes[0]) is None


def test_uvicorn_protocol_is_of_a_name_or_a_class_and_no_other() -> None:
    base = uvicorn_protocol("h11")
    assert uvicorn_protocol(base.__mro__[2]).__name__ == "PellucidH11Protocol"
    assert issubclass(uvicorn_protocol(), asyncio.Protocol)
    with pytest.raises(UsageError, match="httptools"):
        uvicorn_protocol("http3")


# ---- of a connection without I/O -------------------------------------------------------------------------------------


def shaken(ours: ClientConfig, theirs: ServerConfig) -> Connection:
    pair = Pair.of(ours, theirs, name=NAME)
    settle(pair)
    return pair.server


def test_name_of_a_client_forges_no_line_of_a_log_and_no_header() -> None:
    """A client that is known by its key has written the certificate itself."""
    leaf = pellucid.testing.ca.CA("its own").issue("a.test", common_name="eve\r\nX-User: admin\x1b[2K\x85\u2028é")
    shown = Credential.from_pem(leaf.chain_pem, leaf.key_pem)
    theirs = dataclasses.replace(
        server_config(),
        client_authentication=ClientAuthentication.REQUIRED,
        verifier=AllowKeys(spki_pin(leaf.certificate_pem)),
    )
    name = tls_extension(shaken(client(credentials=(shown,)), theirs))["client_cert_name"]
    assert name == r"CN=eve\0D\0AX-User: admin\1B[2K\C2\85\E2\80\A8é"
    assert x509.Name.from_rfc4514_string(name) == leaf.certificate.subject


def test_extension_before_anything_is_agreed_on_knows_nothing() -> None:
    assert tls_extension(Connection.server(server_config())) == {
        "server_cert": None,
        "client_cert_chain": (),
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": None,
        "cipher_suite": None,
    }


def test_extension_has_no_certificates_for_raw_public_keys() -> None:
    raw = (pellucid.CertificateType.RAW_PUBLIC_KEY,)
    key = credential().as_raw_public_key()
    verifier = pellucid.RawPublicKeyVerifier(key.chain[0])
    both = {"verifier": verifier, "credentials": (key,), "client_certificate_types": raw}
    ours = ClientConfig(server_certificate_types=raw, **both)  # type: ignore[arg-type]
    theirs = ServerConfig(client_authentication=ClientAuthentication.REQUIRED, **both)  # type: ignore[arg-type]
    found = tls_extension(shaken(ours, theirs))
    assert found["server_cert"] is None
    assert found["client_cert_chain"] == ()
    assert found["client_cert_name"] is None
    assert found["cipher_suite"] == 0x1301


def test_chain_is_what_the_client_sent_and_not_the_root() -> None:
    leaf = issued("p256", "client.test")
    found = tls_extension(
        shaken(
            client(credentials=(credential("p256", "client.test"),)),
            server_config(client_authentication=ClientAuthentication.REQUIRED, client_trust=authority().trust),
        )
    )
    assert list(found["client_cert_chain"]) == pems(*leaf.chain_der)
