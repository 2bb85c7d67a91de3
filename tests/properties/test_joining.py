"""A transport that joins heads and bodies sends what one that does not would send, and holds nothing for long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pellucid.asyncio.joining import JoiningTransport
from pellucid.asyncio.transport import Transport

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"

LAST = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"


class Loop:
    """Runs what is to be done in the next turn when that comes."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.waiting.append(callback)

    def turn(self) -> None:
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one()


class Wire:
    """What a transport writes to."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.pieces: list[bytes] = []

    def write(self, data: Any) -> None:
        self.pieces.append(bytes(data))

    def at_end_of_turn(self, work: Callable[[], None]) -> None:
        self.loop.call_soon(work)

    def write_last(self, data: bytes) -> None:
        self.write(data)
        self.close()

    def write_eof(self) -> None:
        self.pieces.append(b"<end>")

    def close(self) -> None:
        self.pieces.append(b"<closed>")

    def write_buffer_size(self) -> int:
        return 0


written = st.one_of(
    st.just(HEAD), st.just(LAST), st.binary(max_size=40), st.binary(max_size=40).map(bytearray), st.just(bytes(100_000))
)
steps = st.lists(st.one_of(written, st.lists(st.binary(max_size=9), max_size=3), st.sampled_from(["turn", "end"])))


@given(steps, st.sampled_from(["close", "turn"]))
def test_what_is_joined_equals_what_is_not(steps: list[Any], last: str) -> None:
    plain, joining = Wire(), Wire()
    transports = [Transport(plain), JoiningTransport(Transport(joining))]  # type: ignore[arg-type]  # a stand-in
    for step in [*steps, last]:
        for transport in transports:
            if step == "turn":
                transport._wire.loop.turn()  # type: ignore[attr-defined]
            elif step == "end":
                transport.write_eof()
            elif step == "close":
                transport.close()
            elif isinstance(step, list):
                transport.writelines(step)
            else:
                transport.write(step)
        if step in ("turn", "end", "close"):
            assert b"".join(joining.pieces) == b"".join(plain.pieces)
            assert transports[1].get_write_buffer_size() == 0


def test_head_and_body_leave_in_one_piece_and_a_head_alone_when_the_turn_is_over() -> None:
    wire = Wire()
    transport = JoiningTransport(Transport(wire))  # type: ignore[arg-type]  # a stand-in
    transport.write(HEAD)
    transport.write(b"body")
    transport.write(b"more")
    assert wire.pieces == [HEAD + b"body", b"more"]
    transport.write(HEAD)
    assert len(wire.pieces) == 2 and transport.get_write_buffer_size() == len(HEAD)
    wire.loop.turn()
    assert wire.pieces[2:] == [HEAD]
    transport.write(HEAD)
    transport._wire.abort = lambda: None  # type: ignore[method-assign]
    transport.abort()
    wire.loop.turn()
    assert wire.pieces[2:] == [HEAD]


def test_the_last_answer_leaves_with_the_close() -> None:
    last: list[bytes] = []
    wire = Wire()
    wire.write_last = last.append  # type: ignore[method-assign]
    transport = JoiningTransport(Transport(wire))  # type: ignore[arg-type]  # a stand-in
    transport.write(LAST)
    transport.write(b"bo")
    transport.write(b"dy")
    transport.close()
    assert last == [LAST + b"body"] and not wire.pieces
