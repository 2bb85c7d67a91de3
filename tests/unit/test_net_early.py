"""Early data (0-RTT) over real sockets: what reads give, what may be a replay, what becomes of it, and no resending."""

from __future__ import annotations

import functools
import queue
import socket
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from pellucid import aio
from pellucid.config import ClientConfig, ServerConfig
from pellucid.connection import Connection
from pellucid.crypto.provider import PENDING, Pending
from pellucid.errors import AlertReceived, PeerError, TLSError, UsageError
from pellucid.events import NEED_DATA, ApplicationData, FirstUseNeeded, TicketNeeded, VerificationNeeded
from pellucid.handshake.actions import EarlyDataOutcome as Outcome
from pellucid.net.operations import DeadlineExceeded, Pause
from pellucid.net.session_file import FileSessionStore
from pellucid.net.sync import Stream, connect, wrap
from pellucid.sessions import MemorySessionStore, ServerSession, StrikeRegister, TicketKeys
from pellucid.verify.report import VerificationReport
from pellucid.verify.request import VerificationRequest
from pellucid.verify.webpki import WebPKIVerifier
from tests.unit.test_net_peers import AUTHORITY, CREDENTIAL, RawPeer, raw_server, soon
from tests.unit.test_net_sync import Served

Run = Callable[..., None]
EARLY = b"GET / early"


def early_server(**changes: Any) -> ServerConfig:
    return ServerConfig(credentials=(CREDENTIAL,), **({"max_early_data": 16_384} | changes))


def new_client(**changes: Any) -> ClientConfig:
    """A client with sessions of its own."""
    return ClientConfig(trust=AUTHORITY.trust, **({"sessions": MemorySessionStore()} | changes))


def visit(port: int, config: ClientConfig) -> None:
    """Come once, and leave with tickets."""
    with connect("localhost", port, config) as stream:
        stream.timeout = 10
        assert stream.wait_for_ticket()
        assert not stream.negotiated.resumed


class Handler:
    """Reads once, answers at once, then does what the test wants. What it saw goes into a queue."""

    def __init__(self, then: Callable[[Stream], object] = lambda stream: None) -> None:
        self.seen: queue.Queue[Any] = queue.Queue()
        self.then = then

    def __call__(self, stream: Stream) -> None:
        stream.timeout = 10
        if not stream.negotiated.resumed:
            stream.recv()
            return
        data = stream.recv()
        self.seen.put((data, stream.early_bytes_read, stream.handshake_complete))
        stream.sendall(b"answer")
        self.seen.put(self.then(stream))

    def get(self) -> Any:
        return self.seen.get(timeout=10)


class HeldBack:
    """A client that has sent its hello and early data, and sends nothing more until it is told to."""

    def __init__(self, port: int, config: ClientConfig, early: bytes = EARLY) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(10)
        self.connection = Connection.client(replace(config, early_data=True), "localhost", port=port)
        self.connection.start()
        self.connection.send_early_data(early)
        self.flight = self.connection.data_to_send()
        self.socket.sendall(self.flight)

    def read(self, until: bytes = b"") -> bytes:
        """Return the server's application data, up to what ends with *until*, without answering a byte."""
        received = b""
        while not received or not received.endswith(until):
            event = self.connection.next_event()
            if isinstance(event, ApplicationData):
                received += event.data
            elif event is NEED_DATA:
                self.connection.receive_data(self.socket.recv(65536))
        return received

    def __enter__(self) -> HeldBack:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


# ---- the server's end --------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.3.10", "early data is delivered before the handshake is complete, and marked as such")
@pytest.mark.rfc("9846 §2.3", "a server answers early data before the client's Finished")
def test_server_stream_answers_early_data_before_the_handshake_is_complete() -> None:
    config, handler = new_client(), Handler()
    with Served(handler, early_server()) as served:
        visit(served.port, config)
        with HeldBack(served.port, config) as client:
            assert client.read() == b"answer"
            assert handler.get() == (EARLY, len(EARLY), False)
    assert not [error for error in served.ended() if not isinstance(error, OSError)]


def test_server_stream_without_a_session_reads_nothing_early() -> None:
    seen: queue.Queue[Any] = queue.Queue()

    def handler(stream: Stream) -> None:
        seen.put((stream.recv(), stream.early_bytes_read, stream.handshake_complete, stream.early_data))

    with Served(handler, early_server()) as served, connect("localhost", served.port, new_client()) as stream:
        stream.sendall(b"late")
        assert seen.get(timeout=10) == (b"late", 0, True, Outcome.NOT_OFFERED)


