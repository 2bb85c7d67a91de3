"""Authentication after the handshake, both ends ours (RFC 9846 §4.7.2): asked, answered, declined, remembered."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable
from typing import Any

import pytest

from pellucid import (
    PENDING,
    PYCA,
    AlertReceived,
    ApplicationData,
    CertificateRejected,
    CertificateRequested,
    ClientAuthentication,
    ClientConfig,
    Connection,
    Credential,
    CredentialNeeded,
    HandshakeComplete,
    KeyUpdated,
    PeerAuthenticated,
    ServerConfig,
    SignatureNeeded,
    TicketReceived,
    TLSError,
    UsageError,
    VerificationNeeded,
)
from pellucid.config import CertificateRequestInfo
from pellucid.crypto.compression import ZLIB
from pellucid.explain.sentences import describe
from pellucid.limits import MAX_OPEN_CERTIFICATE_REQUESTS, MAX_TICKETS_PER_HANDSHAKE
from pellucid.messages import extensions as x
from pellucid.messages.handshake import BODIES, HEADER_LENGTH, Certificate, CertificateRequest, Finished, message_type
from pellucid.registry import AlertDescription, PskKeyExchangeMode
from pellucid.registry import CipherSuite as CS
from pellucid.registry import HandshakeType as H
from pellucid.schedule import Prf
from pellucid.sessions.client import MemorySessionStore
from pellucid.sessions.psk import ExternalPsk
from pellucid.sessions.tickets import TicketKeys
from pellucid.testing.ca import CA
from pellucid.trace import ChoiceMade, Direction, MessageTraced, Role, SignatureTraced, TraceEvent, VerificationTraced
from pellucid.verify.webpki import WebPKIVerifier
from tests.support.pair import (
    CHUNKINGS,
    Chunking,
    Pair,
    authority,
    client_config,
    credential,
    data_of,
    deliver,
    events_of,
    server_config,
)

SECTION = "9846 §4.7.2"
three_ways = pytest.mark.parametrize("chunking", CHUNKINGS.values(), ids=CHUNKINGS)


def willing(**changes: Any) -> ClientConfig:
    """A client that offers it, and has a certificate."""
    return client_config(**{"post_handshake_auth": True, "credentials": (credential("p256", "client.test"),)} | changes)


def able(**changes: Any) -> ServerConfig:
    """A server that asks for nothing in the handshake, and knows whom it would believe."""
    return server_config(**{"client_trust": authority().trust} | changes)


def connected(client: ClientConfig | None = None, server: ServerConfig | None = None, **more: Any) -> Pair:
    return Pair.of(client or willing(), server or able(), **more).connect()


def heard(end: Connection) -> tuple[list[Any], TLSError | None]:
    """What happened at *end*, but for CertificateRequested, and the error after it."""
    seen, error = events_of(end)
    return [event for event in seen if not isinstance(event, CertificateRequested)], error


def ask(pair: Pair, **more: Any) -> bytes:
    return pair.server.request_client_certificate(**more)


def answered(pair: Pair) -> PeerAuthenticated:
    """Carry what is to be carried; return the one event that follows, at the server."""
    pair.pump()
    assert heard(pair.client) == ([], None)
    seen, error = heard(pair.server)
    assert error is None, error
    assert len(seen) == 1 and isinstance(seen[0], PeerAuthenticated), seen
    return seen[0]


def leaf_of(kind: Any = "p256", *names: str) -> bytes:
    return credential(kind, *(names or ("client.test",))).chain[0]


def messages(events: list[TraceEvent], direction: Direction) -> list[int]:
    return [e.message_type for e in events if isinstance(e, MessageTraced) and e.direction is direction]


def both_talk(pair: Pair) -> None:
    for sender in (pair.client, pair.server):
        assert data_of(pair.send(sender, b"still there?")[0]) == b"still there?"


# ---- asked and answered ----------------------------------------------------------------------------------------------


@pytest.mark.rfc(SECTION, "a client answers a CertificateRequest with Certificate, CertificateVerify and Finished")
@pytest.mark.parametrize("kind", ["p256", "rsa2048", "ed25519"])
@pytest.mark.parametrize("suite", [CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384])
@three_ways
def test_client_shows_its_certificate_when_asked_later(chunking: Chunking, suite: int, kind: Any) -> None:
    seen: list[TraceEvent] = []
    pair = connected(
        willing(credentials=(credential(kind, "client.test"),), suites=(suite,)),
        chunking=chunking,
        client_trace=seen.append,
    )
    assert pair.server.peer is None
    both_talk(pair)
    seen.clear()
    name = ask(pair)
    event = answered(pair)
    assert event.request_context == name
    assert event.peer is not None
    assert event.peer.leaf.der == leaf_of(kind)
    assert pair.server.peer is event.peer
    assert pair.server.negotiated is not None and pair.server.negotiated.peer is None  # that is what was agreed then
    assert messages(seen, Direction.SENT) == [H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED]
    both_talk(pair)
    assert pair.server.export_keying_material(b"EXPORTER-x", b"", 32) == pair.client.export_keying_material(
        b"EXPORTER-x", b"", 32
    )


def test_client_is_told_that_it_was_asked_and_of_what() -> None:
    pair = connected()
    ask(pair)
    pair.pump()
    (event,), error = events_of(pair.client)
    assert error is None
    assert isinstance(event, CertificateRequested)
    assert event.request.post_handshake
    assert event.request.signature_schemes == able().signature_schemes


@pytest.mark.rfc(SECTION, "a client that declines answers with a Certificate without certificates, and Finished")
@pytest.mark.rfc("9846 §4.5.1", "a client without a suitable certificate sends an empty Certificate and Finished")
@three_ways
def test_client_without_a_certificate_declines(chunking: Chunking) -> None:
    seen: list[TraceEvent] = []
    pair = connected(willing(credentials=()), chunking=chunking, client_trace=seen.append)
    seen.clear()
    name = ask(pair)
    assert answered(pair) == PeerAuthenticated(None, name)
    assert messages(seen, Direction.SENT) == [H.CERTIFICATE, H.FINISHED]
    assert pair.server.peer is None
    both_talk(pair)


@three_ways
def test_client_that_declines_where_a_certificate_is_required_hears_so(chunking: Chunking) -> None:
    for configured in (able(), able(client_authentication=ClientAuthentication.REQUIRED)):
        pair = connected(willing(), configured, chunking=chunking)
        pair.client._context.config = willing(credentials=())
        ask(pair, required=configured.client_authentication is ClientAuthentication.NONE)
        pair.pump()
        _, error = heard(pair.server)
        assert error is not None and "without a certificate" in str(error)
        _, told = heard(pair.client)
        assert isinstance(told, AlertReceived)
        assert told.description == AlertDescription.CERTIFICATE_REQUIRED


@pytest.mark.parametrize("mode", [ClientAuthentication.OPTIONAL, ClientAuthentication.REQUIRED])
def test_certificate_of_the_handshake_may_be_followed_by_another(mode: ClientAuthentication) -> None:
    first, second = credential("p256", "client.test"), credential("ed25519", "other.test")
    shown = [first, second]
    config = willing(credentials=(), credential_resolver=lambda _: shown.pop(0))
    pair = connected(config, able(client_authentication=mode))
    assert pair.server.peer is not None and pair.server.peer.leaf.der == first.chain[0]
    ask(pair)
    event = answered(pair)
    assert event.peer is not None and event.peer.leaf.der == second.chain[0]
    assert pair.server.peer is event.peer
    assert pair.server.negotiated is not None and pair.server.negotiated.peer is not None
    assert pair.server.negotiated.peer.leaf.der == first.chain[0]


def test_declining_takes_nothing_from_who_the_client_was() -> None:
    shown: list[Credential | None] = [credential("p256", "client.test"), None]
    pair = connected(willing(credentials=(), credential_resolver=lambda _: shown.pop(0)), able())
    ask(pair)
    first = answered(pair).peer
    ask(pair)
    assert answered(pair).peer is None
    assert pair.server.peer is first is not None


def test_resolver_is_told_that_it_is_asked_after_the_handshake() -> None:
    asked: list[CertificateRequestInfo] = []

    def resolver(info: CertificateRequestInfo) -> Credential:
        asked.append(info)
        return credential("p256", "client.test")

    pair = connected(
        willing(credentials=(), credential_resolver=resolver), able(client_authentication=ClientAuthentication.OPTIONAL)
    )
    ask(pair)
    answered(pair)
    assert [info.post_handshake for info in asked] == [False, True]
    assert asked[0].signature_schemes == asked[1].signature_schemes
    assert asked[0].authorities == asked[1].authorities != ()


@three_ways
def test_answer_is_compressed_where_the_server_takes_that(chunking: Chunking) -> None:
    seen: list[TraceEvent] = []
    pair = connected(
        willing(), able(client_certificate_compression=(ZLIB,)), chunking=chunking, client_trace=seen.append
    )
    ask(pair)
    assert answered(pair).peer is not None
    ask(pair)
    assert answered(pair).peer is not None
    assert messages(seen, Direction.SENT)[-6:] == 2 * [H.COMPRESSED_CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED]


def test_untrusted_certificate_ends_the_connection() -> None:
    stranger = CA("stranger").issue("client.test")
    pair = connected(willing(credentials=(Credential.from_pem(stranger.chain_pem, stranger.key_pem),)))
    ask(pair)
    pair.pump()
    _, error = heard(pair.server)
    assert isinstance(error, CertificateRejected)
    assert pair.server.peer is None
    _, told = heard(pair.client)
    assert isinstance(told, AlertReceived) and told.description == AlertDescription.UNKNOWN_CA


# ---- what it hangs on ------------------------------------------------------------------------------------------------


@pytest.mark.rfc(
    "9846 §4.5", "post-handshake: ClientHello…client Finished and CertificateRequest, under the present key"
)
@pytest.mark.rfc("9846 §4.1", "post-handshake authentications do not include each other")
@pytest.mark.parametrize("updates", [0, 1, 3])
@pytest.mark.parametrize("retried", [False, True])
def test_finished_covers_the_main_handshake_and_its_own_request_alone(updates: int, retried: bool) -> None:
    """Computed here once more, from the messages as they were sent, for the second of two requests."""
    seen: list[TraceEvent] = []
    groups = {"groups": (0x0017,)} if retried else {}
    pair = connected(willing(), able(**groups), client_trace=seen.append)
    handshake = [e.raw for e in seen if isinstance(e, MessageTraced)]
    kinds = [message_type(raw) for raw in handshake]
    assert kinds[-1] == H.FINISHED and (H.HELLO_RETRY_REQUEST in kinds) is retried
    ask(pair)
    answered(pair)
    for _ in range(updates):
        pair.client.send_key_update(request_peer=True)
        pair.pump()
    for end in (pair.client, pair.server):
        heard(end)
    seen.clear()
    ask(pair)
    answered(pair)
    request, certificate, verify, finished = [e.raw for e in seen if isinstance(e, MessageTraced)]
    phase: Any = pair.server._handshake.phase
    assert phase.receiving.generation == updates
    suite = phase.receiving.suite
    if retried:
        first = suite.new_hash(handshake[0]).digest()
        handshake[0] = bytes((H.MESSAGE_HASH, 0, 0, len(first))) + first
    covered = suite.new_hash(b"".join((*handshake, request, certificate, verify))).digest()
    key = Prf(suite, phase.receiving.value).expand_label(b"finished", b"", suite.hash_length)
    expected = Prf(suite, key).hmac(covered)
    assert hmac.compare_digest(Finished.decode(finished[HEADER_LENGTH:]).verify_data, expected)


@pytest.mark.rfc("9846 §4.4.2", "certificate_request_context is unique within the connection, and unpredictable")
@pytest.mark.parametrize("random", [PYCA.random, bytes], ids=["random", "a provider without entropy"])
def test_contexts_are_unique_and_the_clients_echo(random: Callable[[int], bytes]) -> None:
    seen: list[TraceEvent] = []
    pair = connected(willing(), able(), client_trace=seen.append)
    pair.server._context.provider = dataclasses.replace(PYCA, random=random)
    names = []
    for _ in range(5):
        names.append(ask(pair))
        assert answered(pair).request_context == names[-1]
        both_talk(pair)
    assert len(set(names)) == len(names)
    requests = [e.body for e in seen if isinstance(e, MessageTraced) and isinstance(e.body, CertificateRequest)]
    echoes = [
        e.body
        for e in seen
        if isinstance(e, MessageTraced) and isinstance(e.body, Certificate) and e.direction is Direction.SENT
    ]
    assert [one.certificate_request_context for one in requests] == names
    assert [one.certificate_request_context for one in echoes] == names
    if random is PYCA.random:
        assert len({name[:8] for name in names}) == len(names)


@pytest.mark.rfc("9846 §4.4.2", "signature_algorithms is in every CertificateRequest")
def test_request_says_what_one_in_the_handshake_says() -> None:
    seen: list[TraceEvent] = []
    pair = connected(
        willing(),
        able(
            client_authentication=ClientAuthentication.OPTIONAL, request_ocsp=True, signature_algorithms_cert=(0x0403,)
        ),
        client_trace=seen.append,
    )
    ask(pair)
    answered(pair)
    first, second = [e.body for e in seen if isinstance(e, MessageTraced) and isinstance(e.body, CertificateRequest)]
    assert first.extensions == second.extensions
    assert x.SIGNATURE_ALGORITHMS.extension_type in {one.extension_type for one in second.extensions}
    assert first.certificate_request_context == b"" != second.certificate_request_context


# ---- what goes on meanwhile ------------------------------------------------------------------------------------------


@pytest.mark.rfc(SECTION, "a server is prepared for any number of other messages between request and answer")
@three_ways
def test_data_and_key_updates_go_on_until_the_answer_comes(chunking: Chunking) -> None:
    pair = connected(willing(credentials=(), credential_resolver=lambda _: PENDING), able(), chunking=chunking)
    ask(pair)
    pair.pump()
    (pause,), _ = heard(pair.client)
    assert isinstance(pause, CredentialNeeded)
    for number in range(50):
        both_talk(pair)
        if number % 5 == 0:
            sender, receiver = (pair.client, pair.server) if number % 10 else (pair.server, pair.client)
            sender.send_key_update(request_peer=True)
            pair.pump()
            assert [type(e) for e in heard(receiver)[0]] == [KeyUpdated]
            assert [type(e) for e in heard(sender)[0]] == [KeyUpdated]
    pair.client.resume(credential("p256", "client.test"), pause.need)
    assert answered(pair).peer is not None
    both_talk(pair)


class LateSigner:
    """A key elsewhere."""

    def __init__(self) -> None:
        self.real: Any = credential("p256", "client.test").signer
        self.schemes = self.real.schemes

    def sign(self, scheme: int, data: bytes) -> Any:
        return PENDING


class LateVerifier:
    session_identity = b"late"

    def __init__(self) -> None:
        self.real = WebPKIVerifier(authority().trust)
        self.authorities = self.real.authorities

    def verify(self, request: Any) -> Any:
        return PENDING


def late_credential() -> Credential:
    return Credential(chain=credential("p256", "client.test").chain, signer=LateSigner())


@pytest.mark.rfc(SECTION, "an answer's messages are consecutive on the wire")
@three_ways
def test_signature_that_comes_late_leaves_the_answer_in_one_piece(chunking: Chunking) -> None:
    seen: list[TraceEvent] = []
    pair = connected(willing(credentials=(late_credential(),)), chunking=chunking, client_trace=seen.append)
    seen.clear()
    ask(pair)
    pair.pump()
    (pause,), _ = heard(pair.client)
    assert isinstance(pause, SignatureNeeded)
    both_talk(pair)
    pair.client.send_key_update()
    pair.pump()
    heard(pair.server)
    assert H.CERTIFICATE not in messages(seen, Direction.SENT)
    pair.client.send_data(b"before ")
    pair.client.resume(pause.need.signer.real.sign(pause.need.scheme, pause.need.data))  # type: ignore[attr-defined]
    pair.client.send_data(b"after")
    pair.pump()
    events, error = heard(pair.server)
    assert error is None
    assert [type(event) for event in events] == [ApplicationData, PeerAuthenticated, ApplicationData]
    assert messages(seen, Direction.SENT)[-3:] == [H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED]


@three_ways
def test_verdict_that_comes_late_holds_up_nothing(chunking: Chunking) -> None:
    """The rest of the answer, data, tickets and another request go on; the peer is known with the verdict."""
    pair = connected(willing(), able(verifier=LateVerifier()), chunking=chunking)
    name = ask(pair)
    pair.pump()
    (pause,), _ = heard(pair.server)
    assert isinstance(pause, VerificationNeeded)
    both_talk(pair)
    pair.client.send_key_update(request_peer=True)
    pair.pump()
    assert pair.server.peer is None
    assert [type(e) for e in heard(pair.server)[0]] == [KeyUpdated]
    second = ask(pair)
    pair.pump()
    (other,), _ = heard(pair.server)
    report = pause.need.verifier.real.verify(pause.need.request)  # type: ignore[attr-defined]
    pair.server.resume(report, other.need)
    (event,), _ = heard(pair.server)
    assert event.request_context == second
    pair.server.resume(report)
    (event,), _ = heard(pair.server)
    assert event.request_context == name and event.peer is not None
    with pytest.raises(UsageError, match="not paused"):
        pair.server.resume(report)


def test_verdict_may_come_before_finished() -> None:
    pair = connected(willing(), able(verifier=LateVerifier()))
    name = ask(pair)
    deliver(pair.server.data_to_send(), pair.client)
    data = pair.client.data_to_send()
    pair.server.receive_data(data[:-1])  # one record; its last byte is missing
    assert heard(pair.server) == ([], None)
    pair.client._writer.fragment = 64
    ask(pair)
    deliver(pair.server.data_to_send(), pair.client)
    pair.server.receive_data(data[-1:])
    (pause,), _ = heard(pair.server)
    pair.server.resume(pause.need.verifier.real.verify(pause.need.request), pause.need)
    (event,), _ = heard(pair.server)
    assert event.request_context == name
    pieces = pair.client.data_to_send()
    before: list[Any] = []
    for at in range(len(pieces)):
        pair.server.receive_data(pieces[at : at + 1])
        seen, _ = heard(pair.server)
        for pause in seen:
            if isinstance(pause, VerificationNeeded):
                assert pair.server.state == "WAIT_PHA_FINISHED"
                pair.server.send_data(b"meanwhile")
                pair.server.send_key_update()
                pair.server.resume(pause.need.verifier.real.verify(pause.need.request))  # type: ignore[attr-defined]
                assert heard(pair.server) == ([], None)
            else:
                before.append(pause)
    assert [type(event) for event in before] == [PeerAuthenticated]
    deliver(pair.server.data_to_send(), pair.client)
    events, error = heard(pair.client)
    assert error is None and [type(event) for event in events] == [ApplicationData, KeyUpdated]
    both_talk(pair)


@pytest.mark.rfc(SECTION, "answers may come in another order than the requests")
@three_ways
def test_requests_may_be_answered_in_any_order(chunking: Chunking) -> None:
    config = willing(credentials=(), credential_resolver=lambda _: PENDING)
    pair = connected(config, able(), chunking=chunking)
    names = [ask(pair) for _ in range(3)]
    pair.pump()
    pauses, _ = heard(pair.client)
    assert [type(pause) for pause in pauses] == 3 * [CredentialNeeded]
    with pytest.raises(UsageError, match="nobody waits"):
        pair.client.resume(None, pauses[0].need._replace(request=None))
    kinds = ("p256", "ed25519", None)
    for index in (2, 0, 1):
        kind: Any = kinds[index]
        pair.client.resume(None if kind is None else credential(kind, "client.test"), pauses[index].need)
        event = answered(pair)
        assert event.request_context == names[index]
        assert (None if event.peer is None else event.peer.leaf.der) == (None if kind is None else leaf_of(kind))
    assert pair.server.state == "CONNECTED"
    both_talk(pair)


def test_requests_that_are_open_are_bounded() -> None:
    pair = connected(willing(credentials=(), credential_resolver=lambda _: PENDING), able())
    for _ in range(MAX_OPEN_CERTIFICATE_REQUESTS):
        ask(pair)
    with pytest.raises(UsageError, match="open already"):
        ask(pair)
    pair.pump()
    pauses, error = heard(pair.client)
    assert error is None and len(pauses) == MAX_OPEN_CERTIFICATE_REQUESTS
    for _ in pauses:
        pair.client.resume(None)
        assert answered(pair).peer is None
    ask(pair)
    both_talk(pair)


def test_verdicts_that_are_waited_for_are_bounded_with_them() -> None:
    pair = connected(willing(), able(verifier=LateVerifier()))
    for _ in range(MAX_OPEN_CERTIFICATE_REQUESTS):
        ask(pair)
        pair.pump()
        both_talk_before_verdicts(pair)
    with pytest.raises(UsageError, match="open already"):
        ask(pair)


def both_talk_before_verdicts(pair: Pair) -> None:
    assert [type(e) for e in heard(pair.server)[0]] == [VerificationNeeded]
    both_talk(pair)


# ---- where it cannot be ----------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.3.6", "a server asks only clients that offered post_handshake_auth")
def test_server_does_not_ask_a_client_that_did_not_offer_it() -> None:
    pair = connected(client_config(credentials=(credential(),)), able())
    with pytest.raises(UsageError, match="does not offer"):
        ask(pair)
    assert pair.server.data_to_send() == b""
    both_talk(pair)


def test_server_without_a_verifier_does_not_ask() -> None:
    pair = connected(willing(), server_config())
    with pytest.raises(UsageError, match="client_trust"):
        ask(pair)
    both_talk(pair)


def test_only_a_connected_server_that_is_open_asks() -> None:
    pair = Pair.of(willing(), able())
    with pytest.raises(UsageError, match="after the handshake"):
        ask(pair)
    pair.connect()
    with pytest.raises(UsageError, match="a server asks"):
        pair.client.request_client_certificate()
    pair.server.close()
    with pytest.raises(UsageError, match="after close"):
        ask(pair)
    pair = connected()
    pair.client.close()
    pair.pump()
    with pytest.raises(UsageError, match="after close"):
        ask(pair)


@pytest.mark.rfc("9846 §4.4.2", "no post-handshake authentication under an external PSK")
def test_nobody_asks_under_an_external_psk() -> None:
    key = bytes(range(32))
    psks = [ExternalPsk.imported(b"key", key, client="c", server="s", role=role) for role in (Role.CLIENT, Role.SERVER)]
    pair = connected(willing(external_psks=psks[:1]), able(external_psks=psks[1:]))
    assert pair.server.negotiated is not None and pair.server.negotiated.psk_identity is not None
    with pytest.raises(UsageError, match="external PSK"):
        ask(pair)
    assert (pair.client.state, pair.server.state) == ("CONNECTED", "CONNECTED")
    both_talk(pair)


def test_client_that_has_closed_says_nothing_more() -> None:
    for late in (False, True):
        pair = connected(willing(credentials=(), credential_resolver=lambda _: PENDING) if late else willing())
        ask(pair)
        if late:
            pair.pump()
            assert len(heard(pair.client)[0]) == 1
        pair.client.close()
        end = pair.client.data_to_send()
        if late:
            pair.client.resume(credential("p256", "client.test"))
        else:
            deliver(pair.server.data_to_send(), pair.client)
        assert pair.client.data_to_send() == b""
        assert heard(pair.client) == ([], None)
        deliver(end, pair.server)
        pair.server.send_data(b"read on")
        deliver(pair.server.data_to_send(), pair.client)
        assert data_of(heard(pair.client)[0]) == b"read on"


def test_off_by_default_nothing_of_it_is_on_the_wire() -> None:
    seen: list[TraceEvent] = []
    pair = connected(client_config(), client_trace=seen.append)
    hello = next(e.body for e in seen if isinstance(e, MessageTraced))
    assert x.POST_HANDSHAKE_AUTH.extension_type not in {e.extension_type for e in hello.extensions}  # type: ignore[attr-defined]
    assert (pair.client.state, pair.server.state) == ("CONNECTED", "CONNECTED")
    assert ClientConfig().post_handshake_auth is False


# ---- sessions --------------------------------------------------------------------------------------------------------


def resumable(keys: TicketKeys, **changes: Any) -> ServerConfig:
    return able(**{"sessions": keys, "tickets": 1, "tickets_on_resumption": 1} | changes)


def resumed(client: ClientConfig, server: ServerConfig) -> Pair:
    pair = Pair.of(client, server)
    pair.pump()
    for end in (pair.client, pair.server):
        seen, error = heard(end)
        assert error is None and isinstance(seen[0], HandshakeComplete)
    return pair


def authenticated(client: ClientConfig, server: ServerConfig) -> Pair:
    """Connect, and ask: the client's newest session is of after the answer."""
    pair = resumed(client, server)
    ask(pair)
    pair.pump()
    assert [type(event) for event in heard(pair.client)[0]] == [TicketReceived]
    assert [type(event) for event in heard(pair.server)[0]] == [PeerAuthenticated]
    return pair


