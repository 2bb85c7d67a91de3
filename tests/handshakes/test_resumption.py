"""Resumption at both ends: stores, tickets and their number, retries, clocks, who was authenticated and by what."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from typing import Any

import pytest

from pellucid import PENDING, CertificateRejected, Credential, HandshakeComplete, VerificationNeeded
from pellucid.config import ClientAuthentication, ServerConfig
from pellucid.crypto.provider import Pending
from pellucid.errors import AlertReceived, CertificateRequired, UsageError
from pellucid.events import TicketNeeded, TicketReceived
from pellucid.limits import MAX_TICKETS_PER_HANDSHAKE
from pellucid.messages import extensions as x
from pellucid.registry import CipherSuite as CS
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.registry import PskKeyExchangeMode as Mode
from pellucid.sessions import MemoryServerSessions, MemorySessionStore, ServerSession, TicketKeys
from pellucid.trace import ChoiceMade, Role
from pellucid.verify.report import VerificationReport
from pellucid.verify.webpki import WebPKIVerifier, dangerous_accept_any
from tests.support import pair
from tests.support.meetings import SUITES, asking, begin, client, clock, kept, meet, server
from tests.support.pair import Chunking, deliver, events_of
from tests.support.resuming import sessions_of
from tests.support.wiretap import tapped

DAY = 86_400.0
RETRIES: dict[str, dict[str, Any]] = {
    "group": {"groups": (G.SECP256R1,)},
    "cookie": {"cookie_key": bytes(range(32)), "always_retry": True},
    "both": {"groups": (G.SECP256R1,), "cookie_key": bytes(range(32))},
}
STORES = {
    "stateless": TicketKeys,
    "single use": MemoryServerSessions,
    "kept": lambda: MemoryServerSessions(single_use=False),
}


# ---- stores, modes, retries ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("hash_name", SUITES)
@pytest.mark.parametrize("modes", [(Mode.PSK_DHE_KE,), (Mode.PSK_KE,), (Mode.PSK_KE, Mode.PSK_DHE_KE)])
@pytest.mark.rfc("9846 §2.2", "a session is resumed: its certificate is not sent again, and stands for the peer")
def test_session_is_resumed(store: str, hash_name: str, modes: tuple[int, ...], chunking: Chunking) -> None:
    ours = client(suites=(SUITES[hash_name],), psk_modes=modes)
    theirs = server(sessions=STORES[store](), psk_modes=modes, groups=(G.X25519,))
    first = meet(ours, theirs, chunking=chunking)
    assert not first.resumed
    second = meet(ours, theirs, chunking=chunking)
    assert second.resumed
    assert second.negotiated.group == (None if modes[0] == Mode.PSK_KE else G.X25519)
    peer = second.negotiated.peer
    assert peer is not None
    assert first.negotiated.peer is not None
    assert peer.chain == first.negotiated.peer.chain
    assert second.negotiated.signature_scheme == first.negotiated.signature_scheme
    assert second.negotiated.authenticated_at is not None
    second.speak()
    assert meet(ours, theirs, chunking=chunking).resumed


@pytest.mark.parametrize("retry", RETRIES)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("hash_name", SUITES)
@pytest.mark.rfc("9846 §4.3.11.2", "after HelloRetryRequest the binder covers both hellos and the request")
def test_session_is_resumed_after_a_retry(retry: str, store: str, hash_name: str, chunking: Chunking) -> None:
    """A ticket is looked up once: that it was good for the first ClientHello is not forgotten at the second."""
    ours = client(suites=(SUITES[hash_name],))
    theirs = server(sessions=STORES[store](), **RETRIES[retry])
    assert not meet(ours, theirs).resumed
    met = meet(ours, theirs, chunking=chunking)
    assert met.negotiated.retried
    assert met.resumed
    met.speak()


@pytest.mark.parametrize("retry", ["cookie", "both"])
@pytest.mark.rfc("9846 §4.3.2", "a stateless server goes on from the cookie, PSKs and all")
def test_stateless_server_resumes_after_a_retry_on_a_fresh_connection(retry: str, chunking: Chunking) -> None:
    """The second ClientHello reaches a server that never saw the first one."""
    ours, theirs = client(), server(**RETRIES[retry])
    assert not meet(ours, theirs).resumed
    first = begin(ours, theirs)
    deliver(first.client.data_to_send(), first.server)
    deliver(first.server.data_to_send(), first.client)
    other = begin(ours, theirs)
    other.client = first.client
    other.pump(chunking)
    assert other.negotiated.retried
    assert other.resumed


@pytest.mark.rfc("9846 §4.3.11.2", "after HelloRetryRequest PSKs of another hash than the suite's are left out")
@pytest.mark.parametrize("first", SUITES)
@pytest.mark.parametrize("second", SUITES)
def test_c5_session_after_a_retry_in_all_pairs_of_hashes(first: str, second: str, chunking: Chunking) -> None:
    keys = TicketKeys()
    ours = client()
    assert not meet(ours, server(sessions=keys, suites=(SUITES[first],))).resumed
    both = (SUITES[second], *(suite for suite in SUITES.values() if suite != SUITES[second]))
    told: list[Any] = []
    met = meet(
        ours,
        server(sessions=keys, suites=both, groups=(G.SECP256R1,)),
        chunking=chunking,
        client_trace=told.append,
    )
    assert met.negotiated.retried
    assert met.resumed is (first == second)
    hellos = [event.body for event in told if getattr(event, "message_type", None) == H.CLIENT_HELLO]
    offered = [x.decode_extensions(x.M.CH, hello.extensions).get(x.OFFERED_PSKS) is not None for hello in hellos]
    assert offered == [True, first == second]
    met.speak()


class AskingStore:
    """A store that is elsewhere: it answers later."""

    single_use = True

    def __init__(self) -> None:
        self.kept = MemoryServerSessions()
        self.asked = 0

    def issue(self, session: ServerSession, now: float) -> bytes:
        return self.kept.issue(session, now)

    def redeem(self, ticket: bytes, now: float) -> ServerSession | Pending | None:
        self.asked += 1
        return PENDING


@pytest.mark.parametrize("retry", [None, *RETRIES])
@pytest.mark.parametrize("known", [True, False])
def test_store_that_answers_later_is_waited_for(retry: str | None, known: bool, chunking: Chunking) -> None:
    store = AskingStore()
    ours, theirs = client(), server(sessions=store, **RETRIES.get(retry or "", {}))
    assert not meet(ours, theirs).resumed
    met = begin(ours, theirs)
    pauses = 0
    for _ in range(4):
        met.pump(chunking)
        for event in list(met.told[Role.SERVER]):
            if isinstance(event, TicketNeeded):
                met.told[Role.SERVER].remove(event)
                pauses += 1
                found = store.kept.redeem(event.need.ticket, met.server._context.provider.now())
                met.server.resume(found if known else None)
    assert met.resumed is known
    assert pauses == store.asked == (1 if known or retry is None else 2)
    met.speak()


def test_answer_to_ticket_needed_that_is_no_session_ends_the_handshake() -> None:
    ours, theirs = client(), server(sessions=AskingStore())
    meet(ours, theirs)
    met = begin(ours, theirs).pump()
    assert isinstance(met.told[Role.SERVER][0], TicketNeeded)
    met.server.resume(b"not a session")
    met.pump()
    assert "ServerSession or None" in str(met.errors[Role.SERVER])
    assert met.client.negotiated is None


def test_session_of_a_store_elsewhere_is_judged_like_any_other() -> None:
    """What the world outside answers may be of another server, or of last month."""
    store = AskingStore()
    ours, theirs = client(), server(sessions=store)
    meet(ours, theirs)
    for change in ({"server_name": "elsewhere.test"}, {"binding": b"x" * 32}, {"alpn": "h2"}, {"issued_at": 1000.0}):
        meet_again = begin(ours, theirs).pump()
        (pause,) = meet_again.told[Role.SERVER]
        session = store.kept.redeem(pause.need.ticket, meet_again.server._context.provider.now())
        assert session is not None
        meet_again.server.resume(dataclasses.replace(session, **change))
        meet_again.pump()
        assert not meet_again.resumed


class FullStore:
    """A store for which every ticket would be too large."""

    single_use = False

    def issue(self, session: ServerSession, now: float) -> bytes:
        raise UsageError("too large to be a ticket")

    def redeem(self, ticket: bytes, now: float) -> None:
        return None


def test_ticket_that_would_be_too_large_is_not_sent_and_does_no_harm(chunking: Chunking) -> None:
    told: list[Any] = []
    met = meet(client(), server(sessions=FullStore()), chunking=chunking, server_trace=told.append)
    assert met.tickets == 0
    met.speak()
    (choice,) = (event for event in told if type(event) is ChoiceMade and event.what == "tickets")
    assert (choice.chosen, choice.reason) == ("none", "too large to be a ticket")


# ---- what a client keeps ---------------------------------------------------------------------------------------------


def test_a17_sessions_are_forgotten_after_an_error_alert() -> None:
    """Whoever ended it: what is kept of this server is not used again (§6.2)."""
    for who in Role:
        ours, theirs = client(), server()
        met = meet(ours, theirs)
        assert kept(ours) == 2
        (met.client if who is Role.CLIENT else met.server).fail(40)
        met.pump()
        assert kept(ours) == (2 if who is Role.CLIENT else 0), "giving up for a reason of our own says nothing of it"
        if who is Role.SERVER:
            assert isinstance(met.errors[Role.CLIENT], AlertReceived)


@pytest.mark.rfc("9846 §6.2", "a failed connection's tickets are discarded")
def test_a17_sessions_are_forgotten_where_the_server_misbehaves() -> None:
    ours, theirs = client(), server()
    met = meet(ours, theirs)
    assert kept(ours) == 2
    met.client.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert events_of(met.client)[1] is not None
    assert kept(ours) == 0


def test_a17_sessions_are_kept_where_the_line_was_cut() -> None:
    ours, theirs = client(), server()
    met = meet(ours, theirs)
    met.client.receive_data(b"")
    assert events_of(met.client)[1] is not None
    assert kept(ours) == 2


@pytest.mark.rfc("9149 §3", "after a new connection in spite of a ticket, others of the session are given up")
def test_refused_session_takes_the_others_of_that_server_with_it() -> None:
    ours, theirs = client(), server(tickets=4)
    meet(ours, theirs)
    assert kept(ours) == 4
    restarted = server(tickets=1)
    assert not meet(ours, restarted).resumed
    assert kept(ours) == 1, "that of the new connection"
    assert meet(ours, restarted).resumed


@pytest.mark.rfc("9846 §C.4", "a client uses a ticket once")
def test_e10_each_ticket_is_used_once() -> None:
    ours, theirs = client(), server(tickets=3, tickets_on_resumption=1)
    meet(ours, theirs)
    seen = []
    for _ in range(6):
        ends, tap = tapped(ours, theirs)
        ends.pump()
        offered = x.decode_extensions(x.M.CH, tap.one(H.CLIENT_HELLO).extensions).get(x.OFFERED_PSKS)
        assert offered is not None
        seen += [identity.identity for identity in offered.identities]
    assert len(set(seen)) == len(seen) == 6


def test_e8_sessions_are_for_one_host_and_one_port() -> None:
    ours = client()
    theirs = server(credentials=(pair.credential("p256", pair.NAME, "other.test"),))
    meet(ours, theirs, port=443)
    assert not meet(ours, theirs, port=8443).resumed
    assert not meet(ours, theirs, name="other.test", port=443).resumed
    assert meet(ours, theirs, port=443).resumed


class Stranger:
    """A verifier that cannot be told from others."""

    def __init__(self, identity: bytes | None = None) -> None:
        self._real = WebPKIVerifier(pair.authority().trust)
        self.asked = 0
        if identity is not None:
            self.session_identity = identity

    @property
    def authorities(self) -> Any:
        return self._real.authorities

    def verify(self, request: Any) -> Any:
        self.asked += 1
        return self._real.verify(request)


@pytest.mark.parametrize("end", Role)
def test_e8_peer_nobody_verified_is_not_remembered(end: Role) -> None:
    """Even where the verifier has an identity, and the peer could be told from a verified one at the next connection
    by nothing."""

    class TakesAnything(Stranger):
        def verify(self, request: Any) -> Any:
            return dangerous_accept_any().verify(request)

    anything = TakesAnything(b"takes anything")
    if end is Role.CLIENT:
        ours, theirs = client(trust=None, verifier=anything), server()
    else:
        ours = client(credentials=(pair.credential(),))
        theirs = server(client_authentication=ClientAuthentication.REQUIRED, verifier=anything)
    met = meet(ours, theirs)
    connection = met.client if end is Role.CLIENT else met.server
    assert connection.negotiated is not None
    assert connection.negotiated.peer is not None
    assert connection.negotiated.peer.report.dangerous
    assert met.tickets == (2 if end is Role.CLIENT else 0)
    assert kept(ours) == 0
    assert not meet(ours, theirs).resumed


def test_e8_dangerous_verifier_has_no_identity_and_makes_no_sessions() -> None:
    ours = client(trust=None, verifier=dangerous_accept_any())
    assert ours.session_store is None
    assert meet(ours, server()).tickets == 0
    assert kept(ours) == 0


@pytest.mark.parametrize("end", Role)
def test_e8_verifier_without_an_identity_makes_no_sessions(end: Role) -> None:
    stranger = Stranger()
    if end is Role.CLIENT:
        ours, theirs = client(trust=None, verifier=stranger), server()
        assert ours.session_store is None
        assert meet(ours, theirs).tickets == 0, "it does not say that it could use them"
        assert kept(ours) == 0
    else:
        theirs = server(client_authentication=ClientAuthentication.OPTIONAL, verifier=stranger)
        ours = client(credentials=(pair.credential(),))
        assert theirs.session_store is None
        assert meet(ours, theirs).tickets == 0
    assert not meet(ours, theirs).resumed
    assert stranger.asked == 2


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("end", Role)
def test_e8_verifier_with_an_identity_makes_sessions_for_its_equals(end: Role, same: bool) -> None:
    first, second = Stranger(b"one"), Stranger(b"one" if same else b"another")
    store, keys = MemorySessionStore(), TicketKeys()
    own = (pair.credential(),)

    def ends(verifier: Stranger) -> tuple[Any, ServerConfig]:
        if end is Role.CLIENT:
            return client(trust=None, verifier=verifier, sessions=store), server(sessions=keys)
        return client(credentials=own, sessions=store), server(
            client_authentication=ClientAuthentication.OPTIONAL, verifier=verifier, sessions=keys
        )

    assert not meet(*ends(first)).resumed
    assert meet(*ends(second)).resumed is same
    assert second.asked == (0 if same else 1)


# ---- the client's certificate ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", STORES)
def test_client_certificate_is_carried_through_resumption(store: str, chunking: Chunking) -> None:
    ours, theirs = client(credentials=(pair.credential("ed25519"),)), asking(sessions=STORES[store]())
    first = meet(ours, theirs)
    for _ in range(3):
        met = meet(ours, theirs, chunking=chunking)
        assert met.resumed
        shown = met.server.negotiated
        assert shown is not None
        assert first.server.negotiated is not None
        assert shown.peer is not None
        assert first.server.negotiated.peer is not None
        assert shown.peer.chain == first.server.negotiated.peer.chain
        assert shown.client_signature_scheme == first.server.negotiated.client_signature_scheme
        assert met.negotiated.local_certificates == first.negotiated.local_certificates
        assert shown.authenticated_at is not None


MODES = (ClientAuthentication.NONE, ClientAuthentication.OPTIONAL, ClientAuthentication.REQUIRED)


@pytest.mark.parametrize(("before", "after"), list(itertools.product(MODES, MODES)))
@pytest.mark.parametrize("shows", [True, False])
def test_e7_client_authentication_is_not_passed_by_with_a_ticket(
    before: ClientAuthentication, after: ClientAuthentication, shows: bool
) -> None:
    """nginx CVE-2025-23419 and its kin: a ticket of a server that asked for less."""
    keys = TicketKeys()
    ours = client(credentials=(pair.credential(),) if shows else ())

    def asked(mode: ClientAuthentication) -> ServerConfig:
        return asking(client_authentication=mode, sessions=keys)

    first = meet(ours, asked(before))
    if before is ClientAuthentication.REQUIRED and not shows:
        assert isinstance(first.errors[Role.SERVER], CertificateRequired)
        return
    assert not first.resumed
    met = meet(ours, asked(after))
    if after is ClientAuthentication.REQUIRED and not shows:
        assert isinstance(met.errors[Role.SERVER], CertificateRequired)
        return
    assert met.resumed is (before is after)
    assert met.server.negotiated is not None
    known = shows and after is not ClientAuthentication.NONE
    assert (met.server.negotiated.peer is not None) is known


def test_e7_ticket_of_one_client_is_of_no_use_to_another() -> None:
    """A client's sessions are not used with another certificate than the one it showed."""
    store, theirs = MemorySessionStore(), asking()
    first = client(credentials=(pair.credential("p256"),), sessions=store)
    second = client(credentials=(pair.credential("ed25519"),), sessions=store)
    meet(first, theirs)
    met = meet(second, theirs)
    assert not met.resumed
    assert met.server.negotiated is not None
    assert met.server.negotiated.peer is not None
    assert met.server.negotiated.peer.chain[0] == pair.credential("ed25519").chain[0]
    assert meet(first, theirs).resumed


