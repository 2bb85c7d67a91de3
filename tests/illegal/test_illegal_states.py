"""The state machine against messages out of turn: A1-A3, A11, A12 and every pair that Appendix A does not draw."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from pellucid import Connection
from pellucid.config import ClientAuthentication
from pellucid.handshake.actions import InstallKeys, SendMessage
from pellucid.handshake.states import CLIENT_ARROWS, SERVER_ARROWS, ClientState, ServerState, State
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    BODIES,
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    KeyUpdate,
    NewSessionTicket,
    ServerHello,
    handshake_message,
    message_type,
)
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType, NamedGroup
from pellucid.registry import HandshakeType as H
from pellucid.trace import MessageTraced
from tests.illegal.evil import (
    Evil,
    asking_server,
    client_config,
    client_with_certificate,
    connected,
    drain,
    early_pair,
    evil_client,
    evil_server,
    exchange,
    flight_of,
    good_client,
    good_server,
    later_server,
    message,
    refused,
    replacing,
    server_config,
    without,
)

UM = A.UNEXPECTED_MESSAGE
SERVER_FLIGHT = (H.ENCRYPTED_EXTENSIONS, H.CERTIFICATE_REQUEST, H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED)
CLIENT_FLIGHT = (H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED)
LEGAL = {SERVER_FLIGHT, tuple(kind for kind in SERVER_FLIGHT if kind != H.CERTIFICATE_REQUEST)}


# ---- A1: the server's flight in every shape --------------------------------------------------------------------------


def _subsets() -> list[tuple[int, ...]]:
    return [kinds for n in range(6) for kinds in itertools.combinations(SERVER_FLIGHT, n)]


@pytest.mark.rfc("9846 §4", "messages in the wrong order are unexpected_message")
@pytest.mark.parametrize("kinds", _subsets(), ids=flight_of)
def test_a1_client_connects_only_after_a_legal_flight(kinds: tuple[int, ...]) -> None:
    """A1: all 2^5 subsets; CertificateVerify and Finished are right for what is sent."""
    client = good_client(client_with_certificate())
    evil = evil_server(
        asking_server(), edit=lambda kind, raw: b"" if kind in SERVER_FLIGHT and kind not in kinds else raw
    )
    if kinds in LEGAL:
        exchange(client, evil)
        assert client.handshake_complete  # the evil server still waits for the certificate it did not ask for
    elif any(legal[: len(kinds)] == kinds for legal in LEGAL):
        exchange(client, evil)
        assert not client.handshake_complete
        assert drain(client) == ([], None)  # it waits for the rest
    else:
        refused(client, evil, UM)
        assert not client.handshake_complete


@pytest.mark.parametrize("kind", SERVER_FLIGHT, ids=lambda kind: flight_of((kind,)))
def test_a1_client_refuses_a_message_sent_twice(kind: int) -> None:
    """A1: single duplications. After Finished the keys have changed: there the copy lies across the change."""
    evil = evil_server(asking_server(), edit=replacing(kind, lambda raw: raw + raw))
    refused(good_client(client_with_certificate()), evil, UM)


@pytest.mark.parametrize("first", range(4), ids=lambda i: flight_of(SERVER_FLIGHT[i : i + 2]))
def test_a1_client_refuses_two_neighbours_swapped(first: int) -> None:
    """A1: the transcript, and so signature and Finished, are those of the swapped order."""
    early, late = SERVER_FLIGHT[first : first + 2]
    held = b""

    def swap(kind: int, raw: bytes) -> bytes:
        nonlocal held
        if kind == early:
            held = raw
            return b""
        return raw + held if kind == late else raw

    refused(good_client(client_with_certificate()), evil_server(asking_server(), edit=swap), UM)


# ---- A2, A3: the client's flight -------------------------------------------------------------------------------------

EMPTY_CERTIFICATE = handshake_message(Certificate(b"", ()))
OPTIONAL = ClientAuthentication.OPTIONAL
REQUIRED = ClientAuthentication.REQUIRED


@pytest.mark.parametrize("mode", [OPTIONAL, REQUIRED], ids=lambda mode: mode.value)
@pytest.mark.rfc("9846 §4.5.2", "CertificateVerify must follow a non-empty Certificate")
def test_a2_server_refuses_certificate_without_certificate_verify(mode: ClientAuthentication) -> None:
    server = good_server(asking_server(client_authentication=mode))
    refused(server, evil_client(client_with_certificate(), edit=without(H.CERTIFICATE_VERIFY)), UM)


@pytest.mark.parametrize("mode", [OPTIONAL, REQUIRED], ids=lambda mode: mode.value)
def test_a2_server_refuses_certificate_verify_without_certificate(mode: ClientAuthentication) -> None:
    server = good_server(asking_server(client_authentication=mode))
    refused(server, evil_client(client_with_certificate(), edit=without(H.CERTIFICATE)), UM)


def test_a2_server_refuses_certificate_verify_after_an_empty_certificate() -> None:
    server = good_server(asking_server(client_authentication=OPTIONAL))
    edit = replacing(H.CERTIFICATE, lambda raw: EMPTY_CERTIFICATE)
    refused(server, evil_client(client_with_certificate(), edit=edit), UM)


@pytest.mark.rfc("9846 §4.5.1.3", "an empty Certificate where one is required is certificate_required")
def test_a3_server_that_requires_a_certificate_refuses_an_empty_one() -> None:
    refused(good_server(asking_server()), evil_client(), A.CERTIFICATE_REQUIRED)


@pytest.mark.parametrize("mode", [OPTIONAL, REQUIRED], ids=lambda mode: mode.value)
def test_a3_server_that_asked_refuses_no_certificate_message_at_all(mode: ClientAuthentication) -> None:
    server = good_server(asking_server(client_authentication=mode))
    refused(server, evil_client(edit=without(H.CERTIFICATE)), UM)


@pytest.mark.parametrize(
    "kinds", [k for n in range(4) for k in itertools.combinations(CLIENT_FLIGHT, n)], ids=flight_of
)
def test_a1_server_connects_only_after_a_legal_flight(kinds: tuple[int, ...]) -> None:
    """A1, A2, A3 turned round: all 2^3 subsets of a client's flight."""
    server = good_server(asking_server())
    evil = evil_client(
        client_with_certificate(), edit=lambda kind, raw: b"" if kind in CLIENT_FLIGHT and kind not in kinds else raw
    )
    if kinds == CLIENT_FLIGHT[: len(kinds)]:
        exchange(server, evil)
        assert drain(server)[1] is None
        assert server.handshake_complete == (kinds == CLIENT_FLIGHT)
    else:
        refused(server, evil, UM)