def client_in(pair: Pair) -> bytes | None:
    """Who the server takes the client for; the session must have been resumed."""
    negotiated = pair.server.negotiated
    assert negotiated is not None and negotiated.resumed, "not resumed"
    return None if pair.server.peer is None else pair.server.peer.leaf.der


@pytest.mark.rfc("9846 §4.7.1", "a ticket after post-handshake authentication carries the client's identity")
def test_ticket_after_the_answer_carries_the_client_and_one_before_does_not() -> None:
    keys = TicketKeys()
    client, server = willing(sessions=MemorySessionStore()), resumable(keys)
    authenticated(client, server)
    store = client.session_store
    assert store is not None
    pair = resumed(client, server)
    assert client_in(pair) == leaf_of()
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.local_certificates == credential("p256", "client.test").chain
    newest = resumed(client, server)  # the ticket of the resumption: it carries the client on
    assert client_in(newest) == leaf_of()
    only_before = willing(sessions=MemorySessionStore())
    resumed(only_before, server)
    assert client_in(resumed(only_before, server)) is None


def test_ticket_of_an_authenticated_client_is_bound_to_the_verifier_that_believed_it() -> None:
    """Attack E7: the same ticket keys, nobody asked in the handshake, another idea of whom to believe."""
    keys, other = TicketKeys(), CA("another root")
    changes: tuple[dict[str, Any], ...] = (
        {"client_trust": None},
        {"client_trust": other.trust},
        {"client_trust": authority().trust, "client_authentication": ClientAuthentication.OPTIONAL},
        {"client_trust": authority().trust, "client_authentication": ClientAuthentication.REQUIRED},
    )
    for changed in changes:
        client = willing(sessions=MemorySessionStore())
        authenticated(client, resumable(keys))
        pair = resumed(client, resumable(keys, **changed))
        assert pair.server.negotiated is not None
        assert not pair.server.negotiated.resumed, changed
    client = willing(sessions=MemorySessionStore())
    authenticated(client, resumable(keys))
    assert client_in(resumed(client, resumable(keys))) == leaf_of()


