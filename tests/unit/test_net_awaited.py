"""Async answers through streams: awaited by the async ones, on asyncio and trio, and refused by the blocking ones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import pellucid.asyncio
from pellucid import PENDING, Credential, InternalError, SSLContext, UsageError, aio
from pellucid.config import ClientConfig, ServerConfig
from pellucid.errors import AlertReceived
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.net.listener import listen
from pellucid.net.operations import DeadlineExceeded, Pause
from pellucid.net.sync import connect
from pellucid.registry import AlertDescription
from pellucid.verify.webpki import WebPKIVerifier
from tests.support.pair import authority, client_config, credential, server_config
from tests.unit.test_net_aio import run, serving
from tests.unit.test_net_peers import AUTHORITY, CLIENT, CREDENTIAL
from tests.unit.test_ssl_context import Wire

__all__ = ["run"]

Run = Callable[..., None]


def resolving(resolver: Any, **changes: Any) -> ServerConfig:
    return ServerConfig(credential_resolver=resolver, **changes)


class Signer:
    schemes = CREDENTIAL.signer.schemes

    async def sign(self, scheme: int, data: bytes) -> Any:
        await anyio.sleep(0.001)
        return CREDENTIAL.signer.sign(scheme, data)


class Verifier:
    def __init__(self) -> None:
        self.real = WebPKIVerifier(AUTHORITY.trust)
        self.authorities = self.real.authorities

    async def verify(self, request: Any) -> Any:
        await anyio.sleep(0.001)
        return self.real.verify(request)


async def soon(_: object) -> Credential:
    await anyio.sleep(0.001)
    return Credential(chain=CREDENTIAL.chain, signer=Signer())


def test_async_streams_await_resolver_signer_and_verifier(run: Run) -> None:
    async def body() -> None:
        client = ClientConfig(verifier=Verifier())
        async with (
            serving(config=resolving(soon)) as (port, errors),
            await aio.connect("localhost", port, client) as stream,
        ):
            await stream.send(b"awaited")
            assert await stream.receive() == b"awaited"
        assert not errors

    run(body)


@pytest.mark.parametrize("error", [ZeroDivisionError("no"), TimeoutError("no"), ConnectionResetError("no")])
def test_async_stream_whose_answer_raises_ends_with_internal_error(run: Run, error: Exception) -> None:
    async def broken(_: object) -> Credential:
        raise error

    async def body() -> None:
        async with serving(config=resolving(broken)) as (port, errors):
            with anyio.fail_after(5), pytest.raises(AlertReceived) as told:
                await aio.connect("localhost", port, CLIENT)
            assert told.value.description == AlertDescription.INTERNAL_ERROR
            while not errors:
                await anyio.sleep(0.001)
            assert isinstance(errors[0], InternalError)
            assert errors[0].__cause__ is error

    run(body)


def test_native_connection_whose_answer_is_cancelled_by_others_ends_at_once() -> None:
    """A key service's client may cancel its own request: nobody would answer, until the handshake's deadline."""

    async def given_up(_: object) -> Credential:
        raise asyncio.CancelledError

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody came in")

    async def body() -> None:
        server = await pellucid.asyncio.start_server(handle, "127.0.0.1", 0, resolving(given_up))
        async with server, asyncio.timeout(5):
            with pytest.raises(AlertReceived) as told:
                port = server.sockets[0].getsockname()[1]
                await pellucid.asyncio.open_connection("127.0.0.1", port, CLIENT, server_hostname="localhost")
            assert told.value.description == AlertDescription.INTERNAL_ERROR

    asyncio.run(body())


@pytest.mark.parametrize("pending", [False, True])
def test_answer_that_is_cancelled_by_others_ends_its_connection_and_no_listener(pending: bool) -> None:
    """As by a key service's client that is closed: it is not the task of the listener that is to end."""
    asked: list[object] = []

    async def given_up(_: object) -> Credential:
        asked.append(None)
        if len(asked) == 1:
            raise asyncio.CancelledError
        return CREDENTIAL

    async def body() -> None:
        config = resolving((lambda _: PENDING) if pending else given_up)
        async with serving(config=config, answer=given_up) as (port, errors):
            with anyio.fail_after(5), pytest.raises(AlertReceived) as told:
                await aio.connect("localhost", port, CLIENT)
            assert told.value.description == AlertDescription.INTERNAL_ERROR
            async with await aio.connect("localhost", port, CLIENT) as stream:
                await stream.send(b"still there")
                assert await stream.receive() == b"still there"
            assert [type(error) for error in errors] == [InternalError]

    asyncio.run(body())


def test_async_stream_is_cancelled_while_it_awaits_an_answer(run: Run) -> None:
    async def body() -> None:
        ended = anyio.Event()
        asked = anyio.Event()

        async def never(_: object) -> Credential:
            asked.set()
            try:
                await anyio.sleep_forever()
            finally:
                ended.set()
            raise AssertionError

        async with await aio.listen("127.0.0.1", 0, resolving(never)) as listener, anyio.create_task_group() as group:

            async def come() -> None:
                with pytest.raises(AlertReceived):
                    await aio.connect("localhost", listener.address[1], CLIENT)

            group.start_soon(come)
            stream = await listener.accept()
            with anyio.CancelScope() as scope:

                async def shake() -> None:
                    await asked.wait()
                    scope.cancel()

                group.start_soon(shake)
                async with stream:
                    await stream.do_handshake()
            assert scope.cancelled_caught
            with anyio.fail_after(1):
                await ended.wait()

    run(body)


