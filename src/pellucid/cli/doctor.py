"""`pellucid doctor`: has the programs of this machine fetch a page by the development CA, and tells what helps those
that do not trust it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import click

from pellucid.cli.common import CommandFailed
from pellucid.cli.development_ca import DevelopmentCA
from pellucid.cli.doctor_programs import PROGRAMS, Program, attempt
from pellucid.cli.doctor_server import Probes, probes
from pellucid.cli.doctor_surroundings import Finding, Level, ca_findings, variable_findings
from pellucid.cli.output import Output
from pellucid.cli.stores import Root, Store, stores
from pellucid.cli.trust import Standing, standing_of
from pellucid.explain.text import Line, Span, line

__all__ = ["SCHEMA", "Checked", "command"]

SCHEMA: Final = 1
_AT_ONCE: Final = 3
_MARKS: Final = {
    Level.GOOD: Span("✔", "good"),
    Level.WARNING: Span("!", "warn"),
    Level.BAD: Span("✘", "bad"),
}


@click.command(short_help="Try whether the programs on this machine trust the development CA.")
@click.argument("names", metavar="[PROGRAM]...", nargs=-1, type=click.Choice([one.name for one in PROGRAMS]))
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def doctor(names: tuple[str, ...], as_json: bool) -> int:
    """Have each PROGRAM, or all that are installed, fetch a page from an HTTPS server on this machine.

    The server has a certificate by the development CA. For a program that refuses it the line that helps is told, and
    tried. Variables in the way, the CA's dates and files, the clock and the stores are looked at too.
    The exit code is 0 if every program trusts it, 60 if one does not, 58 if there is no usable CA.
    """
    output = Output()
    authority = DevelopmentCA.existing()
    if authority is None:
        raise CommandFailed("there is no development CA yet", code=58, hints=("pellucid dev-cert localhost",))
    root = Root.read(authority.certificate_path)
    findings = [*ca_findings(authority), *variable_findings(root)]
    wanted = [one for one in PROGRAMS if not names or one.name in names]
    read = {store for one in wanted for store in one.stores}
    standings = {
        name: (store, standing_of(store, root)) for name, store in stores().items() if not names or name in read
    }
    with probes(authority.credential()) as server, ThreadPoolExecutor(_AT_ONCE) as pool:
        checked = list(pool.map(lambda one: _checked(one, server, root), wanted))
    if as_json:
        output.json(_document(root, findings, standings, checked))
    else:
        output.facts(_lines(findings, standings, checked, root))
    if names and (absent := [one for one in checked if one.trusts is None]):
        raise CommandFailed(f"{absent[0].program.name}: {absent[0].said}", code=26)
    if any(one.trusts is False for one in checked):
        return 60
    return 58 if any(one.level is Level.BAD and one.what in {"ca", "clock"} for one in findings) else 0


command = doctor


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one program. trusts: None if it could not be tried; helps: whether what is told does."""

    program: Program
    path: str
    trusts: bool | None
    said: str
    helps: bool | None = None


def _checked(program: Program, server: Probes, root: Root) -> Checked:
    path = program.found()
    if missing := program.why_missing(path):
        return Checked(program, path, None, missing)
    url = server.url()
    tried = attempt(program, path, url)
    if server.asked(url):
        return Checked(program, path, True, "")
    again = server.url()
    attempt(program, path, again, fix_with=root)
    return Checked(program, path, False, tried.said or f"it left with {tried.code}", server.asked(again))


# ---- what is told ----------------------------------------------------------------------------------------------------


def _lines(
    findings: Sequence[Finding],
    standings: Mapping[str, tuple[Store, Standing]],
    checked: Sequence[Checked],
    root: Root,
) -> Iterator[Line]:
    yield line(Span("The CA and what is around it", "title"))
    for one in findings:
        yield line("  ", _MARKS[one.level], " ", Span(one.what, "name"), f"  {one.text}")
        if one.hint:
            yield line("      ", Span(one.hint, "strong"))
    if standings:
        yield line(Span("Stores", "title"))
    for name, (store, standing) in standings.items():
        mark = {True: _MARKS[Level.GOOD], False: _MARKS[Level.BAD], None: Span("–", "muted")}[standing.trusted]
        word = {True: "has it", False: "has it not", None: standing.problem}[standing.trusted]
        yield line("  ", mark, " ", Span(f"{name:<9}", "name"), f" {store.title}: {word}")
        if standing.trusted is False:
            yield line("      ", Span(_apply_line(name, store, root), "strong"))
    yield line(Span("Programs", "title"))
    for tried in checked:
        mark = {True: _MARKS[Level.GOOD], False: _MARKS[Level.BAD], None: Span("–", "muted")}[tried.trusts]
        word = "trusts it" if tried.trusts else tried.said
        where = f"  ({tried.path})" if tried.trusts is not None else ""
        yield line("  ", mark, " ", Span(f"{tried.program.name:<9}", "name"), f" {word}{where}")
        if tried.trusts is False:
            tested = "tried: it helps" if tried.helps else "tried: it did not help; look at the variables above"
            yield line("      ", Span(_fix_line(tried.program, root), "strong"), f"   ({tested})")


def _apply_line(name: str, store: Store, root: Root) -> str:
    if store.needs_root:
        return f"sudo pellucid trust --apply {name} --ca {shlex.quote(str(root.path))}"
    return f"pellucid trust --apply {name}"


def _fix_line(program: Program, root: Root) -> str:
    unset = "".join(f"unset {name}; " for name in program.unset if os.environ.get(name))
    return unset + program.line(shlex.quote(str(root.path)), "https://localhost:8443/")


def _document(
    root: Root,
    findings: Sequence[Finding],
    standings: Mapping[str, tuple[Store, Standing]],
    checked: Sequence[Checked],
) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "ca": {"file": str(root.path), "tag": root.tag},
        "findings": [
            {"what": one.what, "level": one.level.value, "text": one.text, "hint": one.hint} for one in findings
        ],
        "stores": [
            {"name": name, "trusted": standing.trusted, "problem": standing.problem}
            for name, (_, standing) in standings.items()
        ],
        "programs": [
            {
                "name": one.program.name,
                "path": one.path,
                "trusts": one.trusts,
                "said": one.said,
                "fix": "" if one.trusts is not False else _fix_line(one.program, root),
                "fix_helps": one.helps,
            }
            for one in checked
        ],
    }
