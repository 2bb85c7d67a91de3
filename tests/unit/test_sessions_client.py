"""A client's sessions: when they may be used, how they are written down, and the store in memory."""

from __future__ import annotations

import copy
import pickle
import threading
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import DecodeError, UsageError
from pellucid.limits import CLOCK_STEP_SECONDS, MAX_SESSION_SERVERS, MAX_SESSIONS_PER_SERVER, MAX_TICKET
from pellucid.sessions import ClientSession, ClientSessionStore, MemorySessionStore
from tests.support.sessions import NOW, PSK, client_session, session_key

DAY = 86_400
WEEK = 7 * DAY


# ---- the session ----


def test_session_repr_shows_no_secret_and_no_certificate() -> None:
    text = repr(client_session())
    assert "received_at" in text
    for hidden in ("ticket", "psk", "leaf", "intermediate", "age_add", repr(PSK)[2:20]):
        assert hidden not in text


@pytest.mark.rfc("9846 §4.3.11.1", "clients do not use tickets older than their ticket_lifetime")
@pytest.mark.parametrize(("age", "usable"), [(0, True), (59.999, True), (60, False), (61, False)])
def test_session_is_usable_for_its_lifetime(age: float, usable: bool) -> None:
    assert client_session(lifetime_seconds=60).usable_at(NOW + age) is usable


@pytest.mark.rfc("9846 §4.7.1", "clients do not use tickets for longer than 7 days, whatever the ticket_lifetime")
def test_session_of_more_than_seven_days_cannot_be_made() -> None:
    assert client_session(lifetime_seconds=WEEK, authenticated_at=NOW).usable_at(NOW + WEEK - 1)
    assert not client_session(lifetime_seconds=WEEK, authenticated_at=NOW).usable_at(NOW + WEEK)
    with pytest.raises(UsageError, match="604800"):
        client_session(lifetime_seconds=WEEK + 1)


def test_session_renewed_for_long_ends_with_its_authentication() -> None:
    session = client_session(authenticated_at=NOW - WEEK + 100)
    assert session.expires_at == NOW + 100
    assert session.usable_at(NOW + 99)
    assert not session.usable_at(NOW + 100)


@pytest.mark.parametrize(
    ("ahead", "usable"), [(0, True), (CLOCK_STEP_SECONDS, True), (CLOCK_STEP_SECONDS + 0.1, False)]
)
def test_session_received_in_the_future_is_not_usable(ahead: float, usable: bool) -> None:
    assert client_session().usable_at(NOW - ahead) is usable


@pytest.mark.rfc("9846 §4.3.11.1", "obfuscated_ticket_age is the age in milliseconds plus ticket_age_add modulo 2^32")
@pytest.mark.parametrize(
    ("age", "add", "obfuscated"),
    [
        (0.0, 5, 5),
        (1.5, 5, 1505),
        (0.016, 0xFFFFFFF0, 0),
        (WEEK, 0xFFFFFFFF, WEEK * 1000 - 1),
        (-3.0, 5, 5),
    ],
)
def test_obfuscated_age_is_in_milliseconds_modulo_two_to_the_32(age: float, add: int, obfuscated: int) -> None:
    session = client_session(received_at=1000.0, age_add=add, authenticated_at=1000.0)
    assert session.obfuscated_age(1000.0 + age) == obfuscated


@pytest.mark.parametrize(
    "changes",
    [
        {"ticket": b""},
        {"ticket": bytes(MAX_TICKET + 1)},
        {"psk": b""},
        {"psk": bytes(256)},
        {"lifetime_seconds": 0},
        {"lifetime_seconds": -1},
        {"age_add": 2**32},
        {"age_add": -1},
        {"max_early_data_size": 2**32},
    ],
)
def test_session_with_a_value_out_of_its_range_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        client_session(**changes)


# ---- written down ----


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"alpn": None, "ocsp_response": None, "scts": (), "intermediates": (), "path": (), "local_certificates": ()},
        {"leaf": b"", "signature_scheme": 0},
        {"leaf": b"a key", "certificate_type": 2},
        {"ticket": bytes(MAX_TICKET), "psk": bytes(48)},
        {"alpn": "ü" * 127},
        {"leaf": bytes(70_000)},
    ],
)
def test_session_decodes_to_what_was_encoded(changes: dict[str, Any]) -> None:
    session = client_session(**changes)
    assert ClientSession.decode(session.encode()) == session


@given(st.floats(0, 2**40), st.floats(0, 2**40))
def test_times_survive_any_number_of_encodings(received: float, authenticated: float) -> None:
    once = ClientSession.decode(client_session(received_at=received, authenticated_at=authenticated).encode())
    assert abs(once.received_at - received) <= max(1e-6, received * 1e-15)
    assert ClientSession.decode(once.encode()) == once


@pytest.mark.parametrize("time", [-1.0, float("nan"), float("inf"), 2.0**70])
def test_time_that_is_none_is_not_encoded(time: float) -> None:
    with pytest.raises(UsageError, match="time"):
        client_session(received_at=time).encode()


@pytest.mark.parametrize("alpn", ["x" * 256, "\ud800"])
def test_name_that_is_none_is_not_encoded(alpn: str) -> None:
    with pytest.raises(UsageError):
        client_session(alpn=alpn).encode()


def test_session_of_another_version_is_refused() -> None:
    data = client_session().encode()
    with pytest.raises(DecodeError, match="version"):
        ClientSession.decode(b"\x03" + data[1:])
    with pytest.raises(DecodeError, match="version"):
        ClientSession.decode(b"")


def test_session_cut_short_or_with_more_behind_it_is_refused() -> None:
    data = client_session().encode()
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            ClientSession.decode(data[:length])
    with pytest.raises(DecodeError):
        ClientSession.decode(data + b"\0")


