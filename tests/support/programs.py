"""`pellucid` as a process of its own, forked from one that has it imported: most of a start is the import.

For what a program says, serves and ends with. Whoever asks how it is started (its command line, its environment in
/proc, a terminal) starts `python -m pellucid` itself.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]


class Pellucid:
    """Such a process, with what tests use of `subprocess.Popen`: its members are that class's.

    text: whether stdout and stderr are read as UTF-8. stderr: a file; without one a pipe, as stdout is.
    """

    def __init__(
        self, *arguments: object, cwd: object, env: dict[str, str] | None = None, text: bool = True, stderr: Any = None
    ) -> None:
        self.args = [sys.executable, "-m", "pellucid", *map(str, arguments)]
        self.returncode: int | None = None
        asked = {"arguments": self.args[3:], "cwd": str(cwd), "env": dict(os.environ if env is None else env)}
        out, their_out = os.pipe()
        err, their_err = (-1, os.dup(stderr.fileno())) if stderr is not None else os.pipe()
        self._status, their_status = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        theirs = [nothing, their_out, their_err, their_status]
        with _LOCK:
            socket.send_fds(_forking(), [json.dumps(asked).encode() + b"\n"], theirs)
        for one in theirs:
            os.close(one)
        self.pid = int(self._line())
        self.stdout: IO[Any] = _reading(out, text)
        self.stderr: IO[Any] | None = None if err < 0 else _reading(err, text)

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            more = os.read(self._status, 1)
            assert more, "the process that forks has gone"
            line += more
        return line

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._line())
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        found: list[Any] = [None, None]

        def read(which: int, source: IO[Any]) -> None:
            with source:
                found[which] = source.read()

        threads = [
            threading.Thread(target=read, args=(which, source))
            for which, source in enumerate((self.stdout, self.stderr))
            if source is not None
        ]
        for thread in threads:
            thread.start()
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        finally:
            for thread in threads:
                thread.join(10)
        return found[0], found[1]

    def __enter__(self) -> Pellucid:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        if self.stderr is not None:
            self.stderr.close()
        self.wait(10)


def run(*arguments: object, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run it to its end; return what `subprocess.run` would."""
    with Pellucid(*arguments, **options) as program:
        try:
            out, err = program.communicate(timeout)
        finally:
            program.kill()
    assert program.returncode is not None
    return subprocess.CompletedProcess(program.args, program.returncode, out, err)


_LOCK = threading.Lock()


@functools.cache
def _forking() -> socket.socket:
    """The socket of the process that forks, which ends when this one does."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forking", str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    process.returncode = 0  # nobody waits for it, and it is no error that it is there when all tests are done
    atexit.register(ours.close)
    return ours


def _reading(descriptor: int, text: bool) -> IO[Any]:
    raw = os.fdopen(descriptor, "rb")
    return io.TextIOWrapper(raw, encoding="utf-8") if text else raw
