"""pellucid.asyncio, how connections end: cleanly, cut, refused, too late, cancelled. Nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.errors import UnexpectedMessage
from pellucid.net.operations import DeadlineExceeded
from pellucid.registry import AlertDescription
from pellucid.testing.ca import CA
from tests.support.loops import (
    AUTHORITY,
    LEAF,
    assert_closed,
    both_loops,
    client_config,
    closed,
    connect,
    echo,
    open_files,
    run_on,
    server_config,
    serving,
)


@contextlib.asynccontextmanager
async def plain(handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> Any:
    """A TCP server without TLS; gives its port."""
    tasks: list[asyncio.Task[Any]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(
        lambda *ends: tasks.append(asyncio.get_running_loop().create_task(handle(*ends))), "127.0.0.1", 0
    )
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    await asyncio.gather(*tasks)


@both_loops
@pytest.mark.rfc("9846 §6.1", "a stream that ends without close_notify is truncated, not ended")
def test_stream_cut_by_the_peer_is_an_error_after_its_data(loop: str) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)
        writer.write(b"half of it")
        await writer.drain()
        writer.transport.abort()

    async def main() -> None:
        async with serving(cut) as port:
            reader, writer = await connect(port)
            writer.write(b"go")
            assert await reader.readexactly(10) == b"half of it"
            with pytest.raises((pellucid.TruncatedStream, ConnectionResetError)):
                await reader.read()
            with pytest.raises((pellucid.TruncatedStream, ConnectionResetError)):
                await closed(writer)

    run_on(loop, main)


@both_loops
def test_certificate_of_somebody_else_is_refused_and_the_server_is_told_why(loop: str) -> None:
    async def main() -> None:
        alerts: list[int] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise AssertionError("the client has not accepted this server")

        def trace() -> Any:
            return lambda event: alerts.append(event.description) if type(event).__name__ == "AlertTraced" else None

        async with serving(handler, trace=trace) as port:
            with pytest.raises(pellucid.CertificateRejected):
                await connect(port, client_config(trust=CA("another root").trust))
            with pytest.raises(pellucid.CertificateRejected):
                await connect(port, server_hostname="example.org")
            await asyncio.sleep(0.05)
        assert alerts == [AlertDescription.UNKNOWN_CA, AlertDescription.BAD_CERTIFICATE]

    run_on(loop, main)


@both_loops
def test_client_that_shows_no_certificate_reads_the_servers_alert(loop: str) -> None:
    config = server_config(client_authentication=pellucid.ClientAuthentication.REQUIRED, client_trust=AUTHORITY.trust)

    async def main() -> None:
        async with serving(echo, config) as port:
            for data in (b"", b"x" * 1_000_000):  # who writes may meet the reset first
                reader, writer = await connect(port)
                writer.write(data)
                with pytest.raises(pellucid.AlertReceived) as caught:
                    await reader.read()
                assert caught.value.description == AlertDescription.CERTIFICATE_REQUIRED
                with pytest.raises(pellucid.AlertReceived):
                    await closed(writer)

    run_on(loop, main)


@both_loops
def test_peer_that_speaks_no_tls_is_told_so(loop: str) -> None:
    said: list[bytes] = []

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        said.append(await reader.read())

    async def main() -> None:
        async with plain(http) as port:
            with pytest.raises(UnexpectedMessage, match="HTTP"):
                await connect(port)
        assert said[0].endswith(bytes((21, 3, 3, 0, 2, 2, AlertDescription.UNEXPECTED_MESSAGE)))
        async with serving(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n" * 20_000)
            assert (await reader.read(100))[-1] == AlertDescription.UNEXPECTED_MESSAGE
            await closed(writer)

    run_on(loop, main)


@both_loops
def test_handshake_has_a_time_for_either_end(loop: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def main() -> None:
        async with plain(silent) as port:
            with pytest.raises(DeadlineExceeded, match="handshake took longer"):
                await connect(port, handshake_timeout=0.1)
        async with serving(echo, handshake_timeout=0.3) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError, RuntimeError):  # uvloop: the transport is closed
                for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100):  # a byte now and then
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0.02)
            started = asyncio.get_running_loop().time()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            assert asyncio.get_running_loop().time() - started < 2
            writer.close()

    run_on(loop, main)


@both_loops
def test_reset_at_any_moment_is_an_os_error_and_leaves_nothing(loop: str) -> None:
    async def main() -> None:
        await asyncio.sleep(0.01)
        files = open_files() + 1  # uvloop opens one more when it first listens
        for wanted in (1, 100, 600):

            async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: int = wanted) -> None:
                await reader.read(wanted)
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

            async with plain(reset) as port:
                with pytest.raises(OSError) as caught:
                    await connect(port)
                assert isinstance(caught.value, pellucid.TLSError | ConnectionError)
        await asyncio.sleep(0.05)
        await assert_closed(files)

    run_on(loop, main)


@both_loops
def test_what_was_written_before_close_arrives(loop: str) -> None:
    data = bytes(3_000_000)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()
        writer.write(b"after")
        await writer.wait_closed()

    async def main() -> None:
        async with serving(send) as port:
            reader, writer = await connect(port)
            await asyncio.sleep(0.3)  # longer than a silent peer is waited for
            got = bytearray()
            while piece := await reader.read(50_000):
                got += piece
                await asyncio.sleep(0.001)
            assert got == data
            await closed(writer)

    run_on(loop, main)


@both_loops
def test_close_does_not_wait_for_a_peer_that_reads_nothing_more(loop: str) -> None:
    async def main() -> None:
        done = asyncio.Event()
        took: list[float] = []

        async def full(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.set_write_buffer_limits(2**30)
            writer.write(bytes(50_000_000))
            started = asyncio.get_running_loop().time()
            writer.close()
            with pytest.raises(TimeoutError, match="were not sent"):
                await writer.wait_closed()
            took.append(asyncio.get_running_loop().time() - started)
            done.set()

        async with serving(full, shutdown_timeout=0.3) as port:
            _, writer = await connect(port)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await done.wait()
            assert took[0] < 5
            writer.transport.abort()

    run_on(loop, main)


@both_loops
def test_protocol_that_raises_ends_its_connection_and_no_other(loop: str) -> None:
    async def main() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))

        class Bad(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                raise RuntimeError("of the application")

        server = await pellucid.asyncio.create_server(Bad, "127.0.0.1", 0, server_config())
        port = server.sockets[0].getsockname()[1]
        reader, writer = await connect(port)
        writer.write(b"x")
        with pytest.raises(pellucid.AlertReceived) as caught:
            await reader.read()
        assert caught.value.description == AlertDescription.INTERNAL_ERROR
        assert [str(one) for one in told] == ["of the application"]
        with pytest.raises(pellucid.AlertReceived):
            await closed(writer)
        _, second = await connect(port)
        await closed(second)
        server.close()
        await server.wait_closed()

    run_on(loop, main)


@both_loops
def test_factory_that_raises_is_what_the_caller_sees(loop: str) -> None:
    async def main() -> None:
        def factory() -> asyncio.Protocol:
            raise LookupError("of the factory")

        async def refused(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with pytest.raises(pellucid.AlertReceived):
                await reader.read()

        async with serving(refused) as port:
            with pytest.raises(LookupError, match="of the factory"):
                await pellucid.asyncio.create_connection(
                    factory, "127.0.0.1", port, client_config(), server_hostname="localhost"
                )

    run_on(loop, main)


@both_loops
def test_resolver_that_fails_ends_the_handshake_with_an_alert(loop: str) -> None:
    async def resolve(hello: object) -> Any:
        raise ConnectionError("the key service is away")

    async def main() -> None:
        async with serving(echo, pellucid.ServerConfig(credential_resolver=resolve)) as port:
            with pytest.raises(pellucid.AlertReceived) as caught:
                await connect(port)
            assert caught.value.description == AlertDescription.INTERNAL_ERROR

    run_on(loop, main)


@both_loops
def test_pause_that_nobody_answers_ends_the_handshake(loop: str) -> None:
    async def main() -> None:
        config = pellucid.ServerConfig(credential_resolver=lambda hello: pellucid.PENDING)
        async with serving(echo, config) as port:
            with pytest.raises(pellucid.AlertReceived):
                await connect(port)

        async def answer(pause: object) -> object:
            await asyncio.sleep(0)
            return server_config().credentials[0]

        async with serving(echo, config, answer=answer) as port:
            _, writer = await connect(port)
            await closed(writer)

    run_on(loop, main)


# ---- cancellation ----------------------------------------------------------------------------------------------------


def step_by_step(start: Callable[[], Any], most: int = 60) -> Iterator[tuple[int, Callable[[], Any]]]:
    """Yields a number of loop turns and what cancels *start*'s task after them, until it is done before that."""
    for turns in range(most):

        async def cancel(turns: int = turns) -> bool:
            task = asyncio.ensure_future(start())
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                _, writer = await task
                await closed(writer)
                return True
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return False

        yield turns, cancel


