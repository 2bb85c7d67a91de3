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

from collections.abc import Callable
from typing import Final

from pellucid.connection import Connection
from pellucid.errors import AlertReceived, TLSError
from pellucid.events import NEED_DATA, EarlyDataAccepted, HandshakeComplete
from pellucid.handshake.actions import Negotiated
from pellucid.limits import BULK_STEP, HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.input import PAUSES, RECEIVE, Input
from pellucid.net.operations import (
    Acquire,
    Answer,
    AnswerFailed,
    Deadline,
    DeadlineExceeded,
    EndDeadline,
    EndOutput,
    Lock,
    Pause,
    Steps,
    Unacknowledged,
)
from pellucid.net.output import LAST_WORDS_SECONDS
from pellucid.trace import Role

__all__ = ["Script"]

WRITE_STEP: Final = BULK_STEP  # sealed and sent at a time
QUIET_SECONDS: Final = 0.1  # without a byte from the peer, after which an acknowledged end is taken to have arrived
MAX_QUIET: Final = 10
MAX_DRAINED: Final = 2**20


class Script(Input):
    """One connection's I/O, for any number of readers and writers at a time; each takes its turn.

    handshake_timeout: seconds for the whole handshake, None for no end.
    early_data:        a client's: sent with the ClientHello if a session allows all of it, and never again (§4.3.10).
    """

    def __init__(
        self,
        connection: Connection,
        new_lock: Callable[[], Lock],
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
        early_data: bytes = b"",
    ) -> None:
        super().__init__(connection, new_lock)
        self._handshake_timeout = handshake_timeout
        self._handshaking = new_lock()
        self._ready = False
        """data may be read and written: the handshake is complete, or early data is accepted"""
        self._early_data = early_data
        self.early_data_too_long = False
        """there was more of it than the session allows, and none was sent"""
        self.accepted: Negotiated | None = None
        """a server's, once early data is accepted: what will have been agreed when the handshake is complete"""

    # ---- what a user asks for ------------------------------------------------------------------------------

    def handshake(self) -> Steps[None]:
        """Shake hands, if that is not done yet. Whatever interrupts it ends the connection.

        A server that accepts early data is done as soon as it has: the rest goes on inside reading.
        """
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

    def finish_handshake(self) -> Steps[None]:
        """Shake hands to the end, with early data too: then what was read as such is known to be no replay."""
        yield from self.handshake()
        if self.complete:
            return
        yield from self._acquire(self.receiving)
        try:
            if self._read_error is not None:
                raise self._read_error
            yield from self._keep_deadline()
            yield from self._in_time(self._go_on(lambda: self.complete))
        finally:
            self.receiving.release()

    def ticket(self) -> Steps[bool]:
        """Read until a NewSessionTicket has come; what comes before it is kept. False: none will, or too much came."""
        yield from self.finish_handshake()
        yield from self._acquire(self.receiving)
        try:
            if self._read_error is None and not self._ended:
                yield from self._go_on(lambda: self.tickets > 0)
        except OSError as error:
            if isinstance(error, DeadlineExceeded):
                raise
            return self.tickets > 0
        finally:
            self.receiving.release()
        return self.tickets > 0

    def read(self, limit: int) -> Steps[bytes]:
        """Return 1 to *limit* bytes of data; b"" after the peer's close_notify, and only then."""
        if not self._ready:
            yield from self.handshake()
        if not self.receiving.try_acquire():
            yield Acquire(self.receiving)
        try:
            if self._early:
                return (yield from self._read_early(limit))
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
        yield from self._write_on(data)

    def _write_on(self, data: bytes | memoryview) -> Steps[None]:
        """Send what is unsent, then *data*; the send lock is held, and released here."""
        try:
            if self._write_error is not None or self.closed:
                self._check_sending()
            if self._unsent:
                yield from self._flush()
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
        try:
            yield from self._tickets_before_closing()
        finally:
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

    # ---- the handshake -------------------------------------------------------------------------------------

    def _shake_hands(self) -> Steps[None]:
        """Run the handshake; the receive lock is held."""
        try:
            if self._handshake_timeout is not None:
                self._handshake_until = yield Deadline(self._handshake_timeout, "the handshake")
            with self._core:
                self.connection.start()
                self._send_early_data()
            while True:
                event = self._next_event()
                if isinstance(event, HandshakeComplete):
                    yield from self._end_of_flight()
                    self.complete = True
                    break
                yield from self._flush_all()
                if event is NEED_DATA:
                    yield from self._receive()
                elif isinstance(event, PAUSES):
                    yield from self._answer(event)
                elif isinstance(event, EarlyDataAccepted):
                    self.accepted = event.negotiated
                    self._early = True
                    break
        except BaseException as error:  # noqa: BLE001 - raised, or the alert that explains it
            failure = error
        else:
            self._ready = True
            yield EndDeadline()
            return
        raise (yield from self._handshake_failed(failure))

    def _send_early_data(self) -> None:
        """Let the early data follow the ClientHello, if that may be and has not been done; the core lock is held."""
        connection, data = self.connection, self._early_data
        left = connection.early_data_left
        if not data or not left:
            return  # it may be that a pause must be answered first
        self._early_data = b""
        self.early_data_too_long = len(data) > left
        if not self.early_data_too_long:
            connection.send_early_data(data)

    def _end_of_flight(self) -> Steps[None]:
        """Send what completes the handshake. Of a server that is tickets: a client that has left already wants none."""
        if self.connection.role is Role.CLIENT:
            yield from self._flush_all()
            return
        self._flush_wanted = True
        yield from self._flush_now()

    def _answer(self, pause: Pause) -> Steps[None]:
        answer = yield Answer(pause)
        with self._core:
            if isinstance(answer, AnswerFailed):
                self.connection.resume_with_error(answer.error, pause.need)
                return
            self.connection.resume(answer, pause.need)
            self._send_early_data()

    # ---- closing -------------------------------------------------------------------------------------------

    def _tickets_before_closing(self) -> Steps[None]:
        """A server that has answered early data lets the handshake end, for a short time: tickets follow it."""
        if not self._ready or self.complete or self._read_error is not None or not self.receiving.try_acquire():
            return
        try:
            yield Deadline(LAST_WORDS_SECONDS, "the end of the handshake")
            yield from self._go_on(lambda: self.complete)
        except OSError:
            return  # a client that does not go on gets no ticket
        finally:
            self.receiving.release()
        yield EndDeadline()

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
                    data = yield RECEIVE
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
