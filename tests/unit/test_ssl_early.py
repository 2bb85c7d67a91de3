"""Early data through the ssl-shaped adapter: what asyncio makes of it, what a server sees, when tickets follow."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from pellucid import SSLContext
from pellucid.connection import Connection
from pellucid.errors import PeerError
from pellucid.events import NEED_DATA, ApplicationData, CloseNotify, HandshakeComplete, TicketReceived
from pellucid.handshake.actions import EarlyDataOutcome as Outcome
from pellucid.integrations.ssl_object import SSLObject
from pellucid.net.sync import connect
from pellucid.sessions import MemorySessionStore
from tests.support.pair import CHUNKINGS, NAME, Chunking, client_config, events_of, pump, server_config
from tests.unit.test_net_early import EARLY, HeldBack, early_server, new_client, visit

CHUNKED = pytest.mark.parametrize("chunking", CHUNKINGS.values(), ids=CHUNKINGS)


def resumable() -> tuple[SSLContext, Connection]:
    """A server's context, and a client that has a session with it and offers early data."""
    context = SSLContext(server_config(tickets=1, tickets_on_resumption=1, max_early_data=16_384))
    config = client_config(early_data=True, sessions=MemorySessionStore())
    first = Connection.client(config, NAME)
    pump(first, context.new_engine(server_side=True, server_hostname=None).connection)
    events, error = events_of(first)
    assert error is None
    assert any(isinstance(event, TicketReceived) for event in events)
    return context, Connection.client(config, NAME)


class Memory:
    """A server's SSLObject between two buffers."""

    def __init__(self, context: SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls: SSLObject = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def feed(self, data: bytes, chunking: Chunking, work: Callable[[], object]) -> None:
        """Give *data* in pieces; *work* after each, which may want more."""
        for piece in chunking(data):
            self.incoming.write(piece)
            try:
                work()
            except ssl.SSLWantReadError:
                continue


@CHUNKED
def test_ssl_object_takes_early_data_before_the_handshake_is_complete(chunking: Chunking) -> None:
    context, client = resumable()
    client.start()
    client.send_early_data(EARLY)
    server = Memory(context)
    server.feed(client.data_to_send(), chunking, server.tls.do_handshake)
    server.tls.do_handshake()
    assert not server.tls.handshake_complete
    assert server.tls.negotiated is not None
    assert server.tls.session_reused
    assert server.tls.getpeercert() is None
    assert server.tls.version() is None  # or trio would hold back the ServerHello
    assert server.tls.cipher() is not None
    assert server.tls.read(100) == EARLY
    assert server.tls.early_bytes == len(EARLY)
    server.tls.write(b"answer")
    client.receive_data(server.outgoing.read())
    events, _ = events_of(client)
    assert [type(event) for event in events] == [HandshakeComplete, ApplicationData]
    assert client.negotiated is not None
    assert client.negotiated.early_data is Outcome.ACCEPTED
    client.send_data(b"late")
    server.feed(client.data_to_send(), chunking, lambda: None)
    assert server.tls.read(100) == b"late"
    assert server.tls.handshake_complete
    assert server.tls.version() == "TLSv1.3"
    assert server.tls.early_bytes == len(EARLY)


def test_ssl_object_raises_the_failure_of_the_handshake_after_early_data() -> None:
    context, client = resumable()
    client.start()
    client.send_early_data(EARLY)
    server = Memory(context)
    server.incoming.write(client.data_to_send())
    server.tls.do_handshake()
    client.receive_data(server.outgoing.read())
    finished = bytearray(client.data_to_send())
    finished[-1] ^= 1
    server.incoming.write(finished)
    assert server.tls.read(100) == EARLY
    with pytest.raises(ssl.SSLError) as raised:
        server.tls.read(100)
    assert isinstance(raised.value, PeerError)
    with pytest.raises(ssl.SSLError):
        server.tls.write(b"more")
    assert not server.tls.handshake_complete


@pytest.mark.rfc("9846 §6.1", "nothing is sent after close_notify, tickets neither")
def test_ssl_object_that_closes_after_early_data_sends_tickets_first() -> None:
    context, client = resumable()
    client.start()
    client.send_early_data(EARLY)
    server = Memory(context)
    server.incoming.write(client.data_to_send())
    server.tls.do_handshake()
    server.tls.write(b"answer")
    with pytest.raises(ssl.SSLWantReadError):
        server.tls.unwrap()
    client.receive_data(server.outgoing.read())
    events, _ = events_of(client)
    assert [type(event) for event in events] == [HandshakeComplete, ApplicationData]
    server.incoming.write(client.data_to_send())
    with pytest.raises(ssl.SSLWantReadError):
        server.tls.unwrap()
    client.receive_data(server.outgoing.read())
    events, _ = events_of(client)
    assert [type(event) for event in events] == [TicketReceived, CloseNotify]
    client.close()
    server.incoming.write(client.data_to_send())
    server.tls.unwrap()


@pytest.mark.rfc("9846 §6.1", "nothing is sent after close_notify, tickets neither")
@CHUNKED
def test_server_that_closed_before_the_clients_finished_sends_no_tickets(chunking: Chunking) -> None:
    context, client = resumable()
    client.start()
    client.send_early_data(EARLY)
    server = context.new_engine(server_side=True, server_hostname=None).connection
    for piece in chunking(client.data_to_send()):
        server.receive_data(piece)
    server.send_data(b"answer")
    server.close()
    client.receive_data(server.data_to_send())
    events, error = events_of(client)
    assert error is None
    assert [type(event) for event in events] == [HandshakeComplete, ApplicationData, CloseNotify]
    for piece in chunking(client.data_to_send()):
        server.receive_data(piece)
    assert server.handshake_complete
    assert server.data_to_send() == b""
    assert client.next_event() is NEED_DATA


def test_asyncio_server_answers_early_data_before_the_handshake_is_complete() -> None:
    seen: list[tuple[bytes, int, bool]] = []
    client_config = new_client()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        data = await reader.read(100)
        if tls.session_reused:
            seen.append((data, tls.early_bytes, tls.handshake_complete))
            writer.write(b"answer")
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=SSLContext(early_server()))
        port = server.sockets[0].getsockname()[1]

        def clients() -> None:
            visit(port, client_config)
            with HeldBack(port, client_config) as client:
                assert client.read() == b"answer"
            with connect("localhost", port, client_config, early_data=EARLY) as stream:
                stream.timeout = 10
                assert stream.early_data is Outcome.ACCEPTED
                assert stream.read_to_end() == b"answer"
                assert stream.wait_for_ticket()

        async with server:
            await asyncio.wait_for(asyncio.to_thread(clients), 20)

    asyncio.run(main())
    assert seen == [(EARLY, len(EARLY), False)] * 2


def test_ssl_socket_answers_early_data_before_the_handshake_is_complete() -> None:
    config, context = new_client(), SSLContext(early_server())
    seen: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            for _ in range(2):
                plain, _ = listener.accept()
                plain.settimeout(10)
                with context.wrap_socket(plain, server_side=True) as tls:
                    data = tls.recv(100)
                    if tls.session_reused:
                        seen.append((data, tls.early_bytes, tls.handshake_complete))
                        tls.sendall(b"answer")
                        seen.append(tls.recv(100))
                        seen.append(tls.handshake_complete)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        visit(port, replace(config))
        with connect("localhost", port, config, early_data=EARLY) as stream:
            stream.timeout = 10
            assert stream.recv() == b"answer"
            stream.sendall(b"late")
            thread.join(10)
    assert seen == [(EARLY, len(EARLY), False), b"late", True]
