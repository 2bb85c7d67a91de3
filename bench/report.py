"""What a run has found, as text and as JSON."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.harness import Figure, Result, limit
from bench.peers import ALL, peer

SCHEMA = 2
WORDS = {
    "record": "the record is taken",
    "kept": "",
    "within noise": "below its floor by less than noise may take",
    "below": "BELOW ITS FLOOR",
    "open": "",
    "not measured": "NOT MEASURED",
}


def number(value: float) -> str:
    """Return *value* with three digits that count, and no exponent."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def lines(result: Result) -> list[str]:
    """Return what is printed of one measure."""
    measure = result.measure
    goal, record = limit(measure.floor), limit(measure.record)
    words = []
    if goal is not None:
        words.append(f"{'at least' if measure.better == 'higher' else 'at most'} {goal:g}{sign(result)}")
    if record is not None:
        beside = "".join(f" and {part:g}× {name}" for name, part in measure.beside.items())
        words.append(f"record {record:g}{sign(result)}{beside}")
    found = [
        f"{measure.name}"
        + (f"  [{'; '.join(words)}]" if words else "")
        + (f"  ({measure.note})" if measure.note else "")
    ]
    width = max(12, *(len(name) for name in (*result.figures, *result.missing, ""))) + 1
    for name, figure in result.figures.items():
        found.append(f"    {name:<{width}}" + line(result, figure))
    for name, why in result.missing.items():
        found.append(f"    {name:<{width}}{why}")
    if word := WORDS[result.verdict()]:
        found.append(f"    → {word}")
    elif behind := result.behind():
        found.append(f"    → for the record it also has to reach {', '.join(behind)}")
    return found


def line(result: Result, figure: Figure) -> str:
    text = f"{number(figure.value):>10} {result.measure.unit:<6}"
    if figure.ratio is not None and figure.quartiles is not None:
        low, high = figure.quartiles
        text += f"{figure.ratio:>8.2f}{sign(result)}   {low:.2f}-{high:.2f}"
    if figure.parts:
        unit = result.measure.part_unit
        text += "   " + ", ".join(f"{part} {number(value)} {unit}" for part, value in figure.parts.items())
    return text


def sign(result: Result) -> str:
    return "×" if result.measure.against == "ratio" else f" {result.measure.unit}"


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "schema": SCHEMA,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "peers": {name: kind if isinstance(kind := peer(name), str) else kind.version() for name in ALL},
    }


def processor() -> str:
    """Return its name, and how many there are."""
    import os

    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [one.partition(":")[2].strip() for one in text.splitlines() if one.startswith("model name")]
    return f"{names[0] if names else 'unknown'} × {os.cpu_count()}"


def file_in(path: Path) -> Path:
    """Return *path*, or the file of this Python in it where that is a folder."""
    version = ".".join(platform.python_version_tuple()[:2])
    return path / f"{platform.python_implementation().lower()}-{version}.json" if path.is_dir() else path


def write(path: Path, head: Mapping[str, Any], results: Iterable[Result]) -> None:
    """Write everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {**head, "results": {result.measure.name: result.as_json() for result in results}}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def summary(results: Iterable[Result]) -> int:
    """Say what is below its floor or was not measured; return the exit status."""
    status = 0
    for result in results:
        verdict = result.verdict()
        if verdict in ("below", "not measured"):
            ratio = "no figure" if result.ratio is None else f"{result.ratio:.2f}{sign(result)}"
            floor = limit(result.measure.floor)
            aim = "" if floor is None else f", {floor:g} is aimed at"
            print(f"{WORDS[verdict].lower()}: {result.measure.name}: {ratio}{aim}", file=sys.stderr)
            status = 1
    return status
