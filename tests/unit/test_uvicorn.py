"""pellucid.uvicorn: real uvicorn over our transports, and clients that know nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from websockets.sync.client import connect as connect_websocket

import pellucid
from pellucid.testing.ca import CA
from tests.support.loops import AUTHORITY, CREDENTIAL, client_config, server_config
from tests.support.needs import need, need_module

HTTP = ["h11", "httptools"]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it sees, echoes bodies and WebSocket messages."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"].removeprefix("lifespan.")
            await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown":
                return
    tls, own = scope["extensions"]["tls"], scope["extensions"]["pellucid"]
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"{scope['scheme']} {tls['tls_version']} {message['text']}"})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    client, early = scope["client"][0], own["early_data"]
    seen = f"{scope['scheme']} {tls['tls_version']:#x} {tls['client_cert_name']} {client} {early}"
    headers = [(b"content-length", str(len(seen) + len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": seen.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def served(config: Any, loop: str = "asyncio", **options: Any) -> Iterator[tuple[int, Any]]:
    """The server in a thread; gives its port and itself."""
    sock = socket.create_server(("127.0.0.1", 0))
    options = {"log_level": "warning", "lifespan": "on", "timeout_graceful_shutdown": 5} | options
    server = pellucid.uvicorn.Server(uvicorn.Config(app, loop=loop, **options), config)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            server.run(sockets=[sock])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        yield sock.getsockname()[1], server
    finally:
        server.should_exit = True
        thread.join(20)
        sock.close()
    assert not thread.is_alive() and not failures, failures


def stdlib_context() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("http", HTTP)
def test_requests_are_served_and_the_application_sees_its_connection(loop: str, http: str) -> None:
    with served(server_config(), loop, http=http) as (port, _), httpx.Client(verify=stdlib_context()) as client:
        for body in (b"", b"x" * 1_000_000):
            answer = client.post(f"https://localhost:{port}/", content=body)
            assert answer.content == b"https 0x304 None 127.0.0.1 False" + body


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
def test_websockets_go_over_it(loop: str, ws: str) -> None:
    need_module("wsproto")
    with (
        served(server_config(), loop, ws=ws) as (port, _),
        connect_websocket(f"wss://localhost:{port}/", ssl=stdlib_context()) as websocket,
    ):
        websocket.send("hello")
        assert websocket.recv() == "wss 772 hello"


@pytest.mark.program("curl")
def test_curl_is_served(tmp_path: Path) -> None:
    need(None if shutil.which("curl") else "curl is not installed")
    root = tmp_path / "root.pem"
    root.write_bytes(AUTHORITY.root_pem)
    with served(server_config()) as (port, _):
        command = ("curl", "-sS", "--cacert", root, f"https://localhost:{port}/", f"https://localhost:{port}/")
        done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    assert done.stdout == b"https 0x304 None 127.0.0.1 False" * 2


def test_client_certificates_and_early_data_are_told() -> None:
    person = AUTHORITY.issue("somebody")
    shown = pellucid.Credential.from_pem(person.chain_pem, person.key_pem)
    config = server_config(
        client_authentication=pellucid.ClientAuthentication.OPTIONAL,
        client_trust=AUTHORITY.trust,
        max_early_data=16_384,
    )
    here = client_config(credentials=(shown,))
    with served(config) as (port, _):
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        for early, expected in ((b"", b"127.0.0.1 False"), (request, b"127.0.0.1 True")):
            with pellucid.connect("localhost", port, here, early_data=early) as stream:
                if not early:
                    stream.sendall(request)
                answer = stream.read_to_end()
                assert answer.endswith(expected) and b"CN=somebody" in answer
        with pellucid.connect("localhost", port, here, early_data=request.replace(b"GET", b"DELETE")) as stream:
            assert stream.early_data is pellucid.EarlyDataOutcome.ACCEPTED
            assert b" 425 " in stream.read_to_end()


class Source:
    """A source of configurations, whose certificate is renewed."""

    def __init__(self) -> None:
        self.current = server_config()


def test_renewed_certificates_are_served_from_then_on() -> None:
    source = Source()
    with served(source) as (port, _):
        for _ in range(2):
            with pellucid.connect("localhost", port, client_config()) as stream:
                assert stream.peer is not None
                assert stream.peer.chain[0] == source.current.credentials[0].chain[0]
            leaf = AUTHORITY.issue("localhost")
            source.current = server_config(credentials=(pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem),))


def test_stopping_ends_idle_connections_with_close_notify_and_handshakes_at_once() -> None:
    with served(server_config()) as (port, server):
        idle = pellucid.connect("localhost", port, client_config())
        idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = idle.recv()
        assert answer.startswith(b"HTTP/1.1 200")
        silent = socket.create_connection(("127.0.0.1", port))
        server.should_exit = True
        silent.settimeout(10)
        assert silent.recv(1) == b""
        assert (answer + idle.read_to_end()).endswith(b"False")  # the answer's rest, then close_notify
        idle.close()
        silent.close()


def test_address_is_told_as_https(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None)
        server = pellucid.uvicorn.Server(config, server_config())
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        await server.shutdown()

    with caplog.at_level(logging.INFO, "uvicorn.error"):
        asyncio.run(main())
    assert "Uvicorn running on https://127.0.0.1:" in caplog.text
    assert "http://" not in caplog.text


def test_what_cannot_be_meant_is_refused() -> None:
    for options in ({"ssl_certfile": "x"}, {"workers": 2}, {"reload": True}):
        with pytest.raises(pellucid.UsageError):
            pellucid.uvicorn.run("tests.unit.test_uvicorn:app", server_config(), **options)
        with pytest.raises(pellucid.UsageError):
            pellucid.uvicorn.Server(uvicorn.Config(app, **options), server_config())  # type: ignore[arg-type]
    with pytest.raises(pellucid.UsageError):
        pellucid.uvicorn.Server(uvicorn.Config(app), client_config())  # type: ignore[arg-type]


def test_client_that_trusts_another_root_fails_alone() -> None:
    with served(server_config(credentials=(CREDENTIAL,))) as (port, _):
        with pytest.raises(pellucid.CertificateRejected):
            pellucid.connect("localhost", port, client_config(trust=CA("other").trust))
        with httpx.Client(verify=stdlib_context()) as client:
            assert client.get(f"https://localhost:{port}/").status_code == 200
