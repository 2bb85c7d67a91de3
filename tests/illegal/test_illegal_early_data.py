"""Early data that must not be: attacks A6, A13, D7, E12-E15, and what else comes under early keys or in their place."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pellucid import ClientConfig, Connection, HandshakeComplete, PeerError, ServerConfig
from pellucid.events import EarlyData
from pellucid.handshake.actions import InstallKeys, SendMessage
from pellucid.limits import MAX_EMPTY_RECORDS, MAX_SKIPPED_EARLY_DATA
from pellucid.messages import extensions as x
from pellucid.messages.handshake import HEADER_LENGTH, ClientHello, message_type
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType as T
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.trace import Direction, Epoch
from tests.illegal.evil import (
    Evil,
    changing_extensions,
    drain,
    early_pair,
    evil_client,
    evil_server,
    exchange,
    good_client,
    good_server,
    latched,
    message,
    refused,
    replacing,
)

TEXT = b"GET / HTTP/1.1\r\n\r\n"
EOED = message(H.END_OF_EARLY_DATA, b"")


def as_sent(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        stop = at + 5 + int.from_bytes(data[at + 3 : at + 5], "big")
        found.append(data[at:stop])
        at = stop
    return found


def ended(victim: Connection, *alerts: int) -> None:
    """Assert that *victim*, whose input must have been given already, refuses with one of *alerts* for good."""
    _, error = drain(victim)
    assert isinstance(error, PeerError), repr(error)
    assert error.alert in alerts, error
    assert victim.data_to_send()
    latched(victim, error)


def early_victim(**changes: Any) -> tuple[Evil, Connection, ServerConfig, ClientConfig]:
    """A client that cheats, with early data sent, and a server that has not heard of it yet."""
    server, client = early_pair(**changes)
    evil = evil_client(client)
    evil.send_early_data(TEXT)
    return evil, good_server(server), server, client


def heard(evil: Evil, victim: Connection) -> None:
    """Let the first flight and the server's answer pass; early data is taken."""
    victim.receive_data(evil.data_to_send())
    seen, error = drain(victim)
    assert error is None
    assert EarlyData(TEXT) in seen
    assert victim.state == "WAIT_EOED"


class Forgetful:
    """A guard that takes every flight for a new one, so that one recording does for many victims."""

    window_seconds = 10.0

    def first_use(self, key: bytes, *, now: float, issued_at: float) -> bool:
        return True


def rejecting(server: ServerConfig, how: str) -> ServerConfig:
    if how == "resumed":
        return dataclasses.replace(server, max_early_data=0, sessions=server.session_store)
    if how == "not resumed":
        return dataclasses.replace(server)
    return dataclasses.replace(server, groups=(G.SECP256R1,), sessions=server.session_store)


REJECTIONS = ["resumed", "not resumed", "retried"]