# ---- judged again ----------------------------------------------------------------------------------------------------


class Judge(Stranger):
    """A verifier that may change its mind, and may take its time."""

    def __init__(self) -> None:
        super().__init__(b"a judge")
        self.answer = "good"
        self.requests: list[Any] = []

    def report(self, request: Any) -> VerificationReport:
        report = self._real.verify(request)
        return dataclasses.replace(report, accepted=False) if "bad" in self.answer else report

    def verify(self, request: Any) -> Any:
        self.requests.append(request)
        return PENDING if "pending" in self.answer else self.report(request)


@pytest.mark.parametrize("answer", ["good", "bad", "pending, good", "pending, bad"])
@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("end", Role)
def test_peer_is_judged_again_on_resumption_where_that_is_wanted(
    end: Role, asks: bool, answer: str, chunking: Chunking
) -> None:
    judge = Judge()
    judged = {"verifier": judge, "reverify_on_resumption": asks}
    if end is Role.CLIENT:
        ours, theirs = client(trust=None, **judged), server()
    else:
        ours = client(credentials=(pair.credential(),))
        theirs = server(client_authentication=ClientAuthentication.REQUIRED, **judged)
    assert not meet(ours, theirs).resumed
    (first,) = judge.requests
    judge.answer = answer
    met = begin(ours, theirs)
    for _ in range(4):
        met.pump(chunking)
        for event in [event for event in met.told[end] if isinstance(event, VerificationNeeded)]:
            met.told[end].remove(event)
            connection = met.client if end is Role.CLIENT else met.server
            connection.resume(judge.report(event.need.request))
    assert len(judge.requests) == (2 if asks else 1)
    if asks:
        again = judge.requests[-1]
        assert (again.leaf.der, again.intermediates, again.purpose, again.server_name) == (
            first.leaf.der,
            first.intermediates,
            first.purpose,
            first.server_name,
        )
    if asks and "bad" in answer:
        assert isinstance(met.errors[end], CertificateRejected)
        assert isinstance(met.errors[end.peer], AlertReceived)
        other = met.server if end is Role.CLIENT else met.client
        assert not other.handshake_complete or end is Role.SERVER
        return
    assert met.resumed
    met.speak()


