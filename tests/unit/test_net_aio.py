"""Async streams and listeners on asyncio and trio: the same promises as the blocking ones, and cancellation."""

from __future__ import annotations

import errno
import functools
import random
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import pytest

from pellucid import aio
from pellucid.config import Credential, ServerConfig
from pellucid.connection import Connection
from pellucid.crypto.provider import PENDING, Pending
from pellucid.errors import AlertReceived, PeerError, TLSError, TruncatedStream, UsageError
from pellucid.events import SignatureNeeded
from pellucid.net.operations import Pause
from pellucid.registry import AlertDescription
from pellucid.trace import HandshakeCompleted, MessageTraced, TcpConnected, TraceEvent
from tests.unit.test_net_peers import CLIENT, CREDENTIAL, SERVER, RawPeer, open_descriptors, raw_server, reset

Body = Callable[[], Awaitable[None]]
Pair = tuple[aio.Stream, aio.Stream]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run an async function on each event loop, within so many seconds."""

    def on_backend(body: Callable[..., Awaitable[None]], *arguments: Any, seconds: float = 30) -> None:
        async def main() -> None:
            with anyio.fail_after(seconds):
                await body(*arguments)

        anyio.run(main, backend=request.param)

    return on_backend


async def echo(stream: aio.Stream) -> None:
    async for data in stream:
        await stream.send(data)


@asynccontextmanager
async def serving(handler: Any = echo, config: ServerConfig = SERVER, **options: Any) -> Any:
    """Give the port and the list of errors of a server in the background."""
    errors: list[Exception] = []
    async with await aio.listen("127.0.0.1", 0, config, **options) as listener, anyio.create_task_group() as group:
        group.start_soon(
            functools.partial(listener.serve, handler, on_error=lambda _stream, error: errors.append(error))
        )
        yield listener.address[1], errors
        group.cancel_scope.cancel()


@asynccontextmanager
async def pair() -> Any:
    async with await aio.listen("127.0.0.1", 0, SERVER) as listener, anyio.create_task_group() as group:
        accepted: list[aio.Stream] = []

        async def accept() -> None:
            stream = await listener.accept()
            await stream.do_handshake()
            accepted.append(stream)

        group.start_soon(accept)
        local = await aio.connect("localhost", listener.address[1], CLIENT)
        while not accepted:
            await anyio.sleep(0.001)
        try:
            yield local, accepted[0]
        finally:
            with anyio.CancelScope(shield=True):
                await local.abort()
                await accepted[0].abort()


Served = AbstractAsyncContextManager[tuple[int, list[Exception]]]


async def read_exactly(stream: anyio.abc.ByteReceiveStream, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        received += await stream.receive()
    return bytes(received)


# ---- honest peers ------------------------------------------------------------------------------------------------


def test_connect_and_listen_carry_data_both_ways(run: Callable[..., None]) -> None:
    async def body() -> None:
        async with serving() as (port, errors):
            async with await aio.connect("localhost", port, CLIENT) as stream:
                await stream.send(b"hello")
                assert await stream.receive() == b"hello"
                await stream.key_update(request_peer=True)
                await stream.send(b"0123456789")
                assert await stream.receive(4) == b"0123"
                assert await stream.receive() == b"456789"
                assert stream.peer is not None
                assert len(stream.channel_binding()) == 32
                assert stream.extra(anyio.abc.SocketAttribute.remote_port) == port
                await stream.send_eof()
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
                with pytest.raises(UsageError):
                    await stream.send(b"more")
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()
            with pytest.raises(anyio.ClosedResourceError):
                await stream.send(b"x")
            await stream.aclose()
            assert not errors

    run(body)


def test_stream_both_directions_at_once_do_not_block_each_other(run: Callable[..., None]) -> None:
    size = 5_000_000

    async def body() -> None:
        async with pair() as (local, peer), anyio.create_task_group() as group:
            for end in (local, peer):
                group.start_soon(end.send, bytes(size))
                group.start_soon(read_exactly, end, size)

    run(body)


def test_stream_many_senders_never_mix_and_keep_their_order(run: Callable[..., None]) -> None:
    async def body() -> None:
        async with pair() as (local, peer), anyio.create_task_group() as group:

            async def write(writer: int) -> None:
                for number in range(300):
                    await local.send(b"%d:%04d;" % (writer, number))

            for writer in range(8):
                group.start_soon(write, writer)
            received = await read_exactly(peer, 8 * 300 * 7)
            found: dict[bytes, list[bytes]] = {}
            for item in received.split(b";")[:-1]:
                writer, number = item.split(b":")
                found.setdefault(writer, []).append(number)
            assert len(found) == 8
            assert all(numbers == [b"%04d" % number for number in range(300)] for numbers in found.values())

    run(body)


def test_trace_tells_of_tcp_and_tls_on_both_ends(run: Callable[..., None]) -> None:
    async def body() -> None:
        client: list[TraceEvent] = []
        server: list[TraceEvent] = []
        async with serving(trace=lambda: server.append) as (port, _errors):
            await (await aio.connect("localhost", port, CLIENT, trace=client.append)).aclose()
        for events in (client, server):
            kinds = [type(event) for event in events]
            assert kinds.index(TcpConnected) < kinds.index(MessageTraced) < kinds.index(HandshakeCompleted)

    run(body)


def test_pending_signer_is_answered_by_an_async_function(run: Callable[..., None]) -> None:
    class Remote:
        schemes = CREDENTIAL.signer.schemes

        def sign(self, _scheme: int, _data: bytes) -> bytes | Pending:
            return PENDING

    async def answer(pause: Pause) -> object:
        await anyio.sleep(0.01)
        assert isinstance(pause, SignatureNeeded)
        return CREDENTIAL.signer.sign(pause.need.scheme, pause.need.data)

    config = ServerConfig(credentials=(Credential(chain=CREDENTIAL.chain, signer=Remote()),))

    async def body() -> None:
        async with (
            serving(config=config, answer=answer) as (port, errors),
            await aio.connect("localhost", port, CLIENT) as stream,
        ):
            await stream.send(b"signed elsewhere")
            assert await stream.receive() == b"signed elsewhere"
            assert not errors

    run(body)


def test_wrap_serves_sockets_and_anyio_streams(run: Callable[..., None]) -> None:
    async def over(here: Any, there: Any) -> None:
        async def serve() -> None:
            async with await aio.wrap(there, SERVER) as stream:
                await echo(stream)

        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            async with await aio.wrap(here, CLIENT, server_name="localhost") as stream:
                await stream.send(b"wrapped")
                assert await stream.receive() == b"wrapped"
                await stream.send_eof()
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()

    async def body() -> None:
        await over(*socket.socketpair())
        to_there, from_here = anyio.create_memory_object_stream[bytes](100)
        to_here, from_there = anyio.create_memory_object_stream[bytes](100)
        from anyio.streams.stapled import StapledObjectStream

        class Bytes(anyio.abc.ByteStream):
            """A byte stream in memory."""

            def __init__(self, stream: StapledObjectStream[bytes]) -> None:
                self._stream = stream

            async def receive(self, max_bytes: int = 65536) -> bytes:
                return await self._stream.receive()

            async def send(self, item: bytes) -> None:
                assert isinstance(item, bytes)
                await self._stream.send(item)

            async def send_eof(self) -> None:
                await self._stream.send_eof()

            async def aclose(self) -> None:
                await self._stream.aclose()

        await over(
            Bytes(StapledObjectStream(to_there, from_there)),
            Bytes(StapledObjectStream(to_here, from_here)),
        )

    run(body)


# ---- errors ------------------------------------------------------------------------------------------------------


def test_connect_wrong_name_tells_the_peer_why(run: Callable[..., None]) -> None:
    async def body() -> None:
        async with serving() as (port, errors):
            with pytest.raises(PeerError):
                await aio.connect("127.0.0.1", port, CLIENT, server_name="wrong.example")
            while not errors:
                await anyio.sleep(0.001)
            assert isinstance(errors[0], AlertReceived)
            assert errors[0].description == AlertDescription.BAD_CERTIFICATE

    run(body)


def test_truncated_stream_and_reset_are_errors(run: Callable[..., None]) -> None:
    def cut(peer: RawPeer) -> None:
        peer.send(b"half of i")
        peer.socket.close()

    def break_off(peer: RawPeer) -> None:
        reset(peer.socket)

    async def body() -> None:
        with raw_server(cut) as port:
            async with await aio.connect("localhost", port, CLIENT) as stream:
                assert await stream.receive() == b"half of i"
                with pytest.raises(TruncatedStream):
                    await stream.receive()
        with raw_server(break_off) as port:
            stream = await aio.connect("localhost", port, CLIENT)
            for _ in range(2):
                with pytest.raises(anyio.BrokenResourceError) as caught:
                    await stream.receive()
                assert isinstance(caught.value.__cause__, ConnectionResetError)
            await stream.aclose()

    run(body)


def test_failed_send_shows_the_peers_alert_instead(run: Callable[..., None]) -> None:
    def refuse(peer: RawPeer) -> None:
        peer.connection.fail(AlertDescription.ACCESS_DENIED)
        peer.flush()
        time.sleep(0.05)
        reset(peer.socket)

    async def body() -> None:
        with raw_server(refuse) as port:
            stream = await aio.connect("localhost", port, CLIENT)
            await anyio.sleep(0.2)
            with pytest.raises(AlertReceived, match="access_denied"):
                for _ in range(100):
                    await stream.send(bytes(100_000))
                    await anyio.sleep(0.001)
            await stream.aclose()

    run(body)


def test_exception_in_the_with_block_cuts_the_stream(run: Callable[..., None]) -> None:
    async def body() -> None:
        async with pair() as (local, peer):
            with pytest.raises(ValueError, match="mine"):
                async with local:
                    await local.send(b"incomplete")
                    raise ValueError("mine")
            assert await peer.receive() == b"incomplete"
            with pytest.raises((TruncatedStream, anyio.BrokenResourceError)):
                await peer.receive()

    run(body)


def test_wrap_client_refuses_what_was_sent_before_its_hello(run: Callable[..., None]) -> None:
    async def body() -> None:
        here, there = socket.socketpair()
        with there:
            there.sendall(b"INJECTED")
            with pytest.raises(UsageError, match="plaintext"):
                await aio.wrap(here, CLIENT, server_name="localhost")
            assert here.fileno() == -1

    run(body)


# ---- time and cancellation ---------------------------------------------------------------------------------------


def test_handshake_deadline_is_total_and_not_for_each_byte(run: Callable[..., None]) -> None:
    hello = Connection.client(CLIENT, "localhost").data_to_send()

    async def body() -> None:
        async with serving(handshake_timeout=0.3) as (port, errors), anyio.create_task_group() as group:
            started = anyio.current_time()
            slow = await anyio.connect_tcp("127.0.0.1", port)

            async def drip() -> None:
                for byte in hello:
                    await slow.send(bytes([byte]))
                    await anyio.sleep(0.02)

            group.start_soon(drip)
            assert (await slow.receive()).startswith(b"\x15\x03\x03"), "the peer is told that it is over"
            assert anyio.current_time() - started < 2
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await slow.aclose()
                while not errors:
                    await anyio.sleep(0.001)
            assert isinstance(errors[0], TimeoutError)

    run(body)


def test_cancelled_receive_loses_nothing(run: Callable[..., None]) -> None:
    async def body() -> None:
        async with pair() as (local, peer):
            for number in range(20):
                with anyio.move_on_after(0.002) as scope:
                    await local.receive()
                assert scope.cancelled_caught
                await peer.send(b"%d" % number)
                assert await local.receive() == b"%d" % number

    run(body)


def test_cancelled_send_ends_the_sending_but_not_the_reading(run: Callable[..., None]) -> None:
    async def body() -> None:
        async with pair() as (local, peer):
            with anyio.move_on_after(0.1) as scope:
                await local.send(bytes(50_000_000))
            assert scope.cancelled_caught
            with pytest.raises(UsageError, match="cut short"):
                await local.send(b"never after half a record")
            await peer.send(b"still here")
            assert await local.receive() == b"still here"
            started = anyio.current_time()
            await local.aclose()
            assert anyio.current_time() - started < 3
            with pytest.raises((TruncatedStream, anyio.BrokenResourceError)):
                while True:
                    await peer.receive()

    run(body)


@pytest.mark.parametrize("runs", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_cancellation_at_any_moment_never_garbles_the_stream(run: Callable[..., None], runs: int) -> None:
    """Attack I13: what arrives is a prefix of what was sent, and its end is no clean one if something was cancelled."""
    choose = random.Random(20)

    async def once(port: int, received: list[bytes]) -> None:
        received.clear()
        message = bytes(choose.randrange(256) for _ in range(997)) * choose.choice([1, 40, 700])
        with anyio.move_on_after(choose.choice([0, 0.0005, 0.002, 0.004, 0.008])):
            async with await aio.connect("localhost", port, CLIENT) as stream:
                for _ in range(50):
                    await stream.send(message)

    async def body() -> None:
        received: list[bytes] = []
        wrong: list[Exception] = []

        async def sink(stream: aio.Stream) -> None:
            received.extend([data async for data in stream])

        async with await aio.listen("127.0.0.1", 0, SERVER) as listener, anyio.create_task_group() as group:
            group.start_soon(
                functools.partial(listener.serve, sink, on_error=lambda _stream, error: wrong.append(error))
            )
            before = open_descriptors()
            with anyio.CancelScope():
                for _ in range(runs):
                    await once(listener.address[1], received)
            # A garbled stream would be a PeerError here: bad_record_mac, decode_error, …
            assert not [error for error in wrong if isinstance(error, PeerError)], wrong
            for _ in range(500):
                if open_descriptors() <= before + 1:
                    break
                await anyio.sleep(0.01)
            assert open_descriptors() <= before + 1
            group.cancel_scope.cancel()

    run(body, seconds=30 if runs < 1000 else 110)


def test_cancelled_connect_closes_its_socket(run: Callable[..., None]) -> None:
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            before = open_descriptors()
            with anyio.move_on_after(0.1):
                await aio.connect("localhost", silent.getsockname()[1], CLIENT)
            assert open_descriptors() == before

    run(body)


def test_close_wakes_a_reading_task(run: Callable[..., None]) -> None:
    async def body() -> None:
        async with pair() as (local, peer), anyio.create_task_group() as group:
            woken: list[BaseException] = []

            async def read() -> None:
                try:
                    await local.receive()
                except (anyio.ClosedResourceError, TLSError) as error:
                    woken.append(error)

            group.start_soon(read)
            await anyio.sleep(0.02)
            with anyio.fail_after(3):
                await local.abort()
            del peer
        assert isinstance(woken[0], anyio.ClosedResourceError)

    run(body)


def test_reader_answers_key_updates_while_its_own_output_is_stuck(run: Callable[..., None]) -> None:
    """Reading must not wait for room to write: two peers that did would wait for each other."""
    requests = 300

    def ask(peer: RawPeer) -> None:
        time.sleep(0.3)  # until the stream's output is stuck
        for _ in range(requests):
            peer.connection.send_key_update(request_peer=True)
            peer.connection.send_data(bytes(20_000))
            peer.flush()
        received = 0
        while received < 20_000_000:
            received += len(getattr(peer.event(), "data", b""))

    async def body() -> None:
        with raw_server(ask) as port:
            async with await aio.connect("localhost", port, CLIENT) as stream, anyio.create_task_group() as group:
                group.start_soon(stream.send, bytes(20_000_000))
                await anyio.sleep(0.05)
                await read_exactly(stream, requests * 20_000)

    run(body)


# ---- the listener ------------------------------------------------------------------------------------------------


class Flaky:
    """A listening socket whose accept fails as told, and then works."""

    def __init__(self, sock: socket.socket, codes: list[int]) -> None:
        self._socket = sock
        self._codes = codes
        self.calls = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.calls += 1
        if self._codes:
            raise OSError(self._codes.pop(0), "as told")
        return self._socket.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._socket, name)


def test_listener_survives_what_accepting_can_meet(run: Callable[..., None]) -> None:
    async def body() -> None:
        async with await aio.listen("127.0.0.1", 0, SERVER) as listener:
            flaky = Flaky(listener._socket, [errno.EMFILE, errno.ECONNABORTED, errno.EMFILE])
            listener._socket = flaky  # type: ignore[assignment]
            with socket.create_connection(listener.address):
                started = anyio.current_time()
                await (await listener.accept()).abort()
            assert anyio.current_time() - started > 0.15
            assert flaky.calls <= 5
            flaky._codes.append(errno.EINVAL)
            with pytest.raises(OSError, match="as told"):
                await listener.accept()

    run(body)


def test_listener_close_ends_serving(run: Callable[..., None]) -> None:
    async def body() -> None:
        async with anyio.create_task_group() as group:
            listener = await aio.listen("127.0.0.1", 0, SERVER)
            group.start_soon(listener.serve, echo)
            await anyio.sleep(0.02)
            await listener.aclose()
        with pytest.raises(anyio.ClosedResourceError):
            await listener.accept()
        await listener.aclose()

    run(body)


def test_serve_one_slow_client_keeps_nobody_waiting(run: Callable[..., None]) -> None:
    async def body() -> None:
        async with serving() as (port, _errors):
            with socket.create_connection(("127.0.0.1", port)), anyio.fail_after(2):
                async with await aio.connect("localhost", port, CLIENT) as stream:
                    await stream.send(b"quick")
                    assert await stream.receive() == b"quick"

    run(body)


def test_serve_handlers_own_error_is_not_swallowed(run: Callable[..., None]) -> None:
    async def fail(_stream: aio.Stream) -> None:
        raise ValueError("in the handler")

    async def body() -> None:
        listener = await aio.listen("127.0.0.1", 0, SERVER)
        async with listener:
            with pytest.raises(BaseExceptionGroup) as caught:
                async with anyio.create_task_group() as group:
                    group.start_soon(listener.serve, fail)
                    stream = await aio.connect("localhost", listener.address[1], CLIENT)
                    async with stream:
                        await stream.receive()
            assert caught.group_contains(ValueError)

    run(body)
