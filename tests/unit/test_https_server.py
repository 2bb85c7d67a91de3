"""`HttpsServer` and the fixture: real clients against pages, WSGI and ASGI applications, right and wrong ones."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp
import httpx2
import pytest
import requests

import pellucid
from pellucid.testing.ca import CA
from pellucid.testing.https_server import HttpsServer, Page

Serve = Callable[..., HttpsServer]


def get(server: HttpsServer, path: str = "", **options: Any) -> requests.Response:
    session = requests.Session()
    session.trust_env = False
    with session:
        return session.request(
            options.pop("method", "GET"), server.url + path, verify=str(server.ca_path), timeout=10, **options
        )


def echo_wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("201 Made", [("Content-Type", "application/json"), ("X-Two", "a"), ("X-Two", "b")])
    facts = {key: environ[key] for key in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "wsgi.url_scheme")}
    return [json.dumps(facts | {"body": environ["wsgi.input"].read().decode()}).encode()]


async def echo_asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"  # it knows no lifespan: it raises there
    message = await receive()
    assert scope["extensions"]["tls"]["tls_version"] == 0x0304
    facts = {key: scope[key] for key in ("method", "path", "scheme", "http_version")}
    facts |= {"query": scope["query_string"].decode(), "body": message["body"].decode()}
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(facts).encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b"\n"})


# ---- clients ---------------------------------------------------------------------------------------------------------


def test_https_server_is_trusted_by_every_kind_of_client(https_server: Serve) -> None:
    server = https_server({"/": "hello"})
    assert get(server).text == "hello"
    with httpx2.Client(verify=server.client_context, trust_env=False) as client:
        assert client.get(server.url).text == "hello"
    ours = ssl.create_default_context(cafile=server.ca_path)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=ours))
    assert opener.open(server.url, timeout=10).read() == b"hello"

    async def fetch() -> str:
        async with aiohttp.ClientSession() as session, session.get(server.url, ssl=server.client_context) as answer:
            return await answer.text()

    assert asyncio.run(fetch()) == "hello"
    with pellucid.connect(server.address, server.port, server.client_config, server_name=server.host) as stream:
        stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert stream.read_to_end().endswith(b"\r\n\r\nhello")
    assert [one.path for one in server.requests] == ["/"] * 5
    assert server.errors == []


@pytest.mark.program("curl")
def test_https_server_is_trusted_by_curl_with_its_file(https_server: Serve) -> None:
    server = https_server({"/a b": b"\x00\x01"})
    command = ("curl", "-sS", "--noproxy", "*", "--cacert", str(server.ca_path), f"{server.url}a%20b")
    assert subprocess.run(command, capture_output=True, timeout=20, check=True).stdout == b"\x00\x01"


def test_https_server_is_not_trusted_without(https_server: Serve) -> None:
    server = https_server({"/": "hello"})
    other = ssl.create_default_context(cadata=CA().root_pem.decode())
    refused = pytest.raises(ssl.SSLCertVerificationError)
    with socket.create_connection((server.address, server.port), 10) as sock, refused:
        other.wrap_socket(sock, server_hostname="localhost")
    assert (server.requests, server.errors) == ([], [])


def test_https_server_keeps_connections(https_server: Serve) -> None:
    server = https_server({"/": "hello", "/json": {"a": [1]}})
    client = http.client.HTTPSConnection("localhost", server.port, timeout=10, context=server.client_context)
    for _ in range(3):
        client.request("GET", "/json")
        assert json.loads(client.getresponse().read()) == {"a": [1]}
    client.request("HEAD", "/")
    answer = client.getresponse()
    assert (answer.read(), answer.getheader("content-length")) == (b"", "5")
    client.close()
    assert len({id(one.connection) for one in server.requests}) == 1


# ---- applications ----------------------------------------------------------------------------------------------------


def test_https_server_pages(https_server: Serve) -> None:
    pages: dict[str, Any] = {"/moved": Page(b"", 302, {"Location": "/there"}), "/there": "here"}
    server = https_server(pages)
    assert get(server, "moved").text == "here"
    assert get(server, "nowhere").status_code == 404
    assert get(server, "there", method="POST", data=b"x").status_code == 405
    pages["/nowhere"] = "now"
    assert get(server, "nowhere").text == "now"
    assert server.requests[-3].body == b""
    assert server.requests[3].body == b"x"
    assert server.requests[0].header("host") == f"localhost:{server.port}"


@pytest.mark.parametrize("application", [echo_wsgi, echo_asgi], ids=["wsgi", "asgi"])
def test_https_server_applications_get_requests_whole(application: Any, https_server: Serve) -> None:
    server = https_server(application)
    sized = get(server, "a%20b?c=d", method="POST", data="x" * 100_000)
    assert sized.status_code == 201
    assert sized.json()["body"] == "x" * 100_000
    chunked = get(server, "c", method="PUT", data=iter([b"one", b"two" * 50_000]))
    assert chunked.json()["body"] == "one" + "two" * 50_000
    values = set(sized.json().values())
    assert {"POST", "/a b", "c=d", "https"} <= values


def test_https_server_wsgi_details(https_server: Serve) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Any:
            yield b"a"
            yield b""
            yield b"b"

        def close(self) -> None:
            closed.append(True)

    def application(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("X-Request", environ["HTTP_X_REQUEST"])])
        write(b"written ")
        return Body()

    answer = get(https_server(application), headers={"X-Request": "7"})
    assert (answer.text, answer.headers["X-Request"], answer.headers["Transfer-Encoding"]) == (
        "written ab",
        "7",
        "chunked",
    )
    assert closed == [True]


def test_https_server_asgi_lifespan_and_state(https_server: Serve) -> None:
    events = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["made"] = "at start"
            await send({"type": "lifespan.startup.complete"})
            events.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["state"]["made"].encode()})

    with HttpsServer(application) as server:
        assert get(server).text == "at start"
    assert events == ["lifespan.shutdown"]

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="no database"), HttpsServer(failing):
        pytest.fail("it started")


def test_https_server_asks_clients_for_certificates(https_server: Serve, tls_ca: CA, tmp_path: Any) -> None:
    server = https_server(
        {"/": "hello"}, client_trust=tls_ca.trust, client_authentication=pellucid.ClientAuthentication.REQUIRED
    )
    leaf = tls_ca.issue(common_name="Alice", purposes=("client",))
    (tmp_path / "client.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    assert get(server, cert=str(tmp_path / "client.pem")).text == "hello"
    peer = server.requests[0].connection.peer
    assert peer is not None
    assert peer.chain[0] == leaf.der
    with pytest.raises(requests.exceptions.RequestException):
        get(server)


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_https_server_application_that_raises_is_a_500_and_kept(https_server: Serve) -> None:
    def broken(environ: Any, start_response: Any) -> Any:
        raise LookupError("no such thing")

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        return

    server = https_server(broken)
    answer = get(server)
    assert (answer.status_code, answer.text) == (500, "500: LookupError: no such thing\n")
    assert [type(error) for error in server.errors] == [LookupError]
    assert get(https_server(silent)).status_code == 500


def test_https_server_application_that_breaks_off_gives_no_whole_answer(https_server: Serve) -> None:
    def broken(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"half"
        raise LookupError("and no more")

    server = https_server(broken)
    with pytest.raises(requests.exceptions.RequestException):
        get(server)
    assert len(server.errors) == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.0\r\n\r\n", b"200"),
    ],
)
def test_https_server_answers_wrong_requests(sent: bytes, status: bytes, https_server: Serve) -> None:
    server = https_server({"/": "hello"})
    with pellucid.connect(server.address, server.port, server.client_config, server_name="localhost") as stream:
        stream.settimeout(10)
        stream.sendall(sent)
        assert status in stream.read_to_end().partition(b"\r\n")[0]
    assert server.errors == []


def test_https_server_forges_no_header(https_server: Serve) -> None:
    server = https_server({"/": Page(b"", 200, {"X-Name": "a\r\nSet-Cookie: x"})})
    answer = get(server)
    assert answer.status_code == 500
    assert "Set-Cookie" not in answer.headers


def test_https_server_ends_in_time_though_clients_stay(tls_ca: CA) -> None:
    with HttpsServer({"/": "hello"}, ca=tls_ca) as server:
        idle = pellucid.connect(server.address, server.port, server.client_config, server_name="localhost")
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    idle.close()
    with pytest.raises(TypeError, match="neither an application"):
        HttpsServer(7)
