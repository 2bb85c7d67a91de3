"""`python -m bench pictures FILE…`: draw what runs have found, and write it into docs/performance.md.

FILE is what `--json` wrote, one for each Python. `make bench-pictures` measures and draws.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import number
from bench.svg import Bar, Row, chart

FOLDER = Path(__file__).parent.parent / "docs"
PAGE = "performance.md"
PICTURES = "performance"
BEGIN, END = "<!-- bench: {} -->", "<!-- bench: end -->"
VERDICTS = {"record": " (record)", "within noise": " (within noise)", "below": " (**below**)"}
Run = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of one or several Pythons, oldest first."""

    runs: tuple[Run, ...]

    @classmethod
    def read(cls, files: Iterable[Path]) -> Runs:
        documents = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        return cls(tuple(sorted(documents, key=lambda one: [int(part) for part in one["python"].split(".")[:2]])))

    @property
    def names(self) -> list[str]:
        """Every measure of any run, in order."""
        return list(dict.fromkeys(name for run in self.runs for name in run["results"]))

    def of(self, name: str) -> list[Run | None]:
        """Return the measure's result of each run."""
        return [run["results"].get(name) for run in self.runs]

    def first(self, name: str) -> Run:
        return next(result for result in self.of(name) if result is not None)


def label(run: Run) -> str:
    return ".".join(run["python"].split(".")[:2])


def ours(result: Run) -> Run | None:
    """Return the figure that the floor is for."""
    found: Run | None = result["peers"].get(result["ours"])
    return found


