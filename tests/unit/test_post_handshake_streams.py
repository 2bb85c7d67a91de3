"""Authentication after the handshake through streams, blocking and async, and through the ssl-shaped interface."""

from __future__ import annotations

import dataclasses
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from pellucid import PENDING, AlertReceived, Credential, SSLContext, UsageError, aio
from pellucid.errors import PeerError
from pellucid.integrations.ssl_object import SSLObject
from pellucid.net.listener import listen
from pellucid.net.sync import Stream, connect
from pellucid.registry import AlertDescription
from tests.support.pair import authority, client_config, credential, issued, server_config
from tests.unit.test_net_sync import Served

HOST = "localhost"
SERVER = server_config(credentials=(credential("p256", HOST),), client_trust=authority().trust)
CLIENT = client_config(post_handshake_auth=True, credentials=(credential("p256", "client.test"),))
LEAF = credential("p256", "client.test").chain[0]


def greets(stream: Stream) -> None:
    """Ask for the client's certificate when it says "who", and tell whose it is from then on."""
    for data in stream:
        if data == b"who":
            stream.request_client_certificate()
        peer = stream.peer
        stream.sendall(b"nobody" if peer is None else peer.leaf.der)


def said(stream: Any, data: bytes) -> bytes:
    stream.sendall(data)
    received: bytes = stream.recv()
    return received


def test_blocking_stream_asks_and_answers_while_it_is_read() -> None:
    with Served(greets, SERVER) as served:
        with connect(HOST, served.port, CLIENT) as stream:
            assert said(stream, b"hello") == b"nobody"
            assert said(stream, b"who") == b"nobody"
            assert said(stream, b"and now") == LEAF
        assert not served.ended()


def test_blocking_stream_that_cannot_ask_says_why() -> None:
    with Served(greets, SERVER) as served:
        with connect(HOST, served.port, client_config()) as stream:
            stream.sendall(b"who")
            with pytest.raises((AlertReceived, OSError)):
                stream.recv()
        assert [type(error) for error in served.ended()] == [UsageError]
        assert "does not offer" in str(served.errors[0])


class LateSigner:
    def __init__(self) -> None:
        self.real: Any = credential("p256", "client.test").signer
        self.schemes = self.real.schemes

    def sign(self, scheme: int, data: bytes) -> Any:
        return PENDING


def late() -> Any:
    chain = credential("p256", "client.test").chain
    return dataclasses.replace(CLIENT, credentials=(Credential(chain=chain, signer=LateSigner()),))


def signed(pause: Any) -> bytes:
    signature: bytes = pause.need.signer.real.sign(pause.need.scheme, pause.need.data)
    return signature


def test_blocking_stream_has_its_pauses_answered_after_the_handshake() -> None:
    with Served(greets, SERVER) as served, connect(HOST, served.port, late(), answer=signed) as stream:
        assert said(stream, b"who") == b"nobody"
        assert said(stream, b"and now") == LEAF


def test_blocking_stream_that_was_interrupted_in_an_answer_gives_it_in_the_next_read() -> None:
    tries = 0

    def interrupted(pause: Any) -> bytes:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise KeyboardInterrupt
        return signed(pause)

    def asks(stream: Stream) -> None:
        stream.recv()
        stream.request_client_certificate()
        for _ in stream:
            stream.sendall(b"nobody" if stream.peer is None else stream.peer.leaf.der)

    with Served(asks, SERVER) as served, connect(HOST, served.port, late(), answer=interrupted) as stream:
        with pytest.raises(KeyboardInterrupt):
            said(stream, b"ask me")
        assert said(stream, b"and now") == b"nobody"
        assert tries == 2, "the read that came next answered before it waited"
        assert said(stream, b"and now") == LEAF


def test_blocking_stream_without_an_answer_ends_and_tells_the_peer() -> None:
    def broken(pause: Any) -> Any:
        raise ZeroDivisionError

    for answer, kind in ((None, UsageError), (broken, ZeroDivisionError)):
        with Served(greets, SERVER) as served:
            with connect(HOST, served.port, late(), answer=answer) as stream:
                stream.sendall(b"who")
                with pytest.raises(kind):
                    while True:
                        stream.recv()
                with pytest.raises(kind):
                    stream.recv()
                with pytest.raises(UsageError):
                    stream.sendall(b"more")
            served.listener.close()
        assert [type(error) for error in served.ended()] == [AlertReceived]
        assert served.errors[0].description == AlertDescription.INTERNAL_ERROR  # type: ignore[attr-defined]


def test_required_certificate_that_is_not_there_ends_both_ends() -> None:
    def demands(stream: Stream) -> None:
        stream.request_client_certificate(required=True)
        stream.recv()

    with Served(demands, SERVER) as served:
        with connect(HOST, served.port, dataclasses.replace(CLIENT, credentials=())) as stream:
            with pytest.raises(AlertReceived) as caught:
                stream.recv()
            assert caught.value.description == AlertDescription.CERTIFICATE_REQUIRED
        assert [isinstance(error, PeerError) for error in served.ended()] == [True]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    def on_backend(body: Callable[..., Awaitable[None]]) -> None:
        async def main() -> None:
            with anyio.fail_after(30):
                await body()

        anyio.run(main, backend=request.param)

    return on_backend


