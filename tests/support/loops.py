"""asyncio's own event loop and uvloop's: what concerns either is tested on both, and nothing may be left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest

import pellucid
from pellucid.testing.ca import CA
from tests.support.needs import need_module

T = TypeVar("T")
LOOPS = ["asyncio", "uvloop"]

AUTHORITY = CA("loops root")
LEAF = AUTHORITY.issue("localhost")
CREDENTIAL = pellucid.Credential.from_pem(LEAF.chain_pem, LEAF.key_pem)


def server_config(**changes: Any) -> pellucid.ServerConfig:
    return pellucid.ServerConfig(**({"credentials": (CREDENTIAL,)} | changes))


def client_config(**changes: Any) -> pellucid.ClientConfig:
    return pellucid.ClientConfig(**({"trust": AUTHORITY.trust} | changes))


def run_on(loop: str, main: Callable[[], Coroutine[Any, Any, T]], seconds: float = 30) -> T:
    """Return what *main* does on that loop. Whatever the loop is told of that went wrong fails the test."""
    factory = None
    if loop == "uvloop":
        need_module("uvloop")
        import uvloop

        factory = uvloop.new_event_loop
    told: list[dict[str, Any]] = []

    async def bounded() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with asyncio.timeout(seconds):
            result = await main()
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        return result

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with asyncio.Runner(loop_factory=factory) as runner:
            result = runner.run(bounded())
        gc.collect()
    assert not told, told
    return result


def open_files() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/dev/fd"))


async def assert_closed(files: int) -> None:
    """Fail if more than *files* stay open for longer than the ends of connections may take."""
    for _ in range(300):
        if open_files() <= files:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{open_files()} files are open, {files} were before")


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, Any]],
    config: Any = None,
    **options: Any,
) -> AsyncIterator[int]:
    """A native server whose handlers' errors are raised at the end; gives its port."""
    tasks: list[asyncio.Task[Any]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.get_running_loop().create_task(handle(reader, writer)))

    server = await pellucid.asyncio.start_server(connected, "127.0.0.1", 0, config or server_config(), **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*tasks)


async def connect(port: int, config: Any = None, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    options = {"server_hostname": "localhost"} | options
    return await pellucid.asyncio.open_connection("127.0.0.1", port, config or client_config(), **options)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


both_loops = pytest.mark.parametrize("loop", LOOPS)
