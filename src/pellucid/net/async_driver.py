"""Performs the I/O script's operations under anyio, on asyncio and trio. It decides nothing.

On a socket every byte is accounted for: the socket is tried first and waited for after, so that a cancellation
falls only where nothing is under way. On another byte stream an interrupted send leaves that open.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel

from pellucid.errors import InternalError
from pellucid.net.kernel import unacknowledged
from pellucid.net.operations import (
    RECEIVE_SIZE,
    Acquire,
    Answer,
    AnswerFailed,
    Deadline,
    EndDeadline,
    EndOutput,
    KeepDeadline,
    Lock,
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

__all__ = ["AsyncDriver", "AsyncPauseAnswer", "ByteStreamTransport", "SocketTransport", "TaskLock"]

T = TypeVar("T")
AsyncPauseAnswer = Callable[[Pause], Awaitable[object]]
"""Answers a pause that said PENDING; returns what `Connection.resume` takes. What must be awaited is, without it."""

_UNINTERRUPTED: Final = 16  # operations that need not wait, between two times that other tasks get their turn


class TaskLock:
    """A lock between tasks, as the script asks for it."""

    __slots__ = ("_lock", "acquire", "release")

    def __init__(self) -> None:
        self._lock = anyio.Lock(fast_acquire=True)
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def try_acquire(self) -> bool:
        try:
            self._lock.acquire_nowait()
        except anyio.WouldBlock:
            return False
        return True


class Transport(Protocol):
    """Where the bytes go. Failures are OSErrors."""

    async def receive(self, room: Lock | None) -> bytes | None:
        """Return at least one byte, b"" at the end. room: return None when output may go and its lock is free."""
        ...

    def receive_now(self) -> bytes | None: ...
    def send_now(self, data: memoryview) -> int | None:
        """Return how many bytes were sent without waiting; None if this transport cannot tell."""
        ...

    async def send(self, data: memoryview) -> int: ...
    async def end_output(self) -> None: ...
    def unacknowledged(self) -> int | None: ...
    async def close(self) -> None: ...


class SocketTransport:
    """A connected stream socket. Waits for readiness only; the socket itself never blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    def receive_now(self) -> bytes | None:
        try:
            return self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None

    async def receive(self, room: Lock | None) -> bytes | None:
        while (data := self.receive_now()) is None:
            if isinstance(room, TaskLock):
                await self._readable_or_writable(room)
                return self.receive_now()
            await anyio.wait_readable(self._socket)
        return data

    def send_now(self, data: memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def send(self, data: memoryview) -> int:
        while not (sent := self.send_now(data)):
            await anyio.wait_writable(self._socket)
        return sent

    async def end_output(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def unacknowledged(self) -> int | None:
        return unacknowledged(self._socket)

    async def close(self) -> None:
        if self._socket.fileno() >= 0:
            anyio.notify_closing(self._socket)
            self._socket.close()

    async def _readable_or_writable(self, room: TaskLock) -> None:
        """Return when there is input, or room for output that nobody else is about to fill."""
        closed: list[anyio.ClosedResourceError] = []

        async def wait_for_room() -> None:
            with contextlib.suppress(anyio.ClosedResourceError):
                await room.acquire()
                try:
                    await anyio.wait_writable(self._socket)
                finally:
                    room.release()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(wait_for_room)
            try:
                await anyio.wait_readable(self._socket)
            except anyio.ClosedResourceError as error:
                closed.append(error)
            group.cancel_scope.cancel()
        if closed:
            raise closed[0]


class ByteStreamTransport:
    """Any byte stream of anyio's: memory, a proxy's tunnel, TLS in TLS."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self._stream = stream

    def receive_now(self) -> None:
        return None

    async def receive(self, room: Lock | None) -> bytes:
        try:
            return await self._stream.receive(RECEIVE_SIZE)
        except anyio.EndOfStream:
            return b""
        except anyio.BrokenResourceError as error:
            raise _reset(error) from error

    def send_now(self, data: memoryview) -> None:
        return None

    async def send(self, data: memoryview) -> int:
        try:
            await self._stream.send(bytes(data))
        except anyio.BrokenResourceError as error:
            raise _reset(error) from error
        return len(data)

    async def end_output(self) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, NotImplementedError):
            await self._stream.send_eof()

    def unacknowledged(self) -> None:
        return None

    async def close(self) -> None:
        await anyio.aclose_forcefully(self._stream)


def _reset(error: anyio.BrokenResourceError) -> ConnectionResetError:
    return ConnectionResetError(str(error.__cause__ or "the transport is broken"))


class AsyncDriver:
    """Runs scripts on *transport*. answer: who answers pauses, None for nobody."""

    def __init__(self, transport: Transport, answer: AsyncPauseAnswer | None) -> None:
        self._transport = transport
        self._answer = answer
        self._uninterrupted = 0

    async def run(self, steps: Steps[T], sending: Lock, timeout: float | None = None) -> T:
        """Perform the operations of *steps*; return what it returns. sending: the send lock of their script."""
        call = None if timeout is None else Until(anyio.current_time() + timeout, "the call", timeout)
        deadline, cleanup = call, False
        await anyio.lowlevel.checkpoint_if_cancelled()
        try:
            operation = next(steps)
            while True:
                result: object = None
                try:
                    if isinstance(operation, Deadline):
                        result = own = until(operation, anyio.current_time())
                        deadline = own if operation.cleanup else earlier(own, call)
                        cleanup = operation.cleanup
                    elif isinstance(operation, KeepDeadline):
                        deadline = earlier(operation.until, call)
                    elif isinstance(operation, EndDeadline):
                        deadline = call
                    else:
                        result = await self._perform(operation, sending, deadline, cleanup)
                except BaseException as error:  # noqa: BLE001 - the script decides
                    operation = steps.throw(error)
                else:
                    operation = steps.send(result)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    async def _perform(self, operation: Operation, sending: Lock, deadline: Until | None, cleanup: bool) -> object:
        match operation:
            case SendNow():
                sent = self._transport.send_now(operation.data)
                if sent is not None:
                    return sent
            case Receive() | Send():
                await self._take_turns(cleanup)
                done = (
                    self._transport.receive_now()
                    if isinstance(operation, Receive)
                    else self._transport.send_now(operation.data)
                )
                if done is not None and done != 0:
                    return done
                self._uninterrupted = 0
        if deadline is None and not cleanup:
            return await self._wait(operation, sending)
        remaining = None if deadline is None else max(0.0, deadline.moment - anyio.current_time())
        with anyio.move_on_after(remaining, shield=cleanup) as scope:
            return await self._wait(operation, sending)
        if scope.cancelled_caught and deadline is not None:
            raise deadline.error()
        raise AssertionError("a scope ended that had no deadline")

    async def _wait(self, operation: Operation, sending: Lock) -> object:
        match operation:
            case Receive():
                return await self._transport.receive(sending if operation.or_writable else None)
            case Send() | SendNow():
                return await self._transport.send(operation.data)
            case Acquire():
                if not isinstance(operation.lock, TaskLock):
                    raise TypeError("a lock of another driver")
                await operation.lock.acquire()
            case Answer():
                return await self._answered(operation.pause)
            case EndOutput():
                await self._transport.end_output()
            case Unacknowledged():
                return self._transport.unacknowledged()
        return None

    async def _answered(self, pause: Pause) -> object:
        try:
            if pause.answer is not None:
                return await pause.answer
            if self._answer is None:
                raise nobody_awaits(pause)
            return await self._answer(pause)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            return AnswerFailed(InternalError("what the handshake awaited was cancelled"))
        except Exception as error:
            if pause.answer is None:
                raise  # the caller's own function, and the caller is told
            return AnswerFailed(error)  # the connection ends with it

    async def _take_turns(self, cleanup: bool) -> None:
        """Let other tasks run now and then, even if this one never waits. Before an operation: nothing is lost."""
        self._uninterrupted += 1
        if self._uninterrupted >= _UNINTERRUPTED:
            self._uninterrupted = 0
            if cleanup:
                await anyio.lowlevel.cancel_shielded_checkpoint()
            else:
                await anyio.lowlevel.checkpoint()


def _is_cancelled() -> bool:
    """Whether it is this task that asyncio was told to cancel, and not what it awaited: that ends no listener."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
