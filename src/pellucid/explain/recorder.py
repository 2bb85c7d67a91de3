"""Keeping what was traced: a bounded list of events with the time of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeVar

from pellucid.trace import MessageTraced, Observer, RecordTraced, Secret, SecretDerived, TraceEvent

__all__ = ["Recorded", "Recorder", "precede", "tee"]

E = TypeVar("E", bound=TraceEvent)


class Recorded(NamedTuple):
    """An event and when it came: seconds since the recorder was made, by a clock that only goes forward."""

    seconds: float
    event: TraceEvent


RECORD_BYTES: Final = 2**22
MESSAGE_BYTES: Final = 2**22


class Recorder:
    """An observer that keeps the first events of a connection; what comes after is only counted, in `dropped`.

    The first are the ones worth keeping: they hold the handshake, and a peer decides how many more there are.

    limit:         how many events are kept.
    record_bytes:  how much of the records themselves. Once a record does not fit no further one is kept, so that those
                   that are there follow one another without a gap; everything else still is.
    message_bytes: how much of handshake messages, in the same way.
    clock:         only goes forward; wall: seconds since 1970.
    """

    def __init__(
        self,
        limit: int = 10_000,
        *,
        record_bytes: int = RECORD_BYTES,
        message_bytes: int = MESSAGE_BYTES,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.limit = limit
        self.dropped = 0
        self.started_at = wall()
        """when the recorder was made, seconds since 1970"""
        self._clock = clock
        self._started = clock()
        self._recorded: list[Recorded] = []
        self._left: dict[type[TraceEvent], int] = {RecordTraced: record_bytes, MessageTraced: message_bytes}

    def __call__(self, event: TraceEvent) -> None:
        recorded = self._recorded
        if len(recorded) >= self.limit or (type(event) in self._left and not self._fits(event)):
            self.dropped += 1
        else:
            recorded.append(Recorded(self._clock() - self._started, event))

    def _fits(self, event: TraceEvent) -> bool:
        kind = type(event)
        left = self._left[kind]
        if left >= 0 and isinstance(event, (RecordTraced, MessageTraced)):
            self._left[kind] = left = left - len(event.raw)
        return left >= 0

    def precede(self, events: Iterable[TraceEvent]) -> None:
        """Put *events*, which were before all others, at the head: with the time 0, when the recorder was made."""
        self._recorded[:0] = [Recorded(0.0, event) for event in events]

    def mapped(self, change: Callable[[TraceEvent], TraceEvent]) -> Recorder:
        """Return what was recorded up to now with each event as *change* makes it; their times and number stay."""
        copy = Recorder(self.limit)
        copy.dropped, copy.started_at = self.dropped, self.started_at
        copy._recorded = [Recorded(at, change(event)) for at, event in self._recorded]
        return copy

    def __len__(self) -> int:
        return len(self._recorded)

    def __repr__(self) -> str:
        return f"<Recorder: {len(self._recorded)} events, {self.dropped} dropped>"

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


class _Tee:
    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self._observers = observers

    def __call__(self, event: TraceEvent) -> None:
        for observer in self._observers:
            observer(event)

    def precede(self, events: Iterable[TraceEvent]) -> None:
        events = tuple(events)
        for observer in self._observers:
            precede(observer, events)


def tee(*observers: Observer | None) -> Observer | None:
    """Return one observer that tells all of *observers* in turn; None if none of them is one."""
    watching = tuple(observer for observer in observers if observer is not None)
    return _Tee(watching) if watching else None


def precede(observer: Observer | None, events: Iterable[TraceEvent]) -> None:
    """Tell *observer* of what was before all that it saw, if it has a `precede` to take it: a TCP handshake, say."""
    take = getattr(observer, "precede", None)
    if take is not None:
        take(events)