@pytest.mark.parametrize("kind", CLIENT_FLIGHT, ids=lambda kind: flight_of((kind,)))
def test_a1_server_refuses_a_message_sent_twice(kind: int) -> None:
    evil = evil_client(client_with_certificate(), edit=replacing(kind, lambda raw: raw + raw))
    refused(good_server(asking_server()), evil, UM)


def test_a1_server_that_did_not_ask_refuses_a_certificate() -> None:
    def with_certificate(evil: Evil, actions: list[Any]) -> list[Any]:
        return [
            SendMessage(action.epoch, EMPTY_CERTIFICATE + action.raw)
            if isinstance(action, SendMessage) and message_type(action.raw) == H.FINISHED
            else action
            for action in actions
        ]

    refused(good_server(), evil_client(rewrite=with_certificate), UM)


# ---- every pair that Appendix A does not draw ------------------------------------------------------------------------


@functools.cache
def _samples() -> dict[int, bytes]:
    """A well-formed message of every type, most of them from a real handshake; unknown types with a body of 4 bytes."""
    found: dict[int, bytes] = {}

    def note(event: object) -> None:
        if isinstance(event, MessageTraced):
            found.setdefault(event.message_type, event.raw)

    client = Connection.client(client_with_certificate(), "evil.test", trace=note)
    connected(client, good_server(asking_server()))
    found[H.NEW_SESSION_TICKET] = handshake_message(NewSessionTicket(60, 0, b"\0", b"ticket", ()))
    found[H.KEY_UPDATE] = handshake_message(KeyUpdate(0))
    found[H.END_OF_EARLY_DATA] = message(H.END_OF_EARLY_DATA, b"")
    hello = ServerHello.decode(found[H.SERVER_HELLO][4:])
    found[H.HELLO_RETRY_REQUEST] = handshake_message(
        ServerHello(
            hello.legacy_version,
            HELLO_RETRY_REQUEST_RANDOM,
            hello.legacy_session_id_echo,
            hello.cipher_suite,
            0,
            (x.SELECTED_VERSION.extension(0x0304), x.SELECTED_GROUP.extension(NamedGroup.SECP256R1)),
        )
    )
    for kind in (0, 3, 6, 7, 12, 14, 16, 21, 22, 25, 67, 203, H.MESSAGE_HASH, 255):
        # 6 on the wire is HelloRetryRequest's historic number, not what the table calls by it.
        found.setdefault(1000 + kind if kind == H.HELLO_RETRY_REQUEST else kind, message(kind, b"\0\0\0\0"))
    return found