# ---- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.7.1", "tickets are renewed, the authentication they began with is not")
def test_e25_twenty_resumptions_never_renew_the_authentication() -> None:
    """Nine hours apart: the eighteenth is the last within seven days of the certificates' signatures."""
    now = clock()
    ours = client(provider=now.provider, credentials=(pair.credential(),))
    theirs = asking(provider=now.provider)
    first = meet(ours, theirs)
    assert not first.resumed
    begun = at = now.now
    resumed = []
    for number in range(1, 21):
        now.now = begun + number * 9 * 3600
        met = meet(ours, theirs)
        resumed.append(met.resumed)
        if not met.resumed:
            at = now.now
        for end in (met.client, met.server):
            assert end.negotiated is not None
            assert end.negotiated.authenticated_at == (at if met.resumed else None)
    assert resumed == [True] * 18 + [False, True]


@pytest.mark.parametrize(
    ("moved", "resumes"),
    [(0.0, True), (DAY - 1, True), (DAY, False), (8 * DAY, False), (-4.0, True), (-60.0, False)],
)
@pytest.mark.parametrize("whose", ["both", "client", "server"])
def test_clock_that_moved_ends_sessions_and_never_the_connection(whose: str, moved: float, resumes: bool) -> None:
    clocks = {role: clock() for role in Role}
    ours, theirs = client(provider=clocks[Role.CLIENT].provider), server(provider=clocks[Role.SERVER].provider)
    assert not meet(ours, theirs).resumed
    for role in Role:
        if whose in {"both", role.value}:
            clocks[role].now += moved
    met = meet(ours, theirs)
    assert met.resumed is resumes
    met.speak()


