"""Connects over TCP under anyio, by the same race, with the same trace and errors as the blocking `tcp.connect_tcp`."""

from __future__ import annotations

import contextlib
import socket

import anyio

from pellucid.limits import CONNECT_TIMEOUT_SECONDS
from pellucid.net.eyeballs import NameNotResolved, Resolve, addresses_of
from pellucid.net.packets import WAIT_SECONDS
from pellucid.net.tcp import Attempt, Dialer, trace_connection
from pellucid.trace import Observer

__all__ = ["connect_tcp"]


async def connect_tcp(
    host: str,
    port: int,
    *,
    timeout: float | None = CONNECT_TIMEOUT_SECONDS,
    local_address: tuple[str, int] | None = None,
    resolve: Resolve | None = None,
    trace: Observer | None = None,
) -> socket.socket:
    """Return a connected socket that does not block; the rest as `pellucid.net.tcp.connect_tcp`."""
    started = anyio.current_time()
    dialer = Dialer(host, port, resolve=resolve, local_address=local_address, trace=trace)
    with contextlib.closing(dialer):
        winner = None
        with anyio.move_on_after(timeout):
            winner = await _Race(dialer).run()
        if winner is None:
            raise dialer.error(anyio.current_time(), None if dialer.hopeless else timeout)
    try:
        if trace is not None:
            await _collect(winner)
            trace_connection(winner, trace, anyio.current_time() - started)
    except BaseException:
        winner.socket.close()
        raise
    finally:
        if winner.capture is not None:
            winner.capture.close()
    return winner.socket


class _Race:
    """The tasks of one connect: one for each lookup and each attempt, and the one that starts them."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._winner: Attempt | None = None
        self._changed = anyio.Event()

    async def run(self) -> Attempt | None:
        try:
            async with anyio.create_task_group() as group:
                if self._dialer.name:
                    group.start_soon(self._look_up)
                while self._winner is None and not self._dialer.hopeless:
                    now = anyio.current_time()
                    start = self._dialer.race.next_start()
                    if start is not None and start <= now:
                        if (attempt := self._dialer.begin(now)) is not None:
                            group.start_soon(self._wait, attempt)
                        continue
                    with anyio.move_on_after(None if start is None else start - now):
                        await self._changed.wait()
                    self._changed = anyio.Event()
                group.cancel_scope.cancel()
        except BaseException:
            if self._winner is not None:
                self._winner.socket.close()
                if self._winner.capture is not None:
                    self._winner.capture.close()
            raise
        return self._winner

    async def _look_up(self) -> None:
        try:
            answer = await anyio.getaddrinfo(self._dialer.name, self._dialer.port, type=socket.SOCK_STREAM)
            self._dialer.answered(addresses_of(answer))
        except OSError as error:
            self._dialer.answered(error)
        except UnicodeError as error:
            self._dialer.answered(NameNotResolved(socket.EAI_NONAME, str(error)))
        self._changed.set()

    async def _wait(self, attempt: Attempt) -> None:
        await anyio.wait_writable(attempt.socket)
        if self._winner is None and self._dialer.settle(attempt, anyio.current_time()):
            self._winner = attempt
        self._changed.set()


async def _collect(winner: Attempt) -> None:
    """Wait for the three packets of the winner's opening, for at most 100 ms."""
    if winner.capture is None:
        return
    port = winner.socket.getsockname()[1]
    with anyio.move_on_after(WAIT_SECONDS):
        while not winner.capture.poll(port):
            await anyio.wait_readable(winner.capture)
