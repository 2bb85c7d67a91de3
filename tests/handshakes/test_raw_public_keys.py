"""Raw public keys, both ways: which type each end shows, who is believed, what a session remembers (RFC 7250)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest

from pellucid import (
    PENDING,
    CertificateRejected,
    ClientConfig,
    Credential,
    CredentialNeeded,
    PeerError,
    RawPublicKeyVerifier,
    ServerConfig,
    UsageError,
)
from pellucid.config import CertificateRequestInfo, ClientAuthentication, ClientHelloInfo
from pellucid.crypto.certificates import RawPublicKey, X509Certificate
from pellucid.errors import AlertReceived, HandshakeFailure, UnsupportedCertificate
from pellucid.explain.fields import message_fields
from pellucid.explain.sentences import describe
from pellucid.messages import extensions as x
from pellucid.messages.handshake import Certificate, ClientHello, EncryptedExtensions
from pellucid.registry import AlertDescription as A
from pellucid.registry import CertificateType, NamedGroup
from pellucid.registry import HandshakeType as H
from pellucid.sessions.client import MemorySessionStore
from pellucid.sessions.psk import ExternalPsk
from pellucid.sessions.tickets import TicketKeys
from pellucid.testing.ca import KeyKind
from pellucid.trace import ChoiceMade, MessageTraced, Role, TraceEvent, VerificationTraced
from pellucid.verify import CheckGroup, Failure, Outcome, WebPKIVerifier, dangerous_accept_any, either
from tests.support.pair import (
    Chunking,
    Pair,
    authority,
    client_config,
    credential,
    events_of,
    issued,
    server_config,
)

X509, RAW = CertificateType.X509, CertificateType.RAW_PUBLIC_KEY
REQUIRED, OPTIONAL = ClientAuthentication.REQUIRED, ClientAuthentication.OPTIONAL
TICKETS: dict[str, Any] = {"tickets": 1, "tickets_on_resumption": 1}
Handshake = Callable[..., Pair]


@functools.cache
def raw(kind: KeyKind = "p256") -> Credential:
    """The key of `credential(kind)` without its certificate."""
    return Credential.raw_public_key(issued(kind).key_pem)


@functools.cache
def stranger() -> Credential:
    return Credential.raw_public_key(issued("p256", "stranger.test").key_pem)


def pinned(*credentials: Credential) -> RawPublicKeyVerifier:
    return RawPublicKeyVerifier([one.chain[0] for one in credentials or (raw(),)])


def both(*credentials: Credential) -> Any:
    return either(WebPKIVerifier(authority().trust), pinned(*credentials))


def raw_client(**changes: Any) -> ClientConfig:
    """A client that knows the server by its key, and believes no certificate."""
    return client_config(
        **{"trust": None, "verifier": pinned(), "server_certificate_types": (RAW,), "sessions": MemorySessionStore()}
        | changes
    )


def either_client(*types: int, **changes: Any) -> ClientConfig:
    return raw_client(**{"verifier": both(), "server_certificate_types": types or (RAW, X509)} | changes)


def raw_server(**changes: Any) -> ServerConfig:
    return server_config(**{"credentials": (raw(),)} | changes)


def asking(*types: int, **changes: Any) -> ServerConfig:
    """A server that asks its client for a key or a certificate."""
    types = types or (RAW,)
    verifier = pinned() if types == (RAW,) else both() if RAW in types else None
    trust = None if verifier is not None else authority().trust
    return server_config(
        **{
            "client_authentication": REQUIRED,
            "client_certificate_types": types,
            "verifier": verifier,
            "client_trust": trust,
        }
        | changes
    )


def refusal(pair: Pair, *, by: str) -> PeerError:
    """Let the two talk; return why the one refused, having seen that the other was told so."""
    pair.pump()
    judge, other = (pair.client, pair.server) if by == "client" else (pair.server, pair.client)
    _, error = events_of(judge)
    assert isinstance(error, PeerError), error
    _, told = events_of(other)
    assert isinstance(told, AlertReceived), told
    assert told.description == error.alert
    return error


def sent(events: list[TraceEvent], kind: int) -> Any:
    """The body of the last message of *kind*."""
    return [event.body for event in events if isinstance(event, MessageTraced) and event.message_type == kind][-1]


def choices(events: list[TraceEvent]) -> dict[str, ChoiceMade]:
    return {event.what: event for event in events if isinstance(event, ChoiceMade)}


# ---- the server's key ------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.5.1", "a raw public key is one CertificateEntry with the SubjectPublicKeyInfo")
@pytest.mark.rfc("7250 §4.2", "who shows a raw public key puts SubjectPublicKeyInfo into the Certificate payload")
@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "rsa2048", "ed25519", "ed448", "mldsa65"])
def test_server_is_known_by_its_key(handshake: Handshake, kind: KeyKind) -> None:
    seen: list[TraceEvent] = []
    shown = raw(kind)
    pair = handshake(raw_client(verifier=pinned(shown)), raw_server(credentials=(shown,)), client_trace=seen.append)
    agreed, there = pair.client.negotiated, pair.server.negotiated
    assert agreed is not None and there is not None
    assert (agreed.server_certificate_type, agreed.client_certificate_type) == (RAW, None)
    assert (there.server_certificate_type, there.client_certificate_type) == (RAW, None)
    assert agreed.peer is not None and isinstance(agreed.peer.leaf, RawPublicKey)
    assert agreed.peer.leaf.der == shown.chain[0] == agreed.peer.chain[0]
    assert agreed.peer.certificate_type == RAW
    assert len(agreed.peer.chain) == 1
    assert there.local_certificates == shown.chain
    message = sent(seen, H.CERTIFICATE)
    assert isinstance(message, Certificate)
    assert [(entry.cert_data, entry.extensions) for entry in message.certificate_list] == [(shown.chain[0], ())]
    data, error = pair.send(pair.server, b"known")
    assert error is None and data


def test_report_of_a_raw_key_answers_what_can_be_answered(handshake: Handshake) -> None:
    seen: list[TraceEvent] = []
    pair = handshake(raw_client(), raw_server(), client_trace=seen.append)
    assert pair.client.negotiated is not None and pair.client.negotiated.peer is not None
    report = pair.client.negotiated.peer.report
    assert report.outcome(CheckGroup.VALIDITY) is Outcome.PASSED
    assert report.outcome(CheckGroup.NAME) is Outcome.NOT_CHECKED
    assert report.outcome(CheckGroup.TRUST) is Outcome.PASSED
    assert report.outcome(CheckGroup.SIGNATURE) is Outcome.PASSED
    text = "\n".join(report.lines())
    assert "raw public key (EC secp256r1, SHA-256 " in text
    assert "a raw public key has no name" in text
    assert report.to_dict()["certificate_type"] == "raw public key"
    told = [describe(event) for event in seen if isinstance(event, VerificationTraced)]
    assert told[0].startswith("The peer's raw public key is believed: the server's raw public key (EC secp256r1")
    chosen = choices(seen)["server_certificate_type"]
    assert (chosen.chosen, chosen.local) == ("raw public key", ("raw public key",))
    rows = {
        kind: {field.name: field.value for field in message_fields(event)}
        for event in seen
        if isinstance(event, MessageTraced) and (kind := event.message_type)
    }
    assert rows[H.CLIENT_HELLO]["can verify"] == "raw public key"
    assert rows[H.ENCRYPTED_EXTENSIONS]["server shows"] == "raw public key"
    assert rows[H.CERTIFICATE]["raw public key"].startswith("EC secp256r1, SHA-256 ")


def test_key_is_taken_under_every_name_and_for_an_address(handshake: Handshake) -> None:
    server = raw_server(strict_server_name=True)
    for name in ("other.test", "192.0.2.1"):
        handshake(raw_client(), server, name=name)


def test_types_outlast_a_retry(chunking: Chunking) -> None:
    pair = Pair.of(raw_client(), raw_server(groups=(NamedGroup.SECP256R1,)), chunking=chunking)
    pair.connect()
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.retried
    assert pair.client.negotiated.server_certificate_type == RAW


class Reversed:
    """A compression that always takes part."""

    code, name = 0xFF77, "reversed"

    def compress(self, data: bytes) -> bytes:
        return data[::-1]

    def decompress(self, data: bytes, length: int) -> bytes:
        return data[::-1]


def test_raw_key_travels_compressed(handshake: Handshake) -> None:
    seen: list[TraceEvent] = []
    reversing = {"certificate_compression": (Reversed(),)}
    pair = handshake(raw_client(**reversing), raw_server(**reversing), client_trace=seen.append)
    assert sent(seen, H.COMPRESSED_CERTIFICATE).algorithm == Reversed.code
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.server_certificate_type == RAW


# ---- which type: what the client can verify, what the server has -----------------------------------------------------


def test_without_raw_keys_nobody_speaks_of_types(handshake: Handshake) -> None:
    seen: list[TraceEvent] = []
    handshake(client_trace=seen.append)
    types = {x.CLIENT_CERTIFICATE_TYPES.extension_type, x.SERVER_CERTIFICATE_TYPES.extension_type}
    for kind in (H.CLIENT_HELLO, H.ENCRYPTED_EXTENSIONS):
        assert not types & {extension.extension_type for extension in sent(seen, kind).extensions}
    assert not {"server_certificate_type", "client_certificate_type"} & choices(seen).keys()


@pytest.mark.rfc("7250 §4.1", "with nothing but X.509 to offer the extensions are omitted")
def test_client_omits_the_extension_that_would_list_x509_alone(handshake: Handshake) -> None:
    for client, server, there in (
        (raw_client(credentials=(credential(),)), raw_server(), {20}),
        (client_config(credentials=(raw(),)), server_config(), {19}),
        (client_config(credentials=(credential(), raw()), client_certificate_types=(X509,)), server_config(), set()),
    ):
        seen: list[TraceEvent] = []
        handshake(client, server, client_trace=seen.append)
        hello = sent(seen, H.CLIENT_HELLO)
        assert isinstance(hello, ClientHello)
        assert {e.extension_type for e in hello.extensions} & {19, 20} == there


@pytest.mark.parametrize(
    ("offered", "has", "shown"),
    [
        ((RAW,), (RAW,), RAW),
        ((RAW, X509), (RAW,), RAW),
        ((X509, RAW), (RAW,), RAW),
        ((RAW, X509), (X509,), X509),
        ((RAW,), (X509, RAW), RAW),
        ((RAW, X509), (RAW, X509), RAW),
        ((X509, RAW), (RAW, X509), RAW),
        ((RAW, X509), (X509, RAW), X509),
        ((X509,), (RAW, X509), X509),
        ((X509,), (X509, RAW), X509),
    ],
    ids=str,
)
@pytest.mark.rfc("9846 §4.5.1.2", "The certificate type MUST be X.509v3")
@pytest.mark.rfc("7250 §4.2", "the server's extension says the type in its Certificate, one that the client listed")
def test_server_shows_its_first_credential_of_a_type_that_the_client_takes(
    handshake: Handshake, offered: tuple[int, ...], has: tuple[int, ...], shown: int
) -> None:
    seen: list[TraceEvent] = []
    server = server_config(credentials=tuple(raw() if kind == RAW else credential() for kind in has))
    client = client_config() if offered == (X509,) else either_client(*offered)
    if offered == (RAW,):
        client = raw_client()
    pair = handshake(client, server, client_trace=seen.append)
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.server_certificate_type == shown
    answer = sent(seen, H.ENCRYPTED_EXTENSIONS)
    assert isinstance(answer, EncryptedExtensions)
    decoded = x.decode_extensions(x.M.EE, answer.extensions, requested=range(2**16))
    assert decoded.get(x.SERVER_CERTIFICATE_TYPE) == (None if offered == (X509,) else shown)


@pytest.mark.parametrize(("offered", "has"), [((RAW,), X509), ((X509,), RAW)], ids=str)
@pytest.mark.rfc("7250 §4.2", "no certificate type in common is unsupported_certificate")
def test_no_server_type_in_common_is_unsupported_certificate(
    chunking: Chunking, offered: tuple[int, ...], has: int
) -> None:
    client = raw_client() if offered == (RAW,) else client_config()
    server = server_config(credentials=(raw() if has == RAW else credential(),))
    error = refusal(Pair.of(client, server, chunking=chunking), by="server")
    assert isinstance(error, UnsupportedCertificate)
    assert error.alert == A.UNSUPPORTED_CERTIFICATE
    assert "no credential of the type" in error.reason


def test_names_choose_among_credentials_of_the_clients_type(handshake: Handshake) -> None:
    """A raw key is for any name; it never stands between a client of certificates and the default one."""
    server = server_config(credentials=(raw("ed25519"), credential("p256", "one.test"), credential("p384", "two.test")))
    for name, kind in (("one.test", "EC secp256r1"), ("two.test", "EC secp384r1")):
        pair = handshake(client_config(), server, name=name)
        assert pair.client.negotiated is not None and pair.client.negotiated.peer is not None
        assert pair.client.negotiated.peer.leaf.key_algorithm == kind
    pair = handshake(raw_client(verifier=pinned(raw("ed25519"))), server, name="one.test")
    assert pair.client.negotiated is not None and pair.client.negotiated.server_certificate_type == RAW
    lost = Pair.of(client_config(), server, name="three.test")
    lost.pump()
    _, error = events_of(lost.client)
    assert isinstance(error, CertificateRejected)
    assert error.verification.failure is Failure.WRONG_NAME  # type: ignore[attr-defined]  # the default certificate came


def test_raw_key_signs_with_a_scheme_of_the_clients(handshake: Handshake) -> None:
    schemes = tuple(code for code, one in client_config().verifier_table.items() if one.accepts(raw("p256").leaf))
    server = raw_server(credentials=(raw("p384"), raw("p256")))
    pair = handshake(raw_client(verifier=pinned(raw("p256")), signature_schemes=schemes), server)
    assert pair.server.negotiated is not None
    assert pair.server.negotiated.local_certificates == raw("p256").chain


def test_resolver_of_a_server_is_told_the_types_and_may_pause(chunking: Chunking) -> None:
    asked: list[ClientHelloInfo] = []

    def resolver(info: ClientHelloInfo) -> Any:
        asked.append(info)
        return PENDING

    for answer, refused in ((raw(), False), (credential(), True)):
        pair = Pair.of(raw_client(), raw_server(credential_resolver=resolver), chunking=chunking)
        pair.pump()
        (need,), _ = events_of(pair.server)
        assert isinstance(need, CredentialNeeded)
        pair.server.resume(answer)
        pair.pump()
        _, error = events_of(pair.server)
        assert isinstance(error, UnsupportedCertificate) is refused
    assert [info.certificate_types for info in asked] == [(RAW,), (RAW,)]


# ---- the client's key ------------------------------------------------------------------------------------------------


def test_both_ends_are_known_by_their_keys(handshake: Handshake) -> None:
    client = raw_client(credentials=(raw("ed25519"),), verifier=pinned(raw("p384")))
    pair = handshake(client, asking(credentials=(raw("p384"),), verifier=pinned(raw("ed25519"))))
    for agreed in (pair.client.negotiated, pair.server.negotiated):
        assert agreed is not None
        assert (agreed.server_certificate_type, agreed.client_certificate_type) == (RAW, RAW)
    assert pair.server.negotiated is not None and pair.server.negotiated.peer is not None
    assert pair.server.negotiated.peer.leaf.der == raw("ed25519").chain[0]
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.local_certificates == raw("ed25519").chain


@pytest.mark.parametrize(
    ("has", "asked", "shown"),
    [
        ((RAW,), (RAW,), RAW),
        ((RAW, X509), (RAW,), RAW),
        ((X509, RAW), (RAW,), RAW),
        ((RAW, X509), (RAW, X509), RAW),
        ((X509, RAW), (RAW, X509), RAW),
        ((RAW, X509), (X509, RAW), X509),
        ((X509,), (RAW, X509), X509),
        ((X509, RAW), (X509,), X509),
    ],
    ids=str,
)
@pytest.mark.rfc("7250 §4.2", "who asks for a certificate answers client_certificate_type, with one of the client's")
def test_server_asks_for_its_first_type_that_the_client_has(
    handshake: Handshake, has: tuple[int, ...], asked: tuple[int, ...], shown: int
) -> None:
    seen: list[TraceEvent] = []
    client = client_config(credentials=tuple(raw() if kind == RAW else credential() for kind in has))
    pair = handshake(client, asking(*asked), client_trace=seen.append)
    assert pair.server.negotiated is not None and pair.server.negotiated.peer is not None
    assert pair.server.negotiated.client_certificate_type == shown
    assert isinstance(pair.server.negotiated.peer.leaf, RawPublicKey if shown == RAW else X509Certificate)
    answer = x.decode_extensions(x.M.EE, sent(seen, H.ENCRYPTED_EXTENSIONS).extensions, requested=range(2**16))
    assert answer.get(x.CLIENT_CERTIFICATE_TYPE) == (None if has == (X509,) else shown)


@pytest.mark.rfc("7250 §4.2", "without a certificate_request the server's client_certificate_type is omitted")
def test_client_type_is_not_answered_where_no_certificate_is_asked_for(handshake: Handshake) -> None:
    seen: list[TraceEvent] = []
    pair = handshake(client_config(credentials=(raw(),)), server_config(), client_trace=seen.append)
    assert 19 in {extension.extension_type for extension in sent(seen, H.CLIENT_HELLO).extensions}
    assert 19 not in {extension.extension_type for extension in sent(seen, H.ENCRYPTED_EXTENSIONS).extensions}
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.client_certificate_type is None


@pytest.mark.parametrize("mode", [REQUIRED, OPTIONAL])
@pytest.mark.parametrize("has", [None, X509, RAW])
@pytest.mark.rfc("7250 §4.2", "no certificate type in common is unsupported_certificate")
def test_no_client_type_in_common_is_unsupported_certificate(
    chunking: Chunking, mode: ClientAuthentication, has: int | None
) -> None:
    """In either mode: a client that cannot show what is asked for is not taken for one that has nothing."""
    credentials = () if has is None else (credential(),) if has == X509 else (raw(),)
    server = asking(X509 if has == RAW else RAW, client_authentication=mode)
    error = refusal(Pair.of(client_config(credentials=credentials), server, chunking=chunking), by="server")
    assert isinstance(error, UnsupportedCertificate)
    assert error.rfc == "7250 §4.2"


def test_client_without_a_credential_of_the_type_shows_none(handshake: Handshake, chunking: Chunking) -> None:
    """As with X.509: the server decides; a client that insists gives up, and says why."""
    client = client_config(credentials=(credential(),), client_certificate_types=(RAW, X509))
    server = asking(RAW, client_authentication=OPTIONAL)
    pair = handshake(client, server)
    assert pair.server.negotiated is not None
    assert pair.server.negotiated.peer is None
    error = refusal(
        Pair.of(dataclasses.replace(client, insist_on_credential=True), server, chunking=chunking), by="client"
    )
    assert isinstance(error, HandshakeFailure)
    assert "no credential of the type" in error.reason


def test_resolver_of_a_client_is_told_the_type(handshake: Handshake) -> None:
    asked: list[CertificateRequestInfo] = []

    def resolver(info: CertificateRequestInfo) -> Credential:
        asked.append(info)
        return raw() if info.certificate_types == (RAW,) else credential()

    client = client_config(credential_resolver=resolver, client_certificate_types=(X509, RAW))
    for kind in (X509, RAW):
        pair = handshake(client, asking(kind))
        assert pair.server.negotiated is not None
        assert pair.server.negotiated.client_certificate_type == kind
    assert [info.certificate_types for info in asked] == [(X509,), (RAW,)]


# ---- who is believed: a key that is not known is refused, in every mode (attack F17) ---------------------------------


def test_server_with_another_key_is_refused(chunking: Chunking) -> None:
    for client in (raw_client(), either_client(), either_client(X509, RAW)):
        pair = Pair.of(client, raw_server(credentials=(stranger(),)), chunking=chunking)
        error = refusal(pair, by="client")
        assert isinstance(error, CertificateRejected)
        assert error.verification.failure is Failure.UNKNOWN_KEY  # type: ignore[attr-defined]
        assert error.alert == A.BAD_CERTIFICATE
        assert "is not the one that is trusted" in error.reason
        assert not pair.client.handshake_complete


@pytest.mark.parametrize("mode", [REQUIRED, OPTIONAL])
def test_client_with_another_key_is_refused_even_where_none_would_do(
    chunking: Chunking, mode: ClientAuthentication
) -> None:
    for types in ((RAW,), (RAW, X509)):
        server = asking(*types, client_authentication=mode)
        error = refusal(Pair.of(client_config(credentials=(stranger(),)), server, chunking=chunking), by="server")
        assert isinstance(error, CertificateRejected)
        assert error.verification.failure is Failure.UNKNOWN_KEY  # type: ignore[attr-defined]
        assert error.alert == A.BAD_CERTIFICATE


def test_either_judges_each_by_its_own(handshake: Handshake, chunking: Chunking) -> None:
    handshake(either_client(), raw_server())
    handshake(either_client(), server_config())
    # The key is known as a raw key; the certificate around it is nobody's that is trusted.
    nobody = either(WebPKIVerifier(type(authority())("Another root").trust), pinned())
    error = refusal(Pair.of(either_client(verifier=nobody), server_config(), chunking=chunking), by="client")
    assert isinstance(error, CertificateRejected)
    assert error.verification.failure in {Failure.UNKNOWN_CA, Failure.MISSING_INTERMEDIATE}  # type: ignore[attr-defined]


def test_verifier_that_accepts_any_says_that_it_does(handshake: Handshake) -> None:
    client = raw_client(verifier=dangerous_accept_any())
    pair = handshake(client, raw_server(credentials=(stranger(),)))
    assert pair.client.negotiated is not None and pair.client.negotiated.peer is not None
    report = pair.client.negotiated.peer.report
    assert report.dangerous
    assert report.failure is Failure.UNSUPPORTED


# ---- sessions --------------------------------------------------------------------------------------------------------


def connect(client: ClientConfig, server: ServerConfig, chunking: Chunking) -> Pair:
    pair = Pair.of(client, server, chunking=chunking)
    pair.pump()
    for connection in (pair.client, pair.server):
        _, error = events_of(connection)
        assert error is None, error
        assert connection.handshake_complete
    return pair


def resumed(client: ClientConfig, server: ServerConfig, chunking: Chunking) -> bool:
    pair = connect(client, server, chunking)
    assert pair.client.negotiated is not None and pair.server.negotiated is not None
    assert pair.client.negotiated.resumed is pair.server.negotiated.resumed
    return pair.client.negotiated.resumed


@pytest.mark.parametrize("again", [False, True], ids=["remembered", "verified again"])
def test_session_remembers_keys_on_both_ends(chunking: Chunking, again: bool) -> None:
    client = raw_client(credentials=(raw("ed25519"),), reverify_on_resumption=again)
    server = asking(credentials=(raw(),), verifier=pinned(raw("ed25519")), reverify_on_resumption=again, **TICKETS)
    connect(client, server, chunking)
    for _ in range(2):  # the second time with a ticket that a resumption gave
        pair = connect(client, server, chunking)
        for agreed, shown in ((pair.client.negotiated, raw()), (pair.server.negotiated, raw("ed25519"))):
            assert agreed is not None and agreed.peer is not None
            assert agreed.resumed
            assert isinstance(agreed.peer.leaf, RawPublicKey)
            assert agreed.peer.chain == shown.chain
            assert (agreed.server_certificate_type, agreed.client_certificate_type) == (RAW, RAW)
            assert agreed.peer.report.certificate_type == RAW


def test_key_that_is_no_longer_trusted_is_refused_on_resumption(chunking: Chunking) -> None:
    """Attack F17 where nothing is shown any more: the verifier is asked again, at both ends."""

    class Forgetful:
        """Knows the key until it does not, and always says that it is the same verifier."""

        session_identity = b"forgetful"
        authorities = ()

        def __init__(self) -> None:
            self.inner = pinned()

        def verify(self, request: Any) -> Any:
            return self.inner.verify(request)

    verifier = Forgetful()
    client = raw_client(verifier=verifier, reverify_on_resumption=True)
    server = raw_server(**TICKETS)
    connect(client, server, chunking)
    verifier.inner = pinned(stranger())
    error = refusal(Pair.of(client, server, chunking=chunking), by="client")
    assert isinstance(error, CertificateRejected)
    assert error.verification.failure is Failure.UNKNOWN_KEY  # type: ignore[attr-defined]

    verifier = Forgetful()
    client = client_config(credentials=(raw(),), sessions=MemorySessionStore())
    server = asking(verifier=verifier, reverify_on_resumption=True, **TICKETS)
    connect(client, server, chunking)
    verifier.inner = pinned(stranger())
    error = refusal(Pair.of(client, server, chunking=chunking), by="server")
    assert isinstance(error, CertificateRejected)
    assert error.verification.failure is Failure.UNKNOWN_KEY  # type: ignore[attr-defined]


CLIENT_CHANGES: dict[str, dict[str, Any]] = {
    "the same": {},
    "other order of types": {"server_certificate_types": (X509, RAW)},
    "one type less": {"server_certificate_types": (RAW,)},
    "another key beside": {"verifier": both(raw(), stranger())},
    "no certificates": {"verifier": pinned(), "server_certificate_types": (RAW,)},
    "its own key without certificate": {"credentials": (raw("p384"),)},
    "says that it has a key": {"client_certificate_types": (RAW, X509)},
}


@pytest.mark.parametrize("change", CLIENT_CHANGES)
def test_client_resumes_only_with_the_types_and_keys_of_the_session(chunking: Chunking, change: str) -> None:
    store = MemorySessionStore()
    client = either_client(credentials=(credential("p384"),), sessions=store)
    server = server_config(credentials=(raw(), credential()), sessions=TicketKeys(), **TICKETS)
    connect(client, server, chunking)
    changed = dataclasses.replace(client, **CLIENT_CHANGES[change])
    assert resumed(changed, server, chunking) is (change == "the same")


SERVER_CHANGES: dict[str, dict[str, Any]] = {
    "the same": {},
    "other order of types": {"client_certificate_types": (X509, RAW)},
    "one type less": {"client_certificate_types": (RAW,)},
    "another key beside": {"verifier": both(raw(), stranger())},
}


@pytest.mark.parametrize("change", SERVER_CHANGES)
def test_server_resumes_only_with_the_types_and_keys_of_the_session(chunking: Chunking, change: str) -> None:
    client = client_config(credentials=(raw(), credential()), sessions=MemorySessionStore())
    server = asking(RAW, X509, sessions=TicketKeys(), **TICKETS)
    connect(client, server, chunking)
    assert resumed(client, dataclasses.replace(server, **SERVER_CHANGES[change]), chunking) is (change == "the same")


def test_session_of_a_raw_key_is_not_resumed_by_who_takes_certificates_only(chunking: Chunking) -> None:
    """A client of ours would not offer it; what it says then has to be true of the session too."""
    store = MemorySessionStore()
    server = server_config(credentials=(raw(), credential()), sessions=TicketKeys(), **TICKETS)
    client = either_client(sessions=store)
    connect(client, server, chunking)
    other = client_config(sessions=store)
    object.__setattr__(other, "session_scope", client.session_scope)
    assert not resumed(other, server, chunking)


def test_ticket_of_an_external_psk_has_no_type(chunking: Chunking) -> None:
    def psk(role: Role) -> ExternalPsk:
        return ExternalPsk.imported(b"shared", bytes(range(32)), client="a", server="b", role=role)

    client = raw_client(external_psks=(psk(Role.CLIENT),))
    server = raw_server(external_psks=(psk(Role.SERVER),), **TICKETS)
    for _ in range(2):
        pair = connect(client, server, chunking)
        assert pair.client.negotiated is not None and pair.server.negotiated is not None
        assert pair.client.negotiated.server_certificate_type is None
        assert pair.server.negotiated.server_certificate_type is None
    assert pair.server.negotiated.resumed


# ---- after the handshake (RFC 9846 §4.7.2) ---------------------------------------------------------------------------


def ask_later(pair: Pair) -> tuple[list[Any], list[Any]]:
    """Have the server ask for the client's certificate; return what both ends then saw."""
    pair.server.request_client_certificate()
    pair.pump()
    (asked, error), (answered, other) = events_of(pair.client), events_of(pair.server)
    assert error is None and other is None, (error, other)
    return asked, answered


