"""What parent and workers of `pellucid serve --workers` say to each other: whole or not at all, and no in doubt."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.cli.worker_link import AskingGuard, Frames, Kind, LinkClosed, Register, receive, send, send_json
from pellucid.errors import UsageError
from pellucid.integrations.serving import SharedSocket
from pellucid.sessions import StrikeRegister

NOW = 1_000_000.0
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        theirs.settimeout(10)
        yield ours, theirs


# ---- the socket that all accept from ---------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no workers")
def test_shared_socket_is_listened_on_until_the_last_lets_go_and_its_descriptor_stays() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        sharing = [SharedSocket(fileno=os.dup(listening.fileno())) for _ in range(2)]
    for number, one in enumerate(sharing):
        one.listen()
        socket.create_connection(address, 5).close()
        descriptor = one.fileno()
        one.let_go()
        assert one.fileno() == descriptor
        one.listen()  # as hypercorn does where the worker is stopped before it has begun
        readable, _, _ = select.select([one], [], [], 0)
        assert not readable, number
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 5).close()
    for one in sharing:
        one.close()


# ---- messages --------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=300)), max_size=6), st.data())
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    messages: list[tuple[Kind, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(struct.pack("!BI", kind, len(payload)) + payload for kind, payload in messages)
    frames, found = Frames(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += frames.feed(stream[:size])
        stream = stream[size:]
    assert found == messages


@pytest.mark.parametrize("head", [struct.pack("!BI", 1, 2**20 + 1), struct.pack("!BI", 0, 0), b"\xff" * 5])
def test_what_is_no_message_ends_the_link(head: bytes) -> None:
    with pytest.raises(LinkClosed):
        Frames().feed(head)


def test_first_messages_are_waited_for_in_their_order(pair: Pair) -> None:
    ours, theirs = pair
    send_json(ours, Kind.SETUP, {"number": 1})
    send(ours, Kind.KEYS, b"keys")
    assert receive(theirs, Kind.SETUP) == b'{"number": 1}'
    assert receive(theirs, Kind.KEYS) == b"keys"
    send(ours, Kind.STOP)
    with pytest.raises(LinkClosed):
        receive(theirs, Kind.KEYS)
    ours.close()
    with pytest.raises(LinkClosed):
        receive(theirs, Kind.KEYS)


# ---- the register ----------------------------------------------------------------------------------------------------


class Parent:
    """A thread that answers for as long as the test runs."""

    def __init__(self, *links: socket.socket) -> None:
        self.guard = StrikeRegister(NOW - 100)
        self.links = links
        self.threads = [threading.Thread(target=self._answer, args=(link,), daemon=True) for link in links]
        for thread in self.threads:
            thread.start()

    def _answer(self, link: socket.socket) -> None:
        register = Register(link, self.guard)
        while register.answer():
            continue


def test_clienthello_is_seen_for_the_first_time_once_by_all() -> None:
    pairs = [socket.socketpair() for _ in range(4)]
    parent = Parent(*(theirs for _, theirs in pairs))
    guards = [AskingGuard(ours, 10.0, seconds=10) for ours, _ in pairs]
    found: list[bool] = []

    def ask(guard: AskingGuard) -> None:
        found.extend(guard.first_use(b"key%d" % number, now=NOW, issued_at=NOW - 1) for number in range(50))

    threads = [threading.Thread(target=ask, args=(guard,)) for guard in guards for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(found), sum(found)) == (400, 50)
    for ours, _ in pairs:
        ours.close()
    for thread in parent.threads:
        thread.join(10)
        assert not thread.is_alive()
    for _, theirs in pairs:
        theirs.close()


@pytest.mark.parametrize("length", [1, 32, 48, 64])
def test_keys_of_every_length_are_told_apart(pair: Pair, length: int) -> None:
    ours, theirs = pair
    Parent(theirs)
    guard = AskingGuard(ours, 10.0, seconds=10)
    assert guard.first_use(b"k" * length, now=NOW, issued_at=NOW - 1)
    assert not guard.first_use(b"k" * length, now=NOW, issued_at=NOW - 1)
    assert guard.window_seconds == 10.0


@pytest.mark.parametrize("length", [0, 65])
def test_key_that_is_none_is_refused_as_by_the_register_itself(pair: Pair, length: int) -> None:
    for guard in (AskingGuard(pair[0], 10.0), StrikeRegister(NOW)):
        with pytest.raises(UsageError, match="a ClientHello is known by 1 to 64 bytes"):
            guard.first_use(b"k" * length, now=NOW, issued_at=NOW)


def test_no_answer_in_time_is_no_and_nobody_is_asked_for_a_while(pair: Pair) -> None:
    ours, theirs = pair
    guard = AskingGuard(ours, 10.0, seconds=0.1)
    begun = time.monotonic()
    assert guard.first_use(b"first", now=NOW, issued_at=NOW - 1) is False
    assert 0.1 <= time.monotonic() - begun < 5
    begun = time.monotonic()
    assert guard.first_use(b"second", now=NOW, issued_at=NOW - 1) is False
    assert time.monotonic() - begun < 0.09
    assert len(theirs.recv(1000)) == 89  # the second was not asked


def test_answer_that_comes_too_late_is_not_taken_for_that_of_another_question(pair: Pair) -> None:
    ours, theirs = pair
    guard = AskingGuard(ours, 10.0, seconds=0.1)
    register = Register(theirs, StrikeRegister(NOW - 100))
    assert guard.first_use(b"late", now=NOW, issued_at=NOW - 1) is False
    assert register.answer()  # yes, to nobody
    guard._silent_until = 0.0
    assert guard.first_use(b"late", now=NOW, issued_at=NOW - 1) is False
    assert register.answer()
    guard._silent_until = 0.0
    guard._seconds = 10
    threading.Thread(target=register.answer, daemon=True).start()
    assert guard.first_use(b"other", now=NOW, issued_at=NOW - 1) is True


def test_parent_that_has_gone_means_no(pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    assert AskingGuard(ours, 10.0).first_use(b"key", now=NOW, issued_at=NOW - 1) is False


def test_worker_that_reads_no_answers_blocks_nobody(pair: Pair) -> None:
    ours, theirs = pair
    theirs.setblocking(False)
    ours.setblocking(False)
    register = Register(theirs, StrikeRegister(NOW - 100))
    question = struct.pack("!QddB64s", 1, NOW, NOW - 1, 3, b"key")
    for _ in range(40_000):
        with contextlib.suppress(BlockingIOError):
            ours.send(question)
        assert register.answer()
    ours.close()
    while register.answer():
        continue
