"""The table of `make diagnosis`, for a few faults: through the command, through libraries, and by others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.diagnosis.run import Row, rows, totals
from tests.diagnosis.table import as_json, as_markdown, head, line, summary
from tests.diagnosis.victims import OURS, Answer

# One of each kind that libraries treat in their own way; those that nobody lets through are not among them.
FAULTS = ["expired", "missing-intermediate", "proxy", "plain-http", "reset-hello", "refused", "wrong-finished",
          "no-common-group", "certificate-required", "flipped-tag"]  # fmt: skip


def test_ours_are_named_right_through_the_command_and_the_libraries() -> None:
    found = list(rows(FAULTS, others=False))
    wrong = [(row.fault, column, row.ours[column]) for row in found for column in OURS if not row.right(column)]
    assert not wrong
    assert all(row.ours[column].code == row.expected for row in found for column in ("get", "requests", "httpx2"))
    for total in totals(found):
        assert total.alone >= len(FAULTS) - 1
    text = as_markdown(found, totals(found))
    assert text.count("\n| `") == len(FAULTS)


@pytest.mark.program("curl")
@pytest.mark.program("openssl")
def test_others_are_heard_beside_ours() -> None:
    (row,) = rows(["expired"])
    assert "expired" in row.others["curl"] and row.others["curl"].startswith("60: ")
    assert "expired" in row.others["openssl"]
    assert "certificate has expired" in row.others["ssl"]
    assert "✔" in line(row) and "curl" in head()


def answered(code: str | None, recorded: str | None = None) -> Row:
    row = Row("f", "s", "A")
    row.ours = dict.fromkeys(OURS, Answer(code, recorded))
    row.others = {"curl": "35: a|b"}
    return row


def test_totals_pass_from_58_of_60_on() -> None:
    good, bad, silent = answered("A"), answered("B"), answered(None, "A")
    assert all(total.good for total in totals([good] * 58 + [bad] * 2))
    assert not any(total.good for total in totals([good] * 57 + [bad] * 3))
    assert not totals([good] * 57)[0].good  # too few faults to say so
    # What a library lets nothing of ours through of does not count against us there; through the command it does.
    by_column = {total.column: total for total in totals([good] * 58 + [silent] * 10)}
    assert not by_column["get"].good and by_column["aiohttp"].good
    assert by_column["aiohttp"].recorded == 68
    assert "58 of 68 right; 58 surfaced" in summary(by_column["requests"])


def test_table_is_told_as_json_and_markdown(tmp_path: Path) -> None:
    found = [answered("A"), answered(None, "A"), answered("")]
    facts = as_json(found, totals(found))
    assert facts["schema"] == 1
    text = as_markdown(found, totals(found))
    assert "a\\|b" in text and "(✔)" in text and "no error" in text
