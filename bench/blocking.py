"""TLS over loopback with blocking sockets: bulk, and round trips of 100 bytes.

Stdlib's SSLSocket, the streams of `pellucid.connect` and `wrap`, and the SSLSocket of `pellucid.SSLContext`. The server
is a process of its own: of two threads one would wait for the other's interpreter lock, and that would be measured. A
number is what is done in a second of the processor time of both; what came of it by the clock stands beside.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pellucid
from bench.harness import NOISE_OF_PROCESSES, OURS, SSL, Measure, Peers, Sample, Scale
from bench.peers import Certificates, PellucidStack, StdlibStack

CONFIG = Path(__file__).with_name("openssl.cnf")
SHAPED = "pellucid's SSLSocket"
WRITE, READ = 2**20, 2**18
READ_OF_SSL = 2**14
"""stdlib gives a record at a time, and makes room for all that is asked for: it is fastest if asked for a record"""
BULK = 64 * 2**20
MESSAGE = bytes(100)
PING_PONGS = 1500

_COMMAND = struct.Struct("!BQ")
_SINK, _ECHO = 1, 2
_ANSWER = struct.Struct("!Q")


def measures(scale: Scale) -> Iterable[Measure]:
    ways = (
        ("loopback, blocking, bulk", "GB/s", _bulk, 1.25, 1.5),
        ("loopback, blocking, ping-pong, 100 bytes", "/s", _ping_pong, 0.85, 1.0),
    )
    for name, unit, work, floor, record in ways:
        yield Measure(
            name=name,
            group="Loopback",
            unit=unit,
            better="higher",
            open=_opener(work),
            rounds=scale.some(2),
            floor=floor,
            record=record,
            slack=NOISE_OF_PROCESSES,
            part_unit=unit,
            note="two processes, a second of the processor time of both",
        )


def _opener(work: Callable[[Any], Sample]) -> Callable[[], contextlib.AbstractContextManager[Peers]]:
    @contextlib.contextmanager
    def opened() -> Iterator[Peers]:
        certificates = Certificates("p256")
        with contextlib.ExitStack() as stack:
            connections = {name: stack.enter_context(_connected(name, certificates)) for name in (SSL, OURS, SHAPED)}
            yield {name: _round(work, connection) for name, connection in connections.items()}

    return opened


def _round(work: Callable[[Any], Sample], connection: Any) -> Callable[[], Sample]:
    return lambda: work(connection)


@contextlib.contextmanager
def _connected(name: str, certificates: Certificates) -> Iterator[Any]:
    """Give a connection of that stack to a server of the same in another process."""
    command = (sys.executable, "-m", "bench.blocking", name)
    environment = os.environ | {"OPENSSL_CONF": str(CONFIG)}
    pem = certificates.leaf.chain_pem + certificates.leaf.key_pem
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        process.stdin.write(pem)
        process.stdin.close()
        port = int(process.stdout.readline())
        if name == OURS:
            connection: Any = pellucid.connect("localhost", port, PellucidStack(certificates).client)
        else:
            ours = pellucid.SSLContext(PellucidStack(certificates).client)
            context = StdlibStack(certificates).client if name == SSL else ours
            raw = socket.create_connection(("127.0.0.1", port))
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = context.wrap_socket(raw, server_hostname="localhost")
        try:
            yield connection
        finally:
            connection.close()
            process.wait(10)


def _bulk(connection: Any) -> Sample:
    data = bytes(WRITE)
    cpu, clock = time.process_time(), time.perf_counter()
    connection.sendall(_COMMAND.pack(_SINK, BULK))
    for _ in range(BULK // WRITE):
        connection.sendall(data)
    server = _ANSWER.unpack(_exactly(connection, _ANSWER.size))[0] / 1e9
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return Sample(BULK / 1e9 / (cpu + server), {"by the clock": BULK / 1e9 / clock})


def _ping_pong(connection: Any) -> Sample:
    connection.sendall(_COMMAND.pack(_ECHO, PING_PONGS))
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(PING_PONGS):
        connection.sendall(MESSAGE)
        if len(connection.recv(READ_OF_SSL)) != len(MESSAGE):
            raise RuntimeError("a message came in pieces")
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    connection.sendall(b"?")
    server = _ANSWER.unpack(_exactly(connection, _ANSWER.size))[0] / 1e9
    return Sample(PING_PONGS / (cpu + server), {"by the clock": PING_PONGS / clock})


def _exactly(connection: Any, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += (piece := connection.recv(size - len(found)))
        if not piece:
            raise EOFError
    return found


# ---- the server, in its own process ----------------------------------------------------------------------------------


def serve(name: str, pem: bytes) -> None:
    """Take one connection and do what it says, until it closes."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        print(listening.getsockname()[1], flush=True)
        raw = listening.accept()[0]
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    certificates: Any = _Given(pem)
    read = READ_OF_SSL if name == SSL else READ
    if name == OURS:
        connection: Any = pellucid.wrap(raw, PellucidStack(certificates).server)
    else:
        ours = pellucid.SSLContext(PellucidStack(certificates).server)
        context = StdlibStack(certificates).server if name == SSL else ours
        connection = context.wrap_socket(raw, server_side=True)
    with contextlib.suppress(EOFError, OSError):
        while True:
            kind, amount = _COMMAND.unpack(_exactly(connection, _COMMAND.size))
            began = time.process_time_ns()
            if kind == _SINK:
                while amount:
                    amount -= len(connection.recv(min(amount, read)))
                took = time.process_time_ns() - began
            else:
                for _ in range(amount):
                    connection.sendall(connection.recv(READ_OF_SSL))
                took = time.process_time_ns() - began
                connection.recv(1)  # so that the answer does not come with the last message
            connection.sendall(_ANSWER.pack(took))


class _Given:
    """A server's certificates, from the other process: what the stacks ask for."""

    def __init__(self, pem: bytes) -> None:
        self.root = Certificates("p256").root  # the server verifies nobody
        self.roots_pem = self.root.root_pem
        self.leaf = self
        at = pem.index(b"-----BEGIN PRIVATE KEY")
        self.chain_pem, self.key_pem = pem[:at], pem[at:]


if __name__ == "__main__":
    serve(sys.argv[1], sys.stdin.buffer.read())
