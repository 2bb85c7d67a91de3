"""The ends of ssl-shaped connections: what the peer said last is read, whatever became of what we still had to say."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import threading
from typing import Any

import pytest

from tests.support.bios import Wire
from tests.support.loops import both_loops, run_on
from tests.unit.test_ssl_context import contexts


def sockets() -> tuple[Any, Any]:
    """Return client and server, connected; the tickets are read."""
    client, server = contexts()
    near, far = socket.socketpair()
    near.settimeout(10)
    far.settimeout(10)
    ends: list[Any] = []
    thread = threading.Thread(target=lambda: ends.append(server.wrap_socket(far, server_side=True)))
    thread.start()
    one = client.wrap_socket(near, server_hostname="localhost")
    thread.join(10)
    ends[0].sendall(b"-")
    assert one.recv(1) == b"-"
    return one, ends[0]


def test_socket_reads_what_a_peer_said_that_asked_for_a_key_update_and_left() -> None:
    client, server = sockets()
    with client, server:
        server.connection.send_key_update(request_peer=True)
        server.sendall(b"the answer")
        server.close()
        assert client.recv(100) == b"the answer"  # the KeyUpdate that is due could not be sent
        assert client.recv(100) == b""
        with pytest.raises(OSError, match="cut short"):
            client.sendall(b"-")


def test_socket_reads_on_after_the_end_of_its_writing() -> None:
    client, server = sockets()
    with client, server:
        server.sendall(b"before, ")
        assert client.recv(1) == b"b"  # the rest is decrypted, and waits
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.sendall(b"after")
        server.close()
        with client.makefile("rb") as file:
            assert file.read() == b"efore, after"
        with pytest.raises(ssl.SSLZeroReturnError):
            client.sendall(b"-")


def test_object_unwraps_where_plaintext_and_the_end_follow_the_close_notify() -> None:
    wire = Wire(*contexts()).shake()
    with pytest.raises(ssl.SSLWantReadError):
        wire.server.unwrap()
    wire.to_client.write(wire.from_server.read() + b"not TLS")
    wire.to_client.write_eof()
    assert wire.client.read() == b""
    wire.client.unwrap()


def test_object_has_the_end_pending_until_it_is_told() -> None:
    wire = Wire(*contexts()).shake()
    wire.server.write(b"the last")
    with pytest.raises(ssl.SSLWantReadError):
        wire.server.unwrap()
    wire.move()
    assert wire.client.read() == b"the last"
    assert wire.client.pending() == 1 and not wire.to_client.pending
    assert wire.client.read() == b""
    assert wire.client.pending() == 0


@both_loops
@pytest.mark.parametrize("size", [1, 3_000_000])
def test_event_loop_tells_of_the_close_notify_that_came_with_the_data(loop: str, size: int) -> None:
    """uvloop looks at what is pending: it did not hear of the end before the server had waited 30 s, and hung up."""
    client, server = contexts()
    tasks: list[asyncio.Task[None]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(bytes(size))
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        listening = await asyncio.start_server(
            lambda *ends: tasks.append(asyncio.ensure_future(answer(*ends))), "127.0.0.1", 0, ssl=server
        )
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
        writer.write(b"\n")
        assert len(await reader.read()) == size
        writer.close()
        await writer.wait_closed()
        await asyncio.gather(*tasks)
        listening.close()
        await listening.wait_closed()

    run_on(loop, main, 10)


def test_socket_that_takes_much_shows_select_an_end_that_came_with_the_data() -> None:
    client, server = sockets()
    with client, server:
        server.setblocking(False)
        server.sendall(b"the last words")
        with pytest.raises(ssl.SSLWantReadError):
            server.unwrap()  # close_notify, and no end of the stream below
        assert client.recv(2**16) == b"the last words"  # with the close_notify, if both are there
        assert select.select([client], [], [], 5)[0]
        assert client.recv(2**16) == b""
