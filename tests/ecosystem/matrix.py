"""The matrix: a cell is a function that does with a library what its column says, over Pellucid.

    library("requests")                                        # a row; its version is the distribution's

    @cell("requests", "client")
    def requests_gets_a_page(trial: Trial) -> None: ...

    empty("requests", "HTTP/2", "requests speaks HTTP/1.1 only")

A library has, in each column, one cell (or several, with different *ways*) or a reason why there is none.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tests.ecosystem.trial import Trial

__all__ = ["COLUMNS", "ROWS", "Cell", "Mark", "Outcome", "Row", "cell", "cells", "empty", "holes", "library", "run"]

COLUMNS: Final = ("client", "server", "HTTP/2", "async", "proxy", "start_tls")
"""proxy: the target is reached through an HTTP proxy, over TLS too (TLS in TLS) where the library can"""

LIMIT_SECONDS: Final = 45.0

Work = Callable[[Trial], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One thing that a library does over TLS. way: which, where a column has several.

    side: the end that must be Pellucid's: a handshake of it has to be complete after *work*.
    verifies: whether *work* must have shown a refusal, that is that verification is alive.
    """

    library: str
    column: str
    way: str
    work: Work = field(repr=False)
    side: str
    verifies: bool

    @property
    def name(self) -> str:
        return "-".join(part.replace("/", "") for part in (self.library, self.column, self.way) if part)


@dataclass(slots=True)
class Row:
    """A library: its cells and its reasons for having none, by column."""

    name: str
    distribution: str | None
    cells: dict[str, list[Cell]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        if self.distribution is None:
            return f"Python {platform.python_version()}"
        return importlib.metadata.version(self.distribution)


ROWS: Final[dict[str, Row]] = {}


def library(name: str, distribution: str | None = "") -> None:
    """Make a row. distribution: whose version it has; default: *name*; None: it is in the standard library."""
    assert name not in ROWS, name
    ROWS[name] = Row(name, name if distribution == "" else distribution)


def cell(
    name: str, column: str, way: str = "", *, side: str = "", verifies: bool | None = None
) -> Callable[[Work], Work]:
    """Put a function into the matrix; *library(name)* comes first. side, verifies: see Cell.

    The side is by default the server's in the column "server", else the client's. A client must have refused a server
    by default; a server need not have asked its clients for a certificate.
    """
    side = side or ("server" if column == "server" else "client")

    def add(work: Work) -> Work:
        row = ROWS[name]
        assert column in COLUMNS, column
        assert column not in row.reasons, f"{name}, {column}: a cell, and a reason for having none"
        others = row.cells.setdefault(column, [])
        assert all(other.way != way for other in others), f"{name}, {column}: two cells; name their ways"
        must = side == "client" if verifies is None else verifies
        others.append(Cell(library=name, column=column, way=way, work=work, side=side, verifies=must))
        return work

    return add


def empty(name: str, column: str | tuple[str, ...], reason: str) -> None:
    """Say why a library has no cell in a column, or in each of several."""
    row = ROWS[name]
    for one in (column,) if isinstance(column, str) else column:
        assert one in COLUMNS, one
        assert one not in row.cells, f"{name}, {one}: a cell, and a reason for having none"
        assert one not in row.reasons, f"{name}, {one}: two reasons"
        row.reasons[one] = reason


def cells() -> Iterator[Cell]:
    """Every cell, row by row."""
    for row in ROWS.values():
        for column in COLUMNS:
            yield from row.cells.get(column, ())


def holes() -> list[tuple[str, str]]:
    """(library, column) of what is neither a cell nor has a reason."""
    return [
        (row.name, column)
        for row in ROWS.values()
        for column in COLUMNS
        if column not in row.cells and column not in row.reasons
    ]


# ---- running ---------------------------------------------------------------------------------------------------------


class Mark(Enum):
    PASSED = "✔"
    FAILED = "✘"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a cell. error: what it failed with; text: the same, as it is shown."""

    cell: Cell
    mark: Mark
    seconds: float
    error: BaseException | None = None
    text: str = ""


def run(one: Cell, limit: float = LIMIT_SECONDS) -> Outcome:
    """Run a cell, in a thread of its own: what has no end is left to itself after *limit* seconds, and has failed."""
    failed: list[BaseException] = []
    start = time.monotonic()

    def work() -> None:
        try:
            with Trial() as trial:
                one.work(trial)
            trial.check(side=one.side, verifies=one.verifies)
        except BaseException as error:  # skips and failures of pytest are no Exceptions
            failed.append(error)

    thread = threading.Thread(target=work, name=one.name, daemon=True)
    thread.start()
    thread.join(limit)
    seconds = time.monotonic() - start
    if thread.is_alive():
        frame = sys._current_frames().get(thread.ident or 0)
        where = "".join(traceback.format_stack(frame)[-6:]) if frame is not None else ""
        error: BaseException = TimeoutError(f"it was still running after {limit:g} s:\n{where}")
    elif failed:
        error = failed[0]
    else:
        return Outcome(cell=one, mark=Mark.PASSED, seconds=seconds)
    text = "".join(traceback.format_exception(error))
    return Outcome(cell=one, mark=Mark.FAILED, seconds=seconds, error=error, text=text)
