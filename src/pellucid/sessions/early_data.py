"""That early data is accepted at most once (RFC 9846 §8): the register of ClientHellos seen, behind an interface."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable
from typing import Final, Protocol

from pellucid.crypto.provider import CryptoProvider, Pending
from pellucid.crypto.pyca import PYCA
from pellucid.errors import UsageError
from pellucid.limits import EARLY_DATA_WINDOW_SECONDS, STRIKE_REGISTER_CAPACITY
from pellucid.sessions.shared import Shared

_MAX_KEY: Final = 64
_JITTER_SECONDS: Final = 1.0
"""Threads read the clock before they get the lock: so much may their times be out of order."""


class ReplayGuard(Protocol):
    """Says whether a ClientHello with early data is seen for the first time. Called by any number of connections."""

    @property
    def window_seconds(self) -> float:
        """How far a ClientHello's arrival may be from what its ticket age says (RFC 9846 §8.3), in either direction.
        Who calls has checked that it is not farther."""
        ...

    def first_use(self, key: bytes, *, now: float, issued_at: float) -> bool | Pending | Awaitable[bool]:
        """Record *key*; return whether it is certain that it has not been seen before. False: reject the early data.

        key:       the binder that was verified, or the ClientHello's random: 1..64 bytes (RFC 9846 §8.2).
        now:       when the ClientHello came, and issued_at: when its ticket was made; seconds since 1970.
        returns:   PENDING, or an awaitable, where others are asked: the connection pauses.
        """
        ...


class StrikeRegister(Shared):
    """The ClientHellos of the last two windows, in memory: exact, for one process (RFC 9846 §8.2).

    Recorded at t, a ClientHello was fresh at t; it expected to arrive by t + window at the latest and so is fresh until
    t + 2 · window at the latest. So long it is remembered. When in doubt the answer is no, and the handshake goes on
    without early data: while an earlier register of this server may have seen the ClientHello, when the register is
    full (nothing that could come again makes room, attack E11), and when the clock stands before where it has been.
    A clock that once ran far ahead and was set back costs the early data until it is there again.

    It holds for one instance (§8: at most once in each): servers that share ticket keys share a guard too, or each of
    them accepts a replay once.

    started:  when the register came to be, or a provider whose clock says so.
    capacity: ClientHellos remembered; at the default about 12 MB when full.
    """

    __slots__ = ("_entries", "_latest", "_lock", "_seen", "_started", "capacity", "window_seconds")

    def __init__(
        self,
        started: float | CryptoProvider = PYCA,
        *,
        window_seconds: float = EARLY_DATA_WINDOW_SECONDS,
        capacity: int = STRIKE_REGISTER_CAPACITY,
    ) -> None:
        if not window_seconds > 0 or capacity < 1:
            raise UsageError("a strike register has a window of more than 0 seconds and room for one ClientHello")
        self.window_seconds = window_seconds
        self.capacity = capacity
        self._started = started.now() if isinstance(started, CryptoProvider) else started
        self._latest = self._started
        self._lock = threading.Lock()
        self._seen: set[bytes] = set()
        self._entries: deque[tuple[float, bytes]] = deque()
        """(until when it may come again, key), in that order"""

    def first_use(self, key: bytes, *, now: float, issued_at: float) -> bool:
        if not 1 <= len(key) <= _MAX_KEY:
            raise UsageError(f"a ClientHello is known by 1 to {_MAX_KEY} bytes, not {len(key)}")
        with self._lock:
            # What was forgotten at the latest time can be fresh at an earlier one.
            if not now >= self._latest - _JITTER_SECONDS:
                return False
            self._latest = max(self._latest, now)
            self._forget(self._latest - _JITTER_SECONDS)
            if self._may_have_been_seen_before_start(now, issued_at) or not issued_at <= now + _JITTER_SECONDS:
                return False
            if key in self._seen or len(self._seen) >= self.capacity:
                return False
            self._seen.add(key)
            self._entries.append((self._latest + 2 * self.window_seconds, key))
            return True

    def _may_have_been_seen_before_start(self, now: float, issued_at: float) -> bool:
        # §8.2: a server that was here before us may have accepted, up to its end, what is still fresh now. Not so with
        # a ticket that is younger than this register: no ClientHello carried it while an earlier register judged.
        return now <= self._started + 2 * self.window_seconds and not issued_at > self._started

    def _forget(self, before: float) -> None:
        entries = self._entries
        while entries and entries[0][0] < before:
            self._seen.discard(entries.popleft()[1])

    def __len__(self) -> int:
        with self._lock:
            return len(self._seen)

    def __bool__(self) -> bool:
        return True  # an empty register is a register

    def __repr__(self) -> str:
        return f"StrikeRegister({len(self)} of {self.capacity} ClientHellos, window ±{self.window_seconds} s)"
