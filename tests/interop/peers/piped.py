"""Conversations with clients that send what they read on stdin and print what they receive on stdout."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.interop.exchange import Reader, Turn, WrongAnswer
from tests.interop.process import Program


def talk(
    program: Program, turns: Iterable[Turn], between: Callable[[int], object] = lambda number: None
) -> list[bytes]:
    """Return the answers to *turns*, said through *program*. between: called with the next turn's number."""
    answers: list[bytes] = []
    position = 0
    for number, turn in enumerate(turns):
        if number:
            between(number)
        program.write(turn.send)
        out = program.wait_until(_complete(turn, position))
        answer, size = _parse(turn, out[position:])
        answers.append(answer)
        position += size
    return answers


def _complete(turn: Turn, position: int) -> Callable[[bytearray], bool]:
    def complete(out: bytearray) -> bool:
        if len(out) - position < len(turn.expect):  # cheap: nothing shorter is worth parsing
            return False
        try:
            _parse(turn, bytes(out[position:]))
        except WrongAnswer:
            return False
        return True

    return complete


def _parse(turn: Turn, data: bytes) -> tuple[bytes, int]:
    source = _Bytes(data)
    reader = Reader(source)
    answer = reader.exactly(len(turn.expect)) if turn.raw else reader.message()[1]
    return answer, len(data) - len(source.data) - reader.buffered


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def sendall(self, data: bytes, /) -> None:
        raise NotImplementedError

    def recv(self, size: int, /) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        return taken
