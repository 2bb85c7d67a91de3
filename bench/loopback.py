"""`python -m bench asyncio`: TLS over loopback on asyncio's event loops, as a ratio to stdlib `ssl` in the same run.

Three stacks, the same two protocols over each: stdlib `ssl` through asyncio's sslproto, `pellucid.SSLContext` through
the same, and `pellucid.asyncio`. Both ends are in this process, on one loop; rounds of the stacks alternate, each
ratio is the median over the rounds of neighbours, and time is the process's CPU time. Memory is what a process of each
stack's own grows by for each connection that has been used and is idle: both ends of it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import cryptography

import pellucid
from bench.peers import Certificates, PellucidStack, StdlibStack

try:
    import uvloop
except ImportError:  # Windows has none
    uvloop = None

WRITE = 2**18
BULK = 32 * 2**20
PING_PONGS = 1500
CONNECTIONS = 100

FLOORS = {"bulk": 2.5, "bulk, streams": None, "ping-pong, 100 bytes": 1.0, "ssl-shaped bulk": 0.9}
"""what is aimed at on asyncio's own loop; the run fails below, less what noise may take"""


class Over(Protocol):
    """How a stack makes servers and connections."""

    async def serve(self, factory: Callable[[], asyncio.BaseProtocol]) -> asyncio.Server: ...
    async def connect(self, factory: Callable[[], Any], port: int) -> Any: ...


class OverContext:
    """asyncio's own TLS, with a context of stdlib's shape."""

    def __init__(self, client: Any, server: Any) -> None:
        self._client, self._server = client, server

    async def serve(self, factory: Callable[[], asyncio.BaseProtocol]) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, ssl=self._server)

    async def connect(self, factory: Callable[[], Any], port: int) -> Any:
        loop = asyncio.get_running_loop()
        return (
            await loop.create_connection(factory, "127.0.0.1", port, ssl=self._client, server_hostname="localhost")
        )[1]


class OverNative:
    """pellucid.asyncio."""

    def __init__(self, client: pellucid.ClientConfig, server: pellucid.ServerConfig) -> None:
        self._client, self._server = client, server

    async def serve(self, factory: Callable[[], asyncio.BaseProtocol]) -> asyncio.Server:
        return await pellucid.asyncio.create_server(factory, "127.0.0.1", 0, self._server)

    async def connect(self, factory: Callable[[], Any], port: int) -> Any:
        connect = pellucid.asyncio.create_connection
        return (await connect(factory, "127.0.0.1", port, self._client, server_hostname="localhost"))[1]


class End(asyncio.Protocol):
    """Sends what it is told to, counts what comes, and tells when that was all."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.missing = 0
        self.done: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing <= 0 and self.done is not None:
            self.done.set_result(None)
            self.done = None

    def expect(self, size: int) -> asyncio.Future[None]:
        self.missing = size
        self.done = asyncio.get_running_loop().create_future()
        return self.done

    async def send(self, size: int) -> None:
        piece = bytes(WRITE)
        for _ in range(size // WRITE):
            self.transport.write(piece)
            if self._room is not None:
                await self._room


class Echo(End):
    """Sends back what comes."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Pair:
    """A connection of one stack. Its server's ends are remembered as they come."""

    def __init__(self, over: Over, kind: type[End]) -> None:
        self._over = over
        self._kind = kind
        self._ends: list[End] = []
        self.client = End()

    async def connect(self) -> Pair:
        self.server = await self._over.serve(self._accepted)
        port = self.server.sockets[0].getsockname()[1]
        self.client = await self._over.connect(End, port)
        while not self._ends or not hasattr(self._ends[0], "transport"):
            await asyncio.sleep(0.001)
        return self

    def _accepted(self) -> End:
        self._ends.append(self._kind())
        return self._ends[-1]

    async def bulk(self) -> None:
        done = self._ends[0].expect(BULK)
        await self.client.send(BULK)
        await done

    async def ping_pong(self) -> None:
        data = bytes(100)
        for _ in range(PING_PONGS):
            done = self.client.expect(100)
            self.client.transport.write(data)
            await done

    async def close(self) -> None:
        for end in (self.client, *self._ends):
            end.transport.abort()
        self.server.close()
        await self.server.wait_closed()
        await asyncio.sleep(0.01)


