"""The matrix as text, as JSON, and as the table of docs/libraries/README.md."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.ecosystem.matrix import COLUMNS, Mark, Outcome, Row

__all__ = ["as_json", "as_markdown", "as_text", "passed"]

SCHEMA = 1
_WIDTH = 110


def passed(outcomes: Iterable[Outcome]) -> int:
    """Return how many cells of the table passed; of one that has several ways each has to."""
    return sum(mark is Mark.PASSED for mark in _marks(outcomes).values())


def as_text(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> str:
    """Return the table, its counts, the reasons of its empty cells, and what went wrong in the failed ones."""
    marks, reasons = _marks(outcomes), _reasons(rows)
    left = max(len(row.name) for row in rows) + 2
    middle = max(len(row.version) for row in rows) + 2
    lines = [" " * (left + middle) + "".join(column.center(11) for column in COLUMNS).rstrip()]
    for row in rows:
        shown = [_shown(row, column, marks, reasons).center(11) for column in COLUMNS]
        lines.append((row.name.ljust(left) + row.version.ljust(middle) + "".join(shown)).rstrip())
    failed = [outcome for outcome in outcomes if outcome.mark is Mark.FAILED]
    counts = (
        f"{len(rows)} libraries, {len(marks)} cells: {passed(outcomes)} passed, "
        f"{len(marks) - passed(outcomes)} failed; {sum(len(row.reasons) for row in rows)} empty, each with its reason"
    )
    lines += ["", counts, "", "Empty cells, and why"]
    for reason, number in reasons.items():
        where = ", ".join(f"{row.name} ({', '.join(columns)})" for row, columns in _with_reason(rows, reason))
        text = f"{number:>3}  {reason}: {where}"
        lines += textwrap.wrap(text, _WIDTH, subsequent_indent="       ", break_on_hyphens=False)
    for outcome in failed:
        lines += ["", f"✘ {outcome.cell.name}", *(f"    {line}" for line in outcome.text.splitlines())]
    return "\n".join(lines)


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table with a number where there is no cell, and the reasons: what every cell being tested means."""
    reasons = _reasons(rows)
    lines = ["| library | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for row in rows:
        shown = ["✔" if column in row.cells else f"{reasons[row.reasons[column]]}" for column in COLUMNS]
        lines.append(f"| {row.name} | " + " | ".join(shown) + " |")
    lines += ["", *(f"{number}. {reason}" for reason, number in reasons.items())]
    return "\n".join(lines) + "\n"


def as_json(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> str:
    """Return all of it for machines."""
    found = {
        "schema": SCHEMA,
        "columns": COLUMNS,
        "libraries": {row.name: row.version for row in rows},
        "empty": [
            {"library": row.name, "column": column, "reason": reason}
            for row in rows
            for column, reason in row.reasons.items()
        ],
        "cells": [
            {
                "library": outcome.cell.library,
                "column": outcome.cell.column,
                "way": outcome.cell.way,
                "outcome": outcome.mark.name.lower(),
                "seconds": round(outcome.seconds, 3),
                "text": outcome.text,
            }
            for outcome in outcomes
        ],
    }
    return json.dumps(found, indent=1) + "\n"


def _marks(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], Mark]:
    marks: dict[tuple[str, str], Mark] = {}
    for outcome in outcomes:
        key = outcome.cell.library, outcome.cell.column
        if marks.get(key) is not Mark.FAILED:
            marks[key] = outcome.mark
    return marks


def _reasons(rows: Iterable[Row]) -> dict[str, int]:
    """The reasons, each once, and its number."""
    found = dict.fromkeys(row.reasons[column] for row in rows for column in COLUMNS if column in row.reasons)
    return {reason: number for number, reason in enumerate(found, 1)}


def _with_reason(rows: Iterable[Row], reason: str) -> list[tuple[Row, list[str]]]:
    found = [(row, [column for column in COLUMNS if row.reasons.get(column) == reason]) for row in rows]
    return [(row, columns) for row, columns in found if columns]


def _shown(row: Row, column: str, marks: dict[tuple[str, str], Mark], reasons: dict[str, int]) -> str:
    if column in row.reasons:
        return str(reasons[row.reasons[column]])
    mark = marks.get((row.name, column))
    return "hole" if mark is None else mark.value


def write_page() -> None:
    """Bring the table at the end of docs/libraries/README.md up to date."""
    import tests.ecosystem.cells  # the rows  # noqa: F401
    from tests.ecosystem.matrix import ROWS

    page = Path(__file__).parents[2] / "docs" / "libraries" / "README.md"
    text, _, _ = page.read_text(encoding="utf-8").partition("\n| library |")
    page.write_text(f"{text.rstrip()}\n\n{as_markdown(list(ROWS.values()))}", encoding="utf-8")


if __name__ == "__main__":
    write_page()
