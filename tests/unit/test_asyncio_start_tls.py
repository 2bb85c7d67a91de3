"""STARTTLS over pellucid.asyncio: what came in plaintext stays there, TLS in TLS, and wrong ways to ask."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest

import pellucid
from tests.support.loops import (
    AUTHORITY,
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


class Mail:
    """A server that takes STARTTLS. extra: what it sends behind its answer, in the same segment."""

    def __init__(self, extra: bytes = b"", **options: Any) -> None:
        self.extra = extra
        self.options = options
        self.errors: list[BaseException] = []
        self.tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> Any:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        await asyncio.gather(*self.tasks)

    def _connected(self, *ends: Any) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(self._handle(*ends)))

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\r\n"
        writer.write(b"220 go\r\n" + self.extra)
        try:
            reader, writer = await pellucid.asyncio.start_tls_streams(
                reader, writer, server_config(), server_side=True, **self.options
            )
            await echo(reader, writer)
            await closed(writer)
        except OSError as error:
            self.errors.append(error)


async def asked(port: int, command: bytes = b"STARTTLS\r\n") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(command)
    assert await reader.readline() == b"220 go\r\n"
    return reader, writer


@both_loops
def test_plain_streams_become_tls_at_both_ends(loop: str) -> None:
    async def main() -> None:
        mail = Mail()
        async with mail.listening() as port:
            plain_reader, plain_writer = await asked(port)
            reader, writer = await pellucid.asyncio.start_tls_streams(
                plain_reader, plain_writer, client_config(), server_hostname="localhost"
            )
            del plain_reader, plain_writer
            data = bytes(300_000)
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            await closed(writer)
        assert not mail.errors

    run_on(loop, main)


@both_loops
def test_what_the_server_said_behind_its_answer_is_refused(loop: str) -> None:
    """STARTTLS injection, from the server's side: the client must not take it for what came under TLS."""

    async def main() -> None:
        files = 0
        mail = Mail(extra=b"250 injected\r\n")
        async with mail.listening() as port:
            for take_buffered in (False, True):
                reader, writer = await asked(port)
                with pytest.raises(pellucid.UsageError, match="plaintext"):
                    await pellucid.asyncio.start_tls_streams(
                        reader, writer, client_config(), server_hostname="localhost", take_buffered=take_buffered
                    )
                assert writer.transport.is_closing()
                await asyncio.sleep(0.05)
                files = files or open_files()
                await assert_closed(files)
        assert len(mail.errors) == 2

    run_on(loop, main)


@both_loops
def test_what_waits_in_the_socket_is_refused_too(loop: str) -> None:
    class Quiet(asyncio.Protocol):
        def __init__(self) -> None:
            self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def data_received(self, data: bytes) -> None:
            self.answered.set_result(data)

    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 go\r\n")
            await asyncio.sleep(0.05)
            writer.write(b"injected")
            with contextlib.suppress(OSError):
                await reader.read()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport, quiet = await asyncio.get_running_loop().create_connection(Quiet, "127.0.0.1", port)
        assert await quiet.answered == b"220 go\r\n"
        transport.pause_reading()
        await asyncio.sleep(0.15)
        with pytest.raises(pellucid.UsageError, match="plaintext"):
            await pellucid.asyncio.start_tls(
                transport, asyncio.Protocol(), client_config(), server_hostname="localhost"
            )
        assert transport.is_closing()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)

    run_on(loop, main)


@both_loops
def test_what_the_client_said_behind_its_command_is_refused_unless_asked_for(loop: str) -> None:
    """STARTTLS injection, from the client's side; and a client that did not wait, where the server allows that."""

    async def main() -> None:
        mail = Mail()
        async with mail.listening() as port:
            reader, writer = await asked(port, b"STARTTLS\r\nMAIL FROM:<injected>\r\n")
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
            writer.close()
        assert [type(error) for error in mail.errors] == [pellucid.UsageError]

        mail = Mail(take_buffered=True)
        connection = pellucid.Connection.client(client_config(), "localhost")
        async with mail.listening() as port:
            reader, writer = await asked(port, b"STARTTLS\r\n" + connection.data_to_send())
            while not connection.handshake_complete:
                connection.receive_data(await reader.read(65536))
                while connection.next_event() is not pellucid.NEED_DATA:
                    continue
            connection.send_data(b"hi")
            connection.close()
            writer.write(connection.data_to_send())
            await reader.read()
            await closed(writer)
        assert not mail.errors

    run_on(loop, main)