KINDS = (
    *(H.CLIENT_HELLO, H.SERVER_HELLO, H.HELLO_RETRY_REQUEST, H.NEW_SESSION_TICKET, H.END_OF_EARLY_DATA),
    *(H.ENCRYPTED_EXTENSIONS, H.CERTIFICATE, H.CERTIFICATE_REQUEST, H.CERTIFICATE_VERIFY, H.FINISHED, H.KEY_UPDATE),
    *(1000 + H.HELLO_RETRY_REQUEST, 0, 3, 7, 12, 14, 16, 21, 22, 25, 67, 203, H.MESSAGE_HASH, 255),
)

Rewrite = Callable[[Evil, list[Any]], list[Any]]


def _instead_of(kind: int, raw: bytes) -> Rewrite:
    """Send *raw* in place of the first message of *kind*, and nothing after it but what changes keys for reading."""

    def rewrite(evil: Evil, actions: list[Any]) -> list[Any]:
        for i, action in enumerate(actions):
            if isinstance(action, SendMessage) and message_type(action.raw) == kind:
                rest = [a for a in actions[i + 1 :] if isinstance(a, InstallKeys) and a.direction.value == "received"]
                return [*actions[:i], lambda peer: peer.record(ContentType.HANDSHAKE, raw), *rest]
        return actions

    return rewrite


CLIENT_WAITS = {  # the client's state → the server's message that it would have been
    ClientState.WAIT_SH: (H.SERVER_HELLO, server_config),
    ClientState.WAIT_EE: (H.ENCRYPTED_EXTENSIONS, server_config),
    ClientState.WAIT_CERT_CR: (H.CERTIFICATE, server_config),
    ClientState.WAIT_CERT: (H.CERTIFICATE, asking_server),
    ClientState.WAIT_CV: (H.CERTIFICATE_VERIFY, server_config),
    ClientState.WAIT_FINISHED: (H.FINISHED, server_config),
    ClientState.CONNECTED: (None, server_config),
    ClientState.CONNECTED_PHA: (None, server_config),
}
SERVER_WAITS = {
    ServerState.START: (H.CLIENT_HELLO, server_config),
    ServerState.WAIT_EOED: (H.END_OF_EARLY_DATA, server_config),
    ServerState.WAIT_CERT: (H.CERTIFICATE, asking_server),
    ServerState.WAIT_CV: (H.CERTIFICATE_VERIFY, asking_server),
    ServerState.WAIT_FINISHED: (H.FINISHED, server_config),
    ServerState.CONNECTED: (None, server_config),
    ServerState.WAIT_PHA: (None, later_server),
    ServerState.WAIT_PHA_CV: (H.CERTIFICATE_VERIFY, later_server),
    ServerState.WAIT_PHA_FINISHED: (H.FINISHED, later_server),
}


def _illegal(waits: dict[Any, Any], arrows: dict[tuple[State, int], Any]) -> list[Any]:
    return [
        pytest.param(state, kind, id=f"{state.value}-{kind}")
        for state in waits
        for kind in KINDS
        if (state, kind) not in arrows
    ]


