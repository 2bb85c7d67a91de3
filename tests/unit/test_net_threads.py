"""Many threads on one stream, and the listener: what accepting meets, and how many are served."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest

from pellucid.errors import TLSError, TruncatedStream, UsageError
from pellucid.events import CloseNotify, KeyUpdated
from pellucid.net.driver import Driver
from pellucid.net.listener import Listener, listen
from pellucid.net.operations import Operation, SendNow, Until
from pellucid.net.sync import Stream, connect
from pellucid.trace import ClosedTraced, Direction, TraceEvent
from tests.unit.test_net_peers import (
    CLIENT,
    SERVER,
    RawPeer,
    raw_client,
    raw_server,
)
from tests.unit.test_net_sync import Served, in_thread, pair


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listen("127.0.0.1", 0, SERVER) as found:
        yield found


# ---- threads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("messages", [1000, 10_000])
def test_eight_writers_never_mix_and_keep_their_order(messages: int) -> None:
    local, peer = pair()
    with local, peer:

        def write(writer: int) -> None:
            for number in range(messages):
                local.sendall(b"%d:%05d;" % (writer, number) * (1 + number % 3))

        threads = [in_thread(lambda writer=writer: write(writer)) for writer in range(8)]
        expected = 8 * sum(8 * (1 + number % 3) for number in range(messages))
        received = bytearray()
        while len(received) < expected:
            received += peer.recv()
        for thread, raised in threads:
            thread.join(20)
            assert not raised
    found: dict[bytes, list[bytes]] = {}
    for item in bytes(received).split(b";")[:-1]:
        writer, number = item.split(b":")
        found.setdefault(writer, []).append(number)
    for numbers in found.values():
        assert numbers == [b"%05d" % number for number in range(messages) for _ in range(1 + number % 3)]


def test_nothing_follows_an_answer_that_a_reader_could_not_send_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader is interrupted while it answers a KeyUpdate: nobody knows how much of the answer is on its way."""
    local, peer = pair()
    perform = Driver._perform
    interrupted: list[bytes] = []

    def interrupting(driver: Driver, operation: Operation, deadline: Until | None) -> object:
        if driver is local._driver and isinstance(operation, SendNow) and not interrupted:
            interrupted.append(bytes(operation.data))
            local._socket.send(operation.data[:10])
            raise KeyboardInterrupt
        return perform(driver, operation, deadline)

    monkeypatch.setattr(Driver, "_perform", interrupting)
    with local, peer:
        peer.key_update(request_peer=True)
        peer.sendall(b"answer me")
        with pytest.raises(KeyboardInterrupt):
            local.recv()
        for send in (lambda: local.sendall(b"small"), lambda: local.sendall(bytes(300_000)), local.key_update):
            with pytest.raises(UsageError, match="cut short"):
                send()
        assert local.recv() == b"answer me"
        local.close()
        with pytest.raises(TruncatedStream):
            peer.recv()


def test_a_long_write_is_not_split_by_another_writer() -> None:
    local, peer = pair()
    with local, peer:
        big = b"A" * 3_000_000
        first, _ = in_thread(lambda: local.sendall(big))
        time.sleep(0.05)
        second, _ = in_thread(lambda: local.sendall(b"B" * 10))
        received = bytearray()
        while len(received) < len(big) + 10:
            received += peer.recv()
        assert bytes(received) in {big + b"B" * 10, b"B" * 10 + big}
        first.join(10)
        second.join(10)


def test_both_ends_write_more_than_fits_and_nobody_waits_for_ever() -> None:
    local, peer = pair()
    with local, peer:
        size = 20_000_000
        threads = [in_thread(lambda end=end: end.sendall(bytes(size))) for end in (local, peer)]

        def read(end: Stream) -> None:
            received = 0
            while received < size:
                received += len(end.recv())

        threads += [in_thread(lambda end=end: read(end)) for end in (local, peer)]
        for thread, raised in threads:
            thread.join(60)
            assert not thread.is_alive()
            assert not raised


def test_key_update_requests_while_a_write_is_stuck_get_one_answer() -> None:
    """Attack G2: 10^4 requests against a peer that does not read must not pile up answers, nor stop the reading."""
    requests, size = 2000, 20_000_000
    stuck, asked = threading.Event(), threading.Event()

    def ask(peer: RawPeer) -> None:
        stuck.wait(10)
        for _ in range(requests):
            peer.connection.send_key_update(request_peer=True)
            peer.connection.send_data(b"x")
            peer.flush()
        asked.wait(20)
        received, updates = 0, 0
        while received < size:
            event = peer.event()
            if isinstance(event, KeyUpdated):
                updates += 1
            else:
                received += len(getattr(event, "data", b""))
        assert updates <= 200, "one for each step that was sealed meanwhile, not one for each request"

    with raw_server(ask) as port, connect("localhost", port, CLIENT) as stream:
        thread, raised = in_thread(lambda: stream.sendall(bytes(size)))
        time.sleep(0.3)
        stuck.set()
        received = 0
        while received < requests:
            received += len(stream.recv())
        asked.set()
        thread.join(30)
        assert not raised


def test_reader_answers_a_key_update_without_any_writer() -> None:
    def ask(peer: RawPeer) -> None:
        peer.connection.send_key_update(request_peer=True)
        peer.flush()
        assert isinstance(peer.event(), KeyUpdated)
        peer.send(b"thanks")
        assert isinstance(peer.event(), CloseNotify)

    with raw_server(ask) as port, connect("localhost", port, CLIENT) as stream:
        assert stream.recv() == b"thanks"


