"""Resumption and early data where they are rare: another suite, a retry, a server that declines, PSKs alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pellucid import ClientConfig, Connection, PeerError, ServerConfig
from pellucid.errors import AlertReceived, MissingExtension, UnexpectedMessage, UsageError
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.messages.handshake import ClientHello
from pellucid.registry import AlertDescription as A
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ExtensionType as E
from pellucid.registry import NamedGroup as G
from pellucid.registry import PskKeyExchangeMode
from pellucid.sessions.client import MemorySessionStore
from pellucid.sessions.psk import ExternalPsk
from pellucid.sessions.tickets import TicketKeys
from pellucid.trace import ChoiceMade, Role, TraceEvent
from pellucid.verify.report import Failure, VerificationReport
from pellucid.verify.request import VerificationRequest
from tests.support.pair import NAME, Chunking, Pair, as_sent, client_config, data_of, deliver, events_of, server_config

KEY = bytes(range(32))
TICKETS: dict[str, Any] = {"tickets": 1, "tickets_on_resumption": 1, "sessions": TicketKeys()}
RETRY: dict[str, Any] = {"groups": (G.SECP256R1,)}
"""of a server that has to ask again, since clients of `client_config` share x25519 alone"""


class Changeable:
    """A verifier that takes every chain until it is told not to."""

    session_identity = b"changeable"
    authorities = ()
    accepts = True

    def verify(self, request: VerificationRequest) -> VerificationReport:
        if not self.accepts:
            return VerificationReport(
                accepted=False, summary="no more", failure=Failure.REVOKED, alert=A.CERTIFICATE_REVOKED
            )
        return VerificationReport(accepted=True, summary="as you say", path=(request.leaf.der, *request.intermediates))


def early_configs(**changes: Any) -> tuple[ClientConfig, ServerConfig]:
    """Both ends of a connection that leaves a session good for early data; changes: the client's."""
    return client_config(sessions=MemorySessionStore(), early_data=True, **changes), server_config(
        **TICKETS, max_early_data=1000
    )


def connected(client: ClientConfig, server: ServerConfig, chunking: Chunking) -> Pair:
    pair = Pair.of(client, server, chunking=chunking)
    pair.pump()
    assert pair.client.handshake_complete
    assert pair.server.handshake_complete
    return pair


def psk(role: Role) -> ExternalPsk:
    return ExternalPsk.imported(b"shared", KEY, client="a", server="b", role=role)


@pytest.mark.rfc("9846 §4.3.11", "a session may be resumed with another suite of the same hash")
def test_session_is_resumed_with_another_suite_of_its_hash(chunking: Chunking) -> None:
    client = client_config(sessions=MemorySessionStore())
    first = server_config(**TICKETS, suites=(CS.TLS_AES_128_GCM_SHA256,))
    connected(client, first, chunking)
    other = dataclasses.replace(first, suites=(CS.TLS_CHACHA20_POLY1305_SHA256, CS.TLS_AES_128_GCM_SHA256))
    pair = connected(client, other, chunking)
    for connection in (pair.client, pair.server):
        assert connection.negotiated is not None
        assert connection.negotiated.resumed
        assert connection.negotiated.cipher_suite == CS.TLS_CHACHA20_POLY1305_SHA256
    pair.server.send_data(b"over there")
    deliver(pair.server.data_to_send(), pair.client, chunking)
    assert data_of(events_of(pair.client)[0]) == b"over there"


@pytest.mark.rfc("9846 §4.3.10", "early data is accepted with the session's cipher suite alone")
def test_early_data_is_declined_with_another_suite(chunking: Chunking) -> None:
    client, server = early_configs()
    connected(client, dataclasses.replace(server, suites=(CS.TLS_AES_128_GCM_SHA256,)), chunking)
    other = dataclasses.replace(server, suites=(CS.TLS_CHACHA20_POLY1305_SHA256, CS.TLS_AES_128_GCM_SHA256))
    pair = Pair.of(client, other, chunking=chunking)
    pair.client.send_early_data(b"too early")
    pair.pump()
    assert pair.server.negotiated is not None
    assert pair.server.negotiated.early_data is EarlyDataOutcome.OTHER_SUITE
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.early_data is EarlyDataOutcome.DECLINED