@pytest.mark.rfc("9846 §4", "a message that is not expected in this state is unexpected_message")
@pytest.mark.parametrize(("state", "kind"), _illegal(CLIENT_WAITS, CLIENT_ARROWS))
@pytest.mark.parametrize("chunk", [None, 1], ids=["at-once", "1-byte"])
def test_client_refuses_every_message_that_has_no_arrow(state: ClientState, kind: int, chunk: int | None) -> None:
    """A1, A11: all pairs of (state, message) that Appendix A.1 does not draw."""
    before, config = CLIENT_WAITS[state]
    raw = _samples()[kind]
    client = good_client(client_with_certificate(post_handshake_auth=state is ClientState.CONNECTED_PHA))
    if before is None:
        evil = evil_server(config())
        connected(client, evil)
        evil.record(ContentType.HANDSHAKE, raw)
    else:
        evil = evil_server(config(), rewrite=_instead_of(before, raw))
    error = refused(client, evil, UM, chunk=chunk)
    assert state.value in str(error)


@pytest.mark.rfc("9846 §4", "a message that is not expected in this state is unexpected_message")
@pytest.mark.parametrize(("state", "kind"), _illegal(SERVER_WAITS, SERVER_ARROWS))
@pytest.mark.parametrize("chunk", [None, 1], ids=["at-once", "1-byte"])
def test_server_refuses_every_message_that_has_no_arrow(state: ServerState, kind: int, chunk: int | None) -> None:
    """A1, A11: all pairs of (state, message) that Appendix A.2 does not draw."""
    before, config = SERVER_WAITS[state]
    raw = _samples()[kind]
    configured, client = config(), client_with_certificate()
    if state is ServerState.WAIT_EOED:
        configured, client = early_pair()
    server = good_server(configured)
    if config is later_server:
        evil = evil_client(client_with_certificate(post_handshake_auth=True))
        connected(server, evil)
        server.request_client_certificate()
        if before is None:
            evil.record(ContentType.HANDSHAKE, raw)
        else:
            evil.rewrite = _instead_of(before, raw)
    elif before is None:
        evil = evil_client(client)
        connected(server, evil)
        evil.record(ContentType.HANDSHAKE, raw)
    else:
        evil = evil_client(client, rewrite=_instead_of(before, raw))
    error = refused(server, evil, UM, chunk=chunk)
    assert state.value in str(error)


@pytest.mark.parametrize("victim", ["client", "server"])
def test_an_unexpected_message_is_refused_from_its_header(victim: str) -> None:
    """Nothing is waited for or kept of a message that may not come: its 4 bytes of header are enough."""
    for kind in set(BODIES) - {H.HELLO_RETRY_REQUEST}:
        good, evil = _connected_pair(victim)
        if kind in good._handshake.expected:
            continue
        evil.record(ContentType.HANDSHAKE, bytes((kind, 0, 0, 40)))
        refused(good, evil, UM)


@pytest.mark.parametrize("state", [*CLIENT_WAITS, *SERVER_WAITS], ids=lambda s: f"{type(s).__name__}-{s.value}")
def test_every_state_that_anybody_waits_in_is_tried(state: State) -> None:
    """The two tables above leave no state of the tables of Appendix A out."""
    assert state in {row_state for row_state, _ in (*CLIENT_ARROWS, *SERVER_ARROWS)}
    assert {s for s, _ in CLIENT_ARROWS} <= set(CLIENT_WAITS)
    assert {s for s, _ in SERVER_ARROWS} <= set(SERVER_WAITS)


# ---- A11: after Finished ---------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.7.2", "an unsolicited post-handshake message is unexpected_message")
@pytest.mark.parametrize("victim", ["client", "server"])
def test_a11_after_finished_only_key_update_and_tickets_may_come(victim: str) -> None:
    """A11: each of 256 types; a server takes KeyUpdate only, a client NewSessionTicket too."""
    allowed = {H.KEY_UPDATE} | ({H.NEW_SESSION_TICKET} if victim == "client" else set())
    for kind in range(256):
        if kind in allowed:
            continue
        good, evil = _connected_pair(victim)
        evil.record(ContentType.HANDSHAKE, message(kind, b""))
        refused(good, evil, UM)
    for kind in allowed:
        good, evil = _connected_pair(victim)
        evil.record(ContentType.HANDSHAKE, _samples()[kind])
        exchange(good, evil)
        seen, error = drain(good)
        assert len(seen) == 1
        assert error is None