class StreamPair:
    """The same with asyncio's streams."""

    def __init__(self, name: str, over: Any) -> None:
        self._over = over
        self._name = name

    async def connect(self) -> StreamPair:
        self._accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def factory() -> asyncio.BaseProtocol:
            reader = asyncio.StreamReader(loop=loop)
            return asyncio.StreamReaderProtocol(reader, lambda *ends: self._accepted.set_result(ends), loop=loop)

        self.server = await self._over.serve(factory)
        port = self.server.sockets[0].getsockname()[1]
        reader = asyncio.StreamReader(loop=loop)
        protocol = await self._over.connect(lambda: asyncio.StreamReaderProtocol(reader, loop=loop), port)
        self.far, self.far_writer = await self._accepted
        self.writer = asyncio.StreamWriter(protocol._transport, protocol, reader, loop)
        return self

    async def bulk(self) -> None:
        sending = asyncio.ensure_future(self._send())
        missing = BULK
        while missing:
            missing -= len(await self.far.read(WRITE))
        await sending

    async def _send(self) -> None:
        piece = bytes(WRITE)
        for _ in range(BULK // WRITE):
            self.writer.write(piece)
            await self.writer.drain()

    async def close(self) -> None:
        self.writer.transport.abort()
        self.far_writer.transport.abort()
        self.server.close()
        await self.server.wait_closed()
        await asyncio.sleep(0.01)


def stacks() -> dict[str, Over]:
    """Return the three, with the same certificate and suite."""
    certificates = Certificates("p256")
    stdlib, ours = StdlibStack(certificates), PellucidStack(certificates)
    return {
        "ssl": OverContext(stdlib.client, stdlib.server),
        "ssl-shaped": OverContext(pellucid.SSLContext(ours.client), pellucid.SSLContext(ours.server)),
        "native": OverNative(ours.client, ours.server),
    }


def timed(runner: asyncio.Runner, runs: dict[str, Callable[[], Any]], repeat: int) -> dict[str, list[float]]:
    """Return the CPU seconds of *repeat* rounds of each; the stacks take turns, and none always begins."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        runner.run(run())
    names = list(runs)
    for i in range(repeat):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = time.process_time()
            runner.run(runs[name]())
            seconds[name].append(time.process_time() - start)
    return seconds


def summary(seconds: dict[str, list[float]], amount: float) -> dict[str, Any]:
    """Return, for each stack, *amount* a second and the ratio to ssl with its quartiles."""
    found: dict[str, Any] = {}
    for name, times in seconds.items():
        ratios = [base / own for base, own in zip(seconds["ssl"], times, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        found[name] = {
            "per_second": amount / statistics.median(times),
            "ratio": statistics.median(ratios),
            "spread": [low, high],
        }
    return found


def idle_bytes(runner: asyncio.Runner, over: Over) -> float:
    """Return how many bytes of memory a used, idle connection takes, both ends of it."""

    async def grow() -> float:
        ends: list[Echo] = []

        def accepted() -> Echo:
            ends.append(Echo())
            return ends[-1]

        server = await over.serve(accepted)
        port = server.sockets[0].getsockname()[1]
        clients = []

        async def used() -> None:
            client = await over.connect(End, port)
            done = client.expect(100)
            client.transport.write(bytes(100))
            await done
            clients.append(client)

        for _ in range(5):
            await used()
        gc.collect()
        before = resident()
        for _ in range(CONNECTIONS):
            await used()
        gc.collect()
        grown = (resident() - before) / CONNECTIONS
        for end in (*clients, *ends):
            end.transport.abort()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)
        return grown

    return runner.run(grow())


def resident() -> int:
    """Return the bytes of memory that the process has touched."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def idle_elsewhere(loop: str, name: str) -> float:
    """Return `idle_bytes` of that stack, in a process of its own: memory that another has left is used again."""
    command = (sys.executable, "-m", "bench", "asyncio", "--idle", loop, name)
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


def loops() -> dict[str, Callable[[], Any] | None]:
    """Return what makes each kind of loop that there is."""
    return {"asyncio": None} if uvloop is None else {"asyncio": None, "uvloop": uvloop.new_event_loop}


def measure(loop: str, repeat: int) -> dict[str, Any]:
    """Run every measure on one kind of loop."""
    results: dict[str, Any] = {}
    with asyncio.Runner(loop_factory=loops()[loop]) as runner:
        every = stacks()
        if sys.platform == "linux":
            results["idle connection, both ends"] = {name: {"bytes": idle_elsewhere(loop, name)} for name in every}
        for what, kind, amount in (("bulk", End, BULK), ("ping-pong, 100 bytes", Echo, PING_PONGS)):
            pairs = {name: runner.run(Pair(over, kind).connect()) for name, over in every.items()}
            runs = {name: pair.bulk if kind is End else pair.ping_pong for name, pair in pairs.items()}
            results[what] = summary(timed(runner, runs, repeat), amount)
            for pair in pairs.values():
                runner.run(pair.close())
        streams = {name: runner.run(StreamPair(name, over).connect()) for name, over in every.items()}
        results["bulk, streams"] = summary(timed(runner, {n: p.bulk for n, p in streams.items()}, repeat), BULK)
        for one in streams.values():
            runner.run(one.close())
    return results


def main(arguments: list[str]) -> int:
    """Print each measure; return 1 if one is below its floor."""
    parser = argparse.ArgumentParser(prog="python -m bench asyncio", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--slack", type=float, default=0.15, help="share below a floor that is put down to noise")
    parser.add_argument("--idle", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.idle:
        loop, name = options.idle
        with asyncio.Runner(loop_factory=loops()[loop]) as runner:
            print(idle_bytes(runner, stacks()[name]))
        return 0
    repeat = 5 if options.quick else 15
    report = {
        "schema": 1,
        "python": platform.python_version(),
        "cryptography": cryptography.__version__,
        "loops": {name: measure(name, repeat) for name in loops()},
    }
    print(f"Python {report['python']}, cryptography {report['cryptography']}")
    low = []
    for loop, results in report["loops"].items():
        for what, by_stack in results.items():
            for name, one in by_stack.items():
                print(line(loop, what, name, one))
        low += below(results, options.slack) if loop == "asyncio" else []
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    for name in low:
        print(f"below its floor: {name}", file=sys.stderr)
    return 1 if low else 0


def line(loop: str, what: str, name: str, one: dict[str, Any]) -> str:
    """Return a line of the table."""
    head = f"{loop:<9}{what:<28}{name:<12}"
    if "bytes" in one:
        return f"{head}{one['bytes'] / 1024:>8.1f} KiB"
    rate = f"{one['per_second'] / 1e9:>8.2f} GB/s" if what.startswith("bulk") else f"{one['per_second']:>8.0f} /s  "
    return f"{head}{rate}{one['ratio']:>9.2f}×   {one['spread'][0]:.2f}-{one['spread'][1]:.2f}"


def below(results: dict[str, Any], slack: float) -> list[str]:
    """Return what is below its floor."""
    low = []
    for what, floor in FLOORS.items():
        shaped = what.startswith("ssl-shaped")
        found = results["bulk" if shaped else what]["ssl-shaped" if shaped else "native"]["ratio"]
        if floor is not None and found < floor * (1 - slack):
            low.append(f"{what}: {found:.2f}, {floor:.2f} is aimed at")
    return low