def test_refusal_of_a_recalled_server_reaches_it_though_early_data_is_not_taken(chunking: Chunking) -> None:
    """Under early keys the alert would be skipped with the early data: it is judged before there are any."""
    verifier = Changeable()
    client, server = early_configs(verifier=verifier, reverify_on_resumption=True)
    connected(client, server, chunking)
    verifier.accepts = False
    pair = Pair.of(client, dataclasses.replace(server, max_early_data=0), chunking=chunking)
    with pytest.raises(PeerError) as refused:
        pair.client.send_early_data(b"too early")
    pair.pump()
    assert events_of(pair.client) == ([], refused.value)
    _, told = events_of(pair.server)
    assert isinstance(told, AlertReceived)
    assert told.description == A.CERTIFICATE_REVOKED


def test_server_tells_early_data_that_ended_with_a_retry(chunking: Chunking) -> None:
    client, server = early_configs(groups=(G.X25519, G.SECP256R1))
    connected(client, server, chunking)
    pair = Pair.of(client, dataclasses.replace(server, **RETRY), chunking=chunking)
    pair.client.send_early_data(b"too early")
    pair.pump()
    for connection in (pair.client, pair.server):
        assert connection.negotiated is not None
        assert connection.negotiated.retried
        assert connection.negotiated.resumed
        assert connection.negotiated.early_data is EarlyDataOutcome.RETRIED


@pytest.mark.rfc("9846 §5.1", "a handshake message's records have no others between them")
def test_skipped_early_data_inside_the_second_client_hello_is_refused(chunking: Chunking) -> None:
    client_side, server_side = early_configs(groups=(G.X25519, G.SECP256R1))
    connected(client_side, server_side, chunking)
    client = Connection.client(client_side, NAME)
    server = Connection.server(dataclasses.replace(server_side, **RETRY))
    deliver(client.data_to_send(), server, chunking)
    deliver(server.data_to_send(), client, chunking)
    *before, second = as_sent(client.data_to_send())
    body = second[5:]
    pieces = (
        second[:3] + (10).to_bytes(2, "big") + body[:10],
        b"\x17\x03\x03\x00\x20" + bytes(32),
        second[:3] + (len(body) - 10).to_bytes(2, "big") + body[10:],
    )
    deliver(b"".join((*before, *pieces)), server, chunking)
    _, error = events_of(server)
    assert isinstance(error, UnexpectedMessage)
    assert "inside a handshake message" in error.reason


# ---- PSKs alone ------------------------------------------------------------------------------------------------------


def test_client_with_psks_alone_needs_no_trust(chunking: Chunking) -> None:
    client = client_config(trust=None, external_psks=(psk(Role.CLIENT),), sessions=None)
    server = server_config(external_psks=(psk(Role.SERVER),))
    pair = Pair.of(client, server, chunking=chunking).connect()
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.psk_identity is not None
    assert pair.client.negotiated.peer is None
    hello = ClientHello.decode(Connection.client(client, NAME).data_to_send()[9:])
    assert E.SIGNATURE_ALGORITHMS not in {e.extension_type for e in hello.extensions}


def test_client_with_psks_alone_refuses_a_server_that_uses_none(chunking: Chunking) -> None:
    client = client_config(trust=None, external_psks=(psk(Role.CLIENT),), sessions=None)
    pair = Pair.of(client, server_config(), chunking=chunking)
    pair.pump()
    _, error = events_of(pair.server)
    assert isinstance(error, MissingExtension)  # there is no signature_algorithms to answer with a certificate