def test_server_stream_reads_never_mix_early_data_with_other() -> None:
    def rest(stream: Stream) -> Any:
        stream.wait_handshake_complete()
        more = []
        while sum(map(len, more)) < 11:
            more.append(stream.recv())
        return more, stream.early_bytes_read, stream.handshake_complete

    config, handler = new_client(), Handler(rest)
    with Served(handler, early_server()) as served:
        visit(served.port, config)
        with HeldBack(served.port, config) as client:
            assert client.read() == b"answer"
            client.connection.send_data(b"later")
            client.socket.sendall(client.connection.data_to_send())
            assert handler.get()[0] == EARLY
            client.connection.send_data(b"latest")
            client.socket.sendall(client.connection.data_to_send())
            more, early, complete = handler.get()
    assert b"".join(more) == b"laterlatest"
    assert early == len(EARLY)
    assert complete


def test_server_stream_that_waits_for_the_handshake_keeps_early_data_for_reading() -> None:
    seen: queue.Queue[Any] = queue.Queue()

    def handler(stream: Stream) -> None:
        stream.timeout = 10
        if stream.negotiated.resumed:
            stream.wait_handshake_complete()
            facts = [stream.handshake_complete, stream.early_bytes_read]
            first, second = stream.recv(4), stream.recv(100)
            third = stream.recv(100)
            seen.put([*facts, first, second, stream.early_bytes_read, third])

    config = new_client()
    with Served(handler, early_server()) as served:
        visit(served.port, config)
        with connect("localhost", served.port, config, early_data=EARLY) as stream:
            stream.sendall(b"late")
            assert seen.get(timeout=10) == [True, 0, EARLY[:4], EARLY[4:], len(EARLY), b"late"]
            assert stream.early_data is Outcome.ACCEPTED


@pytest.mark.rfc("9846 §4.5.3", "a wrong Finished ends the connection, early data or not")
def test_server_stream_raises_the_failure_of_the_handshake_after_early_data() -> None:
    def fails(stream: Stream) -> Any:
        outcome = []
        for call in (
            stream.recv,
            stream.recv,
            functools.partial(stream.sendall, b"more"),
            stream.wait_handshake_complete,
        ):
            try:
                call()
            except TLSError as error:
                outcome.append(error)
        return outcome, stream.handshake_complete

    config, handler = new_client(), Handler(fails)
    with Served(handler, early_server()) as served:
        visit(served.port, config)
        with HeldBack(served.port, config) as client:
            assert client.read() == b"answer"
            finished = bytearray(client.connection.data_to_send())
            finished[-1] ^= 1
            client.socket.sendall(finished)
            handler.get()
            errors, complete = handler.get()
    assert len(errors) == 4
    assert isinstance(errors[0], PeerError)
    assert all(error is errors[0] for error in errors[1:])
    assert not complete


@pytest.mark.rfc("9846 §4.3.10", "early data that does not open is bad_record_mac, and is not skipped")
def test_server_stream_changed_early_data_is_never_read() -> None:
    config, handler = new_client(), Handler()
    with Served(handler, early_server()) as served:
        visit(served.port, config)
        connection = Connection.client(replace(config, early_data=True), "localhost", port=served.port)
        connection.start()
        hello = connection.data_to_send()
        connection.send_early_data(EARLY)
        changed = bytearray(connection.data_to_send())
        changed[-1] ^= 1
        with socket.create_connection(("127.0.0.1", served.port)) as sock:
            sock.sendall(hello + changed)
            assert soon(lambda: len(served.errors) == 1)
    assert isinstance(served.errors[0], PeerError)
    assert handler.seen.empty()


def test_server_stream_the_deadline_of_the_handshake_holds_while_early_data_is_read() -> None:
    outcome: queue.Queue[BaseException | bytes] = queue.Queue()

    def handler(stream: Stream) -> None:
        if not stream.negotiated.resumed:
            stream.recv()
            return
        stream.recv()
        for _ in range(2):
            try:
                outcome.put(stream.recv())
            except OSError as error:
                outcome.put(error)

    config = new_client()
    with Served(handler, early_server()) as served:
        served.listener._handshake_timeout = 0.3
        visit(served.port, config)
        with HeldBack(served.port, config):
            first, second = outcome.get(timeout=10), outcome.get(timeout=10)
    assert isinstance(first, DeadlineExceeded)
    assert "the handshake" in str(first)
    assert second is first


