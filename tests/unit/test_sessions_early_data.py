"""The strike register: a ClientHello is accepted once, and when in doubt not at all."""

from __future__ import annotations

import copy
import pickle
import random
import threading
import time
import tracemalloc
from typing import Any

import pytest

from pellucid.errors import UsageError
from pellucid.limits import EARLY_DATA_WINDOW_SECONDS, STRIKE_REGISTER_CAPACITY
from pellucid.sessions import ReplayGuard, StrikeRegister
from tests.support.sessions import NOW, Clock

WINDOW = EARLY_DATA_WINDOW_SECONDS
SETTLED = NOW + 2 * WINDOW + 1
"""when a register started at NOW knows all that may come"""


def key(i: int) -> bytes:
    return i.to_bytes(32, "big")


@pytest.fixture
def register() -> StrikeRegister:
    return StrikeRegister(NOW)


@pytest.mark.rfc("9846 §8", "an instance of a server accepts 0-RTT for the same 0-RTT handshake at most once")
def test_client_hello_replayed_a_thousand_times_is_accepted_once(register: StrikeRegister) -> None:
    guard: ReplayGuard = register
    answers = [guard.first_use(key(1), now=SETTLED + i / 50, issued_at=NOW) for i in range(1000)]
    assert answers == [True] + [False] * 999
    assert guard.window_seconds == WINDOW


def test_client_hellos_that_differ_are_all_accepted(register: StrikeRegister) -> None:
    assert all(register.first_use(key(i), now=SETTLED, issued_at=NOW) for i in range(1000))
    assert len(register) == 1000


@pytest.mark.rfc("9846 §8.2", "a ClientHello is stored as long as its expected arrival time is inside the window")
def test_client_hello_is_remembered_for_as_long_as_it_is_fresh(register: StrikeRegister) -> None:
    # Fresh for the first time at the beginning of its window, it is for the last time two windows later.
    assert register.first_use(key(1), now=SETTLED, issued_at=NOW)
    assert not register.first_use(key(1), now=SETTLED + 2 * WINDOW, issued_at=NOW)
    assert len(register) == 1
    assert register.first_use(key(2), now=SETTLED + 2 * WINDOW + 1.1, issued_at=NOW)
    assert len(register) == 1


@pytest.mark.rfc("9846 §8.2", "a server just started rejects 0-RTT while its window overlaps the startup time")
@pytest.mark.parametrize(
    ("after_start", "accepted"), [(0, False), (WINDOW, False), (2 * WINDOW, False), (2 * WINDOW + 0.01, True)]
)
def test_register_just_started_rejects(register: StrikeRegister, after_start: float, accepted: bool) -> None:
    assert register.first_use(key(1), now=NOW + after_start, issued_at=NOW - 100) is accepted


@pytest.mark.parametrize(("issued_after", "accepted"), [(-1, False), (0, False), (0.001, True), (1, True)])
def test_register_just_started_accepts_tickets_younger_than_itself(
    register: StrikeRegister, issued_after: float, accepted: bool
) -> None:
    assert register.first_use(key(1), now=NOW + 2, issued_at=NOW + issued_after) is accepted
    assert not register.first_use(key(1), now=NOW + 2, issued_at=NOW + issued_after)


def test_replay_across_a_restart_is_rejected() -> None:
    clock = Clock()
    before = StrikeRegister(clock.provider)
    clock.now += 100
    issued = clock.now - 50
    assert before.first_use(key(1), now=clock.now, issued_at=issued)
    clock.now += 0.5
    after = StrikeRegister(clock.provider)
    recorded = clock.now - 0.5
    while clock.now <= recorded + 2 * WINDOW:  # as long as it is fresh
        assert not after.first_use(key(1), now=clock.now, issued_at=issued)
        clock.now += 0.25


def test_ticket_from_the_future_is_rejected(register: StrikeRegister) -> None:
    assert not register.first_use(key(1), now=SETTLED, issued_at=SETTLED + 5)
    assert not register.first_use(key(1), now=SETTLED, issued_at=float("nan"))
    assert len(register) == 0


def test_full_register_rejects_and_forgets_nothing_that_may_come_again() -> None:
    register = StrikeRegister(NOW, capacity=10)
    assert all(register.first_use(key(i), now=SETTLED + i, issued_at=NOW) for i in range(10))
    assert not register.first_use(key(10), now=SETTLED + 10, issued_at=NOW)
    assert not any(register.first_use(key(i), now=SETTLED + 10, issued_at=NOW) for i in range(10))
    # The first is forgotten when it cannot be fresh, and makes room for one.
    later = SETTLED + 2 * WINDOW + 1.5
    assert register.first_use(key(11), now=later, issued_at=NOW)
    assert not register.first_use(key(12), now=later, issued_at=NOW)
    assert not any(register.first_use(key(i), now=later, issued_at=NOW) for i in range(1, 10))


