"""`pellucid explain`: what a code of a diagnosis means, an example, and what can be done; or the list of all codes."""

from __future__ import annotations

from typing import Final

import click

from pellucid.cli.common import CommandFailed
from pellucid.cli.output import Output
from pellucid.explain.diagnosis.code import Code
from pellucid.explain.diagnosis.codes import CODES, find_code, near_misses
from pellucid.explain.text import Line, Span, line, wrap

__all__ = ["code_lines", "command"]

_SCHEMA: Final = 1
_CODE_WIDTH: Final = 27
"""enough for all codes but a few, whose titles stand further right"""


@click.command(short_help="Tell what a code of a diagnosis means, and what can be done.")
@click.argument("code", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def explain(code: str | None, as_json: bool) -> int:
    """Tell what CODE means: X509-EXPIRED, TLS-VERSION, … in capitals or not. Without CODE: list them all.

    Errors name their code: `pellucid get` shows it, and in Python `error.report.code` is it.
    """
    output = Output()
    if code is None:
        if as_json:
            output.json({"schema": _SCHEMA, "codes": [_facts(one) for one in CODES.values()]})
        else:
            output.facts(_list())
        return 0
    found = find_code(code)
    if found is None:
        near = near_misses(code)
        hints = (f"did you mean {' or '.join(near)}?",) if near else ()
        raise CommandFailed(f"{code!r} is no code", code=2, hints=(*hints, "`pellucid explain` lists all of them"))
    if as_json:
        output.json({"schema": _SCHEMA, **_facts(found)})
    else:
        output.facts(code_lines(found, output.width))
    return 0


command = explain


def _list() -> list[Line]:
    return [line(Span(f"{one.code:{_CODE_WIDTH}}", "name"), f"  {one.title}") for one in CODES.values()]


def code_lines(one: Code, width: int = 80) -> list[Line]:
    """Return the long form of a code."""
    lines = [line(Span(one.code, "title"), ": ", Span(one.title, "strong")), line("")]
    for paragraph in one.explanation.split("\n\n"):
        lines += [*wrap(line(paragraph), width), line("")]
    lines.append(line(Span("For example", "strong")))
    for text in one.example.splitlines():
        lines += wrap(line(Span(text, "muted")), width, first=line("    "))
    lines += [line(""), line(Span("What can be done", "strong"))]
    for text in one.remedy:
        lines += wrap(line(text), width, first=line("  - "))
    return lines


def _facts(one: Code) -> dict[str, object]:
    return {
        "code": one.code,
        "title": one.title,
        "explanation": one.explanation,
        "example": one.example,
        "remedy": list(one.remedy),
    }