def test_server_stream_that_closes_after_early_data_still_sends_tickets() -> None:
    config, handler = new_client(), Handler()
    with Served(handler, early_server(tickets=1)) as served:
        visit(served.port, config)
        for _ in range(2):
            with connect("localhost", served.port, config, early_data=EARLY) as stream:
                stream.timeout = 10
                assert stream.negotiated.resumed
                assert stream.early_data is Outcome.ACCEPTED
                assert stream.read_to_end() == b"answer"
                assert stream.wait_for_ticket()


def test_server_pauses_for_a_ticket_and_a_first_use_that_others_keep() -> None:
    keys, register = TicketKeys(), StrikeRegister()
    asked: list[str] = []

    class Elsewhere:
        single_use = False
        window_seconds = 10.0
        issue = staticmethod(keys.issue)

        def redeem(self, ticket: bytes, now: float) -> ServerSession | Pending | None:
            return PENDING

        def first_use(self, key: bytes, *, now: float, issued_at: float) -> bool | Pending:
            return PENDING

    def answer(pause: Pause) -> object:
        asked.append(type(pause).__name__)
        now = config.provider.now()
        if isinstance(pause, TicketNeeded):
            return keys.redeem(pause.need.ticket, now)
        assert isinstance(pause, FirstUseNeeded)
        return register.first_use(pause.need.key, now=now, issued_at=pause.need.issued_at)

    elsewhere = Elsewhere()
    config = early_server(sessions=elsewhere, replay_guard=elsewhere)
    client, handler = new_client(), Handler()
    with Served(handler, config) as served:
        served.listener._answer = answer
        visit(served.port, client)
        with connect("localhost", served.port, client, early_data=EARLY) as stream:
            assert stream.read_to_end() == b"answer"
            assert stream.early_data is Outcome.ACCEPTED
    assert asked == ["TicketNeeded", "FirstUseNeeded"]


@pytest.mark.rfc("9846 §8", "a ClientHello with early data is accepted at most once, however often it is sent")
def test_recorded_flight_replayed_a_thousand_times_is_accepted_once() -> None:
    keys, register = TicketKeys(), StrikeRegister()
    workers = [early_server(sessions=keys, replay_guard=register) for _ in range(4)]
    client, handler = new_client(), Handler()
    with Served(handler, workers[0]) as served:
        visit(served.port, client)
        with HeldBack(served.port, client) as held:
            assert held.read() == b"answer"
            flight = held.flight
        with socket.create_connection(("127.0.0.1", served.port)) as sock:
            sock.sendall(flight)
            sock.settimeout(10)
            assert sock.recv(65536)
        assert handler.get() == (EARLY, len(EARLY), False)
        handler.get()
    outcomes = []
    # A worker that was started after the ticket was made accepts nothing of before it.
    restarted = early_server(sessions=keys)
    for number in range(1000):
        server = Connection.server(restarted if number % 5 == 4 else workers[number % 5])
        server.receive_data(flight)
        assert server.data_to_send()
        outcomes.append(server.next_event())
    assert outcomes == [NEED_DATA] * 1000
    assert handler.seen.empty()


# ---- the client's end --------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.3.10", "a client does not send again by itself what was rejected as early data")
def test_client_stream_rejected_early_data_is_not_sent_again() -> None:
    keys = TicketKeys()
    got: queue.Queue[bytes] = queue.Queue()

    def handler(stream: Stream) -> None:
        got.put(b"".join(stream))

    config = new_client()
    with Served(lambda stream: None, early_server(sessions=keys)) as first:
        port = first.port
        visit(port, config)
    with Served(handler, early_server(sessions=keys, max_early_data=0)) as second:
        # Sessions are kept for a host and a port: let the second server's stand for the first's.
        sock = socket.create_connection(("127.0.0.1", second.port))
        connection = Connection.client(replace(config, early_data=True), "localhost", port=port)
        with Stream(sock, connection, early_data=EARLY) as stream:
            stream.do_handshake()
            assert stream.negotiated.resumed
            assert stream.early_data is Outcome.DECLINED
            stream.sendall(b"only this")
        assert got.get(timeout=10) == b"only this"


def test_client_stream_without_a_session_says_why_nothing_went_early() -> None:
    with Served(lambda stream: stream.sendall(stream.recv()), early_server()) as served:
        with connect("localhost", served.port, new_client(), early_data=EARLY) as stream:
            assert stream.early_data is Outcome.NO_SESSION
            stream.sendall(EARLY)
            assert stream.recv() == EARLY
        with connect("localhost", served.port, new_client()) as stream:
            assert stream.early_data is Outcome.DISABLED


