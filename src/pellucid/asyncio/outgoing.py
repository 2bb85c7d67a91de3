"""The half of the native protocol that sends: what is written waits in plaintext, sealed as the transport takes it.

So little is sealed ahead that the transport holds one piece at most. What it holds is its own: nobody writes to that
again (from CPython 3.12 on asyncio keeps views of what it could not send at once, and uvloop always does).
"""

from __future__ import annotations

import abc
import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from pellucid.asyncio.buffers import buffers_of
from pellucid.connection import Connection
from pellucid.errors import TLSError
from pellucid.limits import MAX_PLAINTEXT
from pellucid.record.bulk import lent_sealer, return_sealer

__all__ = ["ENDING", "FLUSHING", "LOST", "OPEN", "SHAKING", "Outgoing"]

# How far a connection's life has come: only ever forward.
SHAKING: Final = 0  # the user's protocol knows nothing of it yet
OPEN: Final = 1
FLUSHING: Final = 2  # closed by the user; what was written still has to go
ENDING: Final = 3  # the last words are with the transport; what comes is thrown away
LOST: Final = 4

HIGH_WATER: Final = 2**16  # as asyncio's
PIECE: Final = 2**18  # sealed and sent at a time
MAX_BURST: Final = PIECE
"""Bulk data that one connection sends in a turn of the loop. Others get theirs; and where the receiver shares the
machine, it reads while the data is still in the processor's cache: without TLS, 2.0 µs instead of 4.2 for 16 KiB."""
_LOUD_AFTER: Final = 5  # writes to a connection that is gone, before it is logged: as asyncio

_NO_QUEUE: Final[deque[bytes | memoryview]] = deque(maxlen=0)
"""of a connection for which nothing waits: an empty one of its own would take 760 bytes"""
_log: Final = logging.getLogger("pellucid.asyncio")