def _connected_pair(victim: str) -> tuple[Connection, Evil]:
    good, evil = (good_client(), evil_server()) if victim == "client" else (good_server(), evil_client())
    connected(good, evil)
    return good, evil


@pytest.mark.rfc("9846 §4.2.2", "a ClientHello after the handshake is unexpected_message: no renegotiation")
def test_a11_server_refuses_renegotiation() -> None:
    good, evil = _connected_pair("server")
    evil.record(ContentType.HANDSHAKE, _samples()[H.CLIENT_HELLO])
    refused(good, evil, UM)


# ---- A13: EndOfEarlyData where there is no early data ----------------------------------------------------------------


@pytest.mark.rfc("9846 §4.6", "a server never sends EndOfEarlyData, a client only after accepted early data")
@pytest.mark.parametrize("body", [b"", b"x"], ids=["empty", "with-content"])
def test_a13_end_of_early_data_that_nothing_called_for_is_refused(body: bytes) -> None:
    """A13: before each Finished and after the handshake, from either side."""
    stray = message(H.END_OF_EARLY_DATA, body)
    edit = replacing(H.FINISHED, lambda raw: stray + raw)
    refused(good_client(), evil_server(edit=edit), UM)
    refused(good_server(), evil_client(edit=edit), UM)
    for victim in ("client", "server"):
        good, evil = _connected_pair(victim)
        evil.record(ContentType.HANDSHAKE, stray)
        refused(good, evil, UM)


# ---- A12: HelloRetryRequest twice ------------------------------------------------------------------------------------

RETRYING = {"groups": (NamedGroup.SECP256R1, NamedGroup.X25519), "key_shares": (NamedGroup.X25519,)}


def _retrying_server() -> Any:
    return server_config(groups=(NamedGroup.SECP256R1,))


@pytest.mark.rfc("9846 §4.2.4", "a second HelloRetryRequest is unexpected_message")
def test_a12_client_refuses_a_second_hello_retry_request() -> None:
    retry = b""

    def again(kind: int, raw: bytes) -> bytes:
        nonlocal retry
        if kind == H.HELLO_RETRY_REQUEST:
            retry = raw
        return retry if kind == H.SERVER_HELLO else raw

    refused(good_client(client_config(**RETRYING)), evil_server(_retrying_server(), edit=again), UM)


def test_a12_client_refuses_two_hello_retry_requests_in_one_flight() -> None:
    evil = evil_server(_retrying_server(), edit=replacing(H.HELLO_RETRY_REQUEST, lambda raw: raw + raw))
    refused(good_client(client_config(**RETRYING)), evil, UM)


@pytest.mark.parametrize("size", [1, 4, 40])
def test_a12_client_refuses_part_of_a_server_hello_behind_a_hello_retry_request(size: int) -> None:
    """A12: whoever asked again cannot have answered yet. Every byte of the handshake is right but for its place."""

    def early(kind: int, raw: bytes) -> bytes:
        head = b"\x02" + evil.coming[1:size]
        if kind == H.HELLO_RETRY_REQUEST:
            return raw + head
        return raw[size:] if kind == H.SERVER_HELLO else raw

    evil = evil_server(_retrying_server(), edit=early)
    evil.coming = b"\x02\0\0\x9b\x03\x03" + bytes(34)
    refused(good_client(client_config(**RETRYING, middlebox_compatibility=False)), evil, UM)


@pytest.mark.parametrize("size", [1, 4, 40])
def test_a12_server_refuses_part_of_a_second_client_hello_behind_the_first(size: int) -> None:
    """A12 turned round: the second ClientHello answers what was not sent yet."""
    first = b""

    def early(kind: int, raw: bytes) -> bytes:
        nonlocal first
        if kind == H.CLIENT_HELLO and not first:
            first = raw
            return raw + raw[:size]
        return raw

    config = client_config(**RETRYING, middlebox_compatibility=False)
    refused(good_server(_retrying_server()), evil_client(config, edit=early), UM)


def test_a12_client_accepts_one_hello_retry_request() -> None:
    connected(good_client(client_config(**RETRYING)), evil_server(_retrying_server()))