def test_close_wakes_a_reading_thread() -> None:
    local, peer = pair()
    thread, raised = in_thread(local.recv)
    time.sleep(0.05)
    started = time.monotonic()
    in_thread(peer.abort)
    local.close()
    thread.join(5)
    assert not thread.is_alive()
    assert time.monotonic() - started < 3
    assert isinstance(raised[0], TLSError)
    with pytest.raises(UsageError):
        local.recv()
    local.close()


def test_close_at_this_end_is_not_taken_for_a_truncation_by_a_thread_that_reads() -> None:
    seen: list[TraceEvent] = []
    local, peer = pair(trace=seen.append)
    with peer:
        for _ in range(2):  # behind the tickets, on the short way
            peer.sendall(b"data")
            local.recv()
        thread, raised = in_thread(local.recv)
        time.sleep(0.1)
        local.close()
        thread.join(10)
    assert [type(error) for error in raised] == [UsageError]
    assert [event.direction for event in seen if isinstance(event, ClosedTraced)] == [Direction.SENT]


@pytest.mark.parametrize("data", [b"", b"more"])
def test_nothing_is_written_to_a_closed_stream_not_even_no_bytes(data: bytes) -> None:
    local, peer = pair()
    with local, peer:
        local.sendall(b"")
        local.close()
        with pytest.raises(UsageError, match="closed"):
            local.sendall(data)


def test_handshake_is_done_once_for_reader_and_writer_together(listener: Listener) -> None:
    client = raw_client(listener.address[1])
    thread, raised = in_thread(lambda: client.shake_hands().send(b"hi"))
    stream = listener.accept()
    reader, read_errors = in_thread(stream.recv)
    writer, write_errors = in_thread(lambda: stream.sendall(b"x"))
    for each in (thread, reader, writer):
        each.join(10)
    assert not raised + read_errors + write_errors
    client.socket.close()
    stream.close()


# ---- the listener ------------------------------------------------------------------------------------------------


def test_listener_close_ends_accept_and_iteration(listener: Listener) -> None:
    accepting, raised = in_thread(listener.accept)
    iterating, none_raised = in_thread(lambda: list(listener))
    time.sleep(0.05)
    listener.close()
    accepting.join(5)
    iterating.join(5)
    assert isinstance(raised[0], UsageError)
    assert not none_raised
    assert listener.closed
    listener.close()


def test_listener_accept_has_a_timeout(listener: Listener) -> None:
    with pytest.raises(TimeoutError):
        listener.accept(timeout=0.05)


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


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN])
def test_listener_client_that_went_away_is_passed_over(listener: Listener, code: int) -> None:
    listener._socket = Flaky(listener._socket, [code] * 3)  # type: ignore[assignment]
    with socket.create_connection(listener.address):
        listener.accept(timeout=5).abort()


def test_listener_without_descriptors_waits_and_goes_on(listener: Listener) -> None:
    flaky = Flaky(listener._socket, [errno.EMFILE] * 3)
    listener._socket = flaky  # type: ignore[assignment]
    with socket.create_connection(listener.address):
        started = time.monotonic()
        listener.accept(timeout=5).abort()
    assert time.monotonic() - started > 0.25
    assert flaky.calls <= 5, "a busy loop"


def test_listener_other_errors_are_raised(listener: Listener) -> None:
    listener._socket = Flaky(listener._socket, [errno.EINVAL])  # type: ignore[assignment]
    with pytest.raises(OSError, match="as told"):
        listener.accept(timeout=5)


def test_listener_out_of_descriptors_recovers() -> None:
    program = """
        import os, resource, socket, threading, time
        from tests.unit.test_net_peers import SERVER
        from pellucid.net.listener import listen

        listener = listen("127.0.0.1", 0, SERVER)
        client = socket.create_connection(listener.address)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        threading.Timer(0.5, lambda: [os.close(fd) for fd in held]).start()
        busy = time.process_time()
        started = time.monotonic()
        listener.accept(timeout=10).abort()
        assert time.monotonic() - started < 1.5
        assert time.process_time() - busy < 0.1
        print("recovered")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "recovered\n", done.stderr


def test_serve_bounds_how_many_are_served_at_once() -> None:
    at_once, most = 0, 0
    guard = threading.Lock()

    def handler(stream: Stream) -> None:
        nonlocal at_once, most
        with guard:
            at_once += 1
            most = max(most, at_once)
        stream.recv()
        with guard:
            at_once -= 1
        stream.sendall(b"done")

    with Served(handler, max_connections=2) as served:

        def ask() -> None:
            with connect("localhost", served.port, CLIENT) as stream:
                stream.sendall(b"x")
                assert stream.recv() == b"done"

        threads = [in_thread(ask) for _ in range(8)]
        for thread, raised in threads:
            thread.join(20)
            assert not raised
        assert not served.ended()
    assert most <= 2


def test_serve_handlers_error_is_told_and_others_go_on() -> None:
    def handler(stream: Stream) -> None:
        if stream.recv() == b"fail":
            raise ValueError("in the handler")
        stream.sendall(b"fine")

    with Served(handler) as served:
        with connect("localhost", served.port, CLIENT) as stream:
            stream.sendall(b"fail")
            with pytest.raises((TruncatedStream, ConnectionResetError)):
                stream.recv()
        with connect("localhost", served.port, CLIENT) as stream:
            stream.sendall(b"go on")
            assert stream.recv() == b"fine"
        assert [str(error) for error in served.ended()] == ["in the handler"]