def floors(runs: Runs) -> str:
    """Return the table of what has a floor: a column for each Python, and no miss hidden."""
    heads = [f"{run['implementation']} {label(run)}" for run in runs.runs]
    lines = [f"| measure | floor | record | {' | '.join(heads)} |", "|---|---|---|" + "---|" * len(heads)]
    for name in runs.names:
        first = runs.first(name)
        if all(result is None or result["floor"] is None for result in runs.of(name)):
            continue
        cells = [
            _floor(runs, name, "floor", "≤ " if first["better"] == "lower" else ""),
            _record(runs, name),
        ]
        cells += [_cell(result) for result in runs.of(name)]
        beside = "" if first["baseline"] == "ssl" else f" (against {first['baseline']})"
        lines.append(f"| {name}{beside} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _floor(runs: Runs, name: str, which: str, before: str) -> str:
    numbers = [result[which] for result in runs.of(name) if result is not None and result[which] is not None]
    return before + " / ".join(dict.fromkeys(f"{one:g}" for one in numbers)) if numbers else "–"


def _record(runs: Runs, name: str) -> str:
    beside = runs.first(name)["beside"]
    return _floor(runs, name, "record", "") + "".join(f", ≥ {part:g} × {peer}" for peer, part in beside.items())


def _cell(result: Run | None) -> str:
    if result is None:
        return "–"
    figure = ours(result)
    if figure is None or figure["ratio"] is None:
        return f"not measured: {result['missing'].get(result['ours'], 'no baseline')}"
    behind = f", behind {', '.join(result['behind'])}" if result["behind"] else ""
    return f"{figure['ratio']:.2f}{VERDICTS.get(result['verdict'], '')}{behind}"


def peers(run: Run) -> str:
    """Return a table of one Python: each measure, each peer's number and its ratio to the baseline."""
    names = list(
        dict.fromkeys(peer for result in run["results"].values() for peer in (*result["peers"], *result["missing"]))
    )
    lines, notes = [], []
    for group in dict.fromkeys(result["group"] for result in run["results"].values()):
        results = {name: one for name, one in run["results"].items() if one["group"] == group}
        here = [name for name in names if any(name in one["peers"] for one in results.values())]
        lines += ["", f"**{group}**", "", f"| | {' | '.join(here)} |", "|---|" + "---|" * len(here)]
        for name, result in results.items():
            cells = [_peer(result, one) for one in here]
            lines.append(f"| {name}, {result['unit']} | {' | '.join(cells)} |")
            notes += [f"{peer}: {why}" for peer, why in result["missing"].items()]
    return "\n".join(lines).strip() + "\n\nWhere there is no number: " + "; ".join(dict.fromkeys(notes)) + "."


def _peer(result: Run, name: str) -> str:
    figure = result["peers"].get(name)
    if figure is None:
        return "–"
    ratio = "" if figure["ratio"] is None or name == result["baseline"] else f" = {figure['ratio']:.2f}"
    parts = figure.get("parts", {})
    apart = f" ({' + '.join(number(part) for part in parts.values())})" if parts else ""
    return number(figure["value"]) + ratio + apart


def primitives(runs: Runs) -> str:
    """Return the table of the floors of the primitives, and the ceiling of each ratio."""
    with_them = [run for run in runs.runs if "primitives" in run]
    heads = [f"{label(run)}: primitives, baseline, ceiling" for run in with_them]
    lines = [f"| both ends | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for name in dict.fromkeys(name for run in with_them for name in run["primitives"]["floors"]):
        cells = []
        for run in with_them:
            found = run["primitives"]
            theirs = found["baselines"].get(name)
            beside = "" if theirs is None else f", {number(theirs)} µs, **{found['ceilings'][name]:.2f}**"
            cells.append(f"{number(found['floors'][name])} µs{beside}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine(runs: Runs) -> str:
    """Return what was measured on what."""
    last = runs.runs[-1]
    lines = [f"- {run['implementation']} {run['python']}, {run['system']}, {run['processor']}" for run in runs.runs]
    lines += [f"- {name}: {version}" for name, version in last["peers"].items()]
    return "\n".join(lines)


def charts(runs: Runs) -> dict[str, str]:
    """Return file name → drawing: what has a floor, and each group with its peers."""
    goals = []
    for name in runs.names:
        first = runs.first(name)
        if first["floor"] is None or first["better"] != "higher" or first["against"] != "ratio":
            continue
        bars = []
        for run, result in zip(runs.runs, runs.of(name), strict=True):
            figure = None if result is None else ours(result)
            if result is not None and figure is not None and figure["ratio"] is not None:
                bars.append(Bar(label(run), figure["ratio"], f"{figure['ratio']:.2f}", True, result["floor"]))
        goals.append(Row(name, tuple(bars)))
    found = {"floors.svg": chart("Pellucid, as a ratio to the baseline; the mark is the floor", goals)}
    for group, results in _groups(runs.runs[-1]).items():
        rows = []
        for name, result in results.items():
            bars = [
                Bar(
                    peer,
                    figure["ratio"],
                    f"{figure['ratio']:.2f} · {number(figure['value'])} {result['unit']}",
                    peer == result["ours"],
                )
                for peer, figure in result["peers"].items()
                if figure["ratio"] is not None
            ]
            rows.append(Row(name, tuple(bars)))
        title = f"{group}: ratio to the baseline, Python {label(runs.runs[-1])}"
        found[re.sub(r"[^a-z0-9]+", "-", group.lower()).strip("-") + ".svg"] = chart(title, rows)
    return found


def _groups(run: Run) -> dict[str, dict[str, Run]]:
    """Group → measures whose ratios are one number divided by another."""
    groups: dict[str, dict[str, Run]] = {}
    for name, result in run["results"].items():
        if result["against"] == "ratio":
            groups.setdefault(result["group"], {})[name] = result
    return groups


def page(text: str, runs: Runs) -> str:
    """Return the page *text* with the tables between its marks."""
    tables = {
        "floors": floors(runs),
        "peers": peers(runs.runs[-1]),
        "primitives": primitives(runs),
        "machine": machine(runs),
        "pictures": "\n".join(f"![{name.removesuffix('.svg')}]({PICTURES}/{name})" for name in charts(runs)),
    }
    for name, table in tables.items():
        begin = BEGIN.format(name)
        before, found, after = text.partition(begin)
        if not found or END not in after:
            raise SystemExit(f"{PAGE} has no place for {name}: {begin} … {END}")
        text = f"{before}{begin}\n\n{table}\n\n{END}{after.partition(END)[2]}"
    return text


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench pictures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where performance.md is; default: docs")
    options = parser.parse_args(arguments)
    runs = Runs.read(options.files)
    path = options.folder / PAGE
    path.write_text(page(path.read_text(encoding="utf-8"), runs), encoding="utf-8")
    pictures = options.folder / PICTURES
    pictures.mkdir(exist_ok=True)
    for name, drawing in charts(runs).items():
        (pictures / name).write_text(drawing, encoding="utf-8")
    return 0
