"""`SSLContext.on_handshake`: the record of each connection, in any library that takes our context."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import aiohttp
import anyio
import httpx2
import pytest
import requests
from requests.adapters import HTTPAdapter

from pellucid import aio
from pellucid.config import ClientConfig, ServerConfig
from pellucid.connection import Connection
from pellucid.explain import Recorder, write_pcapng
from pellucid.integrations.ssl_context import SSLContext
from pellucid.net.listener import listen
from pellucid.net.sync import connect
from pellucid.registry import AlertDescription
from pellucid.trace import (
    AlertTraced,
    Direction,
    HandshakeCompleted,
    MessageTraced,
    RecordTraced,
    Role,
    TcpConnected,
)
from tests.support.pair import pump
from tests.unit.test_ssl_context import CLIENT, SERVER, contexts

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


@contextlib.contextmanager
def website() -> Iterator[str]:
    """An HTTPS server; what goes wrong on a connection is its client's to tell."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = SSLContext(SERVER)

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), sock:
                    sock.settimeout(10)
                    with context.wrap_socket(sock, server_side=True) as stream:
                        request = b""
                        while b"\r\n\r\n" not in request and (data := stream.recv(2**14)):
                            request += data
                        stream.sendall(RESPONSE)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}/"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(20)
    assert not thread.is_alive()


class Adapter(HTTPAdapter):
    def __init__(self, context: SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *arguments: object, **keywords: object) -> None:
        super().init_poolmanager(*arguments, ssl_context=self._context, **keywords)  # type: ignore[arg-type]

    def cert_verify(self, *arguments: object) -> None: ...


def by_requests(context: SSLContext, url: str) -> bytes:
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", Adapter(context))
        return session.get(url, timeout=10).content


def by_httpx2(context: SSLContext, url: str) -> bytes:
    with httpx2.Client(verify=context, trust_env=False, timeout=10) as client:
        return client.get(url).content


def by_aiohttp(context: SSLContext, url: str) -> bytes:
    async def get() -> bytes:
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
            return await response.read()

    return asyncio.run(asyncio.wait_for(get(), 20))


LIBRARIES = (by_requests, by_httpx2, by_aiohttp)


@pytest.mark.parametrize("fetch", LIBRARIES, ids=lambda one: one.__name__)
def test_libraries_deliver_the_record_of_each_connection(fetch: object) -> None:
    assert callable(fetch)
    context = SSLContext(CLIENT)
    records: list[Recorder] = []
    context.on_handshake(records.append)
    with website() as url:
        assert fetch(context, url) == b"hi"
        assert fetch(context, url) == b"hi"
    assert len(records) == 2
    for record in records:
        assert record.first(HandshakeCompleted) is not None
        assert record.first(MessageTraced) is not None
        assert not record.of(RecordTraced)
    assert records[0] is not records[1]


@pytest.mark.parametrize("fetch", LIBRARIES, ids=lambda one: one.__name__)
def test_libraries_deliver_the_record_of_a_failed_handshake(fetch: object) -> None:
    assert callable(fetch)
    context = SSLContext()  # which does not know the server's CA
    records: list[Recorder] = []
    context.on_handshake(records.append)
    with website() as url, pytest.raises((OSError, httpx2.HTTPError, aiohttp.ClientError)):
        fetch(context, url)
    assert len(records) == 1
    alerts = records[0].of(AlertTraced)
    assert [alert.description for alert in alerts] == [AlertDescription.UNKNOWN_CA]
    assert alerts[0].direction is Direction.SENT


def test_records_and_addresses_are_there_for_a_capture_file() -> None:
    context = SSLContext(CLIENT)
    records: list[Recorder] = []
    context.on_handshake(records.append, records=True)
    with website() as url:
        by_requests(context, url)
    connected = records[0].first(TcpConnected)
    assert connected is not None
    assert connected.role is Role.CLIENT
    assert f":{connected.peer_port}/" in url
    file = io.BytesIO()
    write_pcapng(records[0], file)
    assert b"CLIENT_TRAFFIC_SECRET_0" in file.getvalue()
    assert len(records[0].of(RecordTraced)) > 6


def test_both_ends_and_several_callbacks_are_told_once_and_a_bad_one_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, server = contexts()
    seen: list[tuple[str, Recorder]] = []

    @client.on_handshake
    def first(record: Recorder) -> None:
        seen.append(("first", record))
        raise ValueError("a mistake of the application's")

    client.on_handshake(lambda record: seen.append(("second", record)))
    server.on_handshake(lambda record: seen.append(("server", record)))
    assert callable(first)
    here, there = socket.socketpair()
    with caplog.at_level(logging.CRITICAL + 1, "pellucid"):
        thread = threading.Thread(target=lambda: server.wrap_socket(there, server_side=True).close())
        thread.start()
        with client.wrap_socket(here, server_hostname="localhost") as stream:
            assert stream.recv(1) == b""
        thread.join(10)
    assert sorted(name for name, _ in seen) == ["first", "second", "server"]
    records = dict(seen)
    assert records["first"] is records["second"]
    completed = records["server"].first(HandshakeCompleted)
    assert completed is not None
    assert completed.role is Role.SERVER


