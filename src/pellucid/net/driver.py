"""Performs the I/O script's operations on a socket, blocking: the threads' driver. It decides nothing."""

from __future__ import annotations

import functools
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from pellucid.errors import UsageError
from pellucid.net.kernel import unacknowledged
from pellucid.net.operations import (
    RECEIVE_SIZE,
    Acquire,
    Answer,
    Deadline,
    EndDeadline,
    EndOutput,
    KeepDeadline,
    Operation,
    Pause,
    Receive,
    Send,
    SendNow,
    Steps,
    Unacknowledged,
    Until,
    earlier,
    nobody_awaits,
    until,
)

__all__ = ["DONT_WAIT", "NO_SIGNAL", "Driver", "PauseAnswer", "ThreadLock", "wait_for"]

T = TypeVar("T")
PauseAnswer = Callable[[Pause], object]
"""Answers a pause of the handshake; returns what `Connection.resume` takes.

pause.answer: what must be awaited, where a resolver, signer, verifier or store gave that; None: it said PENDING."""

# With MSG_DONTWAIT (Windows has none) one descriptor serves both the call that waits and the one that must not.
DONT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)
NO_SIGNAL: Final = getattr(socket, "MSG_NOSIGNAL", 0)


class ThreadLock:
    """A lock between threads, as the script asks for it."""

    __slots__ = ("acquire", "release", "try_acquire")

    def __init__(self) -> None:
        lock = threading.Lock()
        self.acquire = lock.acquire
        self.release = lock.release
        self.try_acquire: Callable[[], bool] = functools.partial(lock.acquire, False)


class Driver:
    """Runs scripts on *sock*. answer: who answers pauses, None for nobody."""

    def __init__(self, sock: socket.socket, answer: PauseAnswer | None) -> None:
        sock.setblocking(bool(DONT_WAIT))
        self._socket = sock
        self._answer = answer

    def run(self, steps: Steps[T], timeout: float | None) -> T:
        """Perform the operations of *steps* one after another; return what it returns. timeout: seconds, for all."""
        call = None if timeout is None else Until(time.monotonic() + timeout, "the call", timeout)
        deadline = call
        try:
            operation = next(steps)
            while True:
                result: object = None
                try:
                    if deadline is None and DONT_WAIT and type(operation) is Receive and not operation.or_writable:
                        result = self._socket.recv(RECEIVE_SIZE)
                    elif deadline is None and DONT_WAIT and type(operation) is Send:
                        result = self._socket.send(operation.data, NO_SIGNAL)
                    elif isinstance(operation, Deadline):
                        result = own = until(operation, time.monotonic())
                        deadline = own if operation.cleanup else earlier(own, call)
                    elif isinstance(operation, KeepDeadline):
                        deadline = earlier(operation.until, call)
                    elif isinstance(operation, EndDeadline):
                        deadline = call
                    else:
                        result = self._perform(operation, deadline)
                except BaseException as error:  # noqa: BLE001 - the script decides
                    operation = steps.throw(error)
                else:
                    operation = steps.send(result)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def _perform(self, operation: Operation, deadline: Until | None) -> object:
        match operation:
            case Receive():
                return self._receive(operation.or_writable, deadline)
            case Send():
                return self._send(operation.data, deadline)
            case SendNow():
                try:
                    return self._socket.send(operation.data, DONT_WAIT | NO_SIGNAL)
                except BlockingIOError:
                    return 0
            case Acquire():
                self._acquire(operation, deadline)
            case Answer():
                if self._answer is None:
                    raise nobody_awaits(operation.pause)
                return self._answer(operation.pause)
            case EndOutput():
                self._socket.shutdown(socket.SHUT_WR)
            case Unacknowledged():
                return unacknowledged(self._socket)
        return None

    def _receive(self, or_writable: bool, deadline: Until | None) -> bytes | None:
        while True:
            readable, writable = wait_for(self._socket, read=True, write=or_writable, deadline=deadline)
            if readable:
                try:
                    return self._socket.recv(RECEIVE_SIZE, DONT_WAIT)
                except BlockingIOError:
                    continue
            if writable:
                return None

    def _send(self, data: memoryview, deadline: Until | None) -> int:
        while True:
            try:
                return self._socket.send(data, DONT_WAIT | NO_SIGNAL)
            except BlockingIOError:
                wait_for(self._socket, read=False, write=True, deadline=deadline)

    def _acquire(self, operation: Acquire, deadline: Until | None) -> None:
        lock = operation.lock
        if not isinstance(lock, ThreadLock):
            raise TypeError("a lock of another driver")
        if deadline is None:
            lock.acquire()
        elif not lock.acquire(timeout=max(0.0, deadline.moment - time.monotonic())):
            raise deadline.error()


def wait_for(sock: socket.socket, *, read: bool, write: bool, deadline: Until | None) -> tuple[bool, bool]:
    """Wait until *sock* is readable or writable as asked; return which. Raises DeadlineExceeded."""
    remaining = None if deadline is None else deadline.moment - time.monotonic()
    if deadline is not None and remaining is not None and remaining <= 0:
        raise deadline.error()
    if sock.fileno() < 0:
        raise UsageError("the stream is closed")
    if hasattr(select, "poll"):  # select() cannot take descriptors from 1024 on
        poll = select.poll()
        poll.register(sock, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        events = poll.poll(None if remaining is None else remaining * 1000)
        # POLLERR and POLLHUP come unasked: the call that follows tells what they mean.
        happened = events[0][1] if events else 0
        ended = happened & ~(select.POLLIN | select.POLLOUT)
        readable, writable = (
            bool(happened & select.POLLIN or (read and ended)),
            bool(happened & select.POLLOUT or ended),
        )
    else:
        reads, writes, broken = select.select([sock] if read else [], [sock] if write else [], [sock], remaining)
        readable, writable = bool(reads or (read and broken)), bool(writes or broken)
    if not readable and not writable and deadline is not None:
        raise deadline.error()
    return readable, writable
