"""A server's tickets: what they stand for, the keys that seal them, and the store that needs none."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import threading
import tracemalloc
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from pellucid.crypto.pyca import PYCA
from pellucid.errors import DecodeError, InternalError, UsageError
from pellucid.limits import CLOCK_STEP_SECONDS, MAX_ISSUED_TICKET, MAX_SERVER_SESSIONS, MAX_TICKET
from pellucid.sessions import MemoryServerSessions, ServerSession, ServerSessions, TicketKeys
from tests.support.sessions import NOW, Clock, server_session

HOUR = 3600
DAY = 24 * HOUR
WEEK = 7 * DAY


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(clock: Clock) -> TicketKeys:
    return TicketKeys(clock.provider)


# ---- the session ----


def test_server_session_repr_shows_no_secret() -> None:
    text = repr(server_session())
    assert "example.org" in text
    for hidden in ("psk", "binding", "leaf", "age_add"):
        assert hidden not in text


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "server_name": None,
            "alpn": None,
            "client_signature_scheme": None,
            "client_chain": (),
            "client_presented": (),
        },
        {"client_chain": (b"key",), "client_presented": (b"key",), "client_certificate_type": 2},
        {"client_chain": (b"b", b"a"), "client_presented": (b"a", b"b", b"a")},
        {"max_early_data_size": 2**32 - 1, "age_add": 2**32 - 1, "lifetime_seconds": WEEK},
    ],
)
def test_server_session_decodes_to_what_was_encoded(changes: dict[str, Any]) -> None:
    session = server_session(**changes)
    assert ServerSession.decode(session.encode()) == session


def test_certificate_in_chain_and_presented_is_kept_once() -> None:
    certificate = os.urandom(1000)
    both = server_session(client_chain=(certificate,), client_presented=(certificate, certificate))
    assert both.encode().count(certificate) == 1


def test_session_of_too_many_certificates_is_not_encoded() -> None:
    many = tuple(b"%d" % i for i in range(256))
    assert ServerSession.decode(server_session(client_chain=many[:255], client_presented=()).encode())
    with pytest.raises(UsageError, match="255"):
        server_session(client_chain=many, client_presented=()).encode()


@pytest.mark.rfc("9846 §4.7.1", "servers use no ticket_lifetime greater than 604800 seconds (7 days)")
@pytest.mark.parametrize(
    "changes",
    [
        {"lifetime_seconds": WEEK + 1},
        {"lifetime_seconds": 0},
        {"psk": b""},
        {"psk": bytes(256)},
        {"binding": bytes(31)},
        {"age_add": 2**32},
        {"max_early_data_size": -1},
    ],
)
def test_server_session_with_a_value_out_of_its_range_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        server_session(**changes)


@pytest.mark.parametrize(
    ("at", "usable"),
    [
        (-CLOCK_STEP_SECONDS - 1, False),
        (-CLOCK_STEP_SECONDS, True),
        (0, True),
        (DAY - 1, True),
        (DAY, False),
        (float("nan"), False),
    ],
)
def test_server_session_is_usable_for_its_lifetime(at: float, usable: bool) -> None:
    assert server_session().usable_at(NOW + at) is usable


@pytest.mark.rfc("9846 §4.7.1", "the lifetime of keying material from one authentication is limited")
def test_server_session_renewed_every_day_ends_after_a_week(keys: TicketKeys, clock: Clock) -> None:
    session = server_session(authenticated_at=NOW)
    renewals = 0
    while renewals < 20:
        clock.now += DAY - 1
        ticket = keys.issue(dataclasses.replace(session, issued_at=clock.now - (DAY - 1)), clock.now - (DAY - 1))
        found = keys.redeem(ticket, clock.now)
        if found is None:
            break
        assert found.authenticated_at == NOW
        session, renewals = found, renewals + 1
    assert renewals == 7
    assert clock.now >= NOW + WEEK


def test_damaged_server_session_decodes_or_is_refused() -> None:
    data = server_session().encode()
    for i in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = data[:i] + bytes((data[i] ^ flip,)) + data[i + 1 :]
            try:
                session = ServerSession.decode(damaged)
            except DecodeError:
                continue
            assert session != server_session()
    for length in range(len(data)):
        with pytest.raises(DecodeError):
            ServerSession.decode(data[:length])
    with pytest.raises(DecodeError, match="certificate"):
        ServerSession.decode(data[:-1] + b"\xff")


# ---- tickets under keys ----


def test_ticket_stands_for_its_session(keys: TicketKeys) -> None:
    sessions: ServerSessions = keys
    ticket = sessions.issue(server_session(), NOW)
    assert sessions.redeem(ticket, NOW + 1) == server_session()
    assert sessions.redeem(ticket, NOW + 2) == server_session()  # stateless: not single_use
    assert not sessions.single_use


def test_ticket_shows_nothing_of_its_session(keys: TicketKeys) -> None:
    ticket = keys.issue(server_session(), NOW)
    for part in (server_session().psk, b"example.org", b"leaf", server_session().binding):
        assert part not in ticket
    assert keys.export_keys() not in ticket
    secret = keys.export_keys()[3 + 16 : 3 + 16 + 32]
    assert AESGCM(secret).decrypt(ticket[16:28], ticket[28:], ticket[:16]) == server_session().encode()
    assert secret not in ticket and secret[:8] not in ticket


@pytest.mark.rfc("9846 §4.3.11", "unknown PSKs, such as tickets under an unknown key, are ignored")
def test_ticket_of_another_ring_is_unknown(keys: TicketKeys) -> None:
    # A server that was restarted has other keys.
    for _ in range(3):
        assert TicketKeys(PYCA).redeem(keys.issue(server_session(), NOW), NOW) is None


def test_ticket_with_any_byte_changed_is_unknown(keys: TicketKeys) -> None:
    ticket = keys.issue(server_session(), NOW)
    for i in range(len(ticket)):
        assert keys.redeem(ticket[:i] + bytes((ticket[i] ^ 1,)) + ticket[i + 1 :], NOW) is None
        assert keys.redeem(ticket[:i], NOW) is None
    assert keys.redeem(ticket + b"\0", NOW) is None
    assert keys.redeem(ticket, NOW) is not None


@given(st.binary(max_size=200))
def test_ticket_of_arbitrary_bytes_is_unknown(data: bytes) -> None:
    keys = TicketKeys(PYCA)
    name = keys.issue(server_session(), NOW)[:16]
    assert keys.redeem(data, NOW) is None
    assert keys.redeem(name + data, NOW) is None


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(range(8)) * 4])
def test_ticket_sealed_under_a_key_anyone_can_guess_is_unknown(keys: TicketKeys, secret: bytes) -> None:
    name, nonce = keys.issue(server_session(), NOW)[:16], bytes(12)
    assert keys.redeem(name + nonce + AESGCM(secret).encrypt(nonce, server_session().encode(), name), NOW) is None


def test_ticket_sealed_right_with_something_else_in_it_is_unknown(keys: TicketKeys) -> None:
    name = keys.issue(server_session(), NOW)[:16]
    secret, nonce = keys.export_keys()[19:51], bytes(12)
    for inner in (b"", b"\x01", b"\x03" + server_session().encode()[1:], server_session().encode() + b"\0"):
        assert keys.redeem(name + nonce + AESGCM(secret).encrypt(nonce, inner, name), NOW) is None


def test_ticket_that_expired_is_unknown(keys: TicketKeys) -> None:
    ticket = keys.issue(server_session(lifetime_seconds=60), NOW)
    assert keys.redeem(ticket, NOW + 59) is not None
    assert keys.redeem(ticket, NOW + 60) is None


def test_ticket_that_is_too_large_is_neither_made_nor_opened(keys: TicketKeys) -> None:
    room = MAX_ISSUED_TICKET - len(keys.issue(server_session(client_chain=(), client_presented=()), NOW)) - 4
    largest = server_session(client_chain=(bytes(room),), client_presented=())
    ticket = keys.issue(largest, NOW)
    assert len(ticket) == MAX_ISSUED_TICKET
    assert keys.redeem(ticket, NOW) == largest
    with pytest.raises(UsageError, match="too large"):
        keys.issue(server_session(client_chain=(bytes(room + 1),), client_presented=()), NOW)
    calls: list[int] = []

    class Counting:
        def __init__(self, key: bytes) -> None:
            self.encrypt = AESGCM(key).encrypt

        def decrypt(self, *_: object) -> bytes:
            calls.append(1)
            raise PYCA.tag_error

    counting = TicketKeys(dataclasses.replace(PYCA, cookie_aead=Counting))
    name = counting.issue(server_session(), NOW)[:16]
    for length, opened in ((44, 0), (MAX_ISSUED_TICKET, 1), (MAX_ISSUED_TICKET + 1, 1), (MAX_TICKET, 1), (2**20, 1)):
        assert counting.redeem(name.ljust(length, b"x"), NOW) is None
        assert len(calls) == opened


def test_hundred_thousand_tickets_repeat_no_nonce(keys: TicketKeys) -> None:
    session = server_session(client_chain=(), client_presented=())
    assert len({keys.issue(session, NOW)[16:28] for _ in range(100_000)}) == 100_000


# ---- keys ----


def test_ring_of_entropy_that_is_none_is_refused(clock: Clock) -> None:
    for random in (bytes, lambda n: b"\xaa" * n, lambda n: b"\x01" * (n - 1), lambda n: b""):
        with pytest.raises(InternalError, match="random"):
            TicketKeys(dataclasses.replace(PYCA, random=random))


def test_key_that_is_replaced_opens_its_tickets_for_a_day_more(keys: TicketKeys, clock: Clock) -> None:
    ticket = keys.issue(server_session(lifetime_seconds=WEEK), NOW)
    assert keys.issue(server_session(), NOW + 12 * HOUR - 1)[:16] == ticket[:16]
    assert keys.issue(server_session(), NOW + 12 * HOUR)[:16] != ticket[:16]
    assert keys.redeem(ticket, NOW + 36 * HOUR - 1) is not None
    assert keys.redeem(ticket, NOW + 36 * HOUR) is None


def test_key_is_replaced_by_redeeming_too(keys: TicketKeys) -> None:
    ticket = keys.issue(server_session(lifetime_seconds=WEEK), NOW)
    assert keys.redeem(ticket, NOW + 13 * HOUR) is not None
    assert keys.export_keys()[3:19] != ticket[:16]


def test_key_of_a_server_that_slept_is_not_kept_longer(keys: TicketKeys) -> None:
    ticket = keys.issue(server_session(lifetime_seconds=WEEK), NOW)
    assert keys.redeem(ticket, NOW + 40 * HOUR) is None
    keys = TicketKeys(Clock().provider)
    ticket = keys.issue(server_session(lifetime_seconds=WEEK), NOW)
    assert keys.redeem(ticket, NOW + 20 * HOUR) is not None
    assert keys.redeem(ticket, NOW + 36 * HOUR) is None


def test_forgotten_key_is_gone_from_the_ring(keys: TicketKeys) -> None:
    secret = keys.export_keys()[19:51]
    keys.issue(server_session(), NOW + 12 * HOUR)
    assert secret in keys.export_keys()
    keys.issue(server_session(), NOW + 23 * HOUR)
    keys.redeem(b"x" * 100, NOW + 36 * HOUR)
    assert secret not in keys.export_keys()


def test_rotate_seals_with_a_new_key_and_opens_the_old_tickets(keys: TicketKeys, clock: Clock) -> None:
    ticket = keys.issue(server_session(lifetime_seconds=WEEK), NOW)
    clock.now += HOUR
    keys.rotate()
    assert keys.issue(server_session(), clock.now)[:16] != ticket[:16]
    assert keys.redeem(ticket, NOW + 25 * HOUR - 1) is not None
    assert keys.redeem(ticket, NOW + 25 * HOUR) is None


def test_ring_keeps_the_newest_keys_only(keys: TicketKeys) -> None:
    tickets = []
    for i in range(12):
        tickets.append(keys.issue(server_session(), NOW))
        keys.rotate(NOW + i)
    assert [keys.redeem(ticket, NOW + 12) is not None for ticket in tickets] == [False] * 5 + [True] * 7
    assert repr(keys) == "TicketKeys(<8 keys hidden>)"


def test_clock_set_back_a_little_keeps_the_key_and_much_replaces_it(keys: TicketKeys) -> None:
    ticket = keys.issue(server_session(lifetime_seconds=WEEK), NOW)
    assert keys.issue(server_session(), NOW - HOUR)[:16] == ticket[:16]
    # Made in a future that far, it would seal for more than its time.
    assert keys.issue(server_session(), NOW - 13 * HOUR)[:16] != ticket[:16]
    assert keys.redeem(ticket, NOW) is not None


def test_exported_keys_open_and_seal_in_another_process(keys: TicketKeys, clock: Clock) -> None:
    old = keys.issue(server_session(), NOW)
    keys.rotate(NOW + 1)
    new = keys.issue(server_session(), NOW + 1)
    other = TicketKeys.from_keys(keys.export_keys(), clock.provider)
    assert other.redeem(old, NOW + 2) == other.redeem(new, NOW + 2) == server_session()
    assert keys.redeem(other.issue(server_session(), NOW + 2), NOW + 2) == server_session()
    assert other.export_keys() == keys.export_keys()


def test_imported_keys_seal_from_then_on_and_the_rings_own_still_open(keys: TicketKeys, clock: Clock) -> None:
    leader = TicketKeys(clock.provider)
    before = keys.issue(server_session(lifetime_seconds=WEEK), NOW)
    keys.import_keys(leader.export_keys())
    ticket = keys.issue(server_session(), NOW)
    assert leader.redeem(ticket, NOW) == server_session()
    assert leader.redeem(before, NOW) is None
    assert keys.redeem(before, NOW + DAY - 1) is not None
    assert keys.redeem(before, NOW + DAY) is None
    # Again and again, as a reload does: no key is there twice.
    clock.now += HOUR
    for _ in range(3):
        leader.rotate()
        keys.import_keys(leader.export_keys())
    assert keys.redeem(ticket, clock.now) == server_session()
    assert keys.issue(server_session(), clock.now)[:16] == leader.issue(server_session(), clock.now)[:16]
    assert repr(keys) == "TicketKeys(<5 keys hidden>)"


def test_ring_that_is_only_handed_on_advances_by_call_and_leaves_no_old_key_with_who_imports(
    keys: TicketKeys, clock: Clock
) -> None:
    follower = TicketKeys.from_keys(keys.export_keys(), clock.provider, rotate_seconds=13 * HOUR)
    first = keys.export_keys()[19:51]
    clock.now += 12 * HOUR
    keys.advance()
    assert keys.export_keys()[19:51] != first
    follower.import_keys(keys.export_keys())
    assert follower.export_keys() == keys.export_keys()
    assert first in follower.export_keys()
    keys.advance(NOW + 36 * HOUR)
    assert first not in keys.export_keys()
    clock.now = NOW + 36 * HOUR
    follower.import_keys(keys.export_keys())
    assert first not in follower.export_keys()


def test_import_of_old_keys_does_not_seal_with_them(keys: TicketKeys, clock: Clock) -> None:
    exported = keys.export_keys()
    ticket = keys.issue(server_session(lifetime_seconds=WEEK), NOW)
    clock.now += 20 * HOUR
    late = TicketKeys.from_keys(exported, clock.provider)
    assert late.issue(server_session(), clock.now)[:16] != ticket[:16]
    assert late.redeem(ticket, clock.now) is not None


def entry(name: bytes = b"n" * 16, secret: bytes = bytes(range(32)), created: int = 1, retired: int = 0) -> bytes:
    return name + secret + created.to_bytes(8, "big") + retired.to_bytes(8, "big")


def export(*entries: bytes) -> bytes:
    return b"\x01" + len(b"".join(entries)).to_bytes(2, "big") + b"".join(entries)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(32),
        bytes(100),
        export(),
        export(entry(secret=bytes(32))),
        export(entry(secret=b"\x7f" * 32)),
        export(entry(secret=b"password" * 4)),
        export(entry(secret=bytes(range(1, 9)).ljust(32, b"\0"))),
        export(entry()[:-1]),
        export(entry()) + b"\0",
        b"\x02" + export(entry())[1:],
        export(entry(), entry()),
        export(entry(), entry(name=b"m" * 16)),
        export(entry(retired=5), entry(name=b"m" * 16, retired=5)),
        export(entry(), entry(name=b"m" * 16, secret=bytes(32), retired=5)),
    ],
)
def test_keys_that_are_none_are_refused(keys: TicketKeys, data: bytes) -> None:
    before = keys.export_keys()
    with pytest.raises(UsageError):
        TicketKeys.from_keys(data)
    with pytest.raises(UsageError):
        keys.import_keys(data)
    assert keys.export_keys() == before


def test_keys_that_are_in_order_are_taken() -> None:
    assert repr(TicketKeys.from_keys(export(entry(), entry(name=b"m" * 16, retired=5)))).count("2 keys")


@pytest.mark.parametrize("settings", [{"rotate_seconds": 0}, {"keep_seconds": -1}, {"max_keys": 0}])
def test_ring_that_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TicketKeys(**settings)


def test_ring_shows_no_key_is_shared_by_copies_and_not_pickled(keys: TicketKeys) -> None:
    assert repr(keys) == "TicketKeys(<1 keys hidden>)"
    assert copy.deepcopy(keys) is copy.copy(keys) is keys
    with pytest.raises(TypeError):
        pickle.dumps(keys)
    shown = repr([getattr(keys, name) for name in ("_ring", "_aeads")])
    assert repr(keys.export_keys()[19:51])[2:20] not in shown


def test_threads_that_rotate_issue_and_redeem_lose_no_ticket(clock: Clock) -> None:
    keys = TicketKeys(clock.provider, max_keys=1000)
    lost: list[int] = []

    def work() -> None:
        for i in range(100):
            ticket = keys.issue(server_session(), NOW)
            if i % 10 == 0:
                keys.rotate(NOW)
            if keys.redeem(ticket, NOW) != server_session():
                lost.append(i)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert lost == []
    assert repr(keys) == "TicketKeys(<81 keys hidden>)"


# ---- sessions in memory ----


def test_session_in_memory_is_redeemed_once() -> None:
    sessions: ServerSessions = MemoryServerSessions()
    ticket = sessions.issue(server_session(), NOW)
    assert sessions.single_use
    assert len(ticket) == 32
    assert sessions.redeem(ticket, NOW) == server_session()
    assert sessions.redeem(ticket, NOW) is None


def test_session_in_memory_is_redeemed_again_where_that_is_wanted() -> None:
    sessions = MemoryServerSessions(single_use=False)
    ticket = sessions.issue(server_session(), NOW)
    assert [sessions.redeem(ticket, NOW + i) for i in range(3)] == [server_session()] * 3
    assert sessions.redeem(ticket, NOW + DAY) is None
    assert len(sessions) == 0


@pytest.mark.parametrize("ticket", [b"", bytes(31), bytes(32), bytes(33), bytes(MAX_TICKET)])
def test_session_that_is_not_in_memory_is_unknown(ticket: bytes) -> None:
    sessions = MemoryServerSessions()
    sessions.issue(server_session(), NOW)
    assert sessions.redeem(ticket, NOW) is None
    assert len(sessions) == 1


def test_memory_keeps_the_sessions_used_last() -> None:
    sessions = MemoryServerSessions(capacity=3, single_use=False)
    tickets = [sessions.issue(server_session(age_add=i), NOW) for i in range(3)]
    assert sessions.redeem(tickets[0], NOW) is not None
    sessions.issue(server_session(), NOW)
    assert [sessions.redeem(ticket, NOW) is not None for ticket in tickets] == [True, False, True]
    with pytest.raises(UsageError):
        MemoryServerSessions(capacity=0)


def test_memory_is_bounded_by_its_capacity() -> None:
    sessions = MemoryServerSessions(capacity=100)
    tracemalloc.start()
    try:
        for i in range(10_000):
            sessions.issue(server_session(client_chain=(bytes(1000 + i % 2),)), NOW)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(sessions) == 100
    assert used < 100 * 5000
    assert MemoryServerSessions().capacity == MAX_SERVER_SESSIONS


def test_memory_gives_a_ticket_to_one_of_many_threads() -> None:
    sessions = MemoryServerSessions()
    ticket = sessions.issue(server_session(), NOW)
    found: list[ServerSession | None] = []
    start = threading.Barrier(50)

    def redeem() -> None:
        start.wait(10)
        found.append(sessions.redeem(ticket, NOW))

    threads = [threading.Thread(target=redeem) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 50
    assert [session for session in found if session is not None] == [server_session()]


def test_memory_shows_counts_and_is_not_pickled() -> None:
    sessions = MemoryServerSessions(capacity=5)
    assert sessions
    sessions.issue(server_session(), NOW)
    assert repr(sessions) == "MemoryServerSessions(1 of 5 sessions, single_use=True)"
    assert copy.deepcopy(sessions) is sessions
    with pytest.raises(TypeError):
        pickle.dumps(sessions)