@both_loops
def test_connect_cancelled_in_any_turn_of_the_loop_leaves_nothing(loop: str) -> None:
    async def main() -> None:
        async with serving(echo) as port:
            _, writer = await connect(port)
            await closed(writer)
            await asyncio.sleep(0.02)
            files, finished = open_files(), 0
            for _, cancel in step_by_step(lambda: connect(port)):
                finished += await cancel()
                await asyncio.sleep(0.005)
            assert finished and finished < 60
            await asyncio.sleep(0.1)
            await assert_closed(files)
            _, writer = await connect(port)
            await closed(writer)

    run_on(loop, main)


@both_loops
def test_cancelled_drain_and_wait_closed_leave_nothing(loop: str) -> None:
    async def main() -> None:
        async def sleepy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(1)
            await asyncio.sleep(0.05)
            with contextlib.suppress(OSError):
                await reader.read()

        async with serving(sleepy, limit=10) as port:
            files = open_files()
            for turns in range(5):
                _, writer = await connect(port)
                writer.write(bytes(30_000_000))
                draining = asyncio.ensure_future(writer.drain())
                for _ in range(turns):
                    await asyncio.sleep(0)
                draining.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await draining
                writer.close()
                closing = asyncio.ensure_future(writer.wait_closed())
                await asyncio.sleep(0)
                closing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await closing
                writer.transport.abort()
                await asyncio.sleep(0.1)
            await assert_closed(files)

    run_on(loop, main)


