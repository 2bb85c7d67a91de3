"""Keeping what was traced: a bounded list of events with the time of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from pellucid.trace import Observer, Secret, SecretDerived, TraceEvent

__all__ = ["Recorded", "Recorder", "tee"]

E = TypeVar("E", bound=TraceEvent)


class Recorded(NamedTuple):
    """An event and when it came: seconds since the recorder was made, by a clock that only goes forward."""

    seconds: float
    event: TraceEvent


class Recorder:
    """An observer that keeps the first *limit* events; what comes after is only counted, in `dropped`.

    The first are the ones worth keeping: they hold the handshake, and a peer decides how many more there are.
    """

    def __init__(self, limit: int = 10_000, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.dropped = 0
        self._clock = clock
        self._started = clock()
        self._recorded: list[Recorded] = []

    def __call__(self, event: TraceEvent) -> None:
        if len(self._recorded) >= self.limit:
            self.dropped += 1
        else:
            self._recorded.append(Recorded(self._clock() - self._started, event))

    def __len__(self) -> int:
        return len(self._recorded)

    @property
    def recorded(self) -> tuple[Recorded, ...]:
        """The events with their times, in order."""
        return tuple(self._recorded)

    @property
    def events(self) -> tuple[TraceEvent, ...]:
        """The events, in order."""
        return tuple(event for _seconds, event in self._recorded)

    @property
    def secrets(self) -> dict[str, Secret]:
        """The key schedule's secrets by name, as far as they were derived. They are still wrapped."""
        return {event.name: event.secret for event in self.of(SecretDerived)}

    def of(self, kind: type[E]) -> tuple[E, ...]:
        """Return the events of one type, in order."""
        return tuple(event for event in self.events if isinstance(event, kind))

    def first(self, kind: type[E]) -> E | None:
        """Return the first event of one type, None if there was none."""
        return next((event for event in self.events if isinstance(event, kind)), None)


def tee(*observers: Observer | None) -> Observer | None:
    """Return one observer that tells all of *observers* in turn; None if none of them is one."""
    watching = tuple(observer for observer in observers if observer is not None)
    if not watching:
        return None

    def tell(event: TraceEvent) -> None:
        for observer in watching:
            observer(event)

    return tell