# ---- under early keys ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in range(256) if kind != H.END_OF_EARLY_DATA])
@pytest.mark.rfc("9846 §4.6", "under early keys only EndOfEarlyData may come")
def test_a13_no_other_handshake_message_comes_under_early_keys(kind: int) -> None:
    evil, victim, *_ = early_victim()
    heard(evil, victim)
    evil.record(T.HANDSHAKE, message(kind, b"\0"))
    victim.receive_data(evil.data_to_send())
    ended(victim, A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("body", [b"\0", b"\0" * 100])
@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.rfc("9846 §4.6", "EndOfEarlyData is empty")
def test_a13_end_of_early_data_with_something_in_it_is_refused(body: bytes, chunk: int | None) -> None:
    evil, victim, *_ = early_victim()
    evil.edit = replacing(H.END_OF_EARLY_DATA, lambda _: message(H.END_OF_EARLY_DATA, body))
    refused(victim, evil, A.DECODE_ERROR, chunk=chunk)


@pytest.mark.rfc("9846 §4.6", "EndOfEarlyData follows the server's Finished where early data is accepted")
def test_a13_end_of_early_data_left_out_is_refused() -> None:
    evil, victim, *_ = early_victim()
    evil.edit = replacing(H.END_OF_EARLY_DATA, lambda _: b"")
    refused(victim, evil, A.BAD_RECORD_MAC)


def under(keys: Epoch, *, send: bytes) -> Any:
    """Have a cheat send this record's handshake bytes under the keys of that epoch, before its own second flight."""

    def rewrite(peer: Evil, actions: list[Any]) -> list[Any]:
        if not any(isinstance(action, SendMessage) and message_type(action.raw) == H.FINISHED for action in actions):
            return actions
        found: list[Any] = []
        for action in actions:
            if isinstance(action, SendMessage) and message_type(action.raw) == H.END_OF_EARLY_DATA:
                if keys is Epoch.EARLY:
                    found.append(lambda peer: peer.record(T.HANDSHAKE, send))
                continue
            found.append(action)
            handshake = isinstance(action, InstallKeys) and action.secret.epoch is Epoch.HANDSHAKE
            if handshake and action.direction is Direction.SENT and keys is Epoch.HANDSHAKE:
                found.append(lambda peer: peer.record(T.HANDSHAKE, send))
        return found

    return rewrite


@pytest.mark.parametrize(
    "send",
    [EOED + b"\x14", EOED + message(H.FINISHED, bytes(32)), EOED + EOED, EOED + b"\x14\x00\x00\x20" + bytes(31)],
    ids=["one byte", "a Finished", "twice", "a cut Finished"],
)
@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.rfc("9846 §5.1", "no handshake message runs across a key change")
def test_a6_nothing_follows_end_of_early_data_under_its_keys(send: bytes, chunk: int | None) -> None:
    evil, victim, *_ = early_victim()
    evil.rewrite = under(Epoch.EARLY, send=send)
    refused(victim, evil, A.UNEXPECTED_MESSAGE, chunk=chunk)


def test_a6_end_of_early_data_in_fragments_is_taken_and_nothing_may_stand_between() -> None:
    for between, alert in ((None, None), (T.APPLICATION_DATA, A.UNEXPECTED_MESSAGE), (T.ALERT, A.UNEXPECTED_MESSAGE)):
        evil, victim, *_ = early_victim()
        heard(evil, victim)
        for at in range(4):
            evil.record(T.HANDSHAKE, EOED[at : at + 1])
            if at == 1 and between is not None:
                evil.record(between, b"\x01\x00")
        victim.receive_data(evil.data_to_send())
        if alert is None:
            assert drain(victim) == ([], None)
            assert victim.state == "WAIT_FINISHED"
        else:
            ended(victim, alert)


@pytest.mark.rfc("9846 §4.6", "EndOfEarlyData is protected with the early keys")
def test_a13_end_of_early_data_under_handshake_keys_is_refused() -> None:
    evil, victim, *_ = early_victim()
    evil.rewrite = under(Epoch.HANDSHAKE, send=EOED)
    refused(victim, evil, A.BAD_RECORD_MAC)


@pytest.mark.parametrize("how", REJECTIONS)
@pytest.mark.rfc("9846 §4.6", "without early data there is no EndOfEarlyData, from a server never")
def test_a13_end_of_early_data_that_was_rejected_is_refused(how: str) -> None:
    server, client = early_pair()
    evil = evil_client(client)
    evil.send_early_data(TEXT)
    evil.edit = replacing(H.FINISHED, lambda raw: EOED + raw)
    refused(good_server(rejecting(server, how)), evil, A.UNEXPECTED_MESSAGE)


def test_a13_end_of_early_data_of_a_server_is_refused() -> None:
    server, client = early_pair()
    evil = evil_server(server, edit=replacing(H.ENCRYPTED_EXTENSIONS, lambda raw: raw + EOED))
    victim = good_client(client)
    victim.send_early_data(TEXT)
    refused(victim, evil, A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize(
    "inner",
    [b"\x01\x14", b"\x02\x28\x16\x17"[:0], b"\0\0\0", b"data\x18", b"data\x00\x00\x19"],
    ids=["change_cipher_spec", "nothing", "zeros", "heartbeat", "unknown"],
)
@pytest.mark.rfc("9846 §4.3.10", "early data records are held to the rules of all records")
def test_e14_records_of_no_legal_kind_under_early_keys_are_refused(inner: bytes) -> None:
    evil, victim, *_ = early_victim()
    heard(evil, victim)
    evil.sealed(inner)
    victim.receive_data(evil.data_to_send())
    ended(victim, A.UNEXPECTED_MESSAGE)


@pytest.mark.rfc("9846 §4.3.10", "an early data record that does not open ends the connection with bad_record_mac")
def test_e14_every_changed_byte_of_the_first_three_early_records_is_fatal() -> None:
    """Accepted early data is not skipped when it does not open."""
    server, client = early_pair()
    honest = good_client(client)
    for piece in (b"one", b"two", b"three"):
        honest.send_early_data(piece)
    hello, *rest = as_sent(honest.data_to_send())
    records = [record for record in rest if record[0] == T.APPLICATION_DATA]
    others = b"".join(record for record in rest if record[0] != T.APPLICATION_DATA)
    assert len(records) == 3
    for which in range(3):
        for at in range(5, len(records[which])):
            changed = records[which][:at] + bytes((records[which][at] ^ 1,)) + records[which][at + 1 :]
            victim = good_server(dataclasses.replace(server, sessions=server.session_store, replay_guard=Forgetful()))
            victim.receive_data(hello + others + b"".join(records[:which]) + changed + b"".join(records[which + 1 :]))
            seen, _ = drain(victim)
            assert [event.data for event in seen if isinstance(event, EarlyData)] == [b"one", b"two"][:which]
            ended(victim, A.BAD_RECORD_MAC)


@pytest.mark.parametrize("size", [16_384, 16_385])
@pytest.mark.parametrize("piece", [16_384, 1000, 7])
@pytest.mark.rfc("9846 §4.7.1", "more early data than the ticket allows is unexpected_message")
def test_e12_accepted_early_data_at_the_limit_and_one_past_it(size: int, piece: int) -> None:
    server, client = early_pair()
    evil, victim = evil_client(client), good_server(server)
    evil.start()
    for start in range(0, size, piece):
        evil.record(T.APPLICATION_DATA, bytes(min(piece, size - start)))
    victim.receive_data(evil.data_to_send())
    seen, error = drain(victim)
    taken = sum(len(event.data) for event in seen if isinstance(event, EarlyData))
    if size == 16_384:
        assert (taken, error) == (size, None)
    else:
        assert taken <= 16_384
        ended(victim, A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("count", [MAX_EMPTY_RECORDS, MAX_EMPTY_RECORDS + 1])
def test_e12_empty_early_records_are_counted(count: int) -> None:
    server, client = early_pair()
    evil, victim = evil_client(client), good_server(server)
    evil.start()
    for _ in range(count):
        evil.record(T.APPLICATION_DATA, b"")
    victim.receive_data(evil.data_to_send())
    if count == MAX_EMPTY_RECORDS:
        assert drain(victim)[1] is None
    else:
        ended(victim, A.UNEXPECTED_MESSAGE)


def test_early_data_after_its_end_is_refused() -> None:
    """Under the handshake keys there is no application data; under the early keys nothing opens any more."""
    for keys, alert in ((Epoch.HANDSHAKE, A.UNEXPECTED_MESSAGE), (Epoch.EARLY, A.BAD_RECORD_MAC)):
        evil, victim, *_ = early_victim()

        def rewrite(peer: Evil, actions: list[Any], keys: Epoch = keys) -> list[Any]:
            found: list[Any] = []
            for action in actions:
                ends = isinstance(action, SendMessage) and message_type(action.raw) == H.END_OF_EARLY_DATA
                installs = isinstance(action, InstallKeys) and action.direction is Direction.SENT
                found.append(action)
                if (keys is Epoch.EARLY and ends) or (
                    keys is Epoch.HANDSHAKE and installs and action.secret.epoch is Epoch.HANDSHAKE
                ):
                    found.append(lambda peer: peer.record(T.APPLICATION_DATA, b"late"))
            return found

        evil.rewrite = rewrite
        refused(victim, evil, alert)


# ---- skipped ---------------------------------------------------------------------------------------------------------


def skipping(how: str, sizes: list[int]) -> tuple[Connection, Connection]:
    """A server that rejects, and a client that sends records of so many bytes of early data, honest otherwise."""
    server, client = early_pair()
    evil, victim = evil_client(client), good_server(rejecting(server, how))
    evil.start()
    for size in sizes:
        evil.record(T.APPLICATION_DATA, bytes(size))
    return victim, evil


@pytest.mark.parametrize("piece", [16_384, 1000, 64])
@pytest.mark.parametrize("how", REJECTIONS)
@pytest.mark.rfc("9846 §4.3.10", "rejected early data is skipped up to a limit")
def test_e12_skipped_early_data_at_the_limit_and_one_past_it(how: str, piece: int) -> None:
    sizes = [piece] * (MAX_SKIPPED_EARLY_DATA // piece)
    if rest := MAX_SKIPPED_EARLY_DATA - sum(sizes):
        sizes.append(rest)
    victim, evil = skipping(how, sizes)
    exchange(evil, victim)
    assert drain(victim)[1] is None
    assert victim.handshake_complete
    victim, evil = skipping(how, [*sizes, 1])
    victim.receive_data(evil.data_to_send())
    ended(victim, A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("how", REJECTIONS)
def test_e12_early_records_without_data_are_not_skipped_for_ever(how: str) -> None:
    victim, evil = skipping(how, [0] * (MAX_SKIPPED_EARLY_DATA + 1))
    victim.receive_data(evil.data_to_send())
    ended(victim, A.UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("how", ["resumed", "not resumed"])
def test_e14_nothing_is_skipped_once_a_record_has_opened(how: str) -> None:
    """The first record that opens is the begin of the second flight (§4.3.10)."""
    server, client = early_pair()
    evil = evil_client(client)
    evil.send_early_data(TEXT)

    def rewrite(peer: Evil, actions: list[Any]) -> list[Any]:
        found: list[Any] = []
        for action in actions:
            if isinstance(action, SendMessage) and message_type(action.raw) == H.FINISHED:
                found.append(lambda peer, start=action.raw[:10]: peer.record(T.HANDSHAKE, start))
                found.append(lambda peer: peer.wire(b"\x17\x03\x03\x00\x20" + bytes(32)))
            found.append(action)
        return found

    evil.rewrite = rewrite
    refused(good_server(rejecting(server, how)), evil, A.BAD_RECORD_MAC)


@pytest.mark.parametrize("how", ["resumed", "not resumed"])
@pytest.mark.rfc("9846 §5.2", "a plaintext record under keys is unexpected_message")
@pytest.mark.parametrize("kind", [T.HANDSHAKE, T.APPLICATION_DATA])
def test_e15_plaintext_among_skipped_early_data_is_refused(how: str, kind: int) -> None:
    """With the type of application data it is taken for early data, and dropped with it."""
    server, client = early_pair()
    evil, victim = evil_client(client), good_server(rejecting(server, how))
    evil.send_early_data(TEXT)
    evil.plaintext(kind, b"\x05\0\0\0")
    victim.receive_data(evil.data_to_send())
    if kind == T.HANDSHAKE:
        ended(victim, A.UNEXPECTED_MESSAGE)
    else:
        assert drain(victim) == ([], None)


@pytest.mark.rfc("9846 §4.3.10", "after HelloRetryRequest early data is skipped by its outer type")
def test_e15_after_a_retry_records_are_skipped_by_type_until_the_second_hello() -> None:
    server, client = early_pair()
    evil, victim = evil_client(client), good_server(rejecting(server, "retried"))
    evil.send_early_data(TEXT)
    victim.receive_data(evil.data_to_send())
    evil.wire(b"\x17\x03\x03\x00\x20" + bytes(range(32)))
    evil.wire(b"\x17\x03\x03\x00\x01\x00")
    exchange(evil, victim)
    assert any(isinstance(event, HandshakeComplete) for event in drain(victim)[0])


@pytest.mark.parametrize("kind", [T.HANDSHAKE, T.ALERT, 99])
def test_e15_other_records_are_not_skipped_after_a_retry(kind: int) -> None:
    server, client = early_pair()
    evil, victim = evil_client(client), good_server(rejecting(server, "retried"))
    evil.send_early_data(TEXT)
    victim.receive_data(evil.data_to_send())
    victim.receive_data(bytes((kind, 3, 3, 0, 32)) + b"\x17" * 32)
    ended(victim, A.UNEXPECTED_MESSAGE, A.DECODE_ERROR)


@pytest.mark.rfc("9846 §4.2.2", "the second ClientHello has no early_data")
def test_e15_early_data_in_the_second_hello_is_refused() -> None:
    server, client = early_pair()

    def again(extensions: list[Any]) -> list[Any]:
        return [*extensions[:-1], x.EARLY_DATA.extension(True), extensions[-1]]

    evil = evil_client(client, edit=changing_extensions(H.CLIENT_HELLO, again, which=2))
    evil.send_early_data(TEXT)
    refused(good_server(rejecting(server, "retried")), evil, A.ILLEGAL_PARAMETER)


@pytest.mark.rfc("9846 §4.3", "an answer that was not asked for is unsupported_extension")
def test_e15_early_data_accepted_after_a_retry_is_refused() -> None:
    server, client = early_pair()
    accepts = changing_extensions(H.ENCRYPTED_EXTENSIONS, lambda kept: [*kept, x.EARLY_DATA.extension(True)])
    victim = good_client(client)
    victim.send_early_data(TEXT)
    refused(victim, evil_server(rejecting(server, "retried"), edit=accepts), A.UNSUPPORTED_EXTENSION)


@pytest.mark.rfc("9846 §4.3", "an answer that was not asked for is unsupported_extension")
def test_e13_early_data_accepted_that_was_not_offered_is_refused() -> None:
    server, client = early_pair()
    accepts = changing_extensions(H.ENCRYPTED_EXTENSIONS, lambda kept: [*kept, x.EARLY_DATA.extension(True)])
    victim = good_client(dataclasses.replace(client, early_data=False))
    refused(victim, evil_server(server, edit=accepts), A.UNSUPPORTED_EXTENSION)


# ---- the ClientHello that carries it ---------------------------------------------------------------------------------


def whole_flight(extra: bytes) -> tuple[Connection, bytes]:
    """A flight of a client with early data whose ClientHello record has *extra* behind the message."""
    server, client = early_pair()
    honest = good_client(client)
    honest.send_early_data(TEXT)
    hello, *rest = as_sent(honest.data_to_send())
    content = hello[5:] + extra
    return good_server(server), hello[:3] + len(content).to_bytes(2, "big") + content + b"".join(rest)


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("extra", [b"\x14", EOED, EOED + message(H.FINISHED, bytes(32))], ids=["byte", "EOED", "more"])
@pytest.mark.rfc("9846 §5.1", "no handshake message runs across a key change")
def test_a6_nothing_follows_a_client_hello_with_early_data_in_its_record(extra: bytes, chunk: int | None) -> None:
    victim, flight = whole_flight(extra)
    step = chunk or len(flight)
    for at in range(0, len(flight), step):
        if victim._error is None:
            victim.receive_data(flight[at : at + step])
    seen, _ = drain(victim)
    assert not any(isinstance(event, EarlyData) for event in seen)
    ended(victim, A.UNEXPECTED_MESSAGE)


def test_e11_early_data_without_a_ticket_or_with_another_first_is_not_taken() -> None:
    """early_data without pre_shared_key is ignored, and what follows is skipped."""
    server, client = early_pair()

    def alone(extensions: list[Any]) -> list[Any]:
        return [e for e in extensions if e.extension_type != x.OFFERED_PSKS.extension_type]

    evil = evil_client(client, edit=changing_extensions(H.CLIENT_HELLO, alone))
    evil.send_early_data(TEXT)
    victim = good_server(server)
    victim.receive_data(evil.data_to_send())
    assert drain(victim) == ([], None)
    assert victim.state == "WAIT_FINISHED"


def test_d7_resuming_hellos_share_nothing_but_what_the_ticket_is() -> None:
    """Fresh randoms, session ids, shares, tickets and binders in every one (§4.3.8, §C.4)."""
    server, client = early_pair()
    seen: dict[str, set[bytes]] = {}
    for _ in range(20):
        honest = good_client(client)
        honest.send_early_data(TEXT)
        flight = honest.data_to_send()
        hello = ClientHello.decode(as_sent(flight)[0][5 + HEADER_LENGTH :])
        decoded = x.decode_extensions(x.M.CH, hello.extensions)
        offered, shares = decoded.get(x.OFFERED_PSKS), decoded.get(x.KEY_SHARES)
        assert offered is not None and shares is not None
        for name, value in (
            ("random", hello.random),
            ("session id", hello.legacy_session_id),
            ("ticket", offered.identities[0].identity),
            ("age", offered.identities[0].obfuscated_ticket_age.to_bytes(4, "big")),
            ("binder", offered.binders[0]),
            ("share", shares[-1].key_exchange),
        ):
            seen.setdefault(name, set()).add(value)
        victim = good_server(server)
        victim.receive_data(flight)
        exchange(victim, honest)
        assert honest.negotiated is not None
        assert honest.negotiated.resumed
    assert {name: len(values) for name, values in seen.items()} == dict.fromkeys(seen, 20)
