"""httpx, httpx2 and httpcore over the network backend: errors of both families, early data, ways out of trouble."""

from __future__ import annotations

import socket
import ssl
import threading
from types import ModuleType
from typing import Any

import anyio
import httpcore
import httpx
import httpx2
import pytest

import pellucid
from pellucid.explain import diagnose
from pellucid.integrations import httpx as for_httpx
from pellucid.integrations import httpx2 as for_httpx2
from pellucid.integrations.httpcore import AsyncBackend, Backend
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.testing.ca import CA
from tests.unit.test_cli_early import Server, config
from tests.unit.test_cli_get import AUTHORITY

BOTH = pytest.mark.parametrize(("module", "ours"), [(httpx, for_httpx), (httpx2, for_httpx2)], ids=["httpx", "httpx2"])
WAYS = pytest.mark.parametrize("way", ["sync", "asyncio", "trio"])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi\n"
CLOSED = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nhi\n"
EARLY = b"HTTP/1.1 425 Too Early\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def context(**settings: Any) -> pellucid.SSLContext:
    return pellucid.SSLContext(pellucid.ClientConfig(trust=AUTHORITY.trust, **settings))


def ask(module: ModuleType, ours: Any, way: str, given: Any, *requests: tuple[str, str], **settings: Any) -> list[Any]:
    """Return the statuses, or the error that ended it, of requests that one client makes, one after the other."""
    found: list[Any] = []

    async def main() -> None:
        async with module.AsyncClient(transport=ours.AsyncHTTPTransport(given, **settings), timeout=5) as client:
            try:
                for method, url in requests:
                    content = b"x" if method == "POST" else None
                    found.append((await client.request(method, url, content=content)).status_code)
            except Exception as error:
                found.append(error)

    if way != "sync":
        anyio.run(main, backend=way)
        return found
    with module.Client(transport=ours.HTTPTransport(given, **settings), timeout=5) as client:
        try:
            for method, url in requests:
                found.append(client.request(method, url, content=b"x" if method == "POST" else None).status_code)
        except Exception as error:
            found.append(error)
    return found


@BOTH
@WAYS
def test_transport_error_is_the_librarys_and_ours(module: ModuleType, ours: Any, way: str) -> None:
    with Server(config()) as server:
        stranger = pellucid.SSLContext(pellucid.ClientConfig(trust=CA("somebody else").trust))
        (error,) = ask(module, ours, way, stranger, ("GET", server.url))
    assert isinstance(error, module.ConnectError)
    assert isinstance(error, pellucid.CertificateRejected)
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.request.method == "GET"
    assert "error[X509-UNKNOWN-CA]" in "".join(error.__notes__)
    assert diagnose(error).code == "X509-UNKNOWN-CA"
    assert error.report.code == "X509-UNKNOWN-CA"


@BOTH
@WAYS
def test_transport_connection_that_is_refused_is_explained(module: ModuleType, ours: Any, way: str) -> None:
    with Server(config()) as server:
        url = server.url
    (error,) = ask(module, ours, way, context(), ("GET", url))
    assert isinstance(error, module.ConnectError)
    assert diagnose(error).code == "TCP-REFUSED"


@BOTH
@WAYS
def test_transport_sends_a_safe_request_early_and_no_other(module: ModuleType, ours: Any, way: str) -> None:
    given = context(early_data=True)
    with Server(config(), answers=[CLOSED]) as server:
        done = ask(module, ours, way, given, *(3 * [("GET", server.url)]), ("POST", server.url))
    assert done == [200] * 4, server.errors
    assert [early for _, early, _ in server.seen] == [False, True, True, False]
    assert [resumed for _, _, resumed in server.seen][:3] == [False, True, True]


@BOTH
def test_transport_without_early_data_in_the_configuration_sends_none(module: ModuleType, ours: Any) -> None:
    with Server(config(), answers=[CLOSED]) as server:
        assert ask(module, ours, "sync", context(), *(3 * [("GET", server.url)])) == [200] * 3
    assert not any(early for _, early, _ in server.seen)


@BOTH
@WAYS
def test_transport_too_early_is_asked_again_without(module: ModuleType, ours: Any, way: str) -> None:
    with Server(config(), answers=[CLOSED, EARLY, OK]) as server:
        done = ask(module, ours, way, context(early_data=True), *(2 * [("GET", server.url)]))
    assert done == [200, 200], server.errors
    assert [early for _, early, _ in server.seen] == [False, True, False]


@BOTH
@WAYS
def test_transport_rejected_early_data_is_sent_again(module: ModuleType, ours: Any, way: str) -> None:
    keys = pellucid.TicketKeys()
    given = context(early_data=True)
    with Server(config(sessions=keys), answers=[CLOSED]) as server:
        assert ask(module, ours, way, given, ("GET", server.url)) == [200]
    with Server(config(sessions=keys, max_early_data=0), answers=[CLOSED]) as server:
        assert ask(module, ours, way, given, ("GET", server.url)) == [200], server.errors
    ((request, early, resumed),) = server.seen
    assert request.startswith(b"GET / HTTP/1.1\r\n") and not early and resumed


def test_backend_with_somebody_elses_context_says_so() -> None:
    with (
        Server(config()) as server,
        httpcore.ConnectionPool(network_backend=Backend(httpcore)) as pool,
        pytest.raises(ConfigurationError, match="give the pool"),
    ):
        pool.request("GET", server.url)


def test_transport_server_that_says_nothing_is_a_connect_timeout_with_a_report() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with (
            httpx2.Client(transport=for_httpx2.HTTPTransport(context()), timeout=0.3) as client,
            pytest.raises(httpx2.ConnectTimeout) as caught,
        ):
            client.get(f"https://localhost:{port}/")
    assert diagnose(caught.value).code == "PEER-STALLED"


@WAYS
def test_stream_reads_what_a_server_said_that_asked_for_a_key_update_and_left(way: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = pellucid.SSLContext(pellucid.ServerConfig(credentials=config().credentials))
    gone = threading.Event()

    def serve() -> None:
        with listener, server.wrap_socket(listener.accept()[0], server_side=True) as stream:
            stream.recv(1)
            stream.connection.send_key_update(request_peer=True)
            stream.sendall(b"the answer")
        gone.set()

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    broken = httpcore.WriteError("the server has left")

    async def main() -> None:
        stream = await (await AsyncBackend(httpcore).connect_tcp("localhost", port)).start_tls(
            context(), "localhost", 5
        )
        await stream.write(b"-", 5)
        await anyio.to_thread.run_sync(gone.wait, 5)
        stream._inner.write = _raises(broken)  # type: ignore[method-assign]
        assert await stream.read(100, 5) == b"the answer"
        with pytest.raises(httpcore.WriteError):
            await stream.write(b"-", 5)
        await stream.aclose()

    if way != "sync":
        anyio.run(main, backend=way)
    else:
        stream = Backend(httpcore).connect_tcp("localhost", port).start_tls(context(), "localhost", 5)
        stream.write(b"-", 5)
        assert gone.wait(5)
        stream._inner.write = _raises(broken, awaited=False)  # type: ignore[method-assign]
        assert stream.read(100, 5) == b"the answer"
        with pytest.raises(httpcore.WriteError):
            stream.write(b"-", 5)
        stream.close()
    thread.join(5)


def _raises(error: Exception, *, awaited: bool = True) -> Any:
    def raising(*_: object) -> None:
        raise error

    async def raising_later(*_: object) -> None:
        raise error

    return raising_later if awaited else raising