@pytest.mark.parametrize("end", Role)
@pytest.mark.rfc("9846 §4.7.1", "a session ends with the certificates of its peer")
def test_session_ends_with_the_certificate_it_was_made_by(end: Role) -> None:
    now = clock()
    ends = datetime.datetime.fromtimestamp(now.now + 3600, datetime.UTC)
    short = pair.authority().issue(pair.NAME, not_after=ends)
    brief = Credential.from_pem(short.chain_pem, short.key_pem)
    ours = client(provider=now.provider, credentials=(brief if end is Role.SERVER else pair.credential(),))
    theirs = asking(provider=now.provider, credentials=(brief if end is Role.CLIENT else pair.credential(),))
    ends_, tap = tapped(ours, theirs)
    ends_.pump()
    assert 3590 <= tap.one(H.NEW_SESSION_TICKET).ticket_lifetime <= (3600 if end is Role.SERVER else DAY)
    now.now += 3590
    assert meet(ours, theirs).resumed
    now.now += 20
    met = begin(ours, theirs).pump()
    assert met.client.negotiated is None or not met.client.negotiated.resumed
    assert any(isinstance(error, CertificateRejected) for error in met.errors.values()), "the full handshake fails"


# ---- tickets asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 16, 17, 255])
@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.rfc("9149 §3", "a server sends as many tickets as asked for within its bound, and says how many")
def test_tickets_are_as_many_as_the_client_asks_for(count: int, resumed: bool) -> None:
    theirs = server()
    ours = client(ticket_request=(1, count) if resumed else (count, 1))
    if resumed:
        assert not meet(ours, theirs).resumed
    ends, tap = tapped(ours, theirs)
    ends.pump()
    expected = min(count, MAX_TICKETS_PER_HANDSHAKE)
    received = [event for event in events_of(ends.client)[0] if isinstance(event, TicketReceived)]
    assert len(received) == expected
    assert len({event.ticket.ticket_nonce for event in received}) == expected
    assert len({event.ticket.ticket for event in received}) == expected
    answer = x.decode_extensions(x.M.EE, tap.one(H.ENCRYPTED_EXTENSIONS).extensions, requested=range(2**16))
    assert answer.get(x.EXPECTED_TICKETS) == expected
    asked = x.decode_extensions(x.M.CH, tap.one(H.CLIENT_HELLO).extensions).get(x.TICKET_REQUEST)
    assert asked == x.ClientTicketRequest(*(ours.ticket_request or ()))