def test_client_with_psks_alone_refuses_a_server_that_answers_with_a_certificate(chunking: Chunking) -> None:
    client = Connection.client(client_config(trust=None, external_psks=(psk(Role.CLIENT),)), NAME)
    plain = Connection.client(client_config(), NAME)
    server = Connection.server(server_config())
    deliver(plain.data_to_send(), server)
    flight = list(as_sent(server.data_to_send()))
    hello = ClientHello.decode(client.data_to_send()[9:])
    # The ServerHello of another connection, with this one's session ID: what counts is that it selects no PSK.
    answer = flight[0]
    at = 5 + 4 + 2 + 32 + 1
    deliver(answer[:at] + hello.legacy_session_id + answer[at + 32 :], client, chunking)
    _, error = events_of(client)
    assert isinstance(error, MissingExtension)
    assert "selects no PSK" in error.reason


def test_client_without_trust_verifier_and_psk_is_refused() -> None:
    with pytest.raises(UsageError, match="nobody could be verified"):
        Connection.client(client_config(trust=None), NAME)


def test_ticket_of_a_connection_with_a_psk_is_a_session(chunking: Chunking) -> None:
    client = client_config(sessions=MemorySessionStore(), trust=None, external_psks=(psk(Role.CLIENT),))
    server = server_config(**TICKETS, external_psks=(psk(Role.SERVER),))
    connected(client, server, chunking)
    pair = connected(client, server, chunking)
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.resumed


# ---- what is told of it ----------------------------------------------------------------------------------------------


def told_of(what: str, client: ClientConfig, server: ServerConfig) -> dict[Role, list[tuple[str, str]]]:
    """Return what both ends' traces say was chosen, and why."""
    told: dict[Role, list[TraceEvent]] = {role: [] for role in Role}
    pair = Pair(
        Connection.client(client, server_name=NAME, trace=told[Role.CLIENT].append),
        Connection.server(server, trace=told[Role.SERVER].append),
    )
    pair.pump()
    return {
        role: [(event.chosen, event.reason) for event in events if type(event) is ChoiceMade and event.what == what]
        for role, events in told.items()
    }


@pytest.mark.parametrize(
    ("ours", "theirs", "chosen", "reason"),
    [
        ({}, {}, "1", "the configuration says so"),
        ({"ticket_request": (3, 1)}, {}, "3", "the client asks for so many, of which 16 are the most"),
        ({"ticket_request": (0, 1)}, {}, "none", "the client asks for so many, of which 16 are the most"),
        (
            {},
            {"psk_modes": (PskKeyExchangeMode.PSK_KE,)},
            "none",
            "the client offers no PSK key exchange mode that is taken here",
        ),
    ],
)
def test_server_tells_how_many_tickets_it_sends_and_why(
    ours: dict[str, Any], theirs: dict[str, Any], chosen: str, reason: str
) -> None:
    client = client_config(sessions=MemorySessionStore(), **ours)
    told = told_of("tickets", client, server_config(**TICKETS, **theirs))
    assert told == {Role.CLIENT: [], Role.SERVER: [(chosen, reason)]}


def test_client_tells_how_many_tickets_it_asks_for() -> None:
    client = client_config(sessions=MemorySessionStore(), ticket_request=(3, 1))
    ((asked, _why),) = told_of("ticket_request", client, server_config(**TICKETS))[Role.CLIENT]
    assert asked == "3 after a full handshake, 1 after a resumption"


def test_client_tells_why_a_verifier_without_identity_resumes_nothing() -> None:
    class Stranger:
        authorities = ()

        def verify(self, request: VerificationRequest) -> VerificationReport:
            return Changeable().verify(request)

    client = client_config(trust=None, verifier=Stranger(), sessions=MemorySessionStore())
    ((chosen, why),) = told_of("psk_offer", client, server_config(**TICKETS))[Role.CLIENT]
    assert chosen == "none"
    assert "session_identity" in why
