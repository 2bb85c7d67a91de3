"""TLS over loopback on asyncio's event loops.

Three stacks, the same two protocols over each: stdlib `ssl` through asyncio's sslproto, `pellucid.SSLContext` through
the same, and `pellucid.asyncio`. Both ends are in this process, on one loop, and time is the process's CPU time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pellucid
from bench.harness import OURS, SSL, Limit, Measure, Peers, Sample, Scale
from bench.peers import Certificates, PellucidStack, StdlibStack

try:
    import uvloop
except ImportError:  # Windows has none
    uvloop = None

WRITE = 2**18
"""bytes that are written at once: what stdlib is fastest with"""
LARGE = 2**20
BULK = 32 * 2**20
PING_PONGS = 1500
CONNECTIONS = 100

GROUP = "Loopback"
FLOOR = {"3.11": 2.2, "3.13": 2.8}
RECORD = {"3.11": 2.7, "3.13": 3.4}
NATIVE, SHAPED = OURS, "pellucid through sslproto"


def measures(scale: Scale) -> Iterable[Measure]:
    for loop in ("asyncio", "uvloop"):
        own = loop == "asyncio"
        floors: dict[str, Any] = (
            {"floor": {"3.11": 2.2, "3.13": 2.8}, "record": {"3.11": 2.7, "3.13": 3.4}} if own else {}
        )
        yield _measure(loop, "bulk", _bulk, scale, **floors)
        if own or scale.full:
            yield _measure(loop, "bulk, 1 MiB writes", _large, scale)
            yield _measure(loop, "ping-pong, 100 bytes", _ping_pong, scale, floor=1.0 if own else None)
            yield _measure(loop, "bulk, streams", _streams, scale)


def _measure(
    loop: str,
    what: str,
    work: Callable[[asyncio.Runner], AbstractContextManager[Peers]],
    scale: Scale,
    floor: Limit | None = None,
    record: Limit | None = None,
) -> Measure:
    @contextlib.contextmanager
    def opened() -> Iterator[Peers]:
        if loop not in loops():
            yield dict.fromkeys((SSL, NATIVE, SHAPED), f"{loop} is not installed")
            return
        with asyncio.Runner(loop_factory=loops()[loop]) as runner, work(runner) as peers:
            yield peers

    return Measure(
        name=f"loopback, {loop}, {what}",
        group=GROUP,
        unit="GB/s" if what.startswith("bulk") else "/s",
        better="higher",
        open=opened,
        rounds=scale.some(1.5),
        floor=floor,
        record=record,
        note="both ends on one loop",
    )


@contextlib.contextmanager
def _bulk(runner: asyncio.Runner) -> Iterator[Peers]:
    pairs = {name: runner.run(Pair(over, End).connect()) for name, over in stacks().items()}
    yield {name: _round(runner, pair.bulk, BULK / 1e9) for name, pair in pairs.items()}
    for pair in pairs.values():
        runner.run(pair.close())


@contextlib.contextmanager
def _large(runner: asyncio.Runner) -> Iterator[Peers]:
    pairs = {name: runner.run(Pair(over, End).connect()) for name, over in stacks().items()}
    yield {name: _round(runner, functools.partial(pair.bulk, LARGE), BULK / 1e9) for name, pair in pairs.items()}
    for pair in pairs.values():
        runner.run(pair.close())


@contextlib.contextmanager
def _ping_pong(runner: asyncio.Runner) -> Iterator[Peers]:
    pairs = {name: runner.run(Pair(over, Echo).connect()) for name, over in stacks().items()}
    yield {name: _round(runner, pair.ping_pong, PING_PONGS) for name, pair in pairs.items()}
    for pair in pairs.values():
        runner.run(pair.close())


@contextlib.contextmanager
def _streams(runner: asyncio.Runner) -> Iterator[Peers]:
    pairs = {name: runner.run(StreamPair(over).connect()) for name, over in stacks().items()}
    yield {name: _round(runner, pair.bulk, BULK / 1e9) for name, pair in pairs.items()}
    for pair in pairs.values():
        runner.run(pair.close())


def _round(
    runner: asyncio.Runner, work: Callable[[], Coroutine[Any, Any, None]], amount: float
) -> Callable[[], Sample]:
    def one_round() -> Sample:
        start = time.process_time()
        runner.run(work())
        return Sample(amount / (time.process_time() - start))

    return one_round


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

    async def send(self, size: int, write: int) -> None:
        piece = bytes(write)
        for _ in range(size // write):
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

    async def bulk(self, write: int = WRITE) -> None:
        done = self._ends[0].expect(BULK)
        await self.client.send(BULK, write)
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

    def __init__(self, over: Over) -> None:
        self._over = over

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


def stacks(certificates: Certificates | None = None) -> dict[str, Over]:
    """Return the three, with the same certificate and suite."""
    certificates = certificates or Certificates("p256")
    stdlib, ours = StdlibStack(certificates), PellucidStack(certificates)
    return {
        SSL: OverContext(stdlib.client, stdlib.server),
        SHAPED: OverContext(pellucid.SSLContext(ours.client), pellucid.SSLContext(ours.server)),
        NATIVE: OverNative(ours.client, ours.server),
    }


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


def loops() -> dict[str, Callable[[], Any] | None]:
    """Return what makes each kind of loop that there is."""
    return {"asyncio": None} if uvloop is None else {"asyncio": None, "uvloop": uvloop.new_event_loop}
