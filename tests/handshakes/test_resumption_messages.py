"""What our two ends say when they have a key already: sessions and external PSKs, without early data and with it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest

from pellucid import ClientConfig, Connection, HandshakeComplete, ServerConfig, UsageError
from pellucid.crypto.pyca import PYCA
from pellucid.errors import BadRecordMac, UnexpectedMessage
from pellucid.events import ApplicationData, EarlyData, EarlyDataAccepted, TicketReceived
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.limits import MAX_TICKET_LIFETIME_SECONDS
from pellucid.messages import extensions as x
from pellucid.messages.extensions import M, decode_extensions
from pellucid.messages.handshake import ClientHello, NewSessionTicket, handshake_message, message_type
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ContentType, PskKeyExchangeMode
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.schedule import EarlySecret, TrafficSecret
from pellucid.sessions.client import MemorySessionStore
from pellucid.sessions.psk import ExternalPsk
from pellucid.trace import Epoch, Role
from tests.illegal.evil import evil_server
from tests.support.pair import (
    NAME,
    Chunking,
    Pair,
    as_sent,
    asking_server_config,
    credential,
    data_of,
    deliver,
    events_of,
    server_config,
)
from tests.support.resuming import (
    KEY,
    Clock,
    answer,
    early_client,
    early_server,
    external,
    first_flight,
    meet,
    met,
    resuming_client,
    resuming_server,
    sessions_of,
    settle,
)
from tests.support.wiretap import Wiretap, tapped

CH, SH, HRR, EE, FIN, EOED = (
    H.CLIENT_HELLO,
    H.SERVER_HELLO,
    H.HELLO_RETRY_REQUEST,
    H.ENCRYPTED_EXTENSIONS,
    H.FINISHED,
    H.END_OF_EARLY_DATA,
)
KE, DHE_KE = PskKeyExchangeMode.PSK_KE, PskKeyExchangeMode.PSK_DHE_KE
CLIENT, SERVER = Role.CLIENT, Role.SERVER
TWO: dict[str, Any] = {"groups": (G.SECP256R1, G.X25519), "key_shares": (G.X25519,)}


def types(body: Any) -> list[int]:
    return [extension.extension_type for extension in body.extensions]


def carried(body: Any, code: int) -> bytes:
    return next(data for kind, data in body.extensions if kind == code)


def agreed(connection: Connection) -> Any:
    assert connection.negotiated is not None
    return connection.negotiated


# ---- resumption ------------------------------------------------------------------------------------------------------

FIRST = [(CLIENT, CH), (SERVER, SH), (SERVER, EE), (SERVER, FIN)]
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[Role, int]]]] = {
    "plain": ({}, {}, [*FIRST, (CLIENT, FIN)]),
    "retried": (TWO, {"groups": (G.SECP256R1,)}, [(CLIENT, CH), (SERVER, HRR), *FIRST, (CLIENT, FIN)]),
    "cookie": (
        {},
        {"cookie_key": b"k" * 32, "always_retry": True},
        [(CLIENT, CH), (SERVER, HRR), *FIRST, (CLIENT, FIN)],
    ),
    "ke-only": ({"psk_modes": (KE,)}, {"psk_modes": (KE,)}, [*FIRST, (CLIENT, FIN)]),
    "no-compatibility": ({"middlebox_compatibility": False, "grease": False}, {}, [*FIRST, (CLIENT, FIN)]),
    "external": (
        {"external_psks": (external(CLIENT),), "sessions": None},
        {"external_psks": (external(SERVER),), "tickets": 0},
        [*FIRST, (CLIENT, FIN)],
    ),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS)


def pair_of(setting: str, **arguments: Any) -> tuple[Pair, Wiretap]:
    client, server, _ = SETTINGS[setting]
    return met(resuming_client(**client), resuming_server(**server), **arguments)


@every_setting
@pytest.mark.rfc("9846 §4", "messages are sent in the order of the transcript and of the diagrams")
@pytest.mark.rfc("9846 §4.4.2", "a server that authenticates by a PSK asks for no certificate")
def test_a_psk_handshake_has_the_messages_of_figure_3(setting: str, chunking: Chunking) -> None:
    pair, tap = pair_of(setting, chunking=chunking)
    settle(pair)
    said = [(message.role, message.kind) for message in tap.said() if message.kind != H.NEW_SESSION_TICKET]
    assert said == SETTINGS[setting][2]
    for end in (pair.client, pair.server):
        assert agreed(end).resumed is (setting != "external")
    assert pair.client.channel_binding() == pair.server.channel_binding()


@every_setting
@pytest.mark.rfc("9846 §4.3.11", "pre_shared_key is the last extension of every ClientHello that we send")
@pytest.mark.rfc("9846 §4.3.9", "who sends pre_shared_key sends psk_key_exchange_modes")
def test_client_hello_with_psks_ends_with_them_and_names_its_modes(setting: str) -> None:
    """Also where the other extensions are sent in any order, and after a retry."""
    for _ in range(5):
        pair, tap = pair_of(setting)
        settle(pair)
        hellos = [message.body for message in tap.said(CLIENT) if message.kind == CH]
        assert len(hellos) == (2 if setting in {"retried", "cookie"} else 1)
        for hello in hellos:
            assert types(hello)[-1] == E.PRE_SHARED_KEY
            assert E.PSK_KEY_EXCHANGE_MODES in types(hello)


MODES = [(KE,), (DHE_KE,), (DHE_KE, KE), (KE, DHE_KE)]


@pytest.mark.rfc("9846 §4.3.9", "a server selects a key exchange mode that the client listed")
@pytest.mark.rfc("9846 §4.3.9", "in psk_ke there is no key_share in ServerHello, in psk_dhe_ke both ends have one")
@pytest.mark.parametrize("clients", MODES, ids=str)
@pytest.mark.parametrize("servers", MODES, ids=str)
def test_psk_mode_is_one_that_both_have(clients: tuple[int, ...], servers: tuple[int, ...]) -> None:
    common = [mode for mode in servers if mode in clients]
    pair, tap = tapped(
        resuming_client(psk_modes=clients, external_psks=(external(CLIENT),)),
        resuming_server(psk_modes=servers, external_psks=(external(SERVER),)),
    )
    settle(pair)
    hello, answered = tap.one(CH), tap.one(SH)
    assert carried(hello, E.PSK_KEY_EXCHANGE_MODES) == bytes((len(clients), *clients))
    if not common:
        assert E.PRE_SHARED_KEY not in types(answered)
        assert agreed(pair.client).psk_identity is None
        return
    assert carried(answered, E.PRE_SHARED_KEY) == b"\0\0"
    if common[0] == KE:
        assert E.KEY_SHARE not in types(answered)
        assert (agreed(pair.client).group, agreed(pair.server).group) == (None, None)
    else:
        assert {E.KEY_SHARE} <= set(types(answered)) & set(types(hello))
        assert agreed(pair.client).group == agreed(pair.server).group == G.X25519


@pytest.mark.rfc("9846 §4.4.2", "a server that authenticates by a PSK asks for no certificate")
@pytest.mark.rfc("9846 §F.1", "an external PSK is not combined with certificates on either side")
@pytest.mark.parametrize("kind", ["session", "external"])
def test_a_server_that_asks_everybody_asks_nobody_who_has_a_psk(kind: str, chunking: Chunking) -> None:
    outside = kind == "external"
    client = resuming_client(
        credentials=(credential("p256", "client.test"),),
        external_psks=(external(CLIENT),) if outside else (),
    )
    # A ticket for whoever came with the external PSK would be what comes next.
    tickets = 0 if outside else 1
    server = asking_server_config(tickets=tickets, external_psks=(external(SERVER),) if outside else ())
    pair, tap = met(client, server, chunking=chunking)
    settle(pair)
    kinds = tap.kinds()
    assert not {H.CERTIFICATE_REQUEST, H.CERTIFICATE, H.CERTIFICATE_VERIFY} & set(kinds)
    assert agreed(pair.server).resumed is not outside
    assert agreed(pair.server).psk_identity == (b"external" if outside else None)
    assert (agreed(pair.server).peer is None) is outside  # who the session began with is known from then


# ---- which session, which suite --------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.7.1", "a ticket is resumed with a suite of the same hash only")
@pytest.mark.rfc("9846 §4.3.11", "a server selects a PSK and a suite that go together")
@pytest.mark.parametrize("first", [CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384], ids=hex)
@pytest.mark.parametrize(
    "second",
    [CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384, CS.TLS_CHACHA20_POLY1305_SHA256, CS.TLS_AES_128_CCM_SHA256],
    ids=hex,
)
def test_a_session_is_resumed_with_suites_of_its_own_hash(first: int, second: int) -> None:
    """The client offers the first suite too, or its ticket would be of no use to it; the server wants the second."""
    client = resuming_client(suites=(first,))
    server = resuming_server(suites=tuple(suite.code for suite in PYCA.suites))
    meet(client, server)
    assert sessions_of(client)
    offering = dataclasses.replace(client, suites=tuple(dict.fromkeys((second, first))))
    narrow = dataclasses.replace(server, suites=tuple(dict.fromkeys((second, first))), sessions=server.session_store)
    pair, tap = tapped(offering, narrow)
    settle(pair)
    assert E.PRE_SHARED_KEY in types(tap.one(CH))
    assert agreed(pair.server).cipher_suite == second
    hashes = {suite.code: suite.hash_name for suite in PYCA.suites}
    assert agreed(pair.server).resumed is (hashes[first] == hashes[second])


@pytest.mark.rfc("9846 §4.7.1", "a session is offered only to the name that its certificate was verified for")
def test_a_session_is_for_one_server_name(chunking: Chunking) -> None:
    both = server_config(credentials=(credential("p256", NAME, "other.test"),), tickets=2)
    client = resuming_client()
    meet(client, both)
    for name, known in (("other.test", False), (NAME, True), (NAME.upper(), True)):
        pair, tap = tapped(client, both, name, chunking=chunking)
        settle(pair)
        assert (E.PRE_SHARED_KEY in types(tap.one(CH))) is known
        assert agreed(pair.server).resumed is known


@pytest.mark.rfc("9846 §4.7.1", "the server name reported is that of the ClientHello that resumes")
def test_server_reports_the_name_it_was_asked_for_now() -> None:
    """A ticket that was issued under one name and is shown under another is not resumed at all."""
    both = server_config(credentials=(credential("p256", NAME, "other.test"),), tickets=2)
    client = resuming_client()
    meet(client, both)
    store = client.sessions
    assert isinstance(store, MemorySessionStore)
    ((key, (session, *_)),) = store.items()
    pair, _ = tapped(client, both)
    settle(pair)
    assert (agreed(pair.server).server_name, agreed(pair.server).resumed) == (NAME, True)
    store.put(dataclasses.replace(key, host="other.test"), session)
    pair, tap = tapped(client, both, "other.test")
    settle(pair)
    assert E.PRE_SHARED_KEY in types(tap.one(CH))
    assert (agreed(pair.server).server_name, agreed(pair.server).resumed) == ("other.test", False)


@pytest.mark.rfc("9846 §4.3.11.1", "clients do not use tickets older than their ticket_lifetime")
@pytest.mark.rfc("9846 §4.7.1", "clients do not use tickets for longer than 7 days, whatever the ticket_lifetime")
@pytest.mark.parametrize(("lifetime", "age", "offered"), [(60, 59, True), (60, 60, False), (2**32 - 1, 604_799, True)])
@pytest.mark.parametrize("later", [0, 1])
def test_client_offers_no_ticket_past_its_lifetime_or_seven_days(
    lifetime: int, age: int, offered: bool, later: int
) -> None:
    clock = Clock()
    # the server's certificate lives for longer than a week; the lifetime on the wire is what the test says
    client, server = resuming_client(provider=clock.provider), resuming_server(provider=clock.provider)

    def longer(kind: int, raw: bytes) -> bytes:
        return raw[:4] + lifetime.to_bytes(4, "big") + raw[8:] if kind == H.NEW_SESSION_TICKET else raw

    settle(Pair(Connection.client(client, NAME), evil_server(server, edit=longer)))
    assert len(sessions_of(client)) == 2
    clock.now += age + later
    hello = ClientHello.decode(next(as_sent(Connection.client(client, NAME).data_to_send()))[9:])
    assert (E.PRE_SHARED_KEY in types(hello)) is (offered and not later)


@pytest.mark.rfc("9846 §4.7.1", "a client without resumption ignores tickets")
def test_client_without_sessions_keeps_no_ticket_and_goes_on(chunking: Chunking) -> None:
    """Ours says in its hello that it has no use for tickets; one that comes all the same is nothing to it."""
    client = resuming_client(sessions=None)
    peer = evil_server(resuming_server(tickets=3))
    pair = Pair(Connection.client(client, NAME), peer, chunking)
    settle(pair)
    assert [message_type(raw) for raw in peer.sent] == [SH, EE, H.CERTIFICATE, H.CERTIFICATE_VERIFY, FIN]
    ticket = NewSessionTicket(60, 0, b"\0", b"ticket", ())
    peer.record(ContentType.HANDSHAKE, handshake_message(ticket))
    peer.send_data(b"go on")
    deliver(peer.data_to_send(), pair.client, chunking)
    seen, error = events_of(pair.client)
    assert error is None
    assert data_of(seen) == b"go on"
    hello = ClientHello.decode(next(as_sent(Connection.client(client, NAME).data_to_send()))[9:])
    assert E.PRE_SHARED_KEY not in types(hello)


# ---- NewSessionTicket ------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.7.1", "servers use no ticket_lifetime greater than 604800 seconds (7 days)")
@pytest.mark.rfc("9846 §4.7.1", "each ticket has a fresh ticket_age_add")
def test_tickets_have_fresh_numbers_and_at_most_seven_days() -> None:
    added, tickets, nonces = set(), set(), []
    for _ in range(8):
        pair, tap = tapped(
            resuming_client(), resuming_server(tickets=16, ticket_lifetime_seconds=MAX_TICKET_LIFETIME_SECONDS)
        )
        client, _ = settle(pair)
        told = [event.ticket for event in client if isinstance(event, TicketReceived)]
        assert told == [message.body for message in tap.said(SERVER) if message.kind == H.NEW_SESSION_TICKET]
        assert len(told) == 16
        assert {ticket.ticket_lifetime for ticket in told} <= set(range(1, 604_801))
        added |= {ticket.ticket_age_add for ticket in told}
        tickets |= {ticket.ticket for ticket in told}
        nonces.append({ticket.ticket_nonce for ticket in told})
    assert len(added) == len(tickets) == 8 * 16
    assert {len(each) for each in nonces} == {16}
    for seconds in (0, 604_801):
        with pytest.raises(UsageError):
            resuming_server(ticket_lifetime_seconds=seconds)


# ---- early data ------------------------------------------------------------------------------------------------------


def early_pair(
    client: ClientConfig | None = None, server: ServerConfig | None = None, **arguments: Any
) -> tuple[Pair, Wiretap]:
    """A client that may send early data, and its server, before either has spoken."""
    return met(client or early_client(), server or early_server(), **arguments)


@pytest.mark.rfc("9846 §4.3.10", "who sends early data sends early_data and pre_shared_key")
@pytest.mark.rfc("9846 §4.6", "EndOfEarlyData follows the server's Finished where early data is accepted")
@pytest.mark.rfc("9846 §4", "messages are sent in the order of the transcript and of the diagrams")
def test_early_data_is_sent_read_and_ended(chunking: Chunking) -> None:
    pair, tap = early_pair(chunking=chunking)
    deliver(first_flight(pair.client, b"early " * 100), pair.server, chunking)
    seen, error = events_of(pair.server)
    assert error is None
    assert isinstance(seen[0], EarlyDataAccepted)
    assert b"".join(event.data for event in seen if isinstance(event, EarlyData)) == b"early " * 100
    assert EOED not in tap.kinds()
    _, seen = settle(pair)
    assert [type(event) for event in seen] == [HandshakeComplete]
    assert {E.EARLY_DATA, E.PRE_SHARED_KEY} <= set(types(tap.one(CH)))
    assert E.EARLY_DATA in types(tap.one(EE))
    said = [(message.role, message.kind) for message in tap.said() if message.kind != H.NEW_SESSION_TICKET]
    assert said == [*FIRST, (CLIENT, EOED), (CLIENT, FIN)]
    under = {record.key for record in tap.sent(CLIENT) if record.content_type == ContentType.APPLICATION_DATA}
    assert under == {"client_early_traffic_secret"}
    ended = next(record for record in tap.sent(CLIENT) if record.content == b"\x05\0\0\0")
    assert ended.key == "client_early_traffic_secret"
    assert agreed(pair.client).early_data is agreed(pair.server).early_data is EarlyDataOutcome.ACCEPTED


@pytest.mark.rfc("9846 §4.3.10", "early data is under the first PSK of the ClientHello")
def test_early_data_opens_with_the_first_psk_and_no_other() -> None:
    """The keys are computed here from the session in the store, which is the first identity of the hello."""
    client = early_client(external_psks=(external(CLIENT),))
    server = early_server()
    meet(client, server)
    session = sessions_of(client)[-1]
    connection = Connection.client(client, NAME)
    hello, *rest = as_sent(first_flight(connection, b"early"))
    decoded = ClientHello.decode(hello[9:])
    offered = decode_extensions(M.CH, decoded.extensions).get(x.OFFERED_PSKS)
    assert offered is not None
    assert [one.identity for one in offered.identities] == [session.ticket, b"external"]
    suite = next(each for each in PYCA.suites if each.code == session.cipher_suite)
    record = rest[-1]

    def opened(psk: bytes) -> bytes:
        early = EarlySecret.extract(suite, psk)
        value = early.client_early_traffic_secret(suite.new_hash(hello[5:]).digest()).value
        keys = TrafficSecret(suite=suite, epoch=Epoch.EARLY, value=value).keys()
        return suite.aead(keys.key).decrypt(keys.iv, record[5:], record[:5])

    assert opened(session.psk) == b"early\x17"
    with pytest.raises(PYCA.tag_error):
        opened(KEY)


@pytest.mark.rfc("9846 §4.3.11.3", "a server that accepts early data answers at once, without waiting for its end")
def test_server_answers_before_the_early_data_ends(chunking: Chunking) -> None:
    pair, tap = early_pair(chunking=chunking)
    hello = next(as_sent(first_flight(pair.client, b"the first of many")))
    deliver(hello, pair.server, chunking)
    flight = pair.server.data_to_send()
    assert tap.kinds(SERVER) == [SH, EE, FIN]
    pair.client.send_early_data(b"and more")
    deliver(flight, pair.client, chunking)
    assert agreed(pair.client).early_data is EarlyDataOutcome.ACCEPTED


REJECTIONS = {
    "disabled": EarlyDataOutcome.DISABLED,
    "retried": None,
    "not-resumed": EarlyDataOutcome.NOT_RESUMED,
    "not-the-first": EarlyDataOutcome.NOT_RESUMED,
    "other-suite": EarlyDataOutcome.OTHER_SUITE,
    "other-protocol": EarlyDataOutcome.NOT_RESUMED,
    "too-late": EarlyDataOutcome.TICKET_AGE,
    "too-soon": EarlyDataOutcome.TICKET_AGE,
    "replayed": EarlyDataOutcome.REPLAYED,
}


def rejecting(why: str, **arguments: Any) -> tuple[Pair, Wiretap]:
    """A pair of which the server rejects the early data, for this reason."""
    clock, elsewhere = Clock(), Clock()
    client = early_client(provider=elsewhere.provider, alpn=("h2", "h3"))
    server = early_server(provider=clock.provider, alpn=("h2",))
    if why == "not-the-first":
        client = dataclasses.replace(client, external_psks=(external(CLIENT),))
    clock.now += 0.5  # the tickets are younger than the register of replays
    meet(client, server)
    keys = {"sessions": server.session_store}
    match why:
        case "disabled":
            server = dataclasses.replace(server, **keys, max_early_data=0)
        case "retried":
            server = dataclasses.replace(server, **keys, groups=(G.SECP256R1,))
        case "not-resumed":
            server = dataclasses.replace(server, sessions=None)
        case "not-the-first":
            server = dataclasses.replace(server, sessions=None, external_psks=(external(SERVER),))
        case "other-suite":
            suites = (CS.TLS_CHACHA20_POLY1305_SHA256, CS.TLS_AES_128_GCM_SHA256)
            server = dataclasses.replace(server, **keys, suites=suites)
        case "other-protocol":
            server = dataclasses.replace(server, **keys, alpn=("h3",))
        case "too-late":
            clock.now += 10.1
        case "too-soon":
            elsewhere.now += 10.1
    pair, tap = tapped(client, server, **arguments)
    if why == "replayed":
        flight = first_flight(pair.client, b"early")
        assert isinstance(answer(Connection.server(server), flight)[0][0], EarlyDataAccepted)
        deliver(flight, pair.server)
    else:
        deliver(first_flight(pair.client, b"early"), pair.server)
    return pair, tap


@pytest.mark.rfc("9846 §4.3.10", "a server ignores early data, asks again, or accepts it")
@pytest.mark.rfc("9846 §4.3.10", "rejected early data is not answered with early_data, and is dropped")
@pytest.mark.rfc("9846 §4.6", "without an early_data answer there is no EndOfEarlyData")
@pytest.mark.rfc("9846 §F.5", "rejected early data is not sent again by itself")
@pytest.mark.parametrize("why", REJECTIONS)
def test_rejected_early_data_is_gone(why: str, chunking: Chunking) -> None:
    pair, tap = rejecting(why, chunking=chunking)
    _, seen = settle(pair)
    assert [type(event) for event in seen] == [HandshakeComplete]
    assert E.EARLY_DATA in types(tap.one(CH))
    assert E.EARLY_DATA not in types(tap.one(EE))
    assert EOED not in tap.kinds()
    expected = REJECTIONS[why]
    assert expected is None or agreed(pair.server).early_data is expected
    assert agreed(pair.client).early_data is not EarlyDataOutcome.ACCEPTED
    early = [record for record in tap.sent(CLIENT) if record.content_type == ContentType.APPLICATION_DATA]
    assert [(record.key, record.content) for record in early] == [("client_early_traffic_secret", b"early")]
    pair.client.send_data(b"again, by the application")
    deliver(pair.client.data_to_send(), pair.server, chunking)
    assert events_of(pair.server) == ([ApplicationData(b"again, by the application")], None)


@pytest.mark.rfc("9846 §4.3.10", "early data is accepted with the first PSK, and the suite and protocol of its session")
@pytest.mark.parametrize("why", ["not-the-first", "other-suite", "other-protocol"])
def test_early_data_of_another_psk_suite_or_protocol_is_not_accepted(why: str) -> None:
    pair, tap = rejecting(why)
    settle(pair)
    assert E.EARLY_DATA not in types(tap.one(EE))
    if why == "not-the-first":
        assert carried(tap.one(SH), E.PRE_SHARED_KEY) == b"\0\1"
    if why == "other-suite":
        assert agreed(pair.server).resumed
        assert agreed(pair.server).cipher_suite == CS.TLS_CHACHA20_POLY1305_SHA256


@pytest.mark.rfc("9846 §4.3.10", "a second ClientHello of ours has no early_data")
def test_second_client_hello_has_no_early_data() -> None:
    pair, tap = rejecting("retried")
    settle(pair)
    first, second = tap.one(CH), tap.one(CH, which=1)
    assert E.EARLY_DATA in types(first)
    assert E.EARLY_DATA not in types(second)
    assert types(second)[-1] == E.PRE_SHARED_KEY
    assert agreed(pair.server).resumed
    assert agreed(pair.client).early_data is EarlyDataOutcome.RETRIED


@pytest.mark.rfc("9846 §4.3.10", "early data is accepted only if the ticket's age fits within a tolerance")
@pytest.mark.parametrize("skew", [-10.05, -9.9, 0.0, 9.9, 10.05])
@pytest.mark.parametrize("age", [0.6, 3600.0])
def test_ticket_age_is_checked_both_ways(age: float, skew: float) -> None:
    clock, elsewhere = Clock(), Clock()
    client, server = early_client(provider=elsewhere.provider), early_server(provider=clock.provider)
    clock.now += 0.5
    meet(client, server)
    clock.now += age + max(0.0, skew)
    elsewhere.now += age - min(0.0, skew)
    pair, _ = tapped(client, server)
    deliver(first_flight(pair.client, b"early"), pair.server)
    settle(pair)
    fits = abs(skew) < 10
    assert agreed(pair.server).early_data is (EarlyDataOutcome.ACCEPTED if fits else EarlyDataOutcome.TICKET_AGE)
    assert agreed(pair.server).resumed


@pytest.mark.rfc("9846 §8", "an instance of a server accepts 0-RTT for the same 0-RTT handshake at most once")
def test_a_recorded_flight_is_accepted_once() -> None:
    client, server = early_client(), early_server()
    meet(client, server)
    flight = first_flight(Connection.client(client, NAME), b"pay 5 to Mallory")
    accepted = 0
    for _ in range(100):
        seen, error = answer(Connection.server(server), flight)
        assert error is None
        accepted += bool(seen)
    assert accepted == 1


@pytest.mark.rfc("9846 §8.2", "what a ClientHello is known by is the binder that was verified")
def test_a_changed_binder_of_another_psk_makes_no_new_client_hello() -> None:
    """The attack of §8.2: the binder of the PSK that the server does not select is changed, again and again."""
    client, server = early_client(external_psks=(external(CLIENT),)), early_server()
    meet(client, server)
    flight = first_flight(Connection.client(client, NAME), b"early")
    hello, *rest = as_sent(flight)
    accepted = 0
    for byte in range(20):
        # the last binder is the external PSK's, which this server does not know
        changed = hello[:-1] + bytes((hello[-1] ^ byte,))
        seen, error = answer(Connection.server(server), changed)
        assert error is None
        accepted += any(isinstance(event, EarlyDataAccepted) for event in seen)
    assert accepted == 1
    assert len(rest) == 2


@pytest.mark.rfc("9846 §4.3.10", "an early data record that does not open ends the connection with bad_record_mac")
@pytest.mark.rfc("9846 §4.3.10", "early data records are held to the rules of all records")
@pytest.mark.parametrize("wrong", ["flipped", "not-under-any-key", "all-zero", "too-long", "ccs-inside"])
def test_accepted_early_data_is_held_to_the_rules_of_records(wrong: str, chunking: Chunking) -> None:
    pair, _ = early_pair(chunking=chunking)
    hello, ccs, record = as_sent(first_flight(pair.client, b"early"))
    writer = pair.client._writer
    match wrong:
        case "flipped":
            record = record[:-1] + bytes((record[-1] ^ 1,))
        case "not-under-any-key":
            record = b"\x17\x03\x03\x00\x40" + bytes(64)
        case "too-long":
            record = b"\x17\x03\x03\x41\x01"
        case "all-zero" | "ccs-inside":
            keys = writer._keys
            assert keys is not None
            inner = bytes(20) if wrong == "all-zero" else b"\x01\x14"
            header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
            record = record + header + keys.aead.encrypt((keys.iv ^ 1).to_bytes(12, "big"), inner, header)
    deliver(hello + ccs + record, pair.server, chunking)
    seen, error = events_of(pair.server)
    assert isinstance(seen[0], EarlyDataAccepted)
    if wrong in {"flipped", "not-under-any-key"}:
        assert isinstance(error, BadRecordMac)
    elif wrong == "too-long":
        assert type(error).__name__ == "RecordOverflow"
    else:
        assert isinstance(error, UnexpectedMessage)


@pytest.mark.rfc("9846 §F.5", "0-RTT is neither sent nor accepted unless it is asked for")
@pytest.mark.parametrize(("sending", "accepting"), list(itertools.product([False, True], repeat=2)))
def test_early_data_needs_both_ends_to_want_it(sending: bool, accepting: bool) -> None:
    client = resuming_client(**({"early_data": True} if sending else {}))
    server = resuming_server(**({"max_early_data": 1000} if accepting else {}))
    pair, tap = met(client, server)
    pair.client.start()
    assert (E.EARLY_DATA in types(tap.one(CH))) is (sending and accepting)
    assert (pair.client.early_data_left > 0) is (sending and accepting)
    if not (sending and accepting):
        with pytest.raises(UsageError):
            pair.client.send_early_data(b"early")
    settle(pair)
    assert agreed(pair.server).resumed
    tickets = [event.ticket for event in tap_tickets(client, server)]
    assert all((E.EARLY_DATA in types(ticket)) is accepting for ticket in tickets)


def tap_tickets(client: ClientConfig, server: ServerConfig) -> list[TicketReceived]:
    pair, _ = tapped(dataclasses.replace(client, sessions=MemorySessionStore()), server)
    seen, _ = settle(pair)
    found = [event for event in seen if isinstance(event, TicketReceived)]
    assert found
    return found


@pytest.mark.rfc("9846 §5.5", "early data ends before its key's limit is reached: there is no KeyUpdate for it")
@pytest.mark.parametrize("size", [1, 100, 2**14])
def test_early_data_keeps_the_limit_of_its_key(size: int) -> None:
    suites = tuple(dataclasses.replace(suite, rekey_after=8) for suite in PYCA.suites)
    provider = dataclasses.replace(PYCA, suites=suites)
    client = early_client(provider=provider)
    server = early_server(provider=provider, max_early_data=16_384)
    meet(client, server)
    connection = Connection.client(client, NAME)
    connection.start()
    sent = 0
    with pytest.raises(UsageError, match="early data"):
        for _ in range(100):
            connection.send_early_data(bytes(size))
            sent += 1
    assert 1 <= sent <= 8
    assert connection._writer._keys is not None
    assert connection._writer._keys.sequence <= 8
    assert connection.early_data_left < size


# ---- external PSKs ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.3.11", "an external PSK is for one hash, SHA-256 unless it says otherwise")
@pytest.mark.parametrize("digest", ["sha256", "sha384"])
@pytest.mark.parametrize("suite", [CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384], ids=hex)
def test_an_external_psk_is_used_with_suites_of_its_hash(digest: str, suite: int, chunking: Chunking) -> None:
    def psk(role: Role) -> tuple[ExternalPsk, ...]:
        return (external(role, hash_name=digest),)

    client = resuming_client(external_psks=psk(CLIENT), suites=(suite,), sessions=None)
    server = resuming_server(external_psks=psk(SERVER))
    pair = Pair.of(client, server, chunking=chunking)
    settle(pair)
    name = next(each.hash_name for each in PYCA.suites if each.code == suite)
    assert (agreed(pair.client).psk_identity is not None) is (name == digest)
    assert (agreed(pair.server).psk_identity is not None) is (name == digest)
