"""One connection of a faulty peer: the socket, and the talk over it. Every wait ends: by time, or because all ends."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pellucid.errors import AlertReceived, TLSError
from pellucid.events import NEED_DATA, ApplicationData, CloseNotify, HandshakeComplete
from pellucid.testing.bent import BentConnection
from pellucid.trace import Role

if TYPE_CHECKING:
    from pellucid.testing.faults.fault import Recipe

__all__ = ["Conversation", "Link"]

_CHUNK: Final = 65_536
_SEND_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 5.0  # for the other side's last words
_MAX_REQUEST: Final = 65_536
_RESET: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Link:
    """A connected socket that is given up when the time is over, or when `stopping` is set.

    seconds: how long it lives in all.   pace: seconds to wait before each byte where a fault is slow.
    """

    def __init__(self, sock: socket.socket, stopping: threading.Event, *, seconds: float, pace: float) -> None:
        self._socket = sock
        self._stopping = stopping
        self._end = time.monotonic() + seconds
        self.pace = pace
        self.slow = False
        """whether what is sent goes a byte at a time"""

    def send(self, data: bytes) -> None:
        """Send *data*; nothing is said if nobody takes it any more."""
        if not self.slow:
            self._send(data)
            return
        for at in range(len(data)):
            if self._stopping.wait(self.pace) or self._left() <= 0:
                return
            if not self._send(data[at : at + 1]):
                return

    def _send(self, data: bytes) -> bool:
        try:
            self._socket.settimeout(_SEND_SECONDS)
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def receive(self, seconds: float | None = None) -> bytes:
        """Return what the peer sends next; b"" when it has ended, when the time is over, or when all ends."""
        left = self._left() if seconds is None else min(seconds, self._left())
        if left <= 0 or self._stopping.is_set():
            return b""
        try:
            self._socket.settimeout(left)
            return self._socket.recv(_CHUNK)
        except OSError:
            return b""

    def hang(self) -> None:
        """Say nothing, and take what comes, until the peer gives up."""
        while self.receive():
            continue

    def linger(self) -> None:
        """Let the peer read what was sent before the connection ends: what it still sends is taken."""
        end = time.monotonic() + _LAST_SECONDS
        while (left := end - time.monotonic()) > 0 and self.receive(left):
            continue

    def finish(self) -> None:
        """End our half of the TCP connection, in order but for TLS."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self.linger()

    def reset(self) -> None:
        """End the TCP connection with a reset."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def interrupt(self) -> None:
        """Wake whoever waits on the socket; from any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _left(self) -> float:
        return self._end - time.monotonic()


@dataclass(eq=False)
class Conversation:
    """What a faulty peer says to one victim, and hears from it.

    request, reply: what is asked, and what makes the answer.   received: the application data that came.
    over:     whether no more is said: the fault is committed.
    complete: whether the handshake is.
    alert:    the victim's error alert.   error: what ended the conversation, if it was no close_notify.
    """

    connection: BentConnection
    link: Link
    recipe: Recipe
    reply: Callable[[], bytes] = bytes
    request: bytes = b""
    over: bool = False
    complete: bool = False
    received: bytes = b""
    alert: int | None = None
    error: TLSError | None = None

    def run(self) -> None:
        """Talk until it is over, and let the victim have its last word."""
        self.flush()
        if self.recipe.started is not None:
            self.recipe.started(self)
        answered = False
        while not self.over and self.error is None:
            data = self.link.receive()
            self._take(data)
            sent = self.flush()
            if sent and not answered and self.recipe.flight is not None and not self.over:
                self.recipe.flight(self)
            answered = answered or sent
            if not data:
                return
        if self.alert is None:
            self.link.linger()

    def end(self) -> None:
        """Say no more."""
        self.over = True

    def flush(self) -> bool:
        """Send what there is to be sent; return whether there was anything."""
        data = self.connection.data_to_send()
        if data:
            self.link.send(data)
        return bool(data)

    def say(self, *, close: bool = True) -> None:
        """Answer the request as an honest server does, or ask as an honest client."""
        connection = self.connection
        if connection.role is Role.CLIENT:
            connection.send_data(self.request)
        else:
            connection.send_data(self.reply())
            if close:
                connection.close()
        self.flush()

    def _take(self, data: bytes) -> None:
        try:
            self.connection.receive_data(data)
            while not self.over and (event := self.connection.next_event()) is not NEED_DATA:
                self._happened(event)
        except TLSError as error:
            self.error = error
            if isinstance(error, AlertReceived):
                self.alert = error.description

    def _happened(self, event: object) -> None:
        if isinstance(event, HandshakeComplete):
            self.complete = True
            self.flush()
            if self.recipe.connected is not None:
                self.recipe.connected(self)
            elif self.connection.role is Role.CLIENT:
                self.say()
        elif isinstance(event, ApplicationData):
            self.received += event.data
            if self.connection.role is Role.SERVER and b"\r\n\r\n" in self.received:
                if self.recipe.answer is not None:
                    self.recipe.answer(self)
                else:
                    self.say()
            self.over = self.over or len(self.received) > _MAX_REQUEST
        elif isinstance(event, CloseNotify):
            self.connection.close()
            self.flush()
            self.over = True