def test_ticket_of_before_goes_on_as_it_would_have_without() -> None:
    """Nobody is known by it: a server that trusts other CAs, or none, may take it."""
    keys = TicketKeys()
    client = willing(sessions=MemorySessionStore())
    resumed(client, resumable(keys))
    assert client_in(resumed(client, resumable(keys, client_trust=None))) is None


def test_verifier_without_an_identity_gets_no_ticket_for_the_client() -> None:
    verifier = LateVerifier()

    class Nameless:
        authorities = verifier.authorities

        def verify(self, request: Any) -> Any:
            return verifier.real.verify(request)

    client = willing(sessions=MemorySessionStore())
    pair = resumed(client, resumable(TicketKeys(), client_trust=None, verifier=Nameless()))
    ask(pair)
    assert answered(pair).peer is not None


@pytest.mark.rfc("9846 §4.7.1", "ticket_nonce is unique across the connection's tickets")
def test_nonces_of_all_tickets_of_a_connection_differ() -> None:
    seen: list[TraceEvent] = []
    client = willing(sessions=MemorySessionStore())
    config = resumable(TicketKeys(), tickets=MAX_TICKETS_PER_HANDSHAKE)
    pair = Pair.of(client, config, client_trace=seen.append)
    pair.pump()
    for number in range(250):
        ask(pair)
        pair.pump()
        if number % 4 == 3:
            pair.server.send_data(b"x")
        heard(pair.server)
        assert heard(pair.client)[1] is None
    nonces = [
        BODIES[H.NEW_SESSION_TICKET].decode(e.raw[HEADER_LENGTH:]).ticket_nonce  # type: ignore[attr-defined]
        for e in seen
        if isinstance(e, MessageTraced) and e.message_type == H.NEW_SESSION_TICKET
    ]
    assert len(nonces) == MAX_TICKETS_PER_HANDSHAKE + 250
    assert len(set(nonces)) == len(nonces)
    assert max(map(len, nonces)) == 2


