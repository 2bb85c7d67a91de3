"""The one I/O script: handshake, read, write, key update, close, written once as generators of operations.

`sync` and `aio` perform the operations and decide nothing; this file decides everything and performs nothing. What
it holds to:

- Connection is not safe for threads: every call of it is made under the core lock, which is never held while waiting.
- Records leave in the order they were sealed: output is taken and sent under the send lock. A reader never waits for
  that lock, nor for room in the socket: what reading produced (a KeyUpdate, an alert) leaves as soon as there is room.
- After an error the pending output, which may be the alert, still goes, for a short time; then the error is raised.
- A write cut short ends sending for good: half a record is never followed by another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from pellucid.connection import Connection
from pellucid.errors import AlertReceived, PeerError, TLSError, UsageError
from pellucid.events import (
    NEED_DATA,
    ApplicationData,
    CloseNotify,
    CredentialNeeded,
    Event,
    HandshakeComplete,
    NeedData,
    SignatureNeeded,
    VerificationNeeded,
)
from pellucid.limits import BULK_STEP, HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.operations import (
    Acquire,
    Answer,
    Deadline,
    DeadlineExceeded,
    EndDeadline,
    EndOutput,
    Lock,
    Pause,
    Receive,
    Send,
    SendNow,
    Steps,
    Unacknowledged,
)
from pellucid.registry import AlertDescription
from pellucid.trace import Role

__all__ = ["Script"]

T = TypeVar("T")

WRITE_STEP: Final = BULK_STEP  # sealed and sent at a time
LAST_WORDS_SECONDS: Final = 1.0  # for the alert after an error, and for the peer's alert after a failed write
QUIET_SECONDS: Final = 0.1  # without a byte from the peer, after which an acknowledged end is taken to have arrived
MAX_QUIET: Final = 10
MAX_DRAINED: Final = 2**20
MAX_KEPT: Final = 2**18  # plaintext kept for readers while a writer looks for the peer's alert

_PAUSES: Final = (CredentialNeeded, SignatureNeeded, VerificationNeeded)


_RECEIVE: Final = Receive()
_RECEIVE_OR_WRITABLE: Final = Receive(or_writable=True)
_NOTHING: Final = memoryview(b"")


class Script:
    """One connection's I/O, for any number of readers and writers at a time; each takes its turn.

    handshake_timeout: seconds for the whole handshake, None for no end.
    """

    def __init__(
        self,
        connection: Connection,
        new_lock: Callable[[], Lock],
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    ) -> None:
        self.connection = connection
        self._handshake_timeout = handshake_timeout
        self._core = threading.Lock()
        self._handshaking = new_lock()
        self.receiving = new_lock()
        self.sending = new_lock()
        self._unsent = _NOTHING
        """sealed, and taken from the connection; the send lock's holder sends it before anything else"""
        self._flush_wanted = False
        """reading may have produced output"""
        self._stuck = False
        """what reading produced found no room; the next reader or writer sends it"""
        self._plain = _NOTHING
        """received, and not yet read"""
        self._ready = False
        self._read_error: BaseException | None = None
        self._write_error: BaseException | None = None
        self._output_lost = False
        """nobody knows how much of a record was sent: nothing may follow, not even an alert"""
        self._pause: Pause | None = None
        """after the handshake: what is asked of us, and not answered yet"""
        self._ended = False
        """the peer's close_notify is read"""
        self._transport_ended = False
        self._alert_sent = False
        self.closed = False

    # ---- what a user asks for ------------------------------------------------------------------------------

    def handshake(self) -> Steps[None]:
        """Shake hands, if that is not done yet. Whatever interrupts it ends the connection."""
        if self._ready:
            return
        yield from self._acquire(self._handshaking)
        try:
            if self._ready:
                return
            self._check_open()
            if self._read_error is not None:
                raise self._read_error
            yield from self._acquire(self.receiving)
            try:
                yield from self._shake_hands()
            finally:
                self.receiving.release()
        finally:
            self._handshaking.release()

    def read(self, limit: int) -> Steps[bytes]:
        """Return 1 to *limit* bytes of data; b"" after the peer's close_notify, and only then."""
        if not self._ready:
            yield from self.handshake()
        if not self.receiving.try_acquire():
            yield Acquire(self.receiving)
        try:
            if not self._plain:
                self._check_open()
                if self._ended:
                    return b""
                if self._read_error is not None:
                    raise self._read_error
                data = yield from self._next_data()
                if len(data) <= limit:
                    return data
                self._plain = memoryview(data)
            data = bytes(self._plain[:limit])
            self._plain = self._plain[limit:]
            return data
        finally:
            self.receiving.release()

    def write(self, data: bytes | bytearray | memoryview) -> Steps[None]:
        """Seal and send all of *data*, in one piece as other writers see it."""
        if not self._ready:
            yield from self.handshake()
        if type(data) is not bytes or len(data) > WRITE_STEP:
            data = memoryview(data)
            if data.format != "B" or data.ndim != 1 or not data.contiguous:
                data = memoryview(data.tobytes())
        if not self.sending.try_acquire():
            yield Acquire(self.sending)
        try:
            if self._write_error is not None or self.closed:
                self._check_sending()
            for start in range(0, len(data), WRITE_STEP):
                with self._core:
                    self.connection.send_data(data[start : start + WRITE_STEP])
                yield from self._flush()
        except BaseException as error:  # noqa: BLE001 - raised below, without the lock
            failure: BaseException | None = error
        else:
            failure = None
        finally:
            self.sending.release()
        if failure is not None:
            raise (yield from self._write_failed(failure))
        if self._flush_wanted:
            yield from self._flush_now()

    def key_update(self, *, request_peer: bool) -> Steps[None]:
        """Change the sending key, and ask the peer to change its own if *request_peer* (RFC 9846 §4.7.3)."""
        if not self._ready:
            yield from self.handshake()
        yield from self._command(lambda: self.connection.send_key_update(request_peer=request_peer))

    def request_client_certificate(self, *, required: bool) -> Steps[None]:
        """Server: ask for the client's certificate (RFC 9846 §4.7.2). Reading finds the answer."""
        if not self._ready:
            yield from self.handshake()
        yield from self._command(lambda: self.connection.request_client_certificate(required=required))

    def end_writing(self) -> Steps[None]:
        """Send close_notify: nothing more will be written; reading goes on (RFC 9846 §6.1)."""
        if not self._ready:
            yield from self.handshake()
        yield from self._command(self.connection.close)

    def close(self) -> Steps[None]:
        """Send close_notify and the end of the stream, and wait a little for the peer's. Never fails.

        The caller sets a timeout for it all, and closes the transport then. Whatever the peer still sends is thrown
        away: closing a socket that has unread bytes resets the connection, which can take what we sent last from
        the peer.
        """
        if self.closed:
            return
        self.closed = True
        try:
            yield from self._acquire(self.sending)
            try:
                if self._write_error is None and not self._output_lost:
                    if self._ready and self._read_error is None:
                        with self._core:
                            self.connection.close()
                    yield from self._flush()
            finally:
                self.sending.release()
            yield from self._drain()
        except OSError:
            return

    def abort(self) -> Steps[None]:
        """End without close_notify: the peer sees that the stream was cut. An alert that was sent may still arrive."""
        if self.closed:
            return
        self.closed = True
        if self._alert_sent:
            try:
                yield from self._drain()
            except OSError:
                return

    def call(self, function: Callable[[], T]) -> T:
        """Return what *function*, which uses the connection and does not wait, returns."""
        with self._core:
            return function()

    # ---- reading -------------------------------------------------------------------------------------------

    def _shake_hands(self) -> Steps[None]:
        """Run the handshake; the receive lock is held."""
        try:
            if self._handshake_timeout is not None:
                yield Deadline(self._handshake_timeout, "the handshake")
            with self._core:
                self.connection.start()
            while True:
                event = self._next_event()
                if isinstance(event, HandshakeComplete):
                    yield from self._end_of_flight()
                    break
                yield from self._flush_all()
                if event is NEED_DATA:
                    yield from self._receive()
                elif isinstance(event, _PAUSES):
                    yield from self._answer(event)
        except BaseException as error:  # noqa: BLE001 - raised, or the alert that explains it
            failure = error
        else:
            self._ready = True
            yield EndDeadline()
            return
        raise (yield from self._handshake_failed(failure))

    def _end_of_flight(self) -> Steps[None]:
        """Send what completes the handshake. Of a server that is tickets: a client that has left already wants none."""
        if self.connection.role is Role.CLIENT:
            yield from self._flush_all()
            return
        self._flush_wanted = True
        yield from self._flush_now()

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
                    data = yield _RECEIVE_OR_WRITABLE if self._stuck else _RECEIVE
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
                if isinstance(event, _PAUSES):
                    yield from self._answer_later(event)
                # KeyUpdated, CertificateRequested: the answer leaves before any data is in hand to be lost.
                self._flush_wanted = True
                yield from self._flush_now()
                with core:
                    event = connection.next_event()
        except OSError as error:
            if isinstance(error, DeadlineExceeded) or self.closed:
                raise
            self._read_error = error
            yield from self._last_words()
            raise

    def _next_event(self) -> Event | NeedData:
        with self._core:
            return self.connection.next_event()

    def _receive(self) -> Steps[None]:
        data = yield _RECEIVE
        if not data:
            self._transport_ends()
        with self._core:
            self.connection.receive_data(data)

    def _transport_ends(self) -> None:
        self._check_open()  # it was closed at this end meanwhile: no fault of the peer
        self._transport_ended = True

    def _answer(self, pause: Pause) -> Steps[None]:
        answer = yield Answer(pause)
        with self._core:
            self.connection.resume(answer)

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
            self.connection.resume(answer, pause.need)

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
                if isinstance(event, ApplicationData):
                    kept += event.data
                elif event is NEED_DATA:
                    yield from self._receive()
                elif isinstance(event, _PAUSES):
                    break
                elif isinstance(event, CloseNotify):
                    self._ended = True
                    break
        except OSError as error:
            if not isinstance(error, DeadlineExceeded):
                self._read_error = error
            return error if isinstance(error, AlertReceived | PeerError) else None
        finally:
            self._plain = memoryview(bytes(kept))
        return None

    # ---- writing -------------------------------------------------------------------------------------------

    def _flush(self) -> Steps[int]:
        """Send everything pending, waiting as needed; the send lock is held. Returns how many bytes that was."""
        total = 0
        if self._unsent:
            total += yield from self._send_unsent()
        with self._core:
            self._unsent = memoryview(self.connection.data_to_send())
        if self._unsent:
            total += yield from self._send_unsent()
        return total

    def _send_unsent(self) -> Steps[int]:
        unsent = self._unsent
        size = len(unsent)
        try:
            while unsent:
                sent = yield Send(unsent)
                unsent = unsent[sent:]
        except DeadlineExceeded:
            self._unsent = unsent
            raise
        except BaseException:
            self._output_lost = True
            raise
        self._unsent = _NOTHING
        self._stuck = False
        return size

    def _flush_all(self) -> Steps[None]:
        yield from self._acquire(self.sending)
        try:
            yield from self._flush()
        finally:
            self.sending.release()

    def _flush_now(self) -> Steps[None]:
        """Send what is pending as far as it goes without waiting.

        If the send lock is taken, its holder sends it: it looks at the flag after releasing the lock. While some of it
        is unsent nothing more is taken, so that the connection can keep to one KeyUpdate in answer to any number.
        """
        while (self._flush_wanted or self._stuck) and self.sending.try_acquire():
            try:
                self._flush_wanted = self._stuck = False
                if self._write_error is not None or self._output_lost:
                    return
                if not self._unsent:
                    with self._core:
                        self._unsent = memoryview(self.connection.data_to_send())
                while self._unsent:
                    sent = yield SendNow(self._unsent)
                    if not sent:
                        self._stuck = True
                        return
                    self._unsent = self._unsent[sent:]
            except OSError as error:
                self._write_error, self._unsent = error, _NOTHING
                return  # reading will find the reason
            except BaseException:
                self._output_lost = True
                raise
            finally:
                self.sending.release()

    def _command(self, command: Callable[[], object]) -> Steps[None]:
        """Run what produces output, and send that."""
        yield from self._acquire(self.sending)
        failure: BaseException | None = None
        try:
            self._check_sending()
            with self._core:
                command()
            yield from self._flush()
        except BaseException as error:  # noqa: BLE001 - raised below, without the lock
            failure = error
        finally:
            self.sending.release()
        if failure is not None:
            raise (yield from self._write_failed(failure))

    def _write_failed(self, error: BaseException) -> Steps[BaseException]:
        """Note that a write was cut short; return what to raise: the peer's alert, if that is the reason."""
        if isinstance(error, TLSError):
            return error
        self._write_error = error
        if not isinstance(error, OSError) or isinstance(error, DeadlineExceeded) or self.closed:
            return error
        try:
            yield Deadline(LAST_WORDS_SECONDS, "the peer's alert", cleanup=True)
            yield from self._acquire(self.receiving)
        except OSError:
            return error
        try:
            reason: BaseException | None = self._read_error
            if reason is None and not self._ended:
                reason = yield from self._look_for_alert()
        finally:
            self.receiving.release()
        if not isinstance(reason, AlertReceived | PeerError):
            return error
        reason.__cause__ = error
        return reason

    def _drain(self) -> Steps[None]:
        """End the output, then read and throw away until the peer ends its own: so much, so long, and no more."""
        yield EndOutput()
        error = self._read_error
        transport_failed = isinstance(error, OSError) and not isinstance(error, TLSError | DeadlineExceeded)
        if self._transport_ended or self._ended or transport_failed or isinstance(error, AlertReceived):
            return
        if not self.receiving.try_acquire():
            return  # somebody is reading
        try:
            drained = quiet = 0
            while drained < MAX_DRAINED and quiet < MAX_QUIET:
                try:
                    yield Deadline(QUIET_SECONDS, "the peer's end of stream")
                    data = yield _RECEIVE
                except DeadlineExceeded:
                    quiet += 1
                    if (yield Unacknowledged()) == 0:
                        return
                    continue
                if not data:
                    return
                drained += len(data)
        finally:
            self.receiving.release()

    # ---- checks --------------------------------------------------------------------------------------------

    def _acquire(self, lock: Lock) -> Steps[None]:
        if not lock.try_acquire():
            yield Acquire(lock)

    def _check_open(self) -> None:
        if self.closed:
            raise UsageError("the stream is closed")

    def _check_sending(self) -> None:
        self._check_open()
        if self._write_error is None:
            return
        if isinstance(self._write_error, OSError) and not isinstance(self._write_error, DeadlineExceeded):
            raise self._read_error if isinstance(self._read_error, TLSError) else self._write_error
        raise UsageError("an earlier write was cut short; nothing more can be sent")