@both_loops
def test_tls_in_tls(loop: str) -> None:
    async def inner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader, writer = await pellucid.asyncio.start_tls_streams(
            reader, writer, server_config(), server_side=True, take_buffered=True
        )
        await echo(reader, writer)
        await closed(writer)

    async def main() -> None:
        async with serving(inner) as port:
            reader, writer = await connect(port)
            reader, writer = await pellucid.asyncio.start_tls_streams(
                reader, writer, client_config(), server_hostname="localhost"
            )
            data = bytes(400_000)
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            await closed(writer)

    run_on(loop, main)


@both_loops
@pytest.mark.parametrize("size", [5, 400_000])
@pytest.mark.parametrize("made", ["ours", "openssl"])
def test_tls_in_the_event_loops_own_tls(
    loop: str, made: str, size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its transports say that they are full when they reach the mark, where others say so above it."""
    server: Any = pellucid.SSLContext(server_config())
    client: Any = pellucid.SSLContext(client_config())
    if made == "openssl":
        leaf = AUTHORITY.issue("localhost")
        (tmp_path / "pair.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(tmp_path / "pair.pem")
        client = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
    tasks: list[asyncio.Task[None]] = []

    async def inner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader, writer = await pellucid.asyncio.start_tls_streams(
            reader, writer, server_config(), server_side=True, take_buffered=True
        )
        await echo(reader, writer)
        await closed(writer)

    async def main() -> None:
        listening = await asyncio.start_server(
            lambda *ends: tasks.append(asyncio.ensure_future(inner(*ends))), "127.0.0.1", 0, ssl=server
        )
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
        reader, writer = await pellucid.asyncio.start_tls_streams(
            reader, writer, client_config(), server_hostname="localhost"
        )
        data = bytes(size)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        await closed(writer)
        await asyncio.gather(*tasks)
        listening.close()
        await listening.wait_closed()

    run_on(loop, main, 10)
    assert not caplog.records


@both_loops
def test_start_tls_cancelled_in_any_turn_leaves_nothing(loop: str) -> None:
    async def main() -> None:
        mail = Mail()
        async with mail.listening() as port:
            finished = 0
            files = open_files()
            for turns in range(30):
                reader, writer = await asked(port)
                task = asyncio.ensure_future(
                    pellucid.asyncio.start_tls_streams(reader, writer, client_config(), server_hostname="localhost")
                )
                for _ in range(turns):
                    await asyncio.sleep(0)
                if task.done():
                    finished += 1
                    await closed(task.result()[1])
                else:
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    assert writer.transport.is_closing() is (turns > 0)  # with none it never began
                    writer.transport.abort()
                await asyncio.sleep(0.005)
            assert finished
            await asyncio.sleep(0.2)
            await assert_closed(files)

    run_on(loop, main)


def test_wrong_ends_are_told_before_anything_is_sent() -> None:
    async def main() -> None:
        mail = Mail()
        async with mail.listening() as port:
            for config, options in (
                (server_config(), {"server_hostname": "localhost"}),
                (client_config(), {"server_side": True}),
                (client_config(), {}),
                (None, {"server_side": True}),
            ):
                reader, writer = await asked(port)
                with pytest.raises(pellucid.UsageError):
                    await pellucid.asyncio.start_tls_streams(reader, writer, config, **options)
                assert writer.transport.is_closing()
        with pytest.raises(TypeError, match="read and write"):
            await pellucid.asyncio.start_tls(asyncio.BaseTransport(), asyncio.Protocol(), client_config())

    run_on("asyncio", main)
