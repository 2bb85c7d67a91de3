"""The run over all faults of servers, and its totals."""

from __future__ import annotations

import concurrent.futures
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pellucid.testing.faults import FAULTS
from pellucid.trace import Role
from tests.diagnosis.victims import OURS, Answer, Meeting, available, meeting, names_of

MOST_WRONG = 0.04
"""of a column of ours; 58 of 60 are right at least"""
_WAITING = {"PEER-STALLED", "TCP-TIMEOUT"}
SECONDS, SECONDS_OF_SILENCE = 5.0, 0.8


@dataclass
class Row:
    """One fault, what is expected, and what everybody made of it."""

    fault: str
    summary: str
    expected: str
    ours: dict[str, Answer] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)

    def right(self, column: str) -> bool:
        """Whether ours named the code: by the error alone or, where a library lets nothing through, by its record."""
        answer = self.ours[column]
        return (answer.code if answer.code is not None else answer.recorded) == self.expected


@dataclass(frozen=True)
class Total:
    """Of one column of ours. alone: right by the error itself.   recorded: right with the connection's record."""

    column: str
    faults: int
    surfaced: int
    alone: int
    recorded: int

    @property
    def good(self) -> bool:
        """At least 58 of 60, and as good a share of however many there are; for libraries, of what they surface."""
        least = (1 - MOST_WRONG) * (self.faults if self.column == "get" else self.surfaced)
        return self.alone >= least and (self.column != "get" or self.alone >= 58)


def server_faults() -> list[str]:
    return [name for name, fault in FAULTS.items() if fault.side is Role.SERVER]


def rows(names: list[str], *, others: bool = True) -> Iterator[Row]:
    """Meet every fault of *names*, one after the other; those who meet it do so at the same time."""
    beside = available() if others else {}
    hosts = {FAULTS[name].recipe.host for name in names}
    with tempfile.TemporaryDirectory() as directory, names_of(hosts), concurrent.futures.ThreadPoolExecutor(8) as pool:
        for name in names:
            yield _row(name, Path(directory), beside, pool)


def _row(
    name: str,
    directory: Path,
    beside: dict[str, Callable[[Meeting], str]],
    pool: concurrent.futures.Executor,
) -> Row:
    fault = FAULTS[name]
    row = Row(name, fault.summary, fault.code)
    seconds = SECONDS_OF_SILENCE if fault.code in _WAITING else SECONDS
    with meeting(name, directory, seconds) as met:
        ours = {column: pool.submit(through, met) for column, through in OURS.items() if column != "get"}
        theirs = {column: pool.submit(by, met) for column, by in beside.items()}
        row.ours["get"] = OURS["get"](met)
        row.ours |= {column: found.result() for column, found in ours.items()}
        row.others = {column: found.result() for column, found in theirs.items()}
    return row


def totals(found: list[Row]) -> list[Total]:
    return [
        Total(
            column,
            len(found),
            sum(bool(row.ours[column].code) for row in found),
            sum(row.ours[column].code == row.expected for row in found),
            sum(row.right(column) for row in found),
        )
        for column in OURS
    ]