def test_async_stream_that_waits_too_long_for_an_answer_exceeds_its_deadline(run: Run) -> None:
    async def never(_: object) -> Credential:
        await anyio.sleep_forever()
        raise AssertionError

    async def body() -> None:
        async with serving(config=resolving(never), handshake_timeout=0.1) as (port, errors):
            with pytest.raises(AlertReceived):
                await aio.connect("localhost", port, CLIENT)
            while not errors:
                await anyio.sleep(0.001)
            assert isinstance(errors[0], DeadlineExceeded)

    run(body)


def test_async_stream_asks_again_what_a_cancelled_reader_was_waiting_for(run: Run) -> None:
    tries = 0

    async def resolver(_: object) -> Credential:
        nonlocal tries
        tries += 1
        if tries == 1:
            await anyio.sleep_forever()
        return credential("p256", "client.test")

    server = server_config(credentials=(credential("p256", "localhost"),), client_trust=authority().trust)
    client = client_config(post_handshake_auth=True, credential_resolver=resolver)

    async def handler(stream: aio.Stream) -> None:
        await stream.request_client_certificate()
        await stream.receive()
        await stream.send(b"read")
        await stream.receive()
        await stream.send(b"nobody" if stream.peer is None else stream.peer.leaf.der)

    async def body() -> None:
        async with (
            serving(handler, config=server) as (port, errors),
            await aio.connect("localhost", port, client) as stream,
        ):
            with anyio.move_on_after(0.1):
                await stream.receive()
            assert tries == 1
            await stream.send(b"?")
            assert await stream.receive() == b"read"
            await stream.send(b"?")
            assert await stream.receive() == credential("p256", "client.test").chain[0]
        assert not errors
        assert tries == 2

    run(body)


def test_async_stream_whose_answer_after_the_handshake_raises_ends_and_tells_the_peer(run: Run) -> None:
    async def resolver(_: object) -> Credential:
        raise OSError("the key store is away")

    server = server_config(credentials=(credential("p256", "localhost"),), client_trust=authority().trust)
    client = client_config(post_handshake_auth=True, credential_resolver=resolver)

    async def handler(stream: aio.Stream) -> None:
        await stream.request_client_certificate()
        await stream.receive()

    async def body() -> None:
        async with serving(handler, config=server) as (port, errors):
            with pytest.raises(InternalError):
                async with await aio.connect("localhost", port, client) as stream:
                    await stream.receive()
            while not errors:
                await anyio.sleep(0.001)
            assert isinstance(errors[0], AlertReceived)

    run(body)


# ---- what blocks -----------------------------------------------------------------------------------------------------


def served(config: Any, **options: Any) -> tuple[Any, list[Exception], threading.Thread]:
    errors: list[Exception] = []
    found = listen("127.0.0.1", 0, config, **options)
    thread = threading.Thread(
        target=found.serve,
        args=(lambda stream: stream.sendall(b"hello"),),
        kwargs={"on_error": lambda _, error: errors.append(error)},
        daemon=True,
    )
    thread.start()
    return found, errors, thread


def test_blocking_stream_refuses_what_must_be_awaited_and_says_what_does_await() -> None:
    found, errors, thread = served(resolving(soon))
    with found:
        with pytest.raises(AlertReceived) as told:
            connect("localhost", found.address[1], CLIENT)
        assert told.value.description == AlertDescription.INTERNAL_ERROR
    thread.join(10)
    until = time.monotonic() + 10
    while not errors and time.monotonic() < until:
        time.sleep(0.001)
    assert isinstance(errors[0], UsageError)
    assert "pellucid.aio" in str(errors[0])


def test_blocking_stream_with_an_answer_may_run_what_must_be_awaited() -> None:
    def answer(pause: Pause) -> object:
        async def wait() -> object:
            assert pause.answer is not None
            return await pause.answer

        return asyncio.run(wait())

    found, errors, thread = served(resolving(soon), answer=answer)
    with found, connect("localhost", found.address[1], CLIENT) as stream:
        assert stream.recv() == b"hello"
    thread.join(10)
    assert not errors


def test_ssl_shaped_context_refuses_what_must_be_awaited_and_says_what_does_await() -> None:
    wire = Wire(SSLContext(CLIENT), SSLContext(resolving(soon)))
    with pytest.raises(AlertReceived):
        wire.shake()
    with pytest.raises(ConfigurationError, match=r"pellucid\.asyncio"):
        wire.server.do_handshake()


# ---- whoever runs a server sees what this end did wrong --------------------------------------------------------------


def broken(_: object) -> Credential:
    raise OSError("the vault is shut")


def own_faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "pellucid.server" and one.levelname == "ERROR"]


def test_blocking_server_logs_a_resolver_that_raises_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with listen("127.0.0.1", 0, resolving(broken)) as listener:
        thread = threading.Thread(target=listener.serve, args=(lambda stream: None,), daemon=True)
        thread.start()
        for _ in range(2):
            with pytest.raises(AlertReceived, match="internal_error"):
                connect("127.0.0.1", listener.address[1], CLIENT, server_name="localhost")
        deadline = time.monotonic() + 10
        while len(own_faults(caplog)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    thread.join(10)
    assert len(own_faults(caplog)) == 2
    assert "the vault is shut" in caplog.text


def test_native_server_logs_a_resolver_that_raises_and_none_of_its_clients_faults(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        server = await pellucid.asyncio.start_server(lambda *_: None, "127.0.0.1", 0, resolving(broken))
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(AlertReceived, match="internal_error"):
            await pellucid.asyncio.open_connection("127.0.0.1", port, CLIENT, server_hostname="localhost")
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        writer.close()
        await asyncio.sleep(0.1)
        server.close()
        await server.wait_closed()

    asyncio.run(main())
    assert len(own_faults(caplog)) == 1
    assert "the vault is shut" in caplog.text
