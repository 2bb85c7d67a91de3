"""The story of one HTTPS request in six parts: what two recorders saw, as data, as JSON and as lines of text.

Each part has one sentence that says what it was for; the facts come after it. Nothing is told that was not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from pellucid.errors import UsageError
from pellucid.explain.recorder import Recorder
from pellucid.explain.reveal import Shown
from pellucid.explain.text import Line, Span, line, wrap
from pellucid.trace import TraceEvent

__all__ = ["SCHEMA", "Part", "Scene", "Story", "Tampering", "one", "rows", "sentence"]

SCHEMA: Final = 1
"""The number of the JSON's shape: it grows when a program that reads it would have to change."""

E = TypeVar("E", bound=TraceEvent)


class Tampering(NamedTuple):
    """What was done to a record on its way. position: of the byte changed; refusal: the server's error, in a line."""

    sent: bytes
    changed: bytes
    position: int
    refusal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What happened: both ends' traces, what the application said, and the record that was tampered with.

    delivered: how many requests reached the server's application.
    """

    url: str
    server_name: str
    client: Recorder
    server: Recorder
    request: bytes
    response: bytes
    tampering: Tampering
    delivered: int
    shown: Shown = field(default_factory=Shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the six. data: for JSON; draw: width → the lines of the facts."""

    number: int
    key: str
    title: str
    sentence: str
    data: dict[str, object]
    draw: Callable[[int], list[Line]] = field(repr=False)

    def to_dict(self) -> dict[str, object]:
        return {"number": self.number, "key": self.key, "title": self.title, "sentence": self.sentence, **self.data}

    def lines(self, width: int) -> list[Line]:
        """Return the part as text: title, sentence, facts."""
        head = f" {self.number} "
        rule = "━" * max(2, width - 2 - len(head) - len(self.title) - 2)
        lines = [line(Span(f"━━{head}", "title"), Span(self.title, "title"), Span(f" {rule}", "title"))]
        lines += wrap(line(Span(self.sentence, "strong")), width, first=line("  "))
        return [*lines, (), *self.draw(width), ()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The six parts, in order."""

    url: str
    parts: tuple[Part, ...]
    revealed: bool

    def to_dict(self) -> dict[str, object]:
        """Return the story for JSON."""
        return {
            "schema": SCHEMA,
            "url": self.url,
            "secrets_revealed": self.revealed,
            "parts": [part.to_dict() for part in self.parts],
        }

    def lines(self, width: int) -> list[Line]:
        """Return the story as text."""
        return [drawn for part in self.parts for drawn in part.lines(width)]


# ---- what the parts are drawn with -------------------------------------------------------------------------------


def one(recorder: Recorder, kind: type[E]) -> E:
    """Return the first event of a type. Raises UsageError if the story lacks it."""
    event = recorder.first(kind)
    if event is None:
        raise UsageError(f"the story cannot be told: nobody saw a {kind.__name__}")
    return event


def sentence(text: str, width: int, style: str = "", *, mark: Span | None = None) -> list[Line]:
    """Return *text* as indented lines, with a mark before the first."""
    first = line("  ") if mark is None else line("  ", mark, " ")
    return wrap(line(Span(text, style)), width, first=first)


def rows(facts: Iterable[tuple[str, str]], width: int, *, indent: int = 2) -> list[Line]:
    """Return facts as aligned rows of name and value."""
    facts = [(name, value) for name, value in facts if value]
    column = max((len(name) for name, _value in facts), default=0) + 2
    lines: list[Line] = []
    for name, value in facts:
        first = line(" " * indent, Span(f"{name:<{column}}", "name"))
        lines += wrap(line(value), width, first=first)
    return lines