@pytest.mark.rfc("9149 §3", "the request stays the same after HelloRetryRequest")
def test_ticket_request_is_the_same_after_a_retry() -> None:
    ends, tap = tapped(client(ticket_request=(3, 1)), server(groups=(G.SECP256R1,)))
    ends.pump()
    hellos = [x.decode_extensions(x.M.CH, said.body.extensions) for said in tap.said() if said.kind == H.CLIENT_HELLO]
    assert [hello.get(x.TICKET_REQUEST) for hello in hellos] == [x.ClientTicketRequest(3, 1)] * 2
    assert tap.kinds().count(H.NEW_SESSION_TICKET) == 3


@pytest.mark.parametrize("can", [True, False])
def test_server_that_does_not_answer_the_request_does_no_harm(can: bool) -> None:
    theirs = server() if can else server(tickets=0, tickets_on_resumption=0)
    ends, tap = tapped(client(ticket_request=(3, 1)), theirs)
    ends.pump()
    answer = x.decode_extensions(x.M.EE, tap.one(H.ENCRYPTED_EXTENSIONS).extensions, requested=range(2**16))
    assert answer.get(x.EXPECTED_TICKETS) == (3 if can else None)
    assert ends.client.handshake_complete


@pytest.mark.rfc("9846 §4.3.9", "no tickets go to a client whose modes the server cannot use with them")
@pytest.mark.rfc("9149 §3", "the number of tickets announced is the number sent")
def test_client_that_could_not_use_tickets_is_told_of_none() -> None:
    ends, tap = tapped(client(ticket_request=(3, 1), psk_modes=(Mode.PSK_KE,)), server())
    ends.pump()
    answer = x.decode_extensions(x.M.EE, tap.one(H.ENCRYPTED_EXTENSIONS).extensions, requested=range(2**16))
    assert answer.get(x.EXPECTED_TICKETS) == 0
    assert H.NEW_SESSION_TICKET not in tap.kinds()