class Outgoing(abc.ABC):
    """What is written, and the flow control of it. Use `Wire`."""

    connection: Connection
    lower: asyncio.Transport
    protocol: asyncio.BaseProtocol | None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.state = SHAKING
        self._buffer = buffers_of(loop)
        self._queue: deque[bytes | memoryview] = _NO_QUEUE
        self._queued = 0
        self._full = False
        """the transport has not sent all it was given"""
        self._held_back = False
        """the user's protocol was told to pause writing"""
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._eof = False
        """the user ended its direction: close_notify goes behind what is queued"""
        self._dropped = 0
        self._burst = 0
        """bytes of bulk data sealed in this turn of the loop"""

    # ---- for the user's transport ----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Seal *data* and give it to the transport, or keep it until there is room."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__}")
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.state != OPEN:
            self._drop()
            return
        if not self._queue and not self._full and len(data) <= MAX_PLAINTEXT:
            # As the queue would do it, without the queue: what a round trip of small messages takes.
            try:
                sealed = self.connection.seal(data)
            except TLSError as error:
                self.failed(error)
                return
            if sealed and not self.lower.is_closing():
                self.lower.write(sealed)
        else:
            owned = data if isinstance(data, bytes) else bytes(data)
            if owned:
                if self._queue is _NO_QUEUE:
                    self._queue = deque()
                self._queue.append(owned)
                self._queued += len(owned)
            if not self._full and self._burst < MAX_BURST:
                self._pump()
        if (self._full or self._queue) and not self._held_back:
            self._check_high()

    def write_last(self, data: bytes) -> None:
        """Equals `write` and `close`; close_notify goes in the packet of *data* where it can, which saves 10 µs."""
        if self.state == OPEN and not (self._queue or self._full or self._eof) and len(data) <= MAX_PLAINTEXT:
            try:
                self.connection.send_data(data)
            except TLSError as error:
                self.failed(error)
                return
        else:
            self.write(data)
        self.close()

    def at_end_of_turn(self, work: Callable[[], None]) -> None:
        """Have *work* done when this turn of the loop is over: one callback of the loop for all its connections.

        One for each took 4 µs of an answer's 50.
        """
        ending = self._buffer.ending
        if not ending:
            self.loop.call_soon(_end_turn, self.loop, ending)
        ending.append(work)

    def write_eof(self) -> None:
        """Send close_notify behind all that was written; reading goes on (RFC 9846 §6.1)."""
        if self._eof or self.state != OPEN:
            return
        self._eof = True
        self._pump()

    def write_buffer_size(self) -> int:
        """Return the bytes that have not left yet: in plaintext here, sealed in the transport."""
        return self._queued + (self.lower.get_write_buffer_size() if self.state != LOST else 0)

    def write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def limit_write_buffer(self, high: int | None, low: int | None) -> None:
        """Set the marks, as `asyncio.WriteTransport.set_write_buffer_limits` says."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        if self.state == OPEN:
            self._check_high()
            self._check_low()

    # ---- called by the transport ------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self.state >= ENDING:
            return
        self.send_pending()
        if self._queue or self._eof or self.state == FLUSHING:
            self._pump()
        self._check_low()

    # ---- for the other half ------------------------------------------------------------------------------------------

    def send_pending(self) -> None:
        """Send what the connection has to say by itself: handshake, KeyUpdate, tickets.

        Not while the transport is full: so any number of KeyUpdate requests in the meantime gets one answer.
        """
        if self._full:
            return
        try:
            sealed = self.connection.data_to_send()
        except TLSError as error:
            self.failed(error)
            return
        if sealed and not self.lower.is_closing():  # uvloop's, closed, takes no write, and tells only later
            self.lower.write(sealed)

    def _pump(self) -> None:
        """Seal and send until the transport is full, or nothing is left; then what was to come behind it."""
        connection, lower, queue = self.connection, self.lower, self._queue
        try:
            while queue and not self._full and self._burst < MAX_BURST and self.state < ENDING:
                if lower.is_closing():
                    return  # connection_lost is on its way
                piece = self._next_piece()
                if not self._burst:
                    self.loop.call_soon(self._next_turn)
                self._burst += len(piece)
                self._send(piece)
        except TLSError as error:
            self.failed(error)
            return
        if queue or self.state >= ENDING:
            return
        self._queue = _NO_QUEUE
        if self.state == FLUSHING:
            self.last_words()
        elif self._eof and not connection.closed:
            connection.close()
            self.send_pending()

    def _send(self, piece: bytes | memoryview) -> None:
        """Seal *piece* and give it to the transport, from memory that is used again if that can be.

        A transport may keep a view of what it could not send at once: then that memory is the transport's.
        """
        lower, sealer = self.lower, lent_sealer()
        if size := self.connection.seal_into(piece, sealer):
            lower.write(sealer.view[:size])
            if not lower.get_write_buffer_size():
                return_sealer(sealer)
        else:
            return_sealer(sealer)
            self.connection.send_data(piece)
            lower.write(self.connection.data_to_send())

    def _next_turn(self) -> None:
        """The loop has been round once: go on with what waits."""
        self._burst = 0
        if self.state < ENDING and self._queue and not self._full:
            self._pump()
            self._check_low()

    def _next_piece(self) -> bytes | memoryview:
        """Take up to PIECE bytes off the queue; small writes that had to wait share records."""
        queue = self._queue
        first = queue.popleft()
        size = len(first)
        if size > PIECE:
            view = memoryview(first)
            queue.appendleft(view[PIECE:])
            first = view[:PIECE]
        elif queue and size + len(queue[0]) <= PIECE:
            pieces = [first]
            while queue and size + len(queue[0]) <= PIECE:
                pieces.append(queue.popleft())
                size += len(pieces[-1])
            first = b"".join(pieces)
        self._queued -= len(first)
        return first

    def _forget_queue(self) -> None:
        self._queue = _NO_QUEUE
        self._queued = 0

    def _check_high(self) -> None:
        if not self._held_back and self.write_buffer_size() > self._high:
            self._held_back = True
            self.tell("pause_writing")

    def _check_low(self) -> None:
        if self._held_back and self.write_buffer_size() <= self._low:
            self._held_back = False
            self.tell("resume_writing")

    def _drop(self) -> None:
        """Forget what is written to a connection that is over: who wrote it is told by connection_lost."""
        self._dropped += 1
        if self._dropped == _LOUD_AFTER:
            _log.warning("the application goes on writing to a connection that is closed")

    @property
    def closing(self) -> bool:
        return self.state >= FLUSHING

    @abc.abstractmethod
    def failed(self, error: BaseException) -> None:
        """End the connection because of *error*, which the connection, or something plugged into it, raised."""

    @abc.abstractmethod
    def close(self) -> None:
        """Send what was written, then close_notify, and end."""

    @abc.abstractmethod
    def last_words(self) -> None:
        """Say close_notify: all that was written has gone."""

    @abc.abstractmethod
    def tell(self, what: str) -> None:
        """Call the user's protocol."""


def _end_turn(loop: asyncio.AbstractEventLoop, ending: list[Callable[[], None]]) -> None:
    works = ending.copy()
    ending.clear()
    for work in works:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # one connection's; the others go on
            loop.call_exception_handler({"message": "what was to be sent was not", "exception": error})
