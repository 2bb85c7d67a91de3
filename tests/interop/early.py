"""Pellucid's end of a 0-RTT conversation: the connection without I/O, over a blocking socket.

What comes and goes before the handshake is complete is told apart from the rest.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final

from pellucid import (
    NEED_DATA,
    ApplicationData,
    ClientConfig,
    CloseNotify,
    Connection,
    EarlyDataOutcome,
    HandshakeComplete,
    Negotiated,
    ServerConfig,
    TruncatedStream,
)
from pellucid.events import EarlyData, EarlyDataAccepted
from pellucid.trace import ChoiceMade, Observer, Role, TraceEvent

SECONDS: Final = 30.0
HELD_BACK: Final = 0.3  # seconds


class EarlyStream:
    """A blocking stream on which data may be read, and by a server answered, before the handshake is complete.

    early: what the client said in 0-RTT, as far as the server took it.
    """

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        sock.settimeout(SECONDS)
        self._socket, self._connection = sock, connection
        self._data = bytearray()
        self._closed_by_peer = False
        self._is_held_back = False
        self.early = bytearray()
        self.flight = bytearray()
        """what came before the handshake was complete: a client's first flight, and its second"""

    @property
    def negotiated(self) -> Negotiated:
        while self._connection.negotiated is None:
            self._more()
        return self._connection.negotiated

    def do_handshake(self) -> None:
        """Do nothing: the handshake goes on as data is read and written."""

    def settimeout(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def sendall(self, data: bytes, /) -> None:
        if not self.early:  # what was taken early may be answered early: half-RTT data
            _ = self.negotiated
        self._connection.send_data(data)
        self._flush()

    def recv(self, size: int, /) -> bytes:
        while not self._data and not self._closed_by_peer:
            self._more()
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def send_early(self, data: bytes) -> bool:
        """Client: send *data* in 0-RTT if the session allows it, and the ClientHello; return whether it did."""
        self._connection.start()
        allowed = self._connection.early_data_left >= len(data)
        if allowed:
            self._connection.send_early_data(data)
        self._flush()
        return allowed

    def close(self) -> None:
        """Say that this is the end, and read to the peer's end, so that what was sent is not lost."""
        with contextlib.suppress(OSError):
            self._connection.close()
            self._flush()
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(1.0)
            while self._socket.recv(2**16):
                pass
        self._socket.close()

    def __enter__(self) -> EarlyStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            with contextlib.suppress(OSError):
                self._flush()  # the alert
        self.close()

    def _more(self) -> None:
        """Read from the socket until something happens. Raises what the connection raises."""
        while True:
            event = self._connection.next_event()
            self._hold_back()
            self._flush()
            if isinstance(event, ApplicationData):
                self._data += event.data
                return
            if isinstance(event, EarlyData):
                self.early += event.data
                self._data += event.data
                return
            if isinstance(event, HandshakeComplete | EarlyDataAccepted):
                return
            if isinstance(event, CloseNotify):
                self._closed_by_peer = True
                return
            if event is NEED_DATA:
                received = self._socket.recv(2**16)
                if not self._connection.handshake_complete:
                    self.flight += received
                self._connection.receive_data(received)

    def _hold_back(self) -> None:
        """Client: keep EndOfEarlyData and Finished until the server answers what came early, or does not.

        A server may tell early data from other data only while they have not come: nginx's $ssl_early_data.
        """
        connection = self._connection
        if self._is_held_back or connection.role is Role.SERVER or not connection.handshake_complete:
            return
        self._is_held_back = True
        if connection.negotiated is not None and connection.negotiated.early_data is EarlyDataOutcome.ACCEPTED:
            select.select([self._socket], [], [], HELD_BACK)

    def _flush(self) -> None:
        if data := self._connection.data_to_send():
            self._socket.sendall(data)


def connect(port: int, config: ClientConfig, server_name: str, trace: Observer | None = None) -> EarlyStream:
    """Return the client's stream; nothing is sent yet."""
    sock = socket.create_connection(("127.0.0.1", port), SECONDS)
    return EarlyStream(sock, Connection.client(config, server_name, port=port, trace=trace))


class EarlyListener:
    """Accepts on 127.0.0.1, each connection with a configuration of its own; iterating ends when it is closed."""

    def __init__(self, config_of: Callable[[int], ServerConfig], trace: Observer | None = None) -> None:
        self._config_of, self._trace = config_of, trace
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.address: tuple[str, int] = self._socket.getsockname()
        self._streams: list[EarlyStream] = []

    def __iter__(self) -> Iterator[EarlyStream]:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            connection = Connection.server(self._config_of(len(self._streams)), trace=self._trace)
            self._streams.append(EarlyStream(sock, connection))
            yield self._streams[-1]

    def replay(self) -> str:
        """Give what came first on the last connection to a new one; return why its early data is not accepted.

        Raises AssertionError if early data is handed out.
        """
        choices: list[ChoiceMade] = []

        def observe(event: TraceEvent) -> None:
            if isinstance(event, ChoiceMade) and event.what == "early_data":
                choices.append(event)

        last = self._streams[-1]
        assert last.early, "there was no early data to replay"
        config = self._config_of(len(self._streams))
        server = Connection.server(config, trace=observe)
        server.receive_data(bytes(last.flight))
        events = []
        with contextlib.suppress(TruncatedStream):
            server.receive_data(b"")
            while (event := server.next_event()) is not NEED_DATA:
                events.append(event)
        assert server.role is Role.SERVER
        early = [event for event in events if isinstance(event, EarlyData | EarlyDataAccepted | ApplicationData)]
        assert not early, f"the replay was accepted: {early}"
        assert choices, f"the server did not say why: {events}"
        return f"{choices[-1].chosen}: {choices[-1].reason}"

    def __enter__(self) -> EarlyListener:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._socket.close()