# ---- copies and restarts ---------------------------------------------------------------------------------------------


def test_i20_copy_of_a_configuration_has_ticket_keys_of_its_own() -> None:
    theirs = server()
    ours = client()
    meet(ours, theirs)
    copy = dataclasses.replace(theirs)
    assert copy == theirs
    assert copy.session_store is not theirs.session_store
    assert not meet(ours, copy).resumed
    shared = dataclasses.replace(copy, sessions=copy.session_store)
    assert meet(ours, shared).resumed


def test_e6_ticket_of_before_a_restart_is_a_full_handshake() -> None:
    ours = client()
    for _ in range(3):
        assert not meet(ours, server()).resumed


def test_e24_every_changed_byte_of_a_ticket_is_a_full_handshake() -> None:
    theirs = server(tickets=1)
    ours = client()
    meet(ours, theirs)
    store = ours.sessions
    assert isinstance(store, MemorySessionStore)
    ((key, (session,)),) = store.items()
    for at in range(0, len(session.ticket), 3):
        changed = session.ticket[:at] + bytes((session.ticket[at] ^ 0x20,)) + session.ticket[at + 1 :]
        store.discard(key)
        store.put(key, dataclasses.replace(session, ticket=changed))
        assert not meet(ours, theirs).resumed
    store.discard(key)
    store.put(key, session)
    assert meet(ours, theirs).resumed