@given(st.data())
def test_damaged_session_decodes_to_a_session_or_is_refused(data: st.DataObject) -> None:
    raw = bytearray(client_session().encode())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        session = ClientSession.decode(bytes(raw))
    except DecodeError:
        return
    assert 0 < session.lifetime_seconds <= WEEK


def test_session_with_no_lifetime_is_refused_though_it_is_well_formed() -> None:
    data = client_session(lifetime_seconds=0x01020304 % WEEK).encode()
    lifetime = (0x01020304 % WEEK).to_bytes(4, "big")
    assert data.count(lifetime) == 1
    for wrong in (bytes(4), (WEEK + 1).to_bytes(4, "big")):
        with pytest.raises(DecodeError, match="604800"):
            ClientSession.decode(data.replace(lifetime, wrong))


# ---- the key ----


@pytest.mark.parametrize(
    "changes",
    [{"scope": b"short"}, {"port": -1}, {"port": 65_536}, {"host": ""}, {"host": "a\ud800"}, {"host": "a" * 1025}],
)
def test_key_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        session_key(**changes)


@pytest.mark.parametrize("other", [{"host": "example.com"}, {"port": 8443}, {"scope": b"t" * 32}])
def test_session_of_another_key_is_not_taken(other: dict[str, Any]) -> None:
    store = MemorySessionStore()
    store.put(session_key(), client_session())
    assert store.take(session_key(**other), NOW) is None
    assert store.take(session_key(), NOW) == client_session()


# ---- the store ----


def numbered(i: int, **changes: Any) -> ClientSession:
    return client_session(ticket=b"%d" % i, **changes)


def test_store_gives_each_session_once_the_newest_first() -> None:
    store: ClientSessionStore = MemorySessionStore()
    for i in range(3):
        store.put(session_key(), numbered(i))
    taken = [store.take(session_key(), NOW) for _ in range(4)]
    assert taken == [numbered(2), numbered(1), numbered(0), None]


def test_store_forgets_what_is_not_usable_any_more() -> None:
    store = MemorySessionStore()
    store.put(session_key(), numbered(0))
    store.put(session_key(), numbered(1, lifetime_seconds=10))
    store.put(session_key(), numbered(2, received_at=NOW + 1000))
    assert store.take(session_key(), NOW + 20) == numbered(0)
    assert len(store) == 0


def test_store_keeps_the_newest_sessions_of_a_server() -> None:
    store = MemorySessionStore()
    for i in range(20):
        store.put(session_key(), numbered(i))
    assert len(store) == MAX_SESSIONS_PER_SERVER
    taken = [store.take(session_key(), NOW) for _ in range(MAX_SESSIONS_PER_SERVER)]
    assert taken == [numbered(i) for i in range(19, 11, -1)]
    assert store.take(session_key(), NOW) is None


def test_store_keeps_the_servers_used_last() -> None:
    store = MemorySessionStore(per_server=2, servers=3)
    for host in ("a", "b", "c"):
        store.put(session_key(host), numbered(0))
        store.put(session_key(host), numbered(1))
    assert store.take(session_key("a"), NOW) == numbered(1)
    store.put(session_key("d"), numbered(0))
    assert store.take(session_key("b"), NOW) is None
    assert store.take(session_key("a"), NOW) == numbered(0)
    assert store.take(session_key("c"), NOW) == numbered(1)


def test_store_discards_a_key_and_no_other() -> None:
    store = MemorySessionStore()
    for host in ("a", "b"):
        store.put(session_key(host), numbered(0))
    store.discard(session_key("a"))
    store.discard(session_key("never there"))
    assert store.take(session_key("a"), NOW) is None
    assert store.take(session_key("b"), NOW) == numbered(0)


@pytest.mark.parametrize("sizes", [{"per_server": 0}, {"servers": 0}])
def test_store_of_nothing_is_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        MemorySessionStore(**sizes)


def test_store_shows_counts_and_no_session() -> None:
    store = MemorySessionStore()
    assert store  # an empty store is a store
    store.put(session_key(), numbered(0))
    store.put(session_key(), numbered(1))
    assert repr(store) == "MemorySessionStore(2 sessions of 1 servers)"


def test_store_is_shared_by_copies_and_not_pickled() -> None:
    store = MemorySessionStore()
    assert copy.copy(store) is store
    assert copy.deepcopy({"store": store})["store"] is store
    with pytest.raises(TypeError, match="secrets"):
        pickle.dumps(store)


@pytest.mark.rfc("9846 §C.4", "clients do not reuse a ticket for several connections")
def test_hundred_threads_use_each_of_eight_tickets_once() -> None:
    store = MemorySessionStore()
    for i in range(8):
        store.put(session_key(), numbered(i))
    taken: list[ClientSession | None] = []
    start = threading.Barrier(100)

    def take() -> None:
        start.wait(10)
        taken.append(store.take(session_key(), NOW))

    threads = [threading.Thread(target=take) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    tickets = [session.ticket for session in taken if session is not None]
    assert len(taken) == 100
    assert sorted(tickets) == [b"%d" % i for i in range(8)]


def test_ten_thousand_tickets_take_no_more_memory_than_the_first() -> None:
    store = MemorySessionStore()

    def flood() -> None:
        for i in range(5_000):
            store.put(session_key(), numbered(i, leaf=bytes(1000)))
        for i in range(5_000):
            store.put(session_key(f"host{i % 500}"), numbered(i, leaf=bytes(1000)))

    flood()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        flood()
        flood()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(store) <= MAX_SESSION_SERVERS * MAX_SESSIONS_PER_SERVER
    # The old sessions were replaced by as many; those alone are now counted.
    assert after - before < len(store) * 4096