@pytest.mark.rfc("9846 §4.7.1", "no more early data is sent than the ticket allows")
def test_client_stream_early_data_that_is_too_long_is_not_sent_at_all() -> None:
    config = new_client()
    handler = Handler()
    with Served(handler, early_server(max_early_data=100)) as served:
        visit(served.port, config)
        with connect("localhost", served.port, config, early_data=bytes(101)) as stream:
            assert stream.negotiated.resumed
            assert stream.early_data is Outcome.TOO_LONG
            stream.sendall(b"late")
            assert handler.get()[:2] == (b"late", 0)


def test_client_stream_whose_verifier_pauses_sends_early_data_when_it_has_answered() -> None:
    trusted = WebPKIVerifier(AUTHORITY.trust)
    asked: list[VerificationRequest] = []

    class Elsewhere:
        session_identity = b"elsewhere"
        authorities = ()

        def verify(self, request: VerificationRequest) -> VerificationReport | Pending:
            return PENDING

    def answer(pause: Pause) -> object:
        assert isinstance(pause, VerificationNeeded)
        asked.append(pause.need.request)
        return trusted.verify(pause.need.request)

    config = ClientConfig(verifier=Elsewhere(), reverify_on_resumption=True)
    handler = Handler()
    with Served(handler, early_server()) as served:
        with connect("localhost", served.port, config, answer=answer) as stream:
            stream.timeout = 10
            assert stream.wait_for_ticket()
        with connect("localhost", served.port, config, answer=answer, early_data=EARLY) as stream:
            assert stream.early_data is Outcome.ACCEPTED
            assert handler.get()[:2] == (EARLY, len(EARLY))
    assert len(asked) == 2


def test_client_stream_early_data_leaves_with_the_hello() -> None:
    config = new_client()
    with Served(lambda stream: None, early_server()) as served:
        port = served.port
        visit(port, config)
    local, remote = socket.socketpair()
    with remote:
        connection = Connection.client(replace(config, early_data=True), "localhost", port=port)
        stream = Stream(local, connection, early_data=EARLY, handshake_timeout=0.05)
        with pytest.raises(DeadlineExceeded):
            stream.do_handshake()
        stream.abort()
        received = remote.recv(65536)
    types = []
    while received:
        types.append(received[0])
        received = received[5 + int.from_bytes(received[3:5], "big") :]
    assert types[:3] == [22, 20, 23]  # ClientHello, change_cipher_spec, the early data


def test_wrap_of_a_server_takes_no_early_data() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(UsageError, match="no early data"):
        wrap(ours, early_server(), early_data=b"x")


def test_client_waiting_for_a_ticket_that_never_comes_runs_out_of_time_and_keeps_the_data() -> None:
    def handler(stream: Stream) -> None:
        stream.sendall(b"data")
        stream.recv()

    with (
        Served(handler, early_server(tickets=0)) as served,
        connect("localhost", served.port, new_client()) as stream,
    ):
        stream.timeout = 0.2
        with pytest.raises(TimeoutError):
            stream.wait_for_ticket()
        assert stream.recv() == b"data"
        stream.shutdown_write()
        stream.timeout = 10
        assert stream.read_to_end() == b""
        assert not stream.wait_for_ticket()


