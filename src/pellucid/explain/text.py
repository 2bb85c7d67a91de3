"""Lines of text that know what each piece of them is, not what it looks like: colours are the terminal's business.

A style is a word: "title", "strong", "muted", "name", "value", "client", "server", "good", "bad", "lock", "secret".
Every line reads the same with the styles left out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final, NamedTuple

__all__ = ["Line", "Span", "cells", "escaped", "line", "plain", "shortened", "wrap"]


class Span(NamedTuple):
    """A piece of a line. style: one of the words above, or "" for ordinary text."""

    text: str
    style: str = ""


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    """Return the line made of *parts*."""
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


def plain(one: Line) -> str:
    """Return *one* without its styles, and without blanks at the end."""
    return "".join(span.text for span in one).rstrip()


def cells(text: str) -> int:
    """Return how many columns *text* takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or character in "\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def wrap(one: Line, width: int, *, first: Line = (), rest: Line | None = None) -> list[Line]:
    """Return *one* as lines of at most *width* columns, broken at blanks; a word that is longer stands alone.

    first, rest: what the first line and each of the others begin with; rest: None for as many blanks as *first* has.
    """
    head = sum(cells(span.text) for span in first)
    rest = (Span(" " * head),) if rest is None else rest
    lines: list[Line] = []
    current: list[Span] = []
    used = head
    for word, blank in _words(one):
        size = sum(cells(span.text) for span in word)
        if current and used + blank + size > width:
            lines.append((*(rest if lines else first), *_merged(current)))
            current, used, blank = [], sum(cells(span.text) for span in rest), 0
        if blank and current:
            current.append(Span(" " * blank, word[0].style if word[0].style == current[-1].style else ""))
            used += blank
        current.extend(word)
        used += size
    lines.append((*(rest if lines else first), *_merged(current)))
    return lines


def _words(one: Line) -> list[tuple[list[Span], int]]:
    """Return the words of a line, each with the blanks before it; a word may have several styles."""
    words: list[tuple[list[Span], int]] = []
    word: list[Span] = []
    blank = waiting = 0
    for text, style in one:
        for index, part in enumerate(text.split(" ")):
            if index:
                if word:
                    words.append((word, blank))
                    word, blank, waiting = [], 0, 0
                waiting += 1
            if part:
                if not word:
                    blank = waiting
                    waiting = 0
                word.append(Span(part, style))
    if word:
        words.append((word, blank))
    return words


def _merged(spans: Iterable[Span]) -> Line:
    merged: list[Span] = []
    for span in spans:
        if merged and merged[-1].style == span.style:
            merged[-1] = Span(merged[-1].text + span.text, span.style)
        else:
            merged.append(span)
    return tuple(merged)


# ---- values ------------------------------------------------------------------------------------------------------

_HEAD: Final = 8
_TAIL: Final = 4


def escaped(text: str) -> str:
    """Return *text*, which may come from a peer, with everything that could move a terminal's cursor escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shortened(data: bytes, *, whole: int = 32, head: int = _HEAD, tail: int = _TAIL) -> str:
    """Return *data* in hex; more than *whole* bytes as "head…tail"."""
    if len(data) <= whole:
        return data.hex()
    return f"{data[:head].hex()}…{data[-tail:].hex()}"
