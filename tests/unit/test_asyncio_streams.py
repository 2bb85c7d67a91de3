"""pellucid.asyncio, what works: streams and protocols in both directions, on asyncio's loop and on uvloop's."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.explain.recorder import Recorder
from pellucid.trace import HandshakeCompleted, Role, TcpConnected
from tests.support.loops import (
    AUTHORITY,
    CREDENTIAL,
    both_loops,
    client_config,
    closed,
    connect,
    echo,
    run_on,
    server_config,
    serving,
)

BULK = bytes(range(256)) * 20_000  # 5 MB


@both_loops
def test_streams_carry_small_and_large_both_ways_and_close_cleanly(loop: str) -> None:
    async def main() -> None:
        async with serving(echo) as port:
            reader, writer = await connect(port)
            for size in (1, 100, 12_288, 12_289, 16_384, 16_385, 200_000):
                writer.write(BULK[:size])
                assert await reader.readexactly(size) == BULK[:size]

            async def send() -> None:
                for at in range(0, len(BULK), 300_000):
                    writer.write(bytearray(BULK[at : at + 300_000]))
                    await writer.drain()

            sending = asyncio.create_task(send())
            assert await reader.readexactly(len(BULK)) == BULK
            await sending
            writer.writelines([b"a", b"b", memoryview(b"c")])
            assert await reader.readexactly(3) == b"abc"
            await closed(writer)

    run_on(loop, main)


@both_loops
@pytest.mark.rfc("9846 §6.1", "close_notify closes one direction; the other goes on")
def test_write_eof_ends_one_direction_and_reading_goes_on(loop: str) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read())).encode())

    async def main() -> None:
        async with serving(count) as port:
            reader, writer = await connect(port)
            assert writer.can_write_eof()
            writer.write(BULK)
            writer.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                writer.write(b"more")
            assert await reader.read() == str(len(BULK)).encode()
            await closed(writer)

    run_on(loop, main)


@both_loops
def test_transport_knows_what_asyncios_does_and_what_ours_know(loop: str) -> None:
    async def main() -> None:
        there: list[Any] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there.append(writer.get_extra_info("ssl_object"))
            await echo(reader, writer)

        alpn = {"alpn": ("http/1.1",)}
        async with serving(handler, server_config(**alpn)) as port:
            reader, writer = await connect(port, client_config(**alpn))
            writer.write(b"!")
            await reader.readexactly(1)
            tls = writer.get_extra_info("ssl_object")
            assert tls.version() == "TLSv1.3" == writer.get_extra_info("cipher")[1]
            assert tls.selected_alpn_protocol() == "http/1.1" == tls.negotiated.alpn
            assert writer.get_extra_info("sslcontext") and not tls.server_side and tls.handshake_complete
            assert writer.get_extra_info("peercert") == tls.getpeercert() != {}
            assert tls.getpeercert(True) == tls.peer.chain[0] and tls.report.accepted
            assert tls.get_verified_chain() == list(tls.peer.chain)
            assert tls.session_reused is False and tls.server_hostname == "localhost"
            assert writer.get_extra_info("peername") == ("127.0.0.1", port)
            assert writer.get_extra_info("socket").getsockname() == writer.get_extra_info("sockname")
            assert writer.get_extra_info("nothing", 3) == 3
            assert tls.get_channel_binding("tls-exporter") == there[0].get_channel_binding("tls-exporter")
            assert there[0].server_side and there[0].getpeercert() is None and there[0].early_bytes == 0
            assert tls.group() == "X25519MLKEM768" and tls.server_sigalg() and tls.client_sigalg() is None
            assert "open" in repr(writer.transport)
            await closed(writer)

    run_on(loop, main)


@both_loops
def test_every_fact_of_a_transport_can_be_read(loop: str) -> None:
    """At either end, before and after the client was asked for its certificate."""
    client = client_config(credentials=(CREDENTIAL,), post_handshake_auth=True)
    server = server_config(client_trust=AUTHORITY.trust)

    def read_all(tls: Any) -> None:
        for name in dir(tls):
            if not name.startswith("_") and name != "verify_client_post_handshake":
                found = getattr(tls, name)
                if callable(found):
                    found()

    async def main() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tls = writer.get_extra_info("ssl_object")
            read_all(tls)
            assert tls.get_unverified_chain() == [] and tls.session is None
            tls.verify_client_post_handshake()
            writer.write(await reader.readexactly(1))
            while tls.peer is None:
                await asyncio.sleep(0.001)
            read_all(tls)
            assert tls.get_unverified_chain() == list(CREDENTIAL.chain)
            writer.write(await reader.readexactly(1))

        async with serving(handler, server) as port:
            reader, writer = await connect(port, client)
            tls = writer.get_extra_info("ssl_object")
            for _ in range(2):
                read_all(tls)
                assert tls.get_unverified_chain() == list(CREDENTIAL.chain) and tls.session is None
                writer.write(b"!")
                assert await reader.readexactly(1) == b"!"
            await closed(writer)

    run_on(loop, main)


class Collector(asyncio.BufferedProtocol):
    """A user's protocol that brings its own, small buffer."""

    def __init__(self) -> None:
        self.buffer = bytearray(1000)
        self.got = bytearray()
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.got += self.buffer[:nbytes]

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