def test_client_session_in_a_file_resumes_in_another_store(tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    with Served(Handler(), early_server()) as served:
        visit(served.port, new_client(sessions=FileSessionStore(path)))
        again = new_client(sessions=FileSessionStore(path))
        with connect("localhost", served.port, again, early_data=EARLY) as stream:
            assert stream.negotiated.resumed
            assert stream.negotiated.authenticated_at is not None
            assert stream.peer is not None
            assert stream.early_data is Outcome.ACCEPTED


@pytest.mark.rfc("9846 §C.4", "racing connections do not use one ticket twice")
def test_happy_eyeballs_takes_one_ticket_and_early_data_goes_to_the_winner_alone() -> None:
    handler, store = Handler(), MemorySessionStore()
    config = new_client(sessions=store)
    with Served(handler, early_server()) as served:
        visit(served.port, config)
        assert soon(lambda: len(store) == 2)
        # An address that answers no SYN: its queue is full.
        silent = socket.socket()
        silent.bind(("127.0.0.2", served.port))
        silent.listen(0)
        filling = [socket.socket() for _ in range(3)]
        try:
            for one in filling:
                one.setblocking(False)
                one.connect_ex(("127.0.0.2", served.port))
            resolve = {"localhost": ["127.0.0.2", "127.0.0.1"]}
            with connect("localhost", served.port, config, resolve=resolve, early_data=EARLY) as stream:
                assert stream.peer_address[0] == "127.0.0.1"
                assert stream.early_data is Outcome.ACCEPTED
                assert handler.get()[0] == EARLY
            assert len(store) >= 1
            silent.settimeout(0.3)
            received = b""
            for one in filling:
                one.close()
            try:
                while True:
                    accepted, _ = silent.accept()
                    with accepted:
                        accepted.settimeout(0.3)
                        received += accepted.recv(100)
            except OSError:
                pass
            assert received == b""
        finally:
            for one in (*filling, silent):
                one.close()


# ---- async -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    def on_backend(body: Callable[..., Awaitable[None]]) -> None:
        async def main() -> None:
            with anyio.fail_after(30):
                await body()

        anyio.run(main, backend=request.param)

    return on_backend


def test_async_streams_carry_early_data_and_answer_it_early(run: Run) -> None:
    seen: list[Any] = []

    async def handler(stream: aio.Stream) -> None:
        if not stream.negotiated.resumed:
            await stream.receive()
            return
        data = await stream.receive()
        seen.append((data, stream.early_bytes_read, stream.early_data))
        await stream.send(b"answer")
        await stream.wait_handshake_complete()
        seen.append(stream.handshake_complete)
        seen.append(await stream.receive())
        seen.append(stream.early_bytes_read)

    async def body() -> None:
        config = new_client()
        async with await aio.listen("127.0.0.1", 0, early_server()) as listener, anyio.create_task_group() as group:
            errors: list[Exception] = []
            group.start_soon(
                functools.partial(listener.serve, handler, on_error=lambda _stream, error: errors.append(error))
            )
            port = listener.address[1]
            async with await aio.connect("localhost", port, config) as stream:
                assert await stream.wait_for_ticket()
            async with await aio.connect("localhost", port, config, early_data=EARLY) as stream:
                assert stream.early_data is Outcome.ACCEPTED
                assert await stream.receive() == b"answer"
                await stream.send(b"late")
                while len(seen) < 4:
                    await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        assert seen == [(EARLY, len(EARLY), Outcome.ACCEPTED), True, b"late", len(EARLY)]

    run(body)


def test_async_server_stream_raises_the_failure_of_the_handshake_after_early_data(run: Run) -> None:
    seen: list[Any] = []

    async def handler(stream: aio.Stream) -> None:
        if not stream.negotiated.resumed:
            await stream.receive()
            return
        seen.append(await stream.receive())
        await stream.send(b"answer")
        try:
            await stream.receive()
        except AlertReceived as error:
            seen.append(error)

    async def body() -> None:
        config = new_client()
        async with await aio.listen("127.0.0.1", 0, early_server()) as listener, anyio.create_task_group() as group:
            group.start_soon(functools.partial(listener.serve, handler, on_error=lambda _stream, error: None))
            port = listener.address[1]
            async with await aio.connect("localhost", port, config) as stream:
                assert await stream.wait_for_ticket()

            def gives_up() -> None:
                with HeldBack(port, config) as client:
                    assert client.read() == b"answer"
                    client.connection.fail(80)
                    client.socket.sendall(client.connection.data_to_send())

            await anyio.to_thread.run_sync(gives_up)
            while len(seen) < 2:
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        assert seen[0] == EARLY
        assert isinstance(seen[1], AlertReceived)

    run(body)


def test_one_reader_and_one_writer_while_early_data_is_read() -> None:
    """The handshake ends inside a read while another thread writes: nothing is lost or out of order."""
    done: queue.Queue[bytes] = queue.Queue()

    def handler(stream: Stream) -> None:
        stream.timeout = 10
        if not stream.negotiated.resumed:
            stream.recv()
            return
        writer = threading.Thread(target=lambda: [stream.sendall(bytes([n]) * 1000) for n in range(100)])
        writer.start()
        received = b"".join(stream)
        writer.join(10)
        done.put(received)

    config = new_client()
    with Served(handler, early_server()) as served:
        visit(served.port, config)
        with connect("localhost", served.port, config, early_data=EARLY) as stream:
            stream.timeout = 10
            for n in range(100):
                stream.sendall(bytes([n]) * 10)
            stream.shutdown_write()
            assert stream.read_to_end() == b"".join(bytes([n]) * 1000 for n in range(100))
        assert done.get(timeout=10) == EARLY + b"".join(bytes([n]) * 10 for n in range(100))


def test_raw_plaintext_before_early_data_is_accepted_is_never_data() -> None:
    """Data comes out of authenticated epochs alone, or marked as early (attack I2)."""

    def speak(peer: RawPeer) -> None:
        peer.socket.recv(65536)
        peer.socket.sendall(b"\x17\x03\x03\x00\x05hello")

    with raw_server(speak, handshake=False) as port, pytest.raises(TLSError):
        connect("localhost", port, new_client(), early_data=EARLY)
