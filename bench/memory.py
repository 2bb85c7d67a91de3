"""What a connection holds that is idle: resident memory of processes that have many.

Each round is a process of its own, for memory that somebody has left is used again. A number is what the process grew
by, for each connection; a connection that has been used, both ends where nothing else is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pellucid
from bench import loopback
from bench.harness import OURS, SSL, Measure, Peers, Sample, Scale
from bench.peers import Certificates, PellucidStack, StdlibStack
from bench.peers.interface import handshake

OBJECTS = 1000
MANY = {OURS: 10_000, SSL: 1_000}
"""connections that one server holds; of ssl's, 10,000 would take 2.8 GB"""
AT_A_TIME = 50


def measures(scale: Scale) -> Iterable[Measure]:
    yield _measure("idle connection, the object, one end", _objects, scale, floor=0.5, record=0.4)
    yield _measure("idle connection on asyncio", _on_loop("asyncio"), scale, floor=0.05, record=0.035)
    if scale.full:
        yield _measure("idle connection on uvloop", _on_loop("uvloop"), scale)
        note = f"one server process that holds {MANY[OURS]} (ssl: {MANY[SSL]}), its clients in another"
        yield _measure("idle connection at a server", _at_a_server, scale, note=note)


def _measure(
    name: str,
    work: Callable[[], contextlib.AbstractContextManager[Peers]],
    scale: Scale,
    floor: float | None = None,
    record: float | None = None,
    note: str = "resident memory of a process of its own",
) -> Measure:
    return Measure(
        name=name,
        group="Memory",
        unit="KiB",
        better="lower",
        open=work,
        rounds=scale.some(7),
        floor=floor,
        record=record,
        note=note,
    )


def _missing() -> str:
    return "" if Path("/proc/self/statm").exists() else "there is no /proc/self/statm"


@contextlib.contextmanager
def _objects() -> Iterator[Peers]:
    if lacking := _missing():
        yield dict.fromkeys((SSL, OURS), lacking)
        return
    yield {name: _elsewhere("objects", name) for name in (SSL, OURS)}


def _on_loop(loop: str) -> Callable[[], contextlib.AbstractContextManager[Peers]]:
    @contextlib.contextmanager
    def opened() -> Iterator[Peers]:
        if lacking := _missing() or ("" if loop in loopback.loops() else f"{loop} is not installed"):
            yield dict.fromkeys((SSL, OURS), lacking)
        else:
            yield {name: _elsewhere("loop", loop, name) for name in (SSL, OURS, loopback.SHAPED)}

    return opened


@contextlib.contextmanager
def _at_a_server() -> Iterator[Peers]:
    if lacking := _missing():
        yield dict.fromkeys((SSL, OURS), lacking)
        return
    # Once each: ten thousand handshakes take a while, and what they leave does not vary.
    yield {name: functools.cache(_elsewhere("server", name)) for name in (SSL, OURS)}


def _elsewhere(*arguments: str) -> Callable[[], Sample]:
    """Return a round: KiB for each connection, found by another process."""

    def one_round() -> Sample:
        command = (sys.executable, "-m", "bench.memory", *arguments)
        return Sample(float(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300).stdout) / 1024)

    return one_round


# ---- in processes of their own ---------------------------------------------------------------------------------------


def objects(name: str) -> float:
    """Return the bytes of one end of a connection in memory."""
    stack: Any = (StdlibStack if name == SSL else PellucidStack)(Certificates("p256"))

    def used() -> Any:
        pair = stack.pair()
        handshake(pair)
        pair.ping_pong(bytes(100))
        return pair

    kept = [used() for _ in range(20)]
    gc.collect()
    before = loopback.resident()
    kept += [used() for _ in range(OBJECTS)]
    gc.collect()
    return (loopback.resident() - before) / OBJECTS / 2


def on_loop(loop: str, name: str) -> float:
    with asyncio.Runner(loop_factory=loopback.loops()[loop]) as runner:
        return loopback.idle_bytes(runner, loopback.stacks()[name])


def server(name: str) -> float:
    """Return the bytes of the server's end of each of many connections, all idle at once."""
    _more_files()
    return asyncio.run(_server(name))


async def _server(name: str) -> float:
    certificates = Certificates("p256")
    over = loopback.stacks(certificates)[name]
    ends: list[loopback.Echo] = []

    def accepted() -> loopback.Echo:
        ends.append(loopback.Echo())
        return ends[-1]

    listening = await over.serve(accepted)
    port = listening.sockets[0].getsockname()[1]
    command = (sys.executable, "-m", "bench.memory", "clients", str(port))
    clients = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if clients.stdin is None or clients.stdout is None:
        raise RuntimeError("no pipes")
    clients.stdin.write(certificates.root.root_pem.replace(b"\n", b"|") + b"\n20\n")
    await clients.stdout.readline()
    gc.collect()
    before = loopback.resident()
    clients.stdin.write(b"%d\n" % MANY[name])
    await clients.stdout.readline()
    gc.collect()
    if len(ends) != MANY[name] + 20:
        raise RuntimeError(f"{len(ends)} connections")
    grown = (loopback.resident() - before) / MANY[name]
    clients.stdin.close()
    for end in ends:
        end.transport.abort()
    listening.close()
    await clients.wait()
    return grown


async def _clients(port: int) -> None:
    """Make so many connections as a line says, each used once; tell when they are there, and keep them."""
    _more_files()
    trust = pellucid.TrustStore.from_pem(sys.stdin.readline().strip().replace("|", "\n").encode())
    start = pellucid.asyncio.create_connection
    config = pellucid.ClientConfig(trust=trust)
    kept: list[Any] = []
    turns = asyncio.Semaphore(AT_A_TIME)

    async def used() -> None:
        async with turns:
            client: Any = (await start(loopback.End, "127.0.0.1", port, config, server_hostname="localhost"))[1]
            done = client.expect(100)
            client.transport.write(bytes(100))
            await done
            kept.append(client)

    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await asyncio.gather(*(used() for _ in range(int(line))))
        print("done", flush=True)
    os._exit(0)  # without the ends of ten thousand connections


def _more_files() -> None:
    """Allow as many open files as this process may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < max(MANY.values()) + 100:
        raise SystemExit(f"{most} files may be open: too few")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(MANY.values()) + 1000, most))


def main(what: str, *arguments: str) -> None:
    if what == "clients":
        asyncio.run(_clients(int(arguments[0])))
        return
    works: dict[str, Callable[..., float]] = {"objects": objects, "loop": on_loop, "server": server}
    print(works[what](*arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
