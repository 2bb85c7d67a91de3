"""One recorded 0-RTT flight, sent again and again: accepted at most once, whatever the clock and the restarts do (§8).

Run with -s to see the counts (attack E11).
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from typing import Any

import pytest

from pellucid import Connection, ServerConfig
from pellucid.errors import BadRecordMac
from pellucid.events import EarlyData, EarlyDataAccepted, HandshakeComplete
from pellucid.handshake.actions import EarlyDataOutcome as Outcome
from pellucid.sessions import MemoryServerSessions, StrikeRegister, TicketKeys
from pellucid.trace import ChoiceMade
from tests.support.meetings import begin, clock, meet
from tests.support.pair import events_of
from tests.support.resuming import early_client, early_server
from tests.support.sessions import Clock
from tests.support.soak import times

TIMES = 1000
FEWER = times(250, TIMES)
TEXT = b"POST /pay?amount=100 HTTP/1.1\r\n\r\n"


def recorded(now: Clock, theirs: ServerConfig) -> bytes:
    """A flight of a client that has a ticket of *theirs*, made at the clock's time: it was never delivered."""
    ours = early_client(provider=now.provider)
    assert not meet(ours, theirs).resumed
    met = begin(ours, theirs)
    met.client.send_early_data(TEXT)
    return met.client.data_to_send()


def replay(flight: bytes, theirs: ServerConfig) -> str:
    """What a fresh connection makes of the flight: accepted, or why not. A rejection is no error."""
    told: list[Any] = []
    victim = Connection.server(theirs, trace=told.append)
    victim.receive_data(flight)
    seen, error = events_of(victim)
    assert error is None
    assert victim.data_to_send()
    (choice,) = (event for event in told if type(event) is ChoiceMade and event.what == "early_data")
    accepted = any(isinstance(event, EarlyDataAccepted) for event in seen)
    data = b"".join(event.data for event in seen if isinstance(event, EarlyData))
    assert accepted is (choice.reason == Outcome.ACCEPTED.value)
    assert data == (TEXT if accepted else b"")
    assert not any(isinstance(event, HandshakeComplete) for event in seen)
    return choice.reason


def show(title: str, seen: Counter[str]) -> int:
    print(f"\n{title}: {sum(seen.values())} times")
    for reason, count in seen.most_common():
        print(f"  {count:5} {reason}")
    return seen[Outcome.ACCEPTED.value]


def restarted(theirs: ServerConfig, now: Clock) -> ServerConfig:
    """A server that was started now, with the ticket keys of the one before and nothing else of it."""
    keys = theirs.session_store
    assert isinstance(keys, TicketKeys)
    return early_server(provider=now.provider, sessions=TicketKeys.from_keys(keys.export_keys(), now.provider))


@pytest.mark.parametrize("store", ["sealed", "kept", "single use"])
@pytest.mark.rfc("9846 §8", "an instance of a server accepts 0-RTT for the same 0-RTT handshake at most once")
def test_e11_flight_replayed_a_thousand_times_is_accepted_once(store: str) -> None:
    now = clock()
    sessions = {
        "sealed": lambda: TicketKeys(now.provider),
        "kept": lambda: MemoryServerSessions(now.provider, single_use=False),
        "single use": lambda: MemoryServerSessions(now.provider),
    }[store]()
    theirs = early_server(provider=now.provider, sessions=sessions)
    now.now += 60
    flight = recorded(now, theirs)
    assert show(f"replayed at once, {store}", Counter(replay(flight, theirs) for _ in range(TIMES))) == 1


@pytest.mark.parametrize("start", [-30.0, -5.0, 0.0])
@pytest.mark.rfc("9846 §8", "an instance of a server accepts 0-RTT for the same 0-RTT handshake at most once")
def test_e11_flight_replayed_while_the_clock_moves_is_accepted_once(start: float) -> None:
    """From before it can have been sent to long after it is stale: through the window and out of it."""
    now = clock()
    theirs = early_server(provider=now.provider)
    now.now += 60
    flight = recorded(now, theirs)
    sent_at, seen = now.now, Counter[str]()
    for number in range(FEWER):
        now.now = sent_at + start + 60.0 * number / FEWER
        seen[replay(flight, theirs)] += 1
    assert show(f"from {start:+.0f} s to {start + 60:+.0f} s", seen) == 1


def test_e11_flight_replayed_while_the_clock_jumps_back_and_forth_is_accepted_at_most_once() -> None:
    now = clock()
    theirs = early_server(provider=now.provider)
    now.now += 60
    flight = recorded(now, theirs)
    sent_at, seen = now.now, Counter[str]()
    for number in range(FEWER):
        now.now = sent_at + (0.0, 9.0, -9.0, 25.0, -25.0, 3600.0, 0.5)[number % 7]
        seen[replay(flight, theirs)] += 1
    assert show("while the clock jumps", seen) == 1