def test_clock_set_back_accepts_nothing_until_it_is_where_it_has_been(register: StrikeRegister) -> None:
    assert register.first_use(key(1), now=SETTLED, issued_at=NOW)
    # The clock runs on, the first is forgotten, and then is set back: it would be fresh again.
    assert register.first_use(key(2), now=SETTLED + 1000, issued_at=NOW)
    for now in (SETTLED, SETTLED + 500, SETTLED + 998.9):
        assert not register.first_use(key(1), now=now, issued_at=NOW)
        assert not register.first_use(key(3), now=now, issued_at=NOW)
        assert not register.first_use(key(3), now=now, issued_at=NOW + 1)
    assert register.first_use(key(3), now=SETTLED + 1000, issued_at=NOW)
    assert not register.first_use(key(4), now=float("nan"), issued_at=NOW)
    assert register.first_use(key(4), now=SETTLED + 1000, issued_at=NOW)


def test_times_out_of_order_by_the_wait_for_a_lock_are_no_clock_set_back(register: StrikeRegister) -> None:
    assert register.first_use(key(1), now=SETTLED + 0.9, issued_at=NOW)
    assert register.first_use(key(2), now=SETTLED, issued_at=NOW)
    assert not register.first_use(key(1), now=SETTLED, issued_at=NOW)


def test_whatever_the_clock_does_no_fresh_client_hello_is_accepted_twice() -> None:
    # ClientHellos are told apart by when they expect to arrive; the caller lets through what is fresh by its clock.
    dice = random.Random(20_260_701)
    for _ in range(200):
        now = NOW
        registers = [StrikeRegister(now, window_seconds=5, capacity=50)]
        hellos = [NOW + dice.uniform(-20, 120) for _ in range(40)]
        accepted: dict[int, int] = {}
        for _ in range(400):
            now += dice.choice([0.1, 0.3, 0.9, -0.3, -3, 8, 40, -30]) if dice.random() < 0.3 else 0.2
            i = dice.randrange(len(hellos))
            if abs(hellos[i] - now) <= 5 and registers[-1].first_use(key(i), now=now, issued_at=NOW - 100):
                accepted[i] = accepted.get(i, 0) + 1
        assert set(accepted.values()) <= {1}


def test_register_is_shared_by_threads() -> None:
    register = StrikeRegister(NOW)
    accepted: list[bytes] = []
    start = threading.Barrier(20)

    def use() -> None:
        start.wait(10)
        accepted.extend(key(i) for i in range(200) if register.first_use(key(i), now=SETTLED, issued_at=NOW))

    threads = [threading.Thread(target=use) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(accepted) == [key(i) for i in range(200)]


def test_full_register_takes_no_more_memory_than_it_says() -> None:
    register = StrikeRegister(NOW)
    tracemalloc.start()
    try:
        for i in range(STRIKE_REGISTER_CAPACITY):
            assert register.first_use(key(i), now=SETTLED, issued_at=NOW)
        full, _ = tracemalloc.get_traced_memory()
        for i in range(STRIKE_REGISTER_CAPACITY, STRIKE_REGISTER_CAPACITY + 10_000):
            assert not register.first_use(key(i), now=SETTLED, issued_at=NOW)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(register) == STRIKE_REGISTER_CAPACITY
    assert used < 16 * 2**20
    assert used - full < 2**14


def test_register_at_its_capacity_stays_quick() -> None:
    register = StrikeRegister(NOW, window_seconds=0.5)
    began = time.perf_counter()
    for i in range(200_000):
        register.first_use(key(i), now=SETTLED + i / 20_000, issued_at=NOW)
    took = time.perf_counter() - began
    assert len(register) <= 2.1 * 20_000
    assert took < 10  # 50 µs each; about 1 µs is usual


@pytest.mark.parametrize("length", [0, 65])
def test_key_that_cannot_be_is_refused(register: StrikeRegister, length: int) -> None:
    with pytest.raises(UsageError):
        register.first_use(bytes(length), now=SETTLED, issued_at=NOW)


@pytest.mark.parametrize("settings", [{"window_seconds": 0}, {"window_seconds": float("nan")}, {"capacity": 0}])
def test_register_that_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        StrikeRegister(NOW, **settings)


def test_register_shows_counts_and_is_not_pickled(register: StrikeRegister) -> None:
    assert register
    assert repr(register) == "StrikeRegister(0 of 65536 ClientHellos, window ±10.0 s)"
    assert copy.deepcopy(register) is register
    with pytest.raises(TypeError):
        pickle.dumps(register)
