"""anyio and trio: streams, listeners and connectables of both, anyio's on either event loop."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable

import anyio
import anyio.streams.tls
import trio
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSListener, TLSStream

import pellucid
from pellucid.explain import Recorder
from tests.ecosystem.matrix import cell, empty, library
from tests.ecosystem.peers import BODY, echoed
from tests.ecosystem.trial import Trial

_BYTES = "it carries bytes; HTTP is spoken by libraries over it"

# ---- anyio -----------------------------------------------------------------------------------------------------------

library("anyio")
empty("anyio", "HTTP/2", _BYTES)

Main = Callable[[Trial], Awaitable[None]]


def on_both(column: str) -> Callable[[Main], Main]:
    """Put an async function into anyio's row twice: on asyncio and on trio."""

    def add(main: Main) -> Main:
        for backend in ("asyncio", "trio"):

            def work(trial: Trial, backend: str = backend) -> None:
                async def bounded() -> None:
                    with anyio.fail_after(30):
                        await main(trial)

                anyio.run(bounded, backend=backend)

            cell("anyio", column, backend)(work)
        return main

    return add


async def _exactly(stream: anyio.abc.ByteReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.receive()
    return data


@on_both("client")
async def anyio_connects(trial: Trial) -> None:
    port = trial.peers.echo.port
    context = trial.client(trace=Recorder)
    async with await anyio.connect_tcp("localhost", port, ssl_context=context) as stream:
        await stream.send(BODY)
        assert await _exactly(stream, len(BODY)) == BODY
        assert stream.extra(TLSAttribute.tls_version) == "TLSv1.3"
        assert pellucid.trace_of(stream) is stream.extra(TLSAttribute.ssl_object).trace is not None
    with trial.refuses(ssl.SSLCertVerificationError):
        await anyio.connect_tcp("127.0.0.1", port, ssl_context=context)
    with trial.refuses(ssl.SSLCertVerificationError, code="X509-UNKNOWN-CA"):
        await anyio.connect_tcp("localhost", port, ssl_context=trial.stranger())


@on_both("server")
async def anyio_listens(trial: Trial) -> None:
    listener = TLSListener(await anyio.create_tcp_listener(local_host="127.0.0.1"), trial.server())
    port = listener.listener.extra(SocketAttribute.local_port)

    async def echo(stream: TLSStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        assert await anyio.to_thread.run_sync(echoed, port, bytes(90_000)) == bytes(90_000)
        group.cancel_scope.cancel()
    await listener.aclose()


@on_both("async")
async def anyio_connectable(trial: Trial) -> None:
    """`as_connectable` asks isinstance; and what is cancelled in the middle loses nothing."""
    port = trial.peers.echo.port
    wanted = anyio.as_connectable(("localhost", port), tls=True, ssl_context=trial.client())
    data = bytes(range(256)) * 4_000
    async with await wanted.connect() as stream, anyio.create_task_group() as group:
        with anyio.move_on_after(0.01) as scope:
            await stream.receive()
        assert scope.cancelled_caught
        group.start_soon(stream.send, data)
        assert await _exactly(stream, len(data)) == data
    with trial.refuses(ssl.SSLCertVerificationError):
        await anyio.as_connectable(("127.0.0.1", port), tls=True, ssl_context=trial.client()).connect()


@on_both("proxy")
async def anyio_wraps_tls_in_tls(trial: Trial) -> None:
    server, proxy, context = trial.peers.echo, trial.peers.tls_proxy, trial.client()
    for name in ("localhost", "other.example"):
        async with await anyio.connect_tcp("localhost", proxy.port, ssl_context=context) as outer:
            await outer.send(f"CONNECT localhost:{server.port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert (await outer.receive()).startswith(b"HTTP/1.1 200 ")
            if name == "localhost":
                inner = await TLSStream.wrap(outer, hostname=name, ssl_context=context)
                await inner.send(BODY)
                assert await _exactly(inner, len(BODY)) == BODY
            else:
                with trial.refuses(ssl.SSLCertVerificationError):
                    await TLSStream.wrap(outer, hostname=name, ssl_context=context)
    assert len(trial.handshakes) == 3


@on_both("start_tls")
async def anyio_upgrades(trial: Trial) -> None:
    context, port = trial.client(), trial.peers.starttls.port
    for name in ("localhost", "other.example"):
        async with await anyio.connect_tcp("localhost", port) as plain:
            await plain.send(b"STARTTLS\r\n")
            assert await _exactly(plain, 4) == b"OK\r\n"
            if name == "localhost":
                stream = await TLSStream.wrap(plain, hostname=name, ssl_context=context)
                await stream.send(BODY)
                assert await _exactly(stream, len(BODY)) == BODY
            else:
                with trial.refuses(ssl.SSLCertVerificationError):
                    await TLSStream.wrap(plain, hostname=name, ssl_context=context)


# ---- trio ------------------------------------------------------------------------------------------------------------

library("trio")
empty("trio", "HTTP/2", _BYTES)


def on_trio(column: str) -> Callable[[Main], Main]:
    """Put an async function into trio's row."""

    def add(main: Main) -> Main:
        def work(trial: Trial) -> None:
            async def bounded() -> None:
                with trio.fail_after(30):
                    await main(trial)

            trio.run(bounded)

        cell("trio", column)(work)
        return main

    return add


async def _some(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some()
        assert more, "the stream ended"
        data += more
    return data


@on_trio("client")
async def trio_opens_a_stream(trial: Trial) -> None:
    port = trial.peers.echo.port
    context = trial.client(trace=Recorder)
    stream = await trio.open_ssl_over_tcp_stream("localhost", port, ssl_context=context)
    async with stream:
        await stream.send_all(BODY)
        assert await _some(stream, len(BODY)) == BODY
        assert stream.version() == "TLSv1.3"
        assert isinstance(pellucid.trace_of(stream), Recorder)
    for wrong, code in ((context, "X509-WRONG-NAME"), (trial.stranger(), "X509-UNKNOWN-CA")):
        host = "127.0.0.1" if code == "X509-WRONG-NAME" else "localhost"
        stream = await trio.open_ssl_over_tcp_stream(host, port, ssl_context=wrong)
        with trial.refuses(trio.BrokenResourceError, code=code) as refusal:
            await stream.do_handshake()
        assert isinstance(refusal.error.__cause__, ssl.SSLCertVerificationError)
        await trio.aclose_forcefully(stream)


@on_trio("server")
async def trio_serves(trial: Trial) -> None:
    async def echo(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async for data in stream:
                await stream.send_all(data)
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, trial.server(), host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        assert await trio.to_thread.run_sync(echoed, port, bytes(90_000)) == bytes(90_000)
        nursery.cancel_scope.cancel()


@on_trio("async")
async def trio_carries_both_ways_at_once(trial: Trial) -> None:
    stream = await trio.open_ssl_over_tcp_stream("localhost", trial.peers.echo.port, ssl_context=trial.client())
    data = bytes(range(256)) * 4_000
    async with stream, trio.open_nursery() as nursery:
        await stream.do_handshake()
        with trio.move_on_after(0.01) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught
        nursery.start_soon(stream.send_all, data)
        assert await _some(stream, len(data)) == data
    wrong = await trio.open_ssl_over_tcp_stream("127.0.0.1", trial.peers.echo.port, ssl_context=trial.client())
    with trial.refuses(trio.BrokenResourceError):
        await wrong.send_all(b"x")
    await trio.aclose_forcefully(wrong)


@on_trio("proxy")
async def trio_wraps_tls_in_tls(trial: Trial) -> None:
    server, proxy, context = trial.peers.echo, trial.peers.tls_proxy, trial.client()
    for name in ("localhost", "other.example"):
        outer = await trio.open_ssl_over_tcp_stream("localhost", proxy.port, ssl_context=context)
        await outer.send_all(f"CONNECT localhost:{server.port} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await outer.receive_some()).startswith(b"HTTP/1.1 200 ")
        inner = trio.SSLStream(outer, context, server_hostname=name)
        if name == "localhost":
            await inner.send_all(BODY)
            assert await _some(inner, len(BODY)) == BODY
            await inner.aclose()
        else:
            with trial.refuses(trio.BrokenResourceError):
                await inner.do_handshake()
            await trio.aclose_forcefully(inner)
    assert len(trial.handshakes) == 3


@on_trio("start_tls")
async def trio_upgrades(trial: Trial) -> None:
    context, port = trial.client(), trial.peers.starttls.port
    for name in ("localhost", "other.example"):
        plain = await trio.open_tcp_stream("localhost", port)
        await plain.send_all(b"STARTTLS\r\n")
        assert await _some(plain, 4) == b"OK\r\n"
        stream = trio.SSLStream(plain, context, server_hostname=name)
        if name == "localhost":
            await stream.send_all(BODY)
            assert await _some(stream, len(BODY)) == BODY
            await stream.aclose()
        else:
            with trial.refuses(trio.BrokenResourceError):
                await stream.do_handshake()
            await trio.aclose_forcefully(stream)
