"""A warm shim: everything is imported once, and each test runs in a fork of that process.

The runner starts `launcher.py`, which hands its arguments, standard streams and the wait for an exit code to here.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Final

from tests.conformance.shim import FAILED, main

TEST_SECONDS: Final = 60
_MAX_ARGUMENTS: Final = 2**20


def serve(path: Path) -> None:
    """Answer launchers on the Unix socket *path* until killed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks: they report by themselves
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    gc.freeze()  # what is here now is never looked at again, and its pages stay shared
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os._exit(_child(client))
        client.close()


def _child(client: socket.socket) -> int:
    signal.alarm(TEST_SECONDS)
    code = FAILED
    try:
        arguments = _receive(client)
        code = main(arguments)
    except BaseException:  # whatever it was, the runner is to see it
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    client.sendall(bytes((code,)))
    return code


def _receive(client: socket.socket) -> list[str]:
    """Take the launcher's streams and return its arguments: 4 bytes of length, then strings that end in a zero."""
    data, descriptors, _, _ = socket.recv_fds(client, 4, 3)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    left = int.from_bytes(data, "big")
    if left > _MAX_ARGUMENTS:
        raise ValueError("too many arguments")
    received = b""
    while len(received) < left:
        received += client.recv(left - len(received))
    return [os.fsdecode(argument) for argument in received.split(b"\0")[:-1]]


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