def test_half_of_the_tickets_come_while_data_flows(chunking: Chunking) -> None:
    """Tickets and data in one flight: both arrive."""
    ours, theirs = client(), server(tickets=3)
    met = begin(ours, theirs)
    deliver(met.client.data_to_send(), met.server)
    deliver(met.server.data_to_send(), met.client)
    deliver(met.client.data_to_send(), met.server)
    met.server.send_data(b"right behind the tickets")
    met.pump(chunking)
    kinds = [type(event) for event in met.told[Role.CLIENT]]
    assert kinds.count(TicketReceived) == 3
    assert kinds[0] is HandshakeComplete
    assert kept(ours) == 3


def test_suite_that_is_no_longer_enabled_is_a_full_handshake() -> None:
    """At the client, and at the server."""
    keys = TicketKeys()
    ours = client(suites=(CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384))
    meet(ours, server(sessions=keys))
    assert [session.cipher_suite for session in sessions_of(ours)] == [CS.TLS_AES_128_GCM_SHA256] * 2
    assert not meet(ours, server(sessions=keys, suites=(CS.TLS_AES_256_GCM_SHA384,))).resumed
    ours = client(suites=(CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384))
    meet(ours, server(sessions=keys))
    other = dataclasses.replace(ours, suites=(CS.TLS_AES_256_GCM_SHA384,))
    assert not meet(other, server(sessions=keys)).resumed
