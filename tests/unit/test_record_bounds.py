"""Nothing is taken out of a socket ahead of time: programs that wait with select see what is there."""

from __future__ import annotations

import select
import socket

import pytest

from pellucid.integrations.record_bounds import RecordBounds
from tests.unit.test_ssl_context_libraries import pair


def record(size: int) -> bytes:
    return b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)


@pytest.mark.parametrize(
    ("waiting", "taken"),
    [
        (record(40), 45),
        (record(40) + record(40), 45),
        (record(40)[:-1], 44),
        (b"\x17\x03", 2),
        (record(0) + record(18), 5),
        (b"HTTP/1.1 400 Bad Request", 24),
        (b"", 0),
    ],
)
def test_bounds_take_one_record_or_what_is_there_of_it(waiting: bytes, taken: int) -> None:
    assert RecordBounds().take(waiting) == taken


@pytest.mark.parametrize("step", [1, 2, 3, 7, 44, 45, 46, 1000])
def test_bounds_find_every_end_however_the_bytes_arrive(step: int) -> None:
    stream = record(40) + record(0) + record(300) + record(1) + record(40)
    ends = {45, 50, 355, 361, 406}
    bounds, at, found = RecordBounds(), 0, set()
    while at < len(stream):
        at += bounds.take(stream[at : at + step])
        begun = max((end for end in ends if end <= at), default=0)
        assert bounds.held == at - begun
        found.add(at)
    assert ends <= found
    other = RecordBounds()
    for start in range(0, len(stream), step):
        other.take_all(stream[start : start + step])
    assert other.held == 0


def test_socket_leaves_what_was_not_asked_for_where_select_sees_it() -> None:
    with pair() as (one, other):
        for piece in (b"first", b"second", b"third"):
            one.sendall(piece)
        assert other.recv(5) == b"first"
        assert other.pending() == 0
        assert select.select([other], [], [], 5)[0]
        assert other.recv(100) == b"second"
        assert select.select([other], [], [], 5)[0]
        assert other.recv(2**16) == b"third"
        one.sendall(bytes(200_000))
        left = 200_000
        while left:
            assert other.pending() == 0
            assert select.select([other], [], [], 5)[0]
            left -= len(other.recv(2**16))


def test_socket_handshake_takes_nothing_of_the_data_behind_it() -> None:
    """A client's first request may come with its Finished; a server that waits with select must see it."""
    with pair() as (one, other):
        one.sendall(b"at once")
        readable, _, _ = select.select([other], [], [], 5)
        assert readable == [other]
        assert other.pending() == 0
        assert socket.socket.recv(other, 5, socket.MSG_PEEK) == b"\x17\x03\x03\x00" + bytes([7 + 17])
        assert other.recv(100) == b"at once"