@both_loops
def test_buffered_protocol_gets_all_of_it_in_its_own_buffer(loop: str) -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BULK)

    async def main() -> None:
        async with serving(send) as port:
            _, protocol = await pellucid.asyncio.create_connection(
                Collector, "127.0.0.1", port, client_config(), server_hostname="localhost"
            )
            assert await protocol.ended is None
            assert protocol.got == BULK
            assert protocol.transport.is_closing() and not protocol.transport.is_reading()

    run_on(loop, main)


class Slow(asyncio.Protocol):
    """Pauses reading at each piece, and writing when it is told to."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.most_at_once = 0
        self.paused = 0
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport.is_reading()
        self.got += data
        self.transport.pause_reading()
        self.transport.pause_reading()
        asyncio.get_running_loop().call_later(0.001, self.transport.resume_reading)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


@both_loops
def test_paused_reading_delivers_nothing_and_loses_nothing(loop: str) -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(BULK), 100_000):
            writer.write(BULK[at : at + 100_000])
            await writer.drain()

    async def main() -> None:
        async with serving(send) as port:
            _, slow = await pellucid.asyncio.create_connection(
                Slow, "127.0.0.1", port, client_config(), server_hostname="localhost"
            )
            assert await slow.ended is None
            assert slow.got == BULK

    run_on(loop, main)


class Stopping(asyncio.Protocol):
    """Does something with what comes first, and keeps all that comes."""

    transport: Any

    def __init__(self, act: Callable[[Any], None]) -> None:
        self.act: Callable[[Any], None] | None = act
        self.got = bytearray()
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        act, self.act = self.act, None
        if act is not None:
            act(self.transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.ended.set_result(exc)


@both_loops
@pytest.mark.parametrize("how", ["close", "pause_reading", "write_eof"])
def test_bulk_data_stops_where_its_protocol_says(loop: str, how: str) -> None:
    """Also between two pieces that one read brought."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BULK[: 2**18])
        await reader.read()

    async def main() -> None:
        async with serving(send) as port:
            transport, end = await pellucid.asyncio.create_connection(
                lambda: Stopping(lambda transport: getattr(transport, how)()),
                "127.0.0.1",
                port,
                client_config(),
                server_hostname="localhost",
            )
            while end.act is not None:
                await asyncio.sleep(0)
            first = bytes(end.got)
            assert 0 < len(first) < 2**18 and BULK.startswith(first)
            if how == "pause_reading":
                await asyncio.sleep(0.05)
                assert end.got == first
                transport.resume_reading()
            if how in {"pause_reading", "write_eof"}:
                while len(end.got) < 2**18:
                    await asyncio.sleep(0.001)
                assert end.got == BULK[: 2**18]
                transport.close()
                first = bytes(end.got)
            assert await end.ended is None
            assert end.got == first

    run_on(loop, main)


@both_loops
def test_protocol_that_raises_in_the_middle_of_bulk_data_gets_no_more(loop: str) -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BULK[: 2**18])
        with pytest.raises(pellucid.AlertReceived):
            await reader.read()

    def fail(transport: Any) -> None:
        raise RuntimeError("of the application")

    async def main() -> None:
        told: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        async with serving(send) as port:
            _, end = await pellucid.asyncio.create_connection(
                lambda: Stopping(fail), "127.0.0.1", port, client_config(), server_hostname="localhost"
            )
            assert isinstance(await end.ended, RuntimeError)
            assert len(end.got) < 2**18
        assert told == ["of the application"]

    run_on(loop, main)


