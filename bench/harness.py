"""The harness: what a measure is, how its rounds are run, and what comes of them.

A module of measures offers `measures(scale) -> Iterable[Measure]` and stands in `bench.__main__.MODULES`. A measure
opens its peers, and each says how one round of it is run; the harness has them take turns, so that what else the
machine does hits all of them alike, and each ratio is the median over rounds of neighbours. Numbers are in the
measure's unit; a ratio is a peer's number divided by the baseline's, whichever way is better. (So a rate of 2 is twice
as fast, and memory of 0.5 is half of it.)
"""

from __future__ import annotations

import contextlib
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

OURS = "pellucid"
SSL = "ssl"
NOISE = 0.15
NOISE_OF_PROCESSES = 0.25

Limit = float | Mapping[str, float]
"""one number, or one for each Python: {"3.11": 2.2, "3.13": 2.8}; a Python between two has the older one's"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One round's outcome: its number in the measure's unit, and perhaps parts, in units of their own.

    parts: such as {"client": 210.0, "server": 180.0}, in the measure's `part_unit`.
    """

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)


Round = Callable[[], "float | Sample"]
"""run one round; return its outcome"""
Peers = Mapping[str, "Round | str"]
"""name → how one round of it is run, or why it is not measured: "not installed", "no resumption", …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is to be measured.

    full:    every peer, suite and cost; otherwise what has a floor, and what explains it.
    rounds:  what an ordinary measure takes; a slow one divides it.
    peers:   who is measured and nobody else; empty: as many as *full* says. `bench compare` asks for ours alone.
    """

    full: bool = False
    rounds: int = 21
    peers: tuple[str, ...] = ()

    def some(self, divisor: float) -> int:
        """Return that part of the rounds, 3 at least."""
        return max(3, round(self.rounds / divisor))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What is measured, between whom, and what is aimed at.

    name:      once in the whole run; the key in JSON.
    group:     the heading it stands under.
    unit:      of its numbers: "/s", "GB/s", "µs", "KiB", "ms", …
    better:    which numbers are: with "higher" the floor is the least ratio, with "lower" the greatest.
    open:      makes what is needed, gives the peers, and clears away afterwards.
    rounds:    of each peer, after one that does not count.
    against:   "ratio": number / baseline's; "difference": number − baseline's, in the unit.
    floor:     what the ratio of *ours* is to keep; None: measured, nothing promised.
    record:    the ratio to take.   beside: peer → the least part of its numbers that the record also asks for.
    slack:     share of the floor that noise may take; NOISE_OF_PROCESSES where two processes are involved.
    note:      a few words on how it is measured, for the table.
    """

    name: str
    group: str
    unit: str
    better: Literal["lower", "higher"]
    open: Callable[[], contextlib.AbstractContextManager[Peers]]
    rounds: int
    baseline: str = SSL
    ours: str = OURS
    against: Literal["ratio", "difference"] = "ratio"
    floor: Limit | None = None
    record: Limit | None = None
    beside: Mapping[str, float] = field(default_factory=dict)
    slack: float = NOISE
    part_unit: str = "µs"
    note: str = ""


class Module(Protocol):
    """A module of measures."""

    def measures(self, scale: Scale) -> Iterable[Measure]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What came of one peer: medians, and the quartiles of its ratio to the baseline's neighbouring rounds."""

    value: float
    ratio: float | None
    quartiles: tuple[float, float] | None
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A measure with its figures, and the reasons of those who have none."""

    measure: Measure
    figures: Mapping[str, Figure]
    missing: Mapping[str, str]

    @property
    def ratio(self) -> float | None:
        """Ours."""
        ours = self.figures.get(self.measure.ours)
        return None if ours is None else ours.ratio

    def verdict(self, python: str | None = None) -> str:
        """Return "record", "kept", "below" (its floor, less the slack), "within noise", "open" or "not measured"."""
        measure = self.measure
        floor = limit(measure.floor, python)
        if self.ratio is None:
            failed = any(why.startswith(FAILED) for why in self.missing.values())
            return "not measured" if failed or floor is not None else "open"
        if floor is None:
            return "open"
        if not _keeps(self.ratio, floor, measure.better, measure.slack):
            return "below"
        if not _keeps(self.ratio, floor, measure.better, 0):
            return "within noise"
        record = limit(measure.record, python)
        if record is not None and _keeps(self.ratio, record, measure.better, 0) and not self.behind():
            return "record"
        return "kept"

    def behind(self) -> list[str]:
        """Return the peers whose numbers the record asks for and that ours do not reach; who is missing is one."""
        ours, behind = self.figures.get(self.measure.ours), []
        for name, part in self.measure.beside.items():
            theirs = self.figures.get(name)
            if ours is None or theirs is None or not _keeps(ours.value / theirs.value, part, self.measure.better, 0):
                behind.append(name)
        return behind

    def as_json(self) -> dict[str, Any]:
        measure = self.measure
        return {
            "group": measure.group,
            "unit": measure.unit,
            "better": measure.better,
            "baseline": measure.baseline,
            "ours": measure.ours,
            "against": measure.against,
            "floor": limit(measure.floor),
            "record": limit(measure.record),
            "beside": dict(measure.beside),
            "behind": self.behind(),
            "part_unit": measure.part_unit,
            "slack": measure.slack,
            "verdict": self.verdict(),
            "peers": {
                name: {
                    "value": figure.value,
                    "ratio": figure.ratio,
                    "quartiles": figure.quartiles,
                    **({"parts": dict(figure.parts)} if figure.parts else {}),
                }
                for name, figure in self.figures.items()
            },
            "missing": dict(self.missing),
        }


def limit(of: Limit | None, python: str | None = None) -> float | None:
    """Return the limit for *python* ("3.12"; default: this one): its own, or that of the next older one named."""
    if of is None or isinstance(of, int | float):
        return of
    asked = _version(python or platform.python_version())
    named = sorted((_version(version), number) for version, number in of.items())
    older = [number for version, number in named if version <= asked]
    return older[-1] if older else named[0][1]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _keeps(ratio: float, floor: float, better: str, slack: float) -> bool:
    allowed = slack * abs(floor)
    return ratio >= floor - allowed if better == "higher" else ratio <= floor + allowed


FAILED = "failed: "


def interleave(rounds: Mapping[str, Round], count: int, failed: dict[str, str]) -> dict[str, list[Sample]]:
    """Return *count* samples of each; they take turns, and none always begins. One round before does not count.

    failed: is told of who raises; it has no samples then, and the others go on.
    """
    found: dict[str, list[Sample]] = {name: [] for name in rounds}

    def turn(name: str) -> Sample | None:
        if name in failed:
            return None
        try:
            outcome = rounds[name]()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
            failed[name] = f"{FAILED}{type(error).__name__}: {error}"
            return None
        return outcome if isinstance(outcome, Sample) else Sample(outcome)

    names = list(rounds)
    for name in names:
        turn(name)
    for i in range(count):
        first = i % len(names)
        order = names[first:] + names[:first]
        # Backwards every other time: nobody always comes after the same one.
        for name in order if i % 2 else reversed(order):
            if (sample := turn(name)) is not None:
                found[name].append(sample)
    return {name: samples for name, samples in found.items() if name not in failed}


def run(measure: Measure, rounds: int | None = None) -> Result:
    """Measure it. Below its floor it is measured once more, as long again, and all rounds count.

    What raises is told as a reason why there is no number; it does not end the run.
    """
    missing: dict[str, str] = {}
    samples: dict[str, list[Sample]] = {}
    try:
        with measure.open() as peers:
            missing |= {name: peer for name, peer in peers.items() if isinstance(peer, str)}
            ready = {name: peer for name, peer in peers.items() if not isinstance(peer, str)}
            samples = interleave(ready, rounds or measure.rounds, missing)
            if Result(measure=measure, figures=figures(measure, samples), missing=missing).verdict() == "below":
                again = interleave({name: ready[name] for name in samples}, rounds or measure.rounds, missing)
                samples = {name: samples[name] + more for name, more in again.items()}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
        missing[measure.ours] = f"{FAILED}{type(error).__name__}: {error}"
        samples = {}
    return Result(measure=measure, figures=figures(measure, samples), missing=missing)


def figures(measure: Measure, samples: Mapping[str, Sequence[Sample]]) -> dict[str, Figure]:
    """Return each peer's figure."""
    base = [sample.value for sample in samples.get(measure.baseline, ())]
    found = {}
    for name, own in samples.items():
        values = [sample.value for sample in own]
        ratios = []
        if base:
            pairs = zip(values, base, strict=True)
            ratios = [a - b if measure.against == "difference" else a / b for a, b in pairs]
        found[name] = Figure(
            value=statistics.median(values),
            ratio=statistics.median(ratios) if ratios else None,
            quartiles=quartiles(ratios) if ratios else None,
            parts={part: statistics.median(sample.parts[part] for sample in own) for part in own[0].parts},
        )
    return found


