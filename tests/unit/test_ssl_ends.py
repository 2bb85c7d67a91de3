"""The ends of ssl-shaped connections: what the peer said last is read, whatever became of what we still had to say."""

from __future__ import annotations

import socket
import ssl
import threading
from typing import Any

import pytest

from tests.support.bios import Wire
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


def test_object_unwraps_where_plaintext_and_the_end_follow_the_close_notify() -> None:
    wire = Wire(*contexts()).shake()
    with pytest.raises(ssl.SSLWantReadError):
        wire.server.unwrap()
    wire.to_client.write(wire.from_server.read() + b"not TLS")
    wire.to_client.write_eof()
    assert wire.client.read() == b""
    wire.client.unwrap()
