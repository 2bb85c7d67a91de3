"""asyncio and uvloop: transports, streams and start_tls, on the one loop and on the other."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

import pellucid
from pellucid.explain import Recorder
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.peers import BODY, echoed
from tests.ecosystem.trial import Trial

library("asyncio", None)
library("uvloop")
_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
for _name in _LOOPS:
    empty(_name, "HTTP/2", "it carries bytes; HTTP is spoken by libraries over it")

Main = Callable[[Trial], Coroutine[Any, Any, None]]


def on_both_loops(column: str) -> Callable[[Main], Main]:
    """Put an async function into the matrix twice."""

    def add(main: Main) -> Main:
        for name, factory in _LOOPS.items():

            def work(trial: Trial, factory: Callable[[], asyncio.AbstractEventLoop] = factory) -> None:
                with asyncio.Runner(loop_factory=factory) as runner:
                    runner.run(asyncio.wait_for(main(trial), 30))

            cell(name, column)(work)
        return main

    return add


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TypeError):  # TypeError: see `tls_runs_in_tls`
        await writer.wait_closed()


class _Collecting(asyncio.Protocol):
    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.data = bytearray()
        self.all = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) >= self.wanted and not self.all.done():
            self.all.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.all.done():
            self.all.set_exception(error or EOFError())


@on_both_loops("client")
async def connection_is_created(trial: Trial) -> None:
    loop, server = asyncio.get_running_loop(), trial.peers.echo
    context = trial.client(trace=Recorder)
    transport, protocol = await loop.create_connection(
        lambda: _Collecting(len(BODY)), "localhost", server.port, ssl=context
    )
    transport.write(BODY)
    await protocol.all
    assert protocol.data == BODY
    tls = transport.get_extra_info("ssl_object")
    assert tls.negotiated.cipher_suite == trial.handshakes[0].cipher_suite
    assert transport.get_extra_info("cipher")[1] == "TLSv1.3"
    assert pellucid.trace_of(transport) is tls.trace
    assert transport.get_extra_info("peercert")["subjectAltName"] == (("DNS", "localhost"),)
    transport.close()
    with trial.refuses(ssl.SSLCertVerificationError):
        await loop.create_connection(lambda: _Collecting(1), "127.0.0.1", server.port, ssl=context)
    with trial.refuses(ssl.SSLCertVerificationError, code="X509-UNKNOWN-CA"):
        await loop.create_connection(lambda: _Collecting(1), "localhost", server.port, ssl=trial.stranger())


@on_both_loops("server")
async def server_serves(trial: Trial) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        await _closed(writer)

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=trial.asking_server())
    async with server:
        port = server.sockets[0].getsockname()[1]
        identified = trial.stdlib_client(certificate=True)
        assert await asyncio.to_thread(echoed, port, bytes(90_000), context=identified) == bytes(90_000)
        with contextlib.suppress(ssl.SSLError, ConnectionError):  # the alert, or what follows it
            assert await asyncio.to_thread(echoed, port, context=trial.stdlib_client()) == b""
    assert len(trial.handshakes) == 1, "a client without a certificate was served"


@on_both_loops("async")
async def streams_carry_both_ways_at_once(trial: Trial) -> None:
    context = trial.client()
    port = trial.peers.echo.port
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    data = bytes(range(256)) * 8_000

    async def send() -> None:
        writer.write(data)
        await writer.drain()

    with contextlib.suppress(TimeoutError):  # a reader that is cancelled loses nothing
        await asyncio.wait_for(reader.readexactly(1), 0.01)
    sending = asyncio.create_task(send())
    assert await reader.readexactly(len(data)) == data
    await sending
    await _closed(writer)
    with trial.refuses(ssl.SSLCertVerificationError):
        await asyncio.open_connection("localhost", port, ssl=context, server_hostname="other.example")


@on_both_loops("proxy")
async def tls_runs_in_tls(trial: Trial) -> None:
    server, proxy, context = trial.peers.echo, trial.peers.tls_proxy, trial.client()
    for name in ("localhost", "other.example"):
        reader, writer = await asyncio.open_connection("localhost", proxy.port, ssl=context)
        writer.write(f"CONNECT localhost:{server.port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        if name == "localhost":
            await writer.start_tls(context, server_hostname=name)
            writer.write(BODY)
            assert await reader.readexactly(len(BODY)) == BODY
        else:
            # Until 3.11.8 asyncio's own abort of TLS in TLS raises a TypeError on top (python/cpython#113214).
            with trial.refuses(ssl.SSLCertVerificationError, TypeError):
                await writer.start_tls(context, server_hostname=name)
        await _closed(writer)
    assert len(trial.handshakes) == 3


@on_both_loops("start_tls")
async def connection_is_upgraded(trial: Trial) -> None:
    context, port = trial.client(), trial.peers.starttls.port
    for name in ("localhost", "other.example"):
        reader, writer = await asyncio.open_connection("localhost", port)
        writer.write(b"STARTTLS\r\n")
        assert await reader.readline() == b"OK\r\n"
        if name == "localhost":
            await writer.start_tls(context, server_hostname=name)
            writer.write(BODY)
            assert await reader.readexactly(len(BODY)) == BODY
            assert pellucid.trace_of(writer) is not None
        else:
            with trial.refuses(ssl.SSLCertVerificationError):
                await writer.start_tls(context, server_hostname=name)
        await _closed(writer)
