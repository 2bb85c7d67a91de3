"""The parent of `pellucid serve --workers N`: it serves nothing, and keeps N processes that do.

All accept from one listening socket, which they inherit and the parent holds open. So a connection that waits in its
queue is never lost with the worker that goes: with a socket for each worker (SO_REUSEPORT) the kernel would have
chosen one for it already, and reset it. And who has time takes it: nobody waits for a worker that is busy or gone.

The parent makes the ticket keys and hands them to the workers, whenever it makes a new one or forgets an old one. They
are random, each by itself: keys derived by time from one secret would be known, the old ones too, to whoever learns it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pellucid.cli.common import CommandFailed, keylog_path
from pellucid.cli.listening import announce, hangups, listen, stop_signals, url_of
from pellucid.cli.output import Output
from pellucid.cli.server_credentials import development_leaf, of_leaf, server_credentials
from pellucid.cli.worker_link import Frames, Kind, Register, send, send_json
from pellucid.explain.text import Span, escaped, line
from pellucid.limits import (
    EARLY_DATA_WINDOW_SECONDS,
    HANDSHAKE_TIMEOUT_SECONDS,
    TICKET_KEY_KEEP_SECONDS,
    TICKET_KEY_ROTATION_SECONDS,
)
from pellucid.sessions.early_data import StrikeRegister
from pellucid.sessions.tickets import TicketKeys

__all__ = ["Parent", "run_workers", "worker_count"]

_MOST: Final = 256
_BUFFER: Final = 2**18
_START_SECONDS: Final = 90.0  # to get ready; an application has 60 for its start
_FAILED_STARTS: Final = 5  # in a row, while nobody serves
_SHORT_LIFE_SECONDS: Final = 5.0
_FIRST_DELAY_SECONDS: Final = 0.1
_LONGEST_DELAY_SECONDS: Final = 5.0
_LAST_SECONDS: Final = 10.0  # that a worker has beyond all its times of grace
_KEYS_SECONDS: Final = 60.0  # between two looks at the ring
_LATE_SECONDS: Final = 600.0  # after which a worker that was told of no new key makes one of its own


def worker_count(text: str) -> int:
    """Return how many processes are to serve. Raises CommandFailed (2), also where several cannot share a socket."""
    if text == "auto":
        affinity = getattr(os, "sched_getaffinity", None)
        count = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
        return count if sys.platform != "win32" else 1
    if not text.isdecimal() or not 1 <= int(text) <= _MOST:
        raise CommandFailed(f"--workers is a number from 1 to {_MOST}, or auto, not {text!r}", code=2)
    if int(text) > 1 and sys.platform == "win32":
        raise CommandFailed(
            "--workers: on Windows a listening socket is not handed to other processes as it is here",
            code=2,
            hints=("leave it out; several servers behind a proxy do what it does",),
        )
    return int(text)


def run_workers(count: int, target: str, options: Mapping[str, Any], output: Output) -> None:
    """Serve *target* with *count* processes until a signal stops them. Raises CommandFailed."""
    if options["pcapng"]:
        raise CommandFailed(
            "--pcapng and --workers exclude each other: a capture file is written by one process",
            code=2,
            hints=("--keylog is shared by any number of them",),
        )
    keylog_path(options["keylog"])
    leaf, authority = development_leaf(options)
    if leaf is None:
        credentials, _ = server_credentials(options)
    else:
        credentials = of_leaf(leaf.chain_pem, leaf.key_pem, options)
    sock = listen(options["host"], options["port"])
    with sock:
        url = url_of(options["host"], sock.getsockname()[1])
        plan = {
            "target": target,
            "options": {
                name: str(value) if isinstance(value, os.PathLike) else value for name, value in options.items()
            },
            "development": None if leaf is None else [leaf.chain_pem.decode(), leaf.key_pem.decode()],
        }
        parent = Parent(count, sock, plan, output, grace=options["grace"], early_data=options["early_data"])
        asyncio.run(parent.run(lambda: announce(output, url, authority, credentials)))


@dataclass(eq=False, slots=True)
class _Worker:
    """One process. ended: it has gone; left: it has, or another is in its place."""

    number: int
    process: asyncio.subprocess.Process
    link: socket.socket
    asking: socket.socket
    started: float
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    failure: CommandFailed | None = None
    frames: Frames = field(default_factory=Frames)

    @property
    def serves(self) -> bool:
        return self.ready.is_set() and not self.ended.is_set()

    def tell(self, kind: Kind, payload: bytes = b"") -> None:
        """Tell it, unless it has gone, or hears nothing: then it will be ended."""
        with contextlib.suppress(OSError):
            send(self.link, kind, payload)


class Parent:
    """Keeps *count* workers that serve *plan* on *sock*.

    rotate_seconds, keep_seconds: the ticket keys'.   command: what a worker is started by, before its descriptors.
    """

    def __init__(
        self,
        count: int,
        sock: socket.socket,
        plan: Mapping[str, Any],
        output: Output,
        *,
        grace: float,
        early_data: bool,
        rotate_seconds: float = TICKET_KEY_ROTATION_SECONDS,
        keep_seconds: float = TICKET_KEY_KEEP_SECONDS,
        command: Sequence[str] | None = None,
    ) -> None:
        self._count = count
        self._sock = sock
        self._plan = {
            **plan,
            "rotate_seconds": rotate_seconds + _LATE_SECONDS,
            "keep_seconds": keep_seconds,
            "window_seconds": EARLY_DATA_WINDOW_SECONDS,
        }
        self._output = output
        self._grace = grace
        self._ring = TicketKeys(rotate_seconds=rotate_seconds, keep_seconds=keep_seconds)
        self._keys_seconds = min(_KEYS_SECONDS, rotate_seconds / 4)
        self._guard = StrikeRegister() if early_data else None
        self._command = _command() if command is None else tuple(command)
        self._places: dict[int, _Worker] = {}
        """the worker that serves in each place, by its number"""
        self._workers: set[_Worker] = set()
        """all that run, also those that are being replaced"""
        self._changing = {number: asyncio.Lock() for number in range(1, count + 1)}
        self._failed_starts = 0
        self._stop = asyncio.Event()
        self._restart = asyncio.Event()
        self._watching: set[asyncio.Task[None]] = set()

    async def run(self, ready: Callable[[], None]) -> None:
        """Return once a signal has stopped all. ready: called once, when all workers serve. Raises CommandFailed."""
        loop = asyncio.get_running_loop()
        with stop_signals(loop, self._stop.set, self._hurry), hangups(loop, self._stop.set, self._restart.set):
            tasks = [loop.create_task(self._keep(number)) for number in self._changing]
            tasks += [loop.create_task(self._hand_on_keys()), loop.create_task(self._replace_on_demand())]
            tasks.append(loop.create_task(self._announce(ready)))
            stopped = loop.create_task(self._stop.wait())
            waiting: set[asyncio.Future[Any]] = {stopped, *tasks}
            try:
                while not self._stop.is_set():
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for one in done:
                        one.result()
            finally:
                self._stop.set()
                for task in (stopped, *tasks):
                    task.cancel()
                await asyncio.gather(stopped, *tasks, return_exceptions=True)
                self._sock.close()  # each worker lets go of it when it is told: from then on nobody can connect
                drain = min(self._grace, HANDSHAKE_TIMEOUT_SECONDS)
                await asyncio.gather(*(self._end(worker, drain, replaced=False) for worker in tuple(self._workers)))
                await asyncio.gather(*self._watching, return_exceptions=True)

    async def _announce(self, ready: Callable[[], None]) -> None:
        while len(self._places) < self._count or not all(one.serves for one in self._places.values()):
            await asyncio.sleep(0.01)
        ready()

    # ---- the places --------------------------------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Have a worker in the place *number*, whatever happens to it."""
        short_lives = 0
        while True:
            async with self._changing[number]:
                worker = self._places.get(number)
                if worker is None or worker.ended.is_set():
                    worker = await self._start(number)
                    self._places[number] = worker
                    await self._came_up(worker)
            await worker.left.wait()
            if self._places[number] is not worker:
                short_lives = 0
                continue
            if worker.failure is not None:
                self._warn(f"worker {number} failed: {worker.failure}")
            else:
                self._warn(
                    f"worker {number} (process {worker.process.pid}) has ended: {_how(worker)}; a new one starts"
                )
            lived = asyncio.get_running_loop().time() - worker.started
            short_lives = short_lives + 1 if lived < _SHORT_LIFE_SECONDS or not worker.ready.is_set() else 0
            if short_lives:
                await asyncio.sleep(min(_FIRST_DELAY_SECONDS * 2 ** (short_lives - 1), _LONGEST_DELAY_SECONDS))

    async def _came_up(self, worker: _Worker) -> bool:
        """Whether *worker* serves. Raises CommandFailed where nobody does, and it makes no sense to try again."""
        loop = asyncio.get_running_loop()
        waiting = [loop.create_task(event.wait()) for event in (worker.ready, worker.ended)]
        await asyncio.wait(waiting, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if worker.serves:
            self._failed_starts = 0
            return True
        if not worker.ended.is_set():
            worker.process.kill()
            await worker.ended.wait()
        self._failed_starts += 1
        if not any(one.serves for one in self._workers):
            if worker.failure is not None:
                raise worker.failure
            if self._failed_starts >= max(_FAILED_STARTS, self._count):
                raise CommandFailed(
                    f"no worker could be started: {self._failed_starts} have ended before they served, "
                    f"the last one by {_how(worker)}",
                    code=1,
                )
        return False

    async def _replace_on_demand(self) -> None:
        """At each SIGHUP have a new worker in each place, one after the other; what it takes is read anew."""
        while True:
            await self._restart.wait()
            self._restart.clear()
            for number, changing in self._changing.items():
                async with changing:
                    worker = await self._start(number)
                    if not await self._came_up(worker):
                        why = (
                            f"worker {number} ended before it served: {_how(worker)}"
                            if worker.failure is None
                            else str(worker.failure)
                        )
                        self._warn(f"not restarted, what was there before goes on: {why}")
                        break
                    before, self._places[number] = self._places.get(number), worker
                if before is not None:
                    before.left.set()
                    self._watch(self._end(before, HANDSHAKE_TIMEOUT_SECONDS, replaced=True))
            else:
                self._say("good", f"restarted: {self._count} workers")

    # ---- one worker --------------------------------------------------------------------------------------------------

    async def _start(self, number: int) -> _Worker:
        loop = asyncio.get_running_loop()
        link, theirs = socket.socketpair()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)  # all that it is told at first fits in
        asking, asked = socket.socketpair()
        given = (self._sock.fileno(), theirs.fileno(), asked.fileno())
        try:
            with _signals_held_back():
                process = await asyncio.create_subprocess_exec(
                    *self._command, *map(str, given), stdin=asyncio.subprocess.DEVNULL, pass_fds=given
                )
        except BaseException:
            link.close()
            asking.close()
            raise
        finally:
            theirs.close()
            asked.close()
        worker = _Worker(number, process, link, asking, loop.time())
        self._workers.add(worker)
        self._watch(self._reap(worker))
        for one in (link, asking):
            one.setblocking(False)
        with contextlib.suppress(OSError):
            send_json(link, Kind.SETUP, {**self._plan, "number": number})
        self._ring.advance()
        worker.tell(Kind.KEYS, self._ring.export_keys())
        loop.add_reader(link, self._hear, worker)
        if self._guard is not None:
            loop.add_reader(asking, self._answer, Register(asking, self._guard), asking)
        return worker

    def _hear(self, worker: _Worker) -> None:
        messages, goes_on = worker.frames.take(worker.link)
        for kind, payload in messages:
            if kind is Kind.READY:
                worker.ready.set()
            elif kind is Kind.FAILED:
                told = json.loads(payload)
                worker.failure = CommandFailed(told["message"], code=told["code"], hints=tuple(told["hints"]))
        if not goes_on:
            asyncio.get_running_loop().remove_reader(worker.link)

    def _answer(self, register: Register, asking: socket.socket) -> None:
        if not register.answer():
            asyncio.get_running_loop().remove_reader(asking)

    async def _reap(self, worker: _Worker) -> None:
        """Wait for the process, and put away what belonged to it."""
        await worker.process.wait()
        self._hear(worker)
        loop = asyncio.get_running_loop()
        for one in (worker.link, worker.asking):
            loop.remove_reader(one)
            one.close()
        self._workers.discard(worker)
        worker.ended.set()
        worker.left.set()

    async def _end(self, worker: _Worker, drain: float, *, replaced: bool) -> None:
        """Have *worker* finish what it has, for a bounded time. drain: of it, for those who have just come."""
        if worker.ready.is_set():
            worker.tell(Kind.STOP, json.dumps({"seconds": drain, "replaced": replaced}).encode())
        elif not worker.ended.is_set():
            worker.process.terminate()
        longest = drain + 2 * self._grace + _LAST_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.ended.wait(), longest)
        if not worker.ended.is_set():
            self._warn(f"worker {worker.number} did not end in time, and is killed")
            worker.process.kill()
            await worker.ended.wait()

    def _hurry(self) -> None:
        for worker in self._workers:
            worker.tell(Kind.HURRY)

    def _watch(self, work: Any) -> None:  # Any: a coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    # ---- ticket keys -------------------------------------------------------------------------------------------------

    async def _hand_on_keys(self) -> None:
        """Hand the ring to all workers whenever it has changed: a key is new, or forgotten."""
        last = self._ring.export_keys()
        while True:
            await asyncio.sleep(self._keys_seconds)
            self._ring.advance()
            if (present := self._ring.export_keys()) != last:
                last = present
                for worker in self._workers:
                    worker.tell(Kind.KEYS, present)

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _warn(self, text: str) -> None:
        self._say("warn", text)

    def _say(self, style: str, text: str) -> None:
        """Say it, unless whoever listened has gone: the workers go on without."""
        with contextlib.suppress(CommandFailed):
            self._output.talk(line(Span(escaped(text), style)))


def _command() -> tuple[str, ...]:
    # With -m the present directory comes first in the path; a worker looks for its modules where the parent did.
    here = ("", os.getcwd())
    return (
        sys.executable,
        *(() if any(one in sys.path for one in here) else ("-P",)),
        "-m",
        "pellucid.cli.serve_worker",
    )


def _how(worker: _Worker) -> str:
    code = worker.process.returncode
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Have what is started not hear of a SIGINT or SIGHUP of the terminal before it can."""
    # Not the mask of before is set again: several start at the same time, and the last to be done found it set.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGHUP))
