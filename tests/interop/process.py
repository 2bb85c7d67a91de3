"""Peers' processes: started, listened to and ended by their own id, and never waited for without end."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

START_SECONDS: Final = 30.0
TALK_SECONDS: Final = 30.0
_END_SECONDS: Final = 3.0

T = TypeVar("T")


class PeerFailed(Exception):
    """A peer's process did not do its part; the message has its output."""


class Program:
    """A running process with its output collected by threads."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        user: str | None = None,
        own_group: bool = False,
    ) -> None:
        """user: the account to run as, which only root can choose, with that account's group; None: ours.

        own_group: whether it leads a process group, so that `end` ends its children with it.
        """
        self.command = [str(word) for word in command]
        self._process = subprocess.Popen(
            self.command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            pass_fds=pass_fds,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else (),
            start_new_session=own_group,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._own_group = own_group
        self._changed = threading.Condition()
        self._out = bytearray()
        self._err = bytearray()
        self._open = 2
        self._threads = [
            threading.Thread(target=self._collect, args=(self._process.stdout, self._out), daemon=True),
            threading.Thread(target=self._collect, args=(self._process.stderr, self._err), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdout(self) -> bytes:
        with self._changed:
            return bytes(self._out)

    @property
    def stderr(self) -> bytes:
        with self._changed:
            return bytes(self._err)

    def output(self) -> str:
        """Return both streams' ends, for a human."""
        with self._changed:
            out, err = bytes(self._out[-3000:]), bytes(self._err[-3000:])
        parts = ["$ " + " ".join(self.command)]
        parts += [text.decode("utf-8", "replace").rstrip() for text in (out, err) if text]
        if (code := self._process.poll()) is not None:
            parts.append(f"(exit code {code})")
        return "\n".join(parts)

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            view = memoryview(data)
            while view:
                view = view[self._process.stdin.write(view) :]
        except OSError as error:
            raise PeerFailed(f"{self.command[0]} takes no more input: {error}\n{self.output()}") from None

    def close_input(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait_for(self, pattern: bytes, seconds: float = START_SECONDS, *, start: int = 0) -> re.Match[bytes]:
        """Return the match of *pattern* in either stream, in stdout from offset *start*. Raises PeerFailed."""
        compiled = re.compile(pattern, re.MULTILINE)

        # Copies: a match holds on to what it was found in, and the buffers must be able to grow.
        def look() -> re.Match[bytes] | None:
            return compiled.search(bytes(self._out), start) or compiled.search(bytes(self._err))

        match = self._wait(look, seconds)
        if match is None:
            raise PeerFailed(f"{pattern!r} did not come within {seconds:g} s from\n{self.output()}")
        return match

    def wait_until(self, condition: Callable[[bytearray], bool], seconds: float = TALK_SECONDS) -> bytes:
        """Return stdout once *condition* holds for it. Raises PeerFailed."""
        if not self._wait(lambda: condition(self._out) or None, seconds):
            raise PeerFailed(f"no complete answer within {seconds:g} s from\n{self.output()}")
        return self.stdout

    def finished(self, seconds: float = TALK_SECONDS) -> int:
        """Return the exit code. Raises PeerFailed if the process goes on for longer than *seconds*."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise PeerFailed(f"still running after {seconds:g} s:\n{self.output()}") from None
        for thread in self._threads:
            thread.join(1.0)
        return code

    def end(self) -> None:
        """Terminate this process if it still runs, and collect it."""
        self.close_input()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(_END_SECONDS)
        if self._own_group:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        for thread in self._threads:
            thread.join(1.0)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def _wait(self, ready: Callable[[], T | None], seconds: float) -> T | None:
        deadline = time.monotonic() + seconds
        with self._changed:
            while (found := ready()) is None:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or self._open == 0:
                    return None
                self._changed.wait(min(remaining, 0.5))
            return found

    def _collect(self, stream: object, into: bytearray) -> None:
        read: Callable[[int], bytes] = stream.read  # type: ignore[attr-defined]
        while True:
            try:
                data = read(2**16)
            except (OSError, ValueError):
                data = b""
            with self._changed:
                if data:
                    into += data
                else:
                    self._open -= 1
                self._changed.notify_all()
            if not data:
                return


@contextlib.contextmanager
def running(command: Sequence[str | Path], **options: object) -> Iterator[Program]:
    """Start *command*, and end it with the block."""
    program = Program(command, **options)  # type: ignore[arg-type]
    try:
        yield program
    finally:
        program.end()


def output_of(command: Sequence[str | Path], seconds: float = START_SECONDS) -> str:
    """Return what *command* prints, or "" if it cannot be run."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")