def test_showing_a_certificate_does_not_renew_a_session() -> None:
    """Attack E25: what was resumed is as old as the handshake it began with."""
    now = [PYCA.now()]
    provider = dataclasses.replace(PYCA, now=lambda: now[0])
    keys = TicketKeys(provider)
    client = willing(sessions=MemorySessionStore(), provider=provider)
    server = resumable(keys, provider=provider, ticket_lifetime_seconds=604_800)
    authenticated(client, server)
    for day in range(1, 7):
        now[0] += 86_400
        pair = authenticated(client, server)
        assert client_in(pair) == leaf_of(), day
    now[0] += 86_401
    pair = resumed(client, server)
    assert pair.server.negotiated is not None and not pair.server.negotiated.resumed


@pytest.mark.rfc(
    "9846 §4.4.2", "a server with a resumption PSK asks after the handshake only, and of clients that offer"
)
@pytest.mark.parametrize("mode", [PskKeyExchangeMode.PSK_DHE_KE, PskKeyExchangeMode.PSK_KE])
def test_resumed_connection_may_be_asked(mode: int) -> None:
    client = willing(sessions=MemorySessionStore(), psk_modes=(mode,))
    server = resumable(TicketKeys(), psk_modes=(mode,))
    resumed(client, server)
    seen: list[TraceEvent] = []
    pair = Pair.of(client, server, client_trace=seen.append)
    pair.pump()
    heard(pair.client)
    heard(pair.server)
    assert client_in(pair) is None
    assert H.CERTIFICATE_REQUEST not in messages(seen, Direction.RECEIVED)
    ask(pair)
    pair.pump()
    (event,), _ = heard(pair.server)
    assert event.peer.leaf.der == leaf_of()
    unwilling = client_config(sessions=client.sessions, credentials=client.credentials)
    assert unwilling.session_scope != client.session_scope  # who is known by a session is known where it was offered