def test_trace_stays_what_the_configuration_made_where_a_callback_is_told_too() -> None:
    recorder = Recorder()
    seen: list[Recorder] = []
    context = SSLContext(replace(CLIENT, trace=lambda: recorder))
    context.on_handshake(seen.append)
    with website() as url:
        port = int(url.rpartition(":")[2].strip("/"))
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as stream:
            assert stream.trace is recorder
            stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while stream.recv(1000):
                continue
    told = [type(event) for event in seen[0].events]
    assert told == [type(event) for event in recorder.events]


def test_what_a_callback_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    context = SSLContext(CLIENT)
    context.on_handshake(lambda record: 1 / 0)
    with website() as url:
        assert by_requests(context, url) == b"hi"
    assert "on_handshake" in caplog.text


@pytest.mark.parametrize("end", ["reset", "closed", "silent"])
def test_handshake_that_the_network_ends_is_told_of(end: str) -> None:
    context = SSLContext(CLIENT)
    records: list[Recorder] = []
    context.on_handshake(records.append)
    here, there = socket.socketpair()
    here.settimeout(0.2)
    if end != "silent":
        there.close() if end == "reset" else there.shutdown(socket.SHUT_WR)
    with pytest.raises(OSError):
        context.wrap_socket(here, server_hostname="localhost")
    assert len(records) == 1
    assert records[0].first(HandshakeCompleted) is None
    there.close()


def test_asyncio_handshake_that_runs_out_of_time_is_told_of() -> None:
    context = SSLContext(CLIENT)
    records: list[Recorder] = []
    context.on_handshake(records.append)

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OSError):
            await asyncio.open_connection(
                *silent.getsockname(), ssl=context, server_hostname="localhost", ssl_handshake_timeout=0.2
            )

    asyncio.run(asyncio.wait_for(main(), 20))
    gc.collect()
    assert len(records) == 1


def test_context_without_callbacks_traces_nothing() -> None:
    client, server = contexts()
    assert client.new_engine(server_side=False, server_hostname="localhost").observer is None
    assert server.new_engine(server_side=True, server_hostname=None).watch is None


# ---- config.trace ----------------------------------------------------------------------------------------------------


def sans_io(client: ClientConfig, server: ServerConfig) -> None:
    pump(Connection.client(client, "localhost"), Connection.server(server))


def by_sockets(client: ClientConfig, server: ServerConfig) -> None:
    here, there = socket.socketpair()
    context = SSLContext(server)
    thread = threading.Thread(target=lambda: context.wrap_socket(there, server_side=True).close())
    thread.start()
    SSLContext(client).wrap_socket(here, server_hostname="localhost").close()
    thread.join(10)


def by_streams(client: ClientConfig, server: ServerConfig) -> None:
    with listen("127.0.0.1", 0, server) as listener:
        thread = threading.Thread(target=lambda: listener.accept(handshake=True).close())
        thread.start()
        connect("localhost", listener.address[1], client).close()
        thread.join(10)


def by_async_streams(client: ClientConfig, server: ServerConfig) -> None:
    async def main() -> None:
        async with await aio.listen("127.0.0.1", 0, server) as listener, anyio.create_task_group() as group:

            async def accept() -> None:
                stream = await listener.accept()
                await stream.do_handshake()
                await stream.aclose()

            group.start_soon(accept)
            await (await aio.connect("localhost", listener.address[1], client)).aclose()

    anyio.run(main)


@pytest.mark.parametrize("way", [sans_io, by_sockets, by_streams, by_async_streams], ids=lambda one: one.__name__)
def test_trace_factory_is_asked_once_for_each_connection_and_may_decline(
    way: Callable[[ClientConfig, ServerConfig], None],
) -> None:
    asked: list[Recorder] = []

    def factory() -> Recorder | None:
        asked.append(Recorder())
        return asked[-1] if len(asked) <= 2 else None

    client, server = (replace(config, trace=factory) for config in (CLIENT, SERVER))
    for _ in range(2):
        way(client, server)
    assert len(asked) == 4
    roles = [recorder.first(HandshakeCompleted) for recorder in asked]
    assert {one.role for one in roles[:2] if one is not None} == set(Role)
    assert [len(recorder) for recorder in asked[2:]] == [0, 0]
