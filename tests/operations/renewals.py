"""A certificate renewed many times under a steady stream of connections: how many handshakes fail? None may.

A server process serves the files of a directory through `ReloadingConfig`; a client process connects at a steady rate,
whether the last connection is done or not (256 at a time at most), verifies, and asks for an echo; this process renews
the certificate, in turn as certbot does it (each file replaced), as Kubernetes does (one link swapped), and as a
careless script does (both files written over). Some connections are held open from the first renewal to the last.

    python -m tests.operations.renewals [--renewals 100] [--rate 200] [--seconds 50] [--server aio] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final

import pellucid
import pellucid.asyncio
from pellucid import ClientConfig, ReloadingConfig, aio
from pellucid.testing.ca import CA, Issued

HOST: Final = "localhost"
HELD: Final = 8
CHECK_SECONDS: Final = 0.1
SETTLED_SECONDS: Final = 5.0  # for the last certificate to be seen
MOST: Final = 256  # connections at a time: a machine that cannot keep up is asked less, and says so
LEAST_RATE: Final = 0.9  # of what was asked for
_ONE_SECONDS: Final = 20.0  # for one connection, all of it


@dataclass(kw_only=True)
class Outcome:
    """What came of it. failures: reason → how often; times in milliseconds, of TCP and handshake together."""

    server: str = "aio"
    renewals: int
    asked_rate: float
    rate: float = 0.0
    connections: int = 0
    failed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    held: int = HELD
    dropped: int = 0
    reloads: int = 0
    problems: int = 0
    serials_seen: int = 0
    last_serial_seen: bool = False
    p50_ms: float = 0.0
    p99_ms: float = 0.0

    @property
    def passed(self) -> bool:
        every = self.serials_seen == self.renewals + 1 and self.last_serial_seen
        as_asked = self.rate >= self.asked_rate * LEAST_RATE
        return not self.failed and not self.dropped and every and self.connections > 0 and as_asked

    def lines(self) -> Iterator[str]:
        yield f"server                  {self.server}"
        yield f"connections made        {self.connections}, {self.rate:.0f} a second of {self.asked_rate:.0f} asked for"
        if self.rate < self.asked_rate * LEAST_RATE:
            yield "  the rate was not reached: this machine has too much else to do, or is too slow for it"
        yield f"handshakes failed       {self.failed}"
        for reason, count in sorted(self.failures.items()):
            yield f"  {count} × {reason}"
        yield f"held open throughout    {self.held}, dropped {self.dropped}"
        yield f"renewals                {self.renewals}, reloads {self.reloads}, not yet whole {self.problems}"
        yield f"distinct serials seen   {self.serials_seen} of {self.renewals + 1}"
        yield f"handshake               p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms"


# ---- the server ------------------------------------------------------------------------------------------------------


def serve(directory: str, kind: str, pipe: Pipe) -> None:
    """Serve the certificate in *directory* until *pipe* says so; say the port, and in the end how reloading went."""
    source = ReloadingConfig.from_files(directory, check_seconds=CHECK_SECONDS)
    if kind == "threads":
        _serve_threads(source, pipe)
    else:
        asyncio.run(_serve(source, kind, pipe))


def _serve_threads(source: ReloadingConfig, pipe: Pipe) -> None:
    def echo(stream: pellucid.Stream) -> None:
        for data in stream:
            stream.sendall(data)

    with pellucid.listen("127.0.0.1", 0, source) as listener:
        pipe.send(listener.address[1])
        thread = threading.Thread(
            target=listener.serve, args=(echo,), kwargs={"on_error": lambda *_: None}, daemon=True
        )
        thread.start()
        pipe.recv()
        pipe.send((source.status.reloads, source.status.failures))
    thread.join()


async def _serve(source: ReloadingConfig, kind: str, pipe: Pipe) -> None:
    async with contextlib.AsyncExitStack() as stack:
        pipe.send(await KINDS[kind](source, stack))
        await asyncio.to_thread(pipe.recv)
        pipe.send((source.status.reloads, source.status.failures))


async def _serve_aio(source: ReloadingConfig, stack: contextlib.AsyncExitStack) -> int:
    async def echo(stream: aio.Stream) -> None:
        async for data in stream:
            await stream.send(data)

    listener = await stack.enter_async_context(await aio.listen("127.0.0.1", 0, source))
    serving = asyncio.ensure_future(listener.serve(echo, on_error=lambda *_: None))
    stack.callback(serving.cancel)
    return listener.address[1]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve_native(source: ReloadingConfig, stack: contextlib.AsyncExitStack) -> int:
    server = await pellucid.asyncio.start_server(_echo, "127.0.0.1", 0, source)
    stack.callback(server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _serve_context(source: ReloadingConfig, stack: contextlib.AsyncExitStack) -> int:
    server = await asyncio.start_server(_echo, "127.0.0.1", 0, ssl=pellucid.SSLContext(source))
    stack.callback(server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port


KINDS: Final = {"aio": _serve_aio, "asyncio": _serve_native, "context": _serve_context}


# ---- the clients -----------------------------------------------------------------------------------------------------


class _Clients:
    def __init__(self, port: int, root: bytes) -> None:
        self.port = port
        # Without sessions: every handshake is a full one, with a certificate.
        self.config = ClientConfig(trust=pellucid.TrustStore.from_pem(root), sessions=None)
        self.times: list[float] = []
        self.serials: set[int] = set()
        self.failures: Counter[str] = Counter()
        self.latest = 0

    async def one(self) -> None:
        """Connect, verify, ask for an echo, close."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(_ONE_SECONDS):
                async with await aio.connect(HOST, self.port, self.config) as stream:
                    self.times.append(time.perf_counter() - began)
                    self._note(stream)
                    await stream.send(b"?")
                    if await stream.receive() != b"?":
                        self.failures["another answer"] += 1
        except Exception as error:
            self.failures[f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"] += 1

    def _note(self, stream: aio.Stream) -> None:
        leaf: Any = None if stream.peer is None else stream.peer.leaf
        self.latest = leaf.x509.serial_number
        self.serials.add(self.latest)

    async def hold(self, over: asyncio.Event) -> bool:
        """Keep one connection to the end; return whether it still answers then."""
        try:
            async with await aio.connect(HOST, self.port, self.config) as stream:
                while not over.is_set():
                    await stream.send(b"held")
                    if await stream.receive() != b"held":
                        return False
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(over.wait(), 1.0)
        except Exception as error:
            self.failures[f"held: {type(error).__name__}: {error}"] += 1
            return False
        return True


def ask(port: int, root: bytes, rate: float, pipe: Pipe) -> None:
    """Connect *rate* times a second until *pipe* gives the last serial, and that is seen; send what was seen."""
    pipe.send(asyncio.run(_ask(port, root, rate, pipe)))


async def _ask(port: int, root: bytes, rate: float, pipe: Pipe) -> dict[str, Any]:
    clients, over = _Clients(port, root), asyncio.Event()
    held = [asyncio.create_task(clients.hold(over)) for _ in range(HELD)]
    await clients.one()
    pipe.send("running")
    last, until = None, float("inf")
    running: set[asyncio.Task[None]] = set()
    began = time.perf_counter()
    count = 0
    while True:
        if last is None and pipe.poll():
            last, until = pipe.recv(), time.perf_counter() + SETTLED_SECONDS
        now = time.perf_counter()
        if last is not None and (clients.latest == last or now > until):
            break
        while len(running) >= MOST:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(clients.one())
        running.add(task)
        task.add_done_callback(running.discard)
        count += 1
        await asyncio.sleep(max(0.0, began + count / rate - time.perf_counter()))
    took = time.perf_counter() - began
    await asyncio.gather(*running)
    over.set()
    dropped = [kept for kept in await asyncio.gather(*held) if not kept]
    times = sorted(clients.times)
    return {
        "rate": count / took,
        "connections": len(times),
        "failed": sum(clients.failures.values()),
        "failures": dict(clients.failures),
        "dropped": len(dropped),
        "serials_seen": len(clients.serials),
        "last_serial_seen": clients.latest == last,
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[int(len(times) * 0.99)],
    }


# ---- the renewals ----------------------------------------------------------------------------------------------------


def replace_files(directory: Path, leaf: Issued) -> None:
    """As certbot: each file by a new one of its name. Between the two they do not fit."""
    for name, data in (("tls.crt", leaf.chain_pem), ("tls.key", leaf.key_pem)):
        new = directory / f".{name}.new"
        new.write_bytes(data)
        new.chmod(0o600)
        os.replace(new, directory / name)


def swap_link(directory: Path, leaf: Issued) -> None:
    """As Kubernetes: both files are links through one link, which is swapped."""
    kept = directory / f"..{leaf.certificate.serial_number:x}"
    kept.mkdir()
    for name, data in (("tls.crt", leaf.chain_pem), ("tls.key", leaf.key_pem)):
        (kept / name).write_bytes(data)
        (kept / name).chmod(0o600)
    new = directory / "..new"
    new.symlink_to(kept.name)
    os.replace(new, directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (directory / name).is_symlink():
            (directory / f".{name}.link").symlink_to(Path("..data") / name)
            os.replace(directory / f".{name}.link", directory / name)


def write_over(directory: Path, leaf: Issued) -> None:
    """As a script that knows nothing better: both files emptied, and written in pieces."""
    for name, data in (("tls.key", leaf.key_pem), ("tls.crt", leaf.chain_pem)):
        if (directory / name).is_symlink():
            (directory / name).unlink()
        with open(directory / name, "wb") as file:
            for start in range(0, len(data), 200):
                file.write(data[start : start + 200])
                file.flush()
                time.sleep(0.001)
        (directory / name).chmod(0o600)


WAYS: Final = (replace_files, swap_link, write_over)


def renew(renewals: int, rate: float, seconds: float, kind: str = "aio") -> Outcome:
    """Return what came of *renewals* within *seconds*, at *rate* connections a second.

    kind: of server: "aio", "asyncio" (`pellucid.asyncio`), "context" (asyncio over SSLContext), "threads".
    """
    authority = CA("Renewals root").intermediate("Renewals intermediate")
    leaves = [authority.issue(HOST) for _ in range(renewals + 1)]
    context = multiprocessing.get_context("spawn")
    outcome = Outcome(server=kind, renewals=renewals, asked_rate=rate)
    with tempfile.TemporaryDirectory(prefix="pellucid-renewals-") as name:
        directory = Path(name)
        replace_files(directory, leaves[0])
        to_server, server_end = context.Pipe()
        server = context.Process(target=serve, args=(name, kind, server_end), daemon=True)
        server.start()
        port = to_server.recv()
        to_clients, clients_end = context.Pipe()
        clients = context.Process(target=ask, args=(port, authority.root_pem, rate, clients_end), daemon=True)
        clients.start()
        to_clients.recv()
        began = time.monotonic()
        for number, leaf in enumerate(leaves[1:], start=1):
            time.sleep(max(0.0, began + number * seconds / renewals - time.monotonic()))
            WAYS[number % len(WAYS)](directory, leaf)
        to_clients.send(leaves[-1].certificate.serial_number)
        found = to_clients.recv()
        to_server.send("over")
        outcome.reloads, outcome.problems = to_server.recv()
        for process in (clients, server):
            process.join(30)
            if process.is_alive():
                process.terminate()
    for key, value in found.items():
        setattr(outcome, key, value)
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description="Renew a certificate under load; no handshake may fail.")
    parser.add_argument("--renewals", type=int, default=100)
    parser.add_argument("--rate", type=float, default=200.0, help="connections a second")
    parser.add_argument("--seconds", type=float, default=0.0, help="for all renewals; default: half a second for each")
    parser.add_argument("--server", choices=(*KINDS, "threads"), default="aio")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    outcome = renew(options.renewals, options.rate, options.seconds or options.renewals / 2, options.server)
    if options.json:
        print(json.dumps(asdict(outcome)))
    else:
        print("\n".join(outcome.lines()))
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