# ---- the trace -------------------------------------------------------------------------------------------------------


def choices(events: list[TraceEvent], what: str) -> list[tuple[str, str]]:
    return [(e.chosen, e.reason) for e in events if isinstance(e, ChoiceMade) and e.what == what]


@pytest.mark.parametrize(
    ("client", "server", "offered", "possible"),
    [
        (willing, able, True, ("possible", "the client offers it")),
        (client_config, able, False, ("none", "the client does not offer it")),
        (willing, server_config, True, ("none", "neither client_trust nor a verifier")),
        (client_config, server_config, False, None),
    ],
)
def test_trace_says_whether_it_can_be_and_why(
    client: Any, server: Any, offered: bool, possible: tuple[str, str] | None
) -> None:
    ours: list[TraceEvent] = []
    theirs: list[TraceEvent] = []
    connected(client(), server(), client_trace=ours.append, server_trace=theirs.append)
    assert [chosen for chosen, _ in choices(ours, "post_handshake_auth")] == (["offered"] if offered else [])
    told = choices(theirs, "post_handshake_auth")
    assert len(told) == (possible is not None)
    if possible is not None:
        assert told[0][0] == possible[0] and possible[1] in told[0][1]
        assert "Post handshake auth" in "".join(describe(e) for e in theirs if isinstance(e, ChoiceMade))