def later_server(*types: int, **changes: Any) -> ServerConfig:
    return asking(*types, client_authentication=ClientAuthentication.NONE, **changes)


@pytest.mark.parametrize(
    ("has", "asked", "shown"),
    [((X509, RAW), (RAW, X509), RAW), ((RAW, X509), (X509,), X509), ((RAW,), (RAW,), RAW)],
    ids=str,
)
def test_client_shows_its_key_after_the_handshake(
    chunking: Chunking, has: tuple[int, ...], asked: tuple[int, ...], shown: int
) -> None:
    """The type is agreed on in EncryptedExtensions all the same: afterwards there is no place for it."""
    client = client_config(
        credentials=tuple(raw() if kind == RAW else credential() for kind in has),
        post_handshake_auth=True,
        sessions=MemorySessionStore(),
    )
    server = later_server(*asked, sessions=TicketKeys(), **TICKETS)
    for again in (False, True):
        pair = connect(client, server, chunking)
        assert pair.server.negotiated is not None and pair.client.negotiated is not None
        assert pair.server.negotiated.resumed is again
        if again:  # with the ticket that the answer was given
            assert pair.server.negotiated.client_certificate_type == shown
            assert pair.client.negotiated.client_certificate_type == shown
        seen, (answer, *_) = ask_later(pair)
        assert seen[0].request.certificate_types == (shown,)
        assert answer.peer.certificate_type == shown
        assert answer.peer.chain[0] == (raw() if shown == RAW else credential()).chain[0]


def test_client_that_has_no_such_type_is_not_asked_after_the_handshake(chunking: Chunking) -> None:
    """Nor is it refused: nobody has asked it for anything."""
    pair = connect(client_config(credentials=(credential(),), post_handshake_auth=True), later_server(RAW), chunking)
    with pytest.raises(UsageError, match="no type of certificate that is accepted here"):
        pair.server.request_client_certificate()


def test_key_that_is_not_known_is_refused_after_the_handshake(chunking: Chunking) -> None:
    client = client_config(credentials=(stranger(),), post_handshake_auth=True)
    pair = connect(client, later_server(RAW), chunking)
    pair.server.request_client_certificate()
    error = refusal(pair, by="server")
    assert isinstance(error, CertificateRejected)
    assert error.verification.failure is Failure.UNKNOWN_KEY  # type: ignore[attr-defined]
