"""Eight threads, each with connections of its own, over configurations that all of them share: nothing gets mixed up.

Connections are never shared by threads; configurations, stores of sessions, ticket keys and the register of early data
always are. On a build with a global lock the threads change places after every microsecond; on a free-threaded one
they run at once: the same tests are the ones to run there.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from pellucid import ClientConfig, Connection, ServerConfig
from pellucid.errors import TLSError
from pellucid.handshake.actions import EarlyDataOutcome as Outcome
from pellucid.trace import Role
from tests.support import pair
from tests.support.meetings import Meeting, asking, begin, meet
from tests.support.pair import credential, data_of, deliver, events_of
from tests.support.resuming import early_client, early_server, resuming_client, resuming_server, sessions_of

pytestmark = pytest.mark.timeout(240)

THREADS = 8
ROUNDS = 500 if os.environ.get("PELLUCID_SOAK") else 10
BULK = 300_000


@pytest.fixture(autouse=True)
def _threads_change_places_all_the_time() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def run(work: object, *, threads: int = THREADS) -> None:
    """Have *work* done by so many threads, each told its number, all at once; raise what one of them raised."""
    assert callable(work)
    ready, wrong = threading.Barrier(threads), []

    def begin_together(number: int) -> None:
        try:
            ready.wait(30)
            work(number)
        except BaseException as error:
            wrong.append(error)

    every = [threading.Thread(target=begin_together, args=(number,)) for number in range(threads)]
    for thread in every:
        thread.start()
    for thread in every:
        thread.join(200)
        assert not thread.is_alive()
    if wrong:
        raise wrong[0]


def exchange(met: Meeting, sent: bytes) -> None:
    """Send *sent* each way, in pieces of several sizes, with key updates in between: the same must arrive."""
    for sender, receiver in ((met.client, met.server), (met.server, met.client)):
        received, at = [], 0
        for size in (100, 16_384, 40_000, 1, len(sent)):
            sender.send_data(sent[at : at + size])
            at += size
            deliver(sender.data_to_send(), receiver)
            seen, error = events_of(receiver)
            assert error is None, error
            received.append(data_of(seen))
            sender.send_key_update()
            deliver(sender.data_to_send(), receiver)
            deliver(receiver.data_to_send(), sender)
        assert b"".join(received) == sent


def spoiled(ours: ClientConfig, theirs: ServerConfig) -> None:
    """A connection that ends in an error: others go on."""
    met = meet(ours, theirs)
    met.client.send_data(b"x" * 100)
    record = bytearray(met.client.data_to_send())
    record[-1] ^= 1
    met.server.receive_data(bytes(record))
    _, error = events_of(met.server)
    assert isinstance(error, TLSError)


def test_handshakes_of_every_kind_and_bulk_data_over_shared_configurations() -> None:
    ours, early = resuming_client(), early_client()
    shows = resuming_client(credentials=(credential("p256", "client.test"),))
    plain, takes_early, asks = resuming_server(), early_server(), asking()
    seen: Counter[str] = Counter()

    def work(number: int) -> None:
        data = random.Random(number).randbytes(BULK)
        counted: Counter[str] = Counter()
        for _ in range(ROUNDS):
            for name, client, server in (
                ("plain", ours, plain),
                ("early", early, takes_early),
                ("shown", shows, asks),
            ):
                met = meet(client, server)
                counted[f"{name} {'resumed' if met.resumed else 'in full'}"] += 1
                exchange(met, data)
                if name == "shown":
                    assert met.server.peer is not None
            text = b"%d" % number * 50
            begun = begin(early, takes_early)
            begun.client.start()
            if begun.client.early_data_left >= len(text):
                begun.client.send_early_data(text)
                begun.pump()
                assert begun.early in (b"", text)
                counted[begun.early_data[1].value] += 1
                begun.speak()
            spoiled(ours, plain)
        with lock:
            seen.update(counted)

    lock = threading.Lock()
    run(work)
    total = sum(count for what, count in seen.items() if what.startswith(("plain", "early", "shown")))
    assert total == THREADS * ROUNDS * 3
    assert seen["plain resumed"] and seen["early resumed"] and seen["shown resumed"]
    assert seen[Outcome.ACCEPTED.value], seen


def test_one_early_flight_shown_by_eight_threads_is_accepted_once() -> None:
    theirs = early_server()
    for _ in range(ROUNDS):
        ours = early_client()
        assert not meet(ours, theirs).resumed
        assert sessions_of(ours)
        met = begin(ours, theirs)
        met.client.send_early_data(b"once")
        flight = met.client.data_to_send()
        outcomes: list[bool] = []

        def show(_: int, flight: bytes = flight, outcomes: list[bool] = outcomes) -> None:
            victim = Connection.server(theirs)
            victim.receive_data(flight)
            seen, error = events_of(victim)
            assert error is None, error
            outcomes.append(any(type(event).__name__ == "EarlyData" for event in seen))

        run(show)
        assert (len(outcomes), sum(outcomes)) == (THREADS, 1)


def test_caches_that_are_cold_are_filled_by_all_threads_at_once() -> None:
    """Certificates nobody has seen before, at the same moment in every thread, with as many names."""
    names = [f"host{number}.test" for number in range(THREADS)]
    kinds = ("p256", "p384", "ed25519")
    configs = {
        name: resuming_server(credentials=(credential(kinds[at % len(kinds)], name),)) for at, name in enumerate(names)
    }

    def work(number: int) -> None:
        ours = pair.client_config(sessions=None)
        for turn in range(THREADS):
            name = names[(number + turn) % THREADS]
            met = meet(ours, configs[name], name=name)
            assert not met.resumed
            peer = met.client.peer
            assert peer is not None
            assert peer.leaf.der == configs[name].credentials[0].leaf.der
            assert not met.errors[Role.SERVER]
            with pytest.raises(AssertionError, match="CertificateRejected"):
                _ = meet(ours, configs[name], name="other.test").negotiated

    run(work)
