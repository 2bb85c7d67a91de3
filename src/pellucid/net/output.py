"""The half of the I/O script that sends: what is sealed leaves in order, whoever asked for it.

What it holds to is at the head of `script`.
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from pellucid.connection import Connection
from pellucid.errors import AlertReceived, PeerError, TLSError, UsageError
from pellucid.net.operations import Acquire, Deadline, DeadlineExceeded, Lock, Send, SendNow, Steps

__all__ = ["LAST_WORDS_SECONDS", "Output"]

T = TypeVar("T")

LAST_WORDS_SECONDS: Final = 1.0  # for the alert after an error, and for the peer's alert after a failed write

_NOTHING: Final = memoryview(b"")


class Output(abc.ABC):
    """What is shared by all that send on one connection, and how it is sent. Use `Script`."""

    def __init__(self, connection: Connection, new_lock: Callable[[], Lock]) -> None:
        self.connection = connection
        self._core = threading.Lock()
        self.receiving = new_lock()
        self.sending = new_lock()
        self._unsent = _NOTHING
        """sealed, and taken from the connection; the send lock's holder sends it before anything else"""
        self._flush_wanted = False
        """reading may have produced output"""
        self._stuck = False
        """what reading produced found no room; the next reader or writer sends it"""
        self._read_error: BaseException | None = None
        self._write_error: BaseException | None = None
        self._output_lost = False
        """nobody knows how much of a record was sent: nothing may follow, not even an alert; there is a write error"""
        self._ended = False
        """the peer's close_notify is read"""
        self.closed = False

    def call(self, function: Callable[[], T]) -> T:
        """Return what *function*, which uses the connection and does not wait, returns."""
        with self._core:
            return function()

    @abc.abstractmethod
    def _look_for_alert(self) -> Steps[AlertReceived | PeerError | None]:
        """The transport failed: return what the peer said before it went away; the receive lock is held."""

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
        except BaseException as error:
            self._lose_output(error)
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
            except BaseException as error:
                self._lose_output(error)
                raise
            finally:
                self.sending.release()

    def _lose_output(self, error: BaseException) -> None:
        """Note, before the send lock is released, that nothing may be sent any more."""
        self._output_lost = True
        self._write_error = error

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
