"""`python -m tests.support.forking DESCRIPTOR`: has the command line imported, and forks for each start of it.

What comes over the socket is one start: a line of JSON, and with it the descriptors that the program has as its stdin,
stdout and stderr, and one that is told its process and, in the end, its status. One thread, so that it may fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from typing import Any, Final

IMPORTED: Final = (
    "pellucid.__init__",
    "pellucid.cli.get",
    "pellucid.cli.main",
    "pellucid.cli.page",
    "pellucid.cli.serve",
    "pellucid.integrations.serving",
    "pellucid.uvicorn",
)
DESCRIPTORS: Final = 4


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    for module in IMPORTED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    waking, woken = os.pipe()
    for end in (waking, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    told: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control, waking], [], [])
        if waking in ready:
            os.read(waking, 1000)
            _reap(told)
        if control in ready:
            asked, descriptors, _, _ = socket.recv_fds(control, 2**18, DESCRIPTORS)
            if not asked:
                return
            while not asked.endswith(b"\n"):
                asked += control.recv(2**18)
            process = os.fork()
            if process == 0:
                os.close(waking)
                os.close(woken)
                control.close()
                for status in told.values():
                    os.close(status)
                _become(json.loads(asked), descriptors)
                return  # as a program ends: never, _become has raised SystemExit
            *standard, status = descriptors
            for one in standard:
                os.close(one)
            os.write(status, b"%d\n" % process)
            told[process] = status


def _reap(told: dict[int, int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            with contextlib.suppress(BrokenPipeError):
                os.write(told[process], b"%d\n" % os.waitstatus_to_exitcode(status))
            os.close(told.pop(process))


def _become(asked: dict[str, Any], descriptors: list[int]) -> None:
    """Be `python -m pellucid` with these arguments, in this directory and environment."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path[0] = asked["cwd"]
    sys.argv = ["pellucid", *asked["arguments"]]
    runpy.run_module("pellucid", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
