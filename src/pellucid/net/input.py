"""The half of the I/O script that reads: what comes, in order, and what is kept for readers.

What it holds to is at the head of `script`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from pellucid.connection import Connection
from pellucid.errors import AlertReceived, PeerError, TLSError, UsageError
from pellucid.events import (
    NEED_DATA,
    ApplicationData,
    CloseNotify,
    CredentialNeeded,
    EarlyData,
    Event,
    FirstUseNeeded,
    HandshakeComplete,
    NeedData,
    SignatureNeeded,
    TicketNeeded,
    TicketReceived,
    VerificationNeeded,
)
from pellucid.net.operations import (
    Answer,
    AnswerFailed,
    Deadline,
    DeadlineExceeded,
    KeepDeadline,
    Lock,
    Pause,
    Receive,
    Steps,
    Until,
)
from pellucid.net.output import LAST_WORDS_SECONDS, Output
from pellucid.registry import AlertDescription

__all__ = ["PAUSES", "RECEIVE", "Input"]

T = TypeVar("T")

MAX_KEPT: Final = 2**18  # plaintext kept for readers while something else is waited for

PAUSES: Final = (CredentialNeeded, SignatureNeeded, VerificationNeeded, TicketNeeded, FirstUseNeeded)

RECEIVE: Final = Receive()
_RECEIVE_OR_WRITABLE: Final = Receive(or_writable=True)
_NOTHING: Final = memoryview(b"")


class Input(Output):
    """What is shared by all that read on one connection. Use `Script`.

    Early data (0-RTT) is read before the handshake is complete, and the rest of the handshake goes on inside reading.
    One read gives early data or other data, never both.
    """

    def __init__(self, connection: Connection, new_lock: Callable[[], Lock]) -> None:
        super().__init__(connection, new_lock)
        self._plain = _NOTHING
        """received, and not yet read"""
        self.complete = False
        """the handshake is complete, as far as readers know"""
        self._early = False
        """early data was accepted, and the handshake is not complete or not all of it is read"""
        self._early_unread = 0
        """early bytes received and not yet read"""
        self.early_bytes_read = 0
        self.tickets = 0
        """NewSessionTickets seen"""
        self._handshake_until: Until | None = None
        self._pause: Pause | None = None
        """after the handshake: what is asked of us, and not answered yet"""
        self._transport_ended = False
        self._alert_sent = False

    # ---- for readers ---------------------------------------------------------------------------------------

    def _read_early(self, limit: int) -> Steps[bytes]:
        """Read while there is early data, or the handshake goes on; the receive lock is held."""
        if not self._plain:
            self._check_open()
            if self._ended:
                return b""
            if self._read_error is not None:
                raise self._read_error
            yield from self._keep_deadline()
            self._plain = memoryview((yield from self._in_time(self._next_data())))
        if self._early_unread:
            limit = min(limit, self._early_unread)
        data = bytes(self._plain[:limit])
        self._plain = self._plain[limit:]
        if self._early_unread:
            self._early_unread -= len(data)
            self.early_bytes_read += len(data)
        self._early = not self.complete or self._early_unread > 0
        return data

    def _next_data(self) -> Steps[bytes]:
        """Return the next application data, b"" at the peer's close_notify; the receive lock is held."""
        connection, core = self.connection, self._core
        try:
            if self._pause is not None:
                yield from self._answer_later(self._pause)
            with core:
                event = connection.next_event()
            while True:
                if type(event) is ApplicationData:
                    return event.data
                if event is NEED_DATA:
                    if self._flush_wanted or self._stuck:
                        yield from self._flush_now()
                    data = yield _RECEIVE_OR_WRITABLE if self._stuck else RECEIVE
                    if data is None:
                        continue
                    if not data:
                        self._transport_ends()
                    with core:
                        connection.receive_data(data)
                        event = connection.next_event()
                    continue
                if isinstance(event, CloseNotify):
                    self._ended = True
                    return b""
                if isinstance(event, EarlyData):
                    self._early_unread += len(event.data)
                    return event.data
                if isinstance(event, PAUSES):
                    yield from self._answer_later(event)
                self._noted(event)
                # KeyUpdated, CertificateRequested: the answer leaves before any data is in hand to be lost.
                yield from self._flush_now()
                with core:
                    event = connection.next_event()
        except OSError as error:
            yield from self._reading_failed(error)
            raise

    def _go_on(self, done: Callable[[], bool]) -> Steps[None]:
        """Take what comes until *done*, or the peer's end; the receive lock is held. Data is kept for readers.

        Ends too when MAX_KEPT bytes are kept.
        """
        kept = bytearray(self._plain)
        try:
            if self._pause is not None:
                yield from self._answer_later(self._pause)
            while not done() and not self._ended and len(kept) < MAX_KEPT:
                event = self._next_event()
                if isinstance(event, ApplicationData | EarlyData):
                    kept += event.data
                    self._early_unread += len(event.data) if isinstance(event, EarlyData) else 0
                elif event is NEED_DATA:
                    if self._flush_wanted or self._stuck:
                        yield from self._flush_now()
                    yield from self._receive()
                elif isinstance(event, CloseNotify):
                    self._ended = True
                else:
                    if isinstance(event, PAUSES):
                        yield from self._answer_later(event)
                    self._noted(event)
            yield from self._flush_now()
        except OSError as error:
            yield from self._reading_failed(error)
            raise
        finally:
            self._plain = memoryview(bytes(kept))

    def _answer_later(self, pause: Pause) -> Steps[None]:
        """Answer what is asked after the handshake (RFC 9846 §4.7.2); who is cancelled leaves it to the next reader.

        Where there is no answer the connection ends, and the peer is told.
        """
        self._pause = pause
        try:
            answer = yield Answer(pause)
        except DeadlineExceeded:
            raise
        except Exception as error:
            self._pause = None
            self._read_error = error
            with self._core:
                self.connection.fail(AlertDescription.INTERNAL_ERROR)
            yield from self._last_words()
            raise
        self._pause = None
        with self._core:
            if isinstance(answer, AnswerFailed):
                self.connection.resume_with_error(answer.error, pause.need)
            else:
                self.connection.resume(answer, pause.need)

    def _noted(self, event: Event | NeedData) -> None:
        """Take note of what is not data. It may be that something is to be sent: tickets, or a KeyUpdate in answer."""
        if isinstance(event, HandshakeComplete):
            self.complete = True
        elif isinstance(event, TicketReceived):
            self.tickets += 1
        self._flush_wanted = True

    def _reading_failed(self, error: OSError) -> Steps[None]:
        """Note that nothing more can be read, and let the alert go. That a call ran out of time is no failure."""
        if isinstance(error, DeadlineExceeded) or self.closed:
            return
        self._read_error = error
        yield from self._last_words()

    # ---- the deadline of a handshake that goes on after early data ------------------------------------------

    def _keep_deadline(self) -> Steps[None]:
        if not self.complete and self._handshake_until is not None:
            yield KeepDeadline(self._handshake_until)

    def _in_time(self, steps: Steps[T]) -> Steps[T]:
        """Perform *steps*; should the handshake run out of time in them, the connection is over."""
        try:
            return (yield from steps)
        except DeadlineExceeded as error:
            if error.until is None or error.until is not self._handshake_until:
                raise
            failure = error
        raise (yield from self._handshake_failed(failure))

    # ---- within ------------------------------------------------------------------------------------------

    def _next_event(self) -> Event | NeedData:
        with self._core:
            return self.connection.next_event()

    def _receive(self) -> Steps[None]:
        data = yield RECEIVE
        if not data:
            self._transport_ends()
        with self._core:
            self.connection.receive_data(data)

    def _transport_ends(self) -> None:
        self._check_open()  # it was closed at this end meanwhile: no fault of the peer
        self._transport_ended = True

    def _handshake_failed(self, error: BaseException) -> Steps[BaseException]:
        """Note that the connection is lost, whatever the reason; send the alert; return what to raise."""
        self._read_error = error if isinstance(error, Exception) else UsageError("the handshake was interrupted")
        if self.closed or isinstance(error, GeneratorExit):
            return error
        if isinstance(error, OSError) and not isinstance(error, TLSError | DeadlineExceeded):
            yield Deadline(LAST_WORDS_SECONDS, "the peer's alert", cleanup=True)
            self._read_error = None
            reason = yield from self._look_for_alert()
            self._read_error = reason or error
            if reason is not None:
                reason.__cause__ = error
                return reason
        else:
            self._give_up(error)
        yield from self._last_words()
        return error

    def _give_up(self, error: BaseException) -> None:
        """If the handshake ends for a reason of our own, let the connection say so (RFC 9846 §6)."""
        with self._core:
            if isinstance(error, DeadlineExceeded) or not isinstance(error, Exception):
                self.connection.close()  # user_canceled, close_notify
            else:
                self.connection.fail(AlertDescription.INTERNAL_ERROR)

    def _last_words(self) -> Steps[None]:
        """Send what is pending, the alert above all, for a short time; that it cannot be sent changes nothing."""
        if self._output_lost:
            return
        try:
            yield Deadline(LAST_WORDS_SECONDS, "sending the alert", cleanup=True)
            yield from self._acquire(self.sending)
            try:
                self._alert_sent = (yield from self._flush()) > 0
            finally:
                self.sending.release()
        except OSError:
            return

    def _look_for_alert(self) -> Steps[AlertReceived | PeerError | None]:
        """The transport failed: read what the peer said before it went away; the receive lock is held.

        Data that comes before it is kept for readers, within bounds.
        """
        kept = bytearray(self._plain)
        try:
            while len(kept) < MAX_KEPT:
                event = self._next_event()
                if isinstance(event, ApplicationData | EarlyData):
                    kept += event.data
                    self._early_unread += len(event.data) if isinstance(event, EarlyData) else 0
                elif event is NEED_DATA:
                    yield from self._receive()
                elif isinstance(event, PAUSES):
                    break
                elif isinstance(event, CloseNotify):
                    self._ended = True
                    break
                else:
                    self._noted(event)
        except OSError as error:
            if not isinstance(error, DeadlineExceeded):
                self._read_error = error
            return error if isinstance(error, AlertReceived | PeerError) else None
        finally:
            self._plain = memoryview(bytes(kept))
        return None