def test_trace_tells_of_the_answer_at_both_ends() -> None:
    ours: list[TraceEvent] = []
    theirs: list[TraceEvent] = []
    pair = connected(client_trace=ours.append, server_trace=theirs.append)
    ours.clear()
    theirs.clear()
    ask(pair)
    answered(pair)
    assert [chosen for chosen, _ in choices(ours, "client_certificate")] == ["sent"]
    assert [chosen for chosen, _ in choices(theirs, "client_certificate")] == ["accepted"]
    signatures = [(e.what, e.signer, e.valid) for e in theirs if isinstance(e, SignatureTraced)]
    assert signatures == [("CertificateVerify", Role.CLIENT, True), ("Finished", Role.CLIENT, True)]
    assert sum(isinstance(e, VerificationTraced) for e in theirs) == 1
    assert messages(theirs, Direction.SENT) == [H.CERTIFICATE_REQUEST]
    assert all(describe(event) for event in (*ours, *theirs))


def test_error_forgets_what_was_waited_for() -> None:
    pair = connected(willing(credentials=(), credential_resolver=lambda _: PENDING))
    ask(pair)
    pair.pump()
    heard(pair.client)
    pair.client.fail(AlertDescription.INTERNAL_ERROR)
    with pytest.raises(TLSError):
        pair.client.resume(None)
    assert pair.client._asides == []


def test_resolver_that_breaks_is_an_internal_error() -> None:
    def broken(_: object) -> Any:
        raise ZeroDivisionError

    pair = connected(willing(credentials=(), credential_resolver=broken))
    ask(pair)
    pair.pump()
    assert "ZeroDivisionError" in str(heard(pair.client)[1])
    told = heard(pair.server)[1]
    assert isinstance(told, AlertReceived) and told.description == AlertDescription.INTERNAL_ERROR


def test_insisting_client_gives_up_without_a_usable_credential() -> None:
    rsa = credential("rsa2048", "client.test")
    pair = connected(willing(credentials=(rsa,), insist_on_credential=True), able(signature_schemes=(0x0403,)))
    ask(pair)
    pair.pump()
    told = heard(pair.server)[1]
    assert isinstance(told, AlertReceived) and told.description == AlertDescription.HANDSHAKE_FAILURE
