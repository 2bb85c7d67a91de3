"""The run's rows as a table for a terminal, as Markdown and as JSON."""

from __future__ import annotations

from dataclasses import asdict

from tests.diagnosis.run import Row, Total
from tests.diagnosis.victims import OTHERS, OURS, Answer

SCHEMA = 1
_WIDTH = 34


def cell(answer: Answer, expected: str) -> str:
    """✔ for the code that is expected, else what was said; in parentheses where it takes the record to know."""
    if answer.code == expected:
        return "✔"
    if answer.code is None:
        return "(✔)" if answer.recorded == expected else f"({answer.recorded or 'nothing'})"
    return answer.code or "no error"


def line(row: Row) -> str:
    ours = "  ".join(f"{cell(row.ours[column], row.expected):9.30}" for column in OURS)
    others = "  ".join(f"{row.others.get(column, '-'):{_WIDTH}.{_WIDTH}}" for column in OTHERS)
    return f"{row.fault:36}{row.expected:29}{ours}  {others}".rstrip()


def head() -> str:
    ours = "  ".join(f"{column:9}" for column in OURS)
    others = "  ".join(f"{column:{_WIDTH}}" for column in OTHERS)
    return f"{'fault':36}{'expected':29}{ours}  {others}".rstrip()


def summary(total: Total) -> str:
    share = f"{total.column:9} {total.alone} of {total.faults} right"
    if total.column != "get":
        share += f"; {total.surfaced} surfaced by the library, {total.recorded} right with the record"
    return share


def as_json(rows: list[Row], totals: list[Total]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "rows": [{**asdict(row), "ours": {c: asdict(a) for c, a in row.ours.items()}} for row in rows],
        "totals": [asdict(total) for total in totals],
    }


def as_markdown(rows: list[Row], totals: list[Total]) -> str:
    """Return the page of the documentation: what we say, and what others say of the same."""
    lines = [
        "# What is said of each fault",
        "",
        "Each row is a server with one fault (`pellucid serve --fault NAME`), met by `pellucid get`, by requests,",
        "httpx2 and aiohttp with our `SSLContext`, and by curl, `openssl s_client` and Python's `ssl`. ✔: the code of",
        "the row, from the error alone; (✔): the library lets nothing of ours through, and the connection's record",
        "tells. Measured by `make diagnosis`.",
        "",
        *(f"- {summary(total)}" for total in totals),
        "",
        "| " + " | ".join(("fault", "code", *OURS, *OTHERS)) + " |",
        "|" + "---|" * (2 + len(OURS) + len(OTHERS)),
    ]
    for row in rows:
        code = f"[{row.expected}](codes.md#{row.expected.lower()})"
        ours = [cell(row.ours[column], row.expected) for column in OURS]
        others = [_safe(row.others.get(column, "")) for column in OTHERS]
        lines.append("| " + " | ".join((f"`{row.fault}`", code, *ours, *others)) + " |")
    return "\n".join(lines) + "\n"


def _safe(text: str) -> str:
    cut = text if len(text) <= 110 else text[:109] + "…"
    return cut.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ").replace("[", "\\[")