@both_loops
def test_connection_that_is_fed_inside_another_leaves_what_that_has_not_opened(loop: str) -> None:
    """All connections of a loop are read into one buffer, which the outer one is not done with yet."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BULK)
        await reader.read()

    async def main() -> None:
        async with serving(send) as port, serving(echo) as other:
            inner, _ = await pellucid.asyncio.create_connection(
                asyncio.Protocol, "127.0.0.1", other, client_config(), server_hostname="localhost"
            )

            def scribble(transport: Any) -> None:
                room = inner._wire.get_buffer(-1)
                room[:] = bytes(len(room))
                transport.get_protocol().act = scribble

            transport, end = await pellucid.asyncio.create_connection(
                lambda: Stopping(scribble), "127.0.0.1", port, client_config(), server_hostname="localhost"
            )
            while len(end.got) < len(BULK) and not end.ended.done():
                await asyncio.sleep(0.001)
            assert end.got == BULK
            transport.close()
            inner.close()
            assert await end.ended is None

    run_on(loop, main)


class Writer(asyncio.Protocol):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


@both_loops
def test_peer_that_reads_nothing_pauses_the_writer_and_little_is_sealed_ahead(loop: str) -> None:
    async def main() -> None:
        go = asyncio.Event()

        async def sleepy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await go.wait()
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len(await reader.read()) == 200 * 100_000

        async with serving(sleepy, limit=2**24) as port:
            transport, writer = await pellucid.asyncio.create_connection(
                Writer, "127.0.0.1", port, client_config(), server_hostname="localhost"
            )
            transport.set_write_buffer_limits(high=50_000, low=10_000)
            assert transport.get_write_buffer_limits() == (10_000, 50_000)
            for _ in range(200):
                transport.write(bytes(100_000))
                await asyncio.sleep(0)
            assert writer.calls == ["pause"]
            assert transport.get_write_buffer_size() > 50_000
            assert transport._wire.lower.get_write_buffer_size() < 130_000
            go.set()
            while writer.calls == ["pause"]:
                await asyncio.sleep(0.001)
            assert writer.calls == ["pause", "resume"]
            with pytest.raises(ValueError, match="high"):
                transport.set_write_buffer_limits(high=1, low=2)
            transport.close()

    run_on(loop, main)


@both_loops
def test_protocol_may_be_changed_on_the_way(loop: str) -> None:
    async def main() -> None:
        async with serving(echo) as port:
            transport, first = await pellucid.asyncio.create_connection(
                Slow, "127.0.0.1", port, client_config(), server_hostname="localhost"
            )
            assert transport.get_protocol() is first
            second = Collector()
            transport.set_protocol(second)
            transport.write(b"hello")
            while second.got != b"hello":
                await asyncio.sleep(0.001)
            assert not first.got
            transport.close()
            assert await second.ended is None

    run_on(loop, main)


@both_loops
def test_sessions_resume_and_early_data_comes_marked(loop: str) -> None:
    async def main() -> None:
        seen: list[tuple[int, bytes]] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tls = writer.get_extra_info("ssl_object")
            data = await reader.readexactly(5)
            seen.append((tls.early_bytes, data))
            writer.write(b"answer")
            await reader.read()

        config = client_config()
        async with serving(handler, server_config(max_early_data=1000)) as port:
            for early in (b"", b"early", b"much " * 300):
                reader, writer = await connect(port, config, early_data=early)
                tls = writer.get_extra_info("ssl_object")
                if tls.early_data is not pellucid.EarlyDataOutcome.ACCEPTED:
                    writer.write(b"late!")
                assert await reader.readexactly(6) == b"answer"
                assert tls.session_reused is bool(early)
                if len(early) > 1000:
                    assert tls.early_data is pellucid.EarlyDataOutcome.TOO_LONG
                await closed(writer)
        assert seen == [(0, b"late!"), (5, b"early"), (0, b"late!")]

    run_on(loop, main)


@both_loops
def test_observers_see_the_transport_and_the_handshake(loop: str) -> None:
    async def main() -> None:
        here, there = Recorder(), Recorder()
        async with serving(echo, trace=lambda: there) as port:
            _, writer = await connect(port, trace=here)
            assert writer.get_extra_info("ssl_object").trace is here
            await closed(writer)
        for recorder, role in ((here, Role.CLIENT), (there, Role.SERVER)):
            events = list(recorder.events)
            assert isinstance(events[0], TcpConnected) and events[0].role is role
            assert any(isinstance(event, HandshakeCompleted) for event in events)

    run_on(loop, main)


@both_loops
def test_keys_change_and_a_client_is_asked_who_it_is_on_the_way(loop: str) -> None:
    async def main() -> None:
        names: list[object] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            transport: Any = writer.transport
            transport.request_client_certificate()
            transport.key_update(request_peer=True)
            writer.write(await reader.readexactly(4))
            names.append(writer.get_extra_info("peercert"))
            await reader.read()

        server = server_config(client_trust=AUTHORITY.trust)
        person = AUTHORITY.issue("somebody")
        shown = pellucid.Credential.from_pem(person.chain_pem, person.key_pem)
        async with serving(handler, server) as port:
            reader, writer = await connect(port, client_config(credentials=(shown,), post_handshake_auth=True))
            await asyncio.sleep(0.05)
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
            await closed(writer)
        assert names and names[0]

    run_on(loop, main)


class Changing:
    """A source of configurations."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def current(self) -> pellucid.ServerConfig:
        self.asked += 1
        return server_config(alpn=(f"p{self.asked}",))


