"""Peers that do what peers should not, for the tests of net/, and what both kinds of stream must make of them."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pellucid.config import ClientConfig, Credential, ServerConfig
from pellucid.connection import Connection
from pellucid.errors import TLSError
from pellucid.events import NEED_DATA, ApplicationData, Event, HandshakeComplete
from pellucid.net.sync import connect
from pellucid.testing.ca import CA

AUTHORITY = CA()
LEAF = AUTHORITY.issue("localhost", "127.0.0.1")
CREDENTIAL = Credential.from_pem(LEAF.chain_pem, LEAF.key_pem)
SERVER = ServerConfig(credentials=(CREDENTIAL,))
CLIENT = ClientConfig(trust=AUTHORITY.trust)


def reset(sock: socket.socket) -> None:
    """Close *sock* with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class RawPeer:
    """One end driven by hand: a blocking socket and a connection without I/O."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        sock.settimeout(20)
        self.socket = sock
        self.connection = connection

    def flush(self) -> None:
        self.socket.sendall(self.connection.data_to_send())

    def event(self) -> Event:
        """Return the next event, receiving as needed."""
        while (event := self.connection.next_event()) is NEED_DATA:
            self.flush()
            self.connection.receive_data(self.socket.recv(65536))
        return event  # type: ignore[return-value]

    def shake_hands(self) -> RawPeer:
        self.flush()
        while not isinstance(self.event(), HandshakeComplete):
            pass
        self.flush()
        return self

    def send(self, data: bytes) -> None:
        self.connection.send_data(data)
        self.flush()

    def read(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            event = self.event()
            if isinstance(event, ApplicationData):
                received += event.data
        return bytes(received)

    def drain(self) -> list[Event | TLSError]:
        """Read until the stream or the connection ends; return what happened."""
        events: list[Event | TLSError] = []
        with contextlib.suppress(OSError):
            while True:
                try:
                    event = self.connection.next_event()
                except TLSError as error:
                    events.append(error)
                    break
                if event is NEED_DATA:
                    data = self.socket.recv(65536)
                    self.connection.receive_data(data)
                    if not data:
                        with contextlib.suppress(TLSError):
                            self.connection.next_event()
                        break
                else:
                    events.append(event)  # type: ignore[arg-type]
        return events


@contextlib.contextmanager
def raw_server(behave: Callable[[RawPeer], object], *, handshake: bool = True) -> Iterator[int]:
    """Run *behave* on the first connection in a thread; give the port. What it raises fails the test."""
    listener = socket.create_server(("127.0.0.1", 0))
    raised: list[BaseException] = []

    def work() -> None:
        try:
            sock, _ = listener.accept()
            with sock:
                peer = RawPeer(sock, Connection.server(SERVER))
                if handshake:
                    peer.shake_hands()
                behave(peer)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(20)
        listener.close()
    assert not thread.is_alive()
    if raised:
        raise raised[0]


def raw_client(port: int) -> RawPeer:
    sock = socket.create_connection(("127.0.0.1", port))
    return RawPeer(sock, Connection.client(CLIENT, "localhost"))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def soon(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Return whether *condition* came true within *seconds*."""
    deadline = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return done


def test_raw_peers_speak_to_each_other() -> None:
    with raw_server(lambda peer: peer.send(peer.read(5)[::-1])) as port:
        client = raw_client(port).shake_hands()
        with client.socket:
            client.send(b"hello")
            assert client.read(5) == b"olleh"


def test_raw_server_speaks_to_a_stream() -> None:
    with raw_server(lambda peer: peer.send(b"first")) as port, connect("localhost", port, CLIENT) as stream:
        assert stream.recv() == b"first"


def test_raw_server_reports_what_it_raised() -> None:
    def misbehave(_peer: RawPeer) -> None:
        raise RuntimeError("as planned")

    with pytest.raises(RuntimeError, match="as planned"), raw_server(misbehave) as port:
        raw_client(port).shake_hands().socket.close()