def quartiles(numbers: Sequence[float]) -> tuple[float, float]:
    if len(numbers) < 2:
        return numbers[0], numbers[0]
    low, _, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return low, high


def per_second(
    work: Callable[[], object], count: int, amount: float = 1.0, clock: Callable[[], float] = time.process_time
) -> Round:
    """Return a round that does *work* *count* times; its number is *amount* of each a second of *clock*.

    amount: 1 for things done; bytes / 1e9 for GB/s.
    clock:  CPU time of this process; `time.perf_counter` where others work for it.
    """

    def one_round() -> float:
        start = clock()
        for _ in range(count):
            work()
        return count * amount / (clock() - start)

    return one_round


def enough(work: Callable[[], object], seconds: float, clock: Callable[[], float] = time.process_time) -> int:
    """Return how often *work* is to be done so that it takes about *seconds*, once at least."""
    work()
    start, count = clock(), 0
    while (spent := clock() - start) < seconds / 5:
        work()
        count += 1
    return max(1, round(count * seconds / max(spent, 1e-9))) if count else 1


def opened(make: Callable[[], Peers]) -> Callable[[], contextlib.AbstractContextManager[Peers]]:
    """Return an `open` for a measure with nothing to clear away."""

    @contextlib.contextmanager
    def manager() -> Iterator[Peers]:
        yield make()

    return manager