def test_async_stream_asks_and_a_cancelled_reader_leaves_the_answer_to_the_next(run: Callable[..., None]) -> None:
    tries = 0

    async def answer(pause: Any) -> bytes:
        nonlocal tries
        tries += 1
        if tries == 1:
            await anyio.sleep_forever()
        return signed(pause)

    async def handler(stream: aio.Stream) -> None:
        await stream.request_client_certificate()
        data = await stream.receive()
        assert stream.peer is None
        await stream.send(data)
        await stream.receive()
        assert stream.peer is not None
        await stream.send(stream.peer.leaf.der)

    async def body() -> None:
        failures: list[Exception] = []
        async with await aio.listen("127.0.0.1", 0, SERVER) as listener, anyio.create_task_group() as group:

            async def serve() -> None:
                await listener.serve(handler, on_error=lambda _, error: failures.append(error))

            group.start_soon(serve)
            async with await aio.connect(HOST, listener.address[1], late(), answer=answer) as stream:
                with anyio.move_on_after(0.2):
                    await stream.receive()
                assert tries == 1
                await stream.send(b"writing goes on meanwhile")
                assert await stream.receive() == b"writing goes on meanwhile"
                assert tries == 2
                await stream.send(b"?")
                assert await stream.receive() == LEAF
            group.cancel_scope.cancel()
        assert not failures

    run(body)


def test_listener_is_not_held_up_by_a_client_that_never_answers() -> None:
    """The request is out, the client reads nothing: writing and closing go on."""
    with listen("127.0.0.1", 0, SERVER) as listener:
        done: list[bool] = []

        def serve() -> None:
            with listener.accept(handshake=True, timeout=10) as stream:
                stream.request_client_certificate()
                stream.sendall(b"welcome")
                done.append(stream.peer is None)

        thread = threading.Thread(target=serve)
        thread.start()
        with connect(HOST, listener.address[1], CLIENT) as stream:
            thread.join(15)
            assert done == [True]
            assert stream.recv() == b"welcome"


# ---- shaped like ssl -------------------------------------------------------------------------------------------------


class Wire:
    """Two SSLObjects and what is between them."""

    def __init__(self, client: SSLContext, server: SSLContext) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client: SSLObject = client.wrap_bio(to_client, to_server, server_hostname=HOST)
        self.server: SSLObject = server.wrap_bio(to_server, to_client, server_side=True)
        for end in (self.client, self.server, self.client, self.server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue

    def say(self, sender: SSLObject, receiver: SSLObject, data: bytes) -> None:
        sender.write(data)
        assert receiver.read(100) == data


def contexts(
    tmp_path: Any, *, mode: ssl.VerifyMode = ssl.CERT_REQUIRED, client_has_one: bool = True
) -> tuple[SSLContext, SSLContext]:
    client, server = SSLContext(ssl.PROTOCOL_TLS_CLIENT), SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context, names in ((client, ("client.test",)), (server, (HOST,))):
        chain, key = tmp_path / f"{names[0]}.pem", tmp_path / f"{names[0]}.key"
        chain.write_bytes(issued("p256", *names).chain_pem)
        key.write_bytes(issued("p256", *names).key_pem)
        if context is server or client_has_one:
            context.load_cert_chain(chain, key)
        context.load_verify_locations(cadata=authority().root_pem.decode())
    server.verify_mode = mode
    client.post_handshake_auth = server.post_handshake_auth = True
    assert client.post_handshake_auth and server.post_handshake_auth
    return client, server


@pytest.mark.parametrize("mode", [ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL])
def test_ssl_shaped_server_asks_after_the_handshake_and_not_in_it(tmp_path: Any, mode: ssl.VerifyMode) -> None:
    wire = Wire(*contexts(tmp_path, mode=mode))
    assert wire.server.context.verify_mode is mode
    assert wire.server.getpeercert() is None
    wire.server.verify_client_post_handshake()
    wire.say(wire.server, wire.client, b"who is there?")
    wire.say(wire.client, wire.server, b"I")
    assert wire.server.getpeercert(binary_form=True) == LEAF
    assert wire.server.get_verified_chain()[0] == LEAF


def test_ssl_shaped_server_demands_a_certificate_as_its_mode_says(tmp_path: Any) -> None:
    for mode in (ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL):
        client, server = contexts(tmp_path, mode=mode, client_has_one=False)
        wire = Wire(client, server)
        wire.server.verify_client_post_handshake()
        wire.say(wire.server, wire.client, b"who is there?")
        wire.client.write(b"nobody")
        if mode is ssl.CERT_OPTIONAL:
            assert wire.server.read(100) == b"nobody"
            assert wire.server.getpeercert() is None
        else:
            with pytest.raises(ssl.SSLError, match="without a certificate"):
                wire.server.read(100)


def test_ssl_shaped_server_that_cannot_ask_raises_and_goes_on(tmp_path: Any) -> None:
    client, server = contexts(tmp_path)
    client.post_handshake_auth = False
    wire = Wire(client, server)
    with pytest.raises(ssl.SSLError, match="does not offer"):
        wire.server.verify_client_post_handshake()
    with pytest.raises(ssl.SSLError):
        wire.client.verify_client_post_handshake()
    wire.say(wire.server, wire.client, b"never mind")
    client, server = contexts(tmp_path, mode=ssl.CERT_NONE)
    wire = Wire(client, server)
    with pytest.raises(ssl.SSLError, match="verify_mode"):
        wire.server.verify_client_post_handshake()
    client, server = contexts(tmp_path)
    server.post_handshake_auth = False  # then it asks in the handshake
    wire = Wire(client, server)
    assert wire.server.getpeercert(binary_form=True) == LEAF