@pytest.mark.parametrize("every", [1, 10, 100])
@pytest.mark.parametrize("step", [0.0, 0.05, 0.5])
@pytest.mark.rfc("9846 §8.2", "a register that was just started rejects while an earlier one may have seen the hello")
def test_e11_flight_replayed_across_restarts_is_accepted_at_most_once(every: int, step: float) -> None:
    """The first server takes it; then it is started again with the same ticket keys, every so many replays."""
    now = clock()
    theirs = early_server(provider=now.provider)
    now.now += 60
    flight = recorded(now, theirs)
    seen = Counter((replay(flight, theirs),))
    assert seen[Outcome.ACCEPTED.value] == 1
    for number in range(TIMES // 4):
        if number % every == 0:
            theirs = restarted(theirs, now)
        seen[replay(flight, theirs)] += 1
        now.now += step
    assert show(f"a restart every {every}, {step} s between", seen) == 1


def test_e11_flight_that_only_a_restarted_server_sees_is_not_taken_by_it() -> None:
    """Nobody can know that the one before did not take it; once it is stale nobody takes it at all."""
    now = clock()
    theirs = early_server(provider=now.provider)
    now.now += 60
    flight = recorded(now, theirs)
    theirs = restarted(theirs, now)
    seen = Counter[str]()
    for _ in range(100):
        seen[replay(flight, theirs)] += 1
        now.now += 0.5
    assert show("restarted before it came", seen) == 0


def test_restarted_server_takes_early_data_with_tickets_of_its_own() -> None:
    now = clock()
    theirs = restarted(early_server(provider=now.provider), now)
    now.now += 2
    flight = recorded(now, theirs)
    assert replay(flight, theirs) == Outcome.ACCEPTED.value


def test_e11_workers_that_share_a_register_accept_it_once_between_them() -> None:
    """Four configurations of one server, eight threads: one of them takes it."""
    now = clock()
    keys, guard = TicketKeys(now.provider), StrikeRegister(now.provider)
    now.now += 60
    workers = [early_server(provider=now.provider, sessions=keys, replay_guard=guard) for _ in range(4)]
    flight = recorded(now, workers[0])
    seen: list[str] = []
    barrier = threading.Barrier(8)

    def work(which: int) -> None:
        barrier.wait()
        seen.extend(replay(flight, workers[which % 4]) for _ in range(FEWER // 8))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == FEWER // 8 * 8
    assert show("four workers, eight threads", Counter(seen)) == 1


@pytest.mark.rfc("9846 §8.2", "a full register rejects, and forgets nothing that could come again")
def test_e11_full_register_takes_no_more_early_data_and_no_replay() -> None:
    now = clock()
    guard = StrikeRegister(now.provider, capacity=3)
    theirs = early_server(provider=now.provider, replay_guard=guard)
    now.now += 60
    flights = [recorded(now, theirs) for _ in range(5)]
    first = [replay(flight, theirs) for flight in flights]
    assert first == [Outcome.ACCEPTED.value] * 3 + [Outcome.REPLAYED.value] * 2
    assert {replay(flight, theirs) for flight in flights * 20} == {Outcome.REPLAYED.value}
    now.now += 30
    assert replay(recorded(now, theirs), theirs) == Outcome.ACCEPTED.value


def test_e11_copy_of_a_configuration_shares_neither_tickets_nor_register() -> None:
    """A copy with the same ticket keys and not the register accepts each flight once more: it must be asked for."""
    now = clock()
    theirs = early_server(provider=now.provider)
    now.now += 60
    flight = recorded(now, theirs)
    copy = dataclasses.replace(theirs)
    assert copy.early_data_guard is not theirs.early_data_guard
    assert replay(flight, theirs) == Outcome.ACCEPTED.value
    assert replay(flight, copy) == Outcome.NOT_RESUMED.value


def test_e11_handshake_of_a_rejected_replay_cannot_be_finished_by_whoever_replays() -> None:
    """The key share is the client's: without its private half there is no Finished."""
    now = clock()
    theirs = early_server(provider=now.provider)
    now.now += 60
    flight = recorded(now, theirs)
    victim = Connection.server(theirs)
    victim.receive_data(flight)
    victim.data_to_send()
    victim.receive_data(b"\x17\x03\x03\x00\x35" + bytes(0x35))  # a guess at Finished
    assert isinstance(events_of(victim)[1], BadRecordMac)
    assert not victim.handshake_complete