@both_loops
def test_server_asks_its_source_once_for_each_connection(loop: str) -> None:
    async def main() -> None:
        source = Changing()
        async with serving(echo, source) as port:
            begun = source.asked
            for number in (1, 2):
                expected = f"p{begun + number}"
                _, writer = await connect(port, client_config(alpn=(expected,)))
                assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == expected
                await closed(writer)
            assert source.asked == begun + 2

    run_on(loop, main)


@both_loops
@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
def test_unix_sockets_carry_tls_too(loop: str, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "s")
        done = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await echo(reader, writer)
            await closed(writer)
            done.set()

        server = await pellucid.asyncio.start_unix_server(handler, path, server_config())
        reader, writer = await pellucid.asyncio.open_unix_connection(path, client_config(), server_hostname="localhost")
        writer.write(b"over a path")
        assert await reader.readexactly(11) == b"over a path"
        await closed(writer)
        await done.wait()
        server.close()
        await server.wait_closed()
        with pytest.raises(pellucid.UsageError, match="server_name"):
            await pellucid.asyncio.open_unix_connection(path, client_config())

    run_on(loop, main)


@both_loops
def test_async_resolver_and_signer_are_awaited_while_others_go_on(loop: str) -> None:
    async def main() -> None:
        wanted = asyncio.Event()
        asked: list[str] = []

        class Signer:
            schemes = CREDENTIAL.signer.schemes

            async def sign(self, scheme: int, data: bytes) -> Any:
                await asyncio.sleep(0.001)
                return CREDENTIAL.signer.sign(scheme, data)

        async def resolve(hello: pellucid.config.ClientHelloInfo) -> Any:
            asked.append(hello.server_name)
            if len(asked) == 1:
                await wanted.wait()
            return pellucid.Credential(chain=CREDENTIAL.chain, signer=Signer())

        async with serving(echo, pellucid.ServerConfig(credential_resolver=resolve)) as port:
            waiting = asyncio.create_task(connect(port))
            while not asked:
                await asyncio.sleep(0.001)
            _, second = await connect(port)
            assert not waiting.done()
            wanted.set()
            _, first = await waiting
            await closed(first)
            await closed(second)
        assert asked == ["localhost", "localhost"]

    run_on(loop, main)


@both_loops
def test_a_used_idle_connection_holds_no_buffer(loop: str) -> None:
    async def main() -> None:
        async with serving(echo) as port:
            writers = []
            for _ in range(3):
                reader, writer = await connect(port)
                writer.write(os.urandom(200_000))
                await reader.readexactly(200_000)
                writers.append(writer)
            wires = [writer.transport._wire for writer in writers]  # type: ignore[attr-defined]
            assert len({id(wire._buffer) for wire in wires}) == 1
            for wire in wires:
                assert not wire._queue and not wire.connection._incoming and not wire.connection._events
            for writer in writers:
                await closed(writer)

    run_on(loop, main)
