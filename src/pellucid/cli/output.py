"""Facts to standard output, talk to standard error; colour only where somebody looks at it and did not say no."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TextIO

from pellucid.cli.common import OutputClosed
from pellucid.explain.text import Line, Span, line, plain

__all__ = ["STYLES", "Output"]

STYLES: Final = {
    "title": "bold cyan",
    "strong": "bold",
    "muted": "dim",
    "name": "cyan",
    "value": "",
    "client": "bold blue",
    "server": "bold magenta",
    "good": "bold green",
    "bad": "bold red",
    "warn": "yellow",
    "lock": "green",
    "open": "yellow",
    "secret": "yellow",
}
"""What the words of explain.text look like, in rich's language."""

# For terminals and pipes that cannot say it otherwise.
_ASCII: Final = str.maketrans(
    {
        "─": "-", "│": "|", "├": "|", "└": "`", "┤": "|", "▶": ">", "▼": "v", "◀": "<", "●": "*", "✓": "+", "✗": "x",
        "✔": "+", "✘": "x",
        "…": "~", "→": ">", "←": "<", "·": "-", "⊕": "^", "—": "-", "–": "-", "“": '"', "”": '"', "’": "'",
        "━": "=", "═": "=", "≠": "!=", "§": "s.", "🔒": "#", "×": "x", "µ": "u",
    }
)  # fmt: skip
_MIN_WIDTH: Final = 64
_MAX_WIDTH: Final = 120
_PIPE_WIDTH: Final = 80


class Output:
    """Where a command writes. width: columns to fill, 64 to 120; 80 where nobody looks.

    color: True or False decides; None: a terminal, no NO_COLOR (https://no-color.org), no TERM=dumb, and rich there.
    """

    def __init__(
        self,
        *,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        width: int | None = None,
        color: bool | None = None,
    ) -> None:
        self.stdout = stdout if stdout is not None else sys.stdout
        self.stderr = stderr if stderr is not None else sys.stderr
        self.width = _width(self.stdout) if width is None else width
        self._facts = _writer(self.stdout, color)
        self._talk = _writer(self.stderr, color)

    def fact(self, one: Line | str) -> None:
        """Write a line to standard output."""
        self._facts(line(one) if isinstance(one, str) else one)

    def facts(self, lines: Iterable[Line | str]) -> None:
        for one in lines:
            self.fact(one)

    def talk(self, one: Line | str) -> None:
        """Write a line to standard error."""
        self._talk(line(one) if isinstance(one, str) else one)

    def hint(self, text: str) -> None:
        """Write what the user can do next to standard error."""
        self._talk(line(Span("hint: ", "name"), text))

    def json(self, value: object) -> None:
        """Write *value* as JSON to standard output."""
        with _told():
            self.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")
            self.stdout.flush()

    def raw(self, data: bytes) -> None:
        """Write bytes to standard output as they are: a fetched page."""
        with _told():
            self.stdout.flush()
            self.stdout.buffer.write(data)
            self.stdout.buffer.flush()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raise OutputClosed where the reader of our output has gone."""
    try:
        yield
    except BrokenPipeError:
        raise OutputClosed from None


def _width(stream: TextIO) -> int:
    if not stream.isatty() and "COLUMNS" not in os.environ:
        return _PIPE_WIDTH
    columns = shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
    return max(_MIN_WIDTH, min(columns, _MAX_WIDTH))


def _writer(stream: TextIO, color: bool | None) -> Callable[[Line], None]:
    if color is None:
        color = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    rich = _rich_writer(stream) if color else None
    if rich is not None:
        return rich

    def write(one: Line) -> None:
        with _told():
            stream.write(_encodable(plain(one), stream) + "\n")
            stream.flush()

    return write


def _encodable(text: str, stream: TextIO) -> str:
    """Return *text* as *stream* can write it: drawn in ASCII where its encoding has no lines and arrows."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def _rich_writer(stream: TextIO) -> Callable[[Line], None] | None:
    try:
        from rich.console import Console  # noqa: PLC0415  # an optional dependency, at the edge
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        return None
    console: Any = Console(file=stream, force_terminal=True, highlight=False, soft_wrap=True)  # rich draws, no more

    def write(one: Line) -> None:
        text = Text()
        for content, style in one:
            text.append(_encodable(content, stream), style=STYLES.get(style, ""))
        with _told():
            console.print(text, soft_wrap=True)

    return write