# ---- other stacks ----------------------------------------------------------------------------------------------------


def stdlib_server(folder: Path) -> ssl.SSLContext:
    pem = folder / "server.pem"
    pem.write_bytes(LEAF.chain_pem + LEAF.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@both_loops
def test_stdlibs_tls_talks_with_ours_at_either_end(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
        data = bytes(range(256)) * 5000
        async with serving(echo) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            await closed(writer)
        tasks: list[Any] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await echo(reader, writer)
            await closed(writer)

        server = await asyncio.start_server(
            lambda *ends: tasks.append(asyncio.ensure_future(handle(*ends))),
            "127.0.0.1",
            0,
            ssl=stdlib_server(tmp_path),
        )
        reader, writer = await connect(server.sockets[0].getsockname()[1])
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        await closed(writer)
        server.close()
        await server.wait_closed()
        await asyncio.gather(*tasks)

    run_on(loop, main)


@both_loops
def test_connection_that_is_over_leaves_no_circle_to_be_collected(loop: str) -> None:
    """Its keys go with the last reference to it, and not when the collector comes round."""

    async def main() -> None:
        ends: list[weakref.ref[pellucid.Connection]] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ends.append(weakref.ref(writer.transport.connection))  # type: ignore[attr-defined]
            writer.write(await reader.readexactly(5))
            writer.close()

        async with serving(answer) as port:
            reader, writer = await connect(port)
            ends.append(weakref.ref(writer.transport.connection))  # type: ignore[attr-defined]
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()
            del reader, writer
            for _ in range(300):
                if len(ends) == 2 and not any(end() for end in ends):
                    return
                await asyncio.sleep(0.01)
        raise AssertionError([end() for end in ends])

    gc.collect()
    gc.disable()
    try:
        run_on(loop, main)
    finally:
        gc.enable()


# ---- interrupted in the middle ---------------------------------------------------------------------------------------


class Interrupted(asyncio.Protocol):
    """Is interrupted at each piece of the first megabyte, as by Ctrl-C."""

    got = b""

    def data_received(self, data: bytes) -> None:
        self.got += data
        if len(self.got) < 2**20:
            raise KeyboardInterrupt


def test_interrupt_in_the_middle_of_bulk_data_loses_none_of_it() -> None:
    """At a prompt the loop runs on with the next line."""
    bulk = bytes(range(256)) * 2**14

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bulk)
        await reader.read()

    async def main() -> None:
        async with serving(send) as port:
            transport, end = await pellucid.asyncio.create_connection(
                Interrupted, "127.0.0.1", port, client_config(), server_hostname="localhost"
            )
            while len(end.got) < len(bulk) and not transport.is_closing():
                await asyncio.sleep(0.001)
            assert end.got == bulk
            transport.close()

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        running = loop.create_task(asyncio.wait_for(main(), 30))
        interrupted = 0
        while not running.done():
            try:
                loop.run_until_complete(running)
            except KeyboardInterrupt:
                interrupted += 1
        assert interrupted > 3
        running.result()
