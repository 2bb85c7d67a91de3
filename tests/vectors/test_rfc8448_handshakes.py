"""RFC 8448's traces, byte for byte, by our client and by our server.

What is put in, because it is the trace's own choice: the ClientHellos, EncryptedExtensions, CertificateRequest and the
HelloRetryRequest's cookie as bytes; the order of extensions in ServerHello and HelloRetryRequest; random values and
private keys of the key exchange; the certificates and the signatures (RSA-PSS is randomised; the signatures are checked
all the same, over our transcript); the ticket, its number (ticket_nonce) and ticket_age_add; application data. A
1024-bit RSA key is let through here only.

What our code has to make, and what is compared: ServerHello and HelloRetryRequest but for that order, Certificate and
CertificateVerify around chain and signature, both Finished, the transcript hash after each message that one is taken
of, the shared secret, every secret and traffic key, the dummy change_cipher_spec, and every record as on the wire. Of
the resumed trace also pre_shared_key with the ticket's age and binder, made of the session that our client kept of the
first trace; the early data, its end, and that our server takes it with what its own ticket of the first trace holds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pellucid import (
    ClientConfig,
    CloseNotify,
    Connection,
    Credential,
    HandshakeComplete,
    ServerConfig,
    TicketReceived,
    UsageError,
)
from pellucid.config import ClientAuthentication
from pellucid.crypto.provider import CryptoProvider
from pellucid.crypto.pyca import PYCA
from pellucid.events import EarlyData
from pellucid.handshake import client_hello, server_flight, tickets
from pellucid.handshake import cookie as cookies
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.handshake.negotiate import suits_request
from pellucid.handshake.offer import Offer
from pellucid.handshake.psk import OfferedPsk, bound_hello
from pellucid.messages.handshake import (
    HEADER_LENGTH,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    Extension,
    ServerHello,
    message_type,
)
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup
from pellucid.registry import SignatureScheme as S
from pellucid.schedule import EarlySecret
from pellucid.sessions import ClientSession, MemorySessionStore, Psk, ServerSession, StrikeRegister
from pellucid.trace import KeysInstalled, SecretDerived, SharedSecretComputed
from pellucid.transcript import Transcript
from pellucid.verify.report import VerificationReport
from pellucid.verify.request import VerificationRequest
from tests.support.pair import events_of
from tests.support.scripted import exchange_with, fixed_provider, suite
from tests.support.vectors import message, trace

CERTIFIED = ("simple_1rtt", "hello_retry_request", "client_authentication", "compatibility_mode")
RESUMED = "resumed_0rtt"
TRACES = (*CERTIFIED, RESUMED)
MET_AT = 1_500_000_000.0  # when the traces' certificates are good
RESUMED_AFTER = 0.006  # as the resumed trace's ticket age says
GROUPS = {"x25519": NamedGroup.X25519, "secp256r1": NamedGroup.SECP256R1}
OUR_NAMES = {
    "derived_handshake": "derived (early)",
    "derived_master": "derived (handshake)",
    "master_secret": "main_secret",
    "exporter_master_secret": "exporter_secret",
    "early_exporter_master_secret": "early_exporter_secret",
    "resumption_master_secret": "resumption_secret",
    "resumption_psk": "resumption_psk_0000",
}
KEYS = {
    "client_early": "client_early_traffic_secret",
    "client_handshake": "client_handshake_traffic_secret",
    "server_handshake": "server_handshake_traffic_secret",
    "client_application": "client_application_traffic_secret_0",
    "server_application": "server_application_traffic_secret_0",
}

Trace = dict[str, Any]


# ---- what stands in for the world of the trace -----------------------------------------------------------------------


class Trusting:
    """Whatever chain is shown is taken: the trace's are of 2016 and self-signed."""

    authorities: Sequence[bytes] = ()
    session_identity = b"of RFC 8448"

    def verify(self, request: VerificationRequest) -> VerificationReport:
        return VerificationReport(accepted=True, summary="of RFC 8448", path=(request.leaf.der,))


class PublishedSigner:
    """The signature that the trace shows, whatever is to be signed: the handshake checks that it fits."""

    def __init__(self, verify: bytes) -> None:
        shown = CertificateVerify.decode(verify[HEADER_LENGTH:])
        self.schemes = (shown.algorithm,)
        self.signature = shown.signature

    def sign(self, scheme: int, data: bytes) -> bytes:
        return self.signature


class PublishedTickets:
    """The ticket that the trace shows, whatever it is to stand for; where it shows none, none is sent.

    Shown, it stands for what the trace says that it was made of: what our own server put into it is what it gives.
    """

    single_use = False

    def __init__(self, issued: bytes | None, known: ServerSession | None = None) -> None:
        self.ticket = issued
        self.session = known

    def issue(self, session: ServerSession, now: float) -> bytes:
        self.session = session
        if self.ticket is None:
            raise UsageError("the trace has no ticket")
        return self.ticket

    def redeem(self, ticket: bytes, now: float) -> ServerSession | None:
        assert ticket.hex() == trace(RESUMED)["psk"]["identity"]
        return self.session


def provider(trace: Trace, role: str, *random: bytes) -> CryptoProvider:
    """The trace's private keys and time, and a rsa_pss_rsae_sha256 that takes 1024 bits."""
    keys: dict[int, list[bytes]] = {}
    for ephemeral in trace["ephemeral_keys"]:
        if ephemeral["role"] == role:
            keys.setdefault(GROUPS[ephemeral["group"]], []).append(bytes.fromhex(ephemeral["private_key"]))
    verifiers = tuple(
        dataclasses.replace(verifier, accepts=lambda _: True, computes=lambda _: True)
        if verifier.code == S.RSA_PSS_RSAE_SHA256
        else verifier
        for verifier in PYCA.verifiers
    )
    now = MET_AT + RESUMED_AFTER if trace["name"] == RESUMED else MET_AT
    return dataclasses.replace(fixed_provider(*random, private_keys=keys, now=now), verifiers=verifiers)


def credential(trace: Trace, role: str) -> Credential:
    if "certificates" not in trace:
        trace = of(trace["resumes"])  # nobody shows it; a server has one
    signer = PublishedSigner(message(trace, role, "CertificateVerify"))
    return Credential(chain=(bytes.fromhex(trace["certificates"][role]),), signer=signer)


def of(name: str) -> Trace:
    return trace(name)


def offer_of(raw: bytes, exchanges: dict[int, Any], session: ClientSession | None = None) -> Offer:
    hello = ClientHello.decode(raw[HEADER_LENGTH:])
    psks: tuple[OfferedPsk, ...] = ()
    if session is not None:
        # All but pre_shared_key is the trace's; that has to come out the same, binder and all.
        psk = Psk(identity=session.ticket, key=session.psk, hash_name="sha256", binder_label=b"res binder")
        age = session.obfuscated_age(MET_AT + RESUMED_AFTER)
        early = EarlySecret.extract(suite(session.cipher_suite), session.psk)
        psks = (OfferedPsk(psk=psk, early=early, session=session, obfuscated_ticket_age=age),)
        published = raw
        hello, raw = bound_hello(dataclasses.replace(hello, extensions=hello.extensions[:-1]), psks, Transcript())
        assert raw.hex() == published.hex()
    return Offer(
        hello=hello,
        raw=raw,
        suites=hello.cipher_suites,
        groups=(NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1),
        alpn=(),
        exchanges=exchanges,
        requested=suits_request(hello.extensions),
        reference_name="server",
        psks=psks,
        early_data=EarlyDataOutcome.DECLINED if psks else EarlyDataOutcome.DISABLED,
    )


def our_client(
    trace: Trace,
    patch: pytest.MonkeyPatch,
    observe: Callable[[Any], None],
    store: MemorySessionStore | None = None,
) -> Connection:
    """store: sessions of the trace that this one resumes."""
    keys = {e["group"]: bytes.fromhex(e["private_key"]) for e in trace["ephemeral_keys"] if e["role"] == "client"}

    def exchange(name: str) -> dict[int, Any]:
        return {GROUPS[name]: exchange_with(GROUPS[name], keys[name])}

    def second(config: ClientConfig, offer: Offer, group: int | None, cookie: bytes | None, *_: Any) -> Offer:
        raw = message(trace, "client", "ClientHello", 1)
        assert group == NamedGroup.SECP256R1
        assert cookie is not None and cookie in raw
        return offer_of(raw, exchange("secp256r1"))

    patch.setattr(
        "pellucid.connection.first_offer",
        lambda config, name, session: offer_of(message(trace, "client", "ClientHello"), exchange("x25519"), session),
    )
    patch.setattr(client_hello, "retried_offer", second)
    config = ClientConfig(
        verifier=Trusting(),
        middlebox_compatibility=trace["name"] == "compatibility_mode",
        credentials=(credential(trace, "client"),) if "client" in trace.get("certificates", ()) else (),
        provider=provider(trace, "client"),
        sessions=MemorySessionStore() if store is None else store,
        early_data=True,
    )
    return Connection.client(config, "server", trace=observe)


def our_server(
    trace: Trace, patch: pytest.MonkeyPatch, observe: Callable[[Any], None], known: ServerSession | None = None
) -> Connection:
    """known: what the ticket stands for that the client shows."""
    retried = trace["name"] == "hello_retry_request"
    hello = ServerHello.decode(message(trace, "server", "ServerHello")[HEADER_LENGTH:])
    order = [e.extension_type for e in hello.extensions]
    if retried:
        request = ServerHello.decode(message(trace, "server", "HelloRetryRequest")[HEADER_LENGTH:])
        order = [e.extension_type for e in request.extensions]
        keep_cookie(request, patch)
    make = server_flight._server_hello

    def ordered(random: bytes, session_id: bytes, suite: int, extensions: tuple[Extension, ...]) -> bytes:
        return make(random, session_id, suite, tuple(sorted(extensions, key=lambda e: order.index(e.extension_type))))

    patch.setattr(server_flight, "_server_hello", ordered)
    published = message(trace, "server", "EncryptedExtensions")
    patch.setattr(server_flight, "_encrypted_extensions", lambda *_, **__: published)
    asks = "client" in trace.get("certificates", ())
    if asks:
        asked = CertificateRequest.decode(message(trace, "server", "CertificateRequest")[HEADER_LENGTH:])
        patch.setattr(server_flight, "certificate_request", lambda _: asked)
    ticket = trace.get("new_session_ticket")
    issued, random = None, [hello.random, bytes(4)]
    if ticket is not None:
        issued, random[1] = bytes.fromhex(ticket["ticket"]), bytes.fromhex(ticket["ticket_age_add"])
        patch.setattr(tickets, "ticket_nonce", lambda _: bytes.fromhex(ticket["ticket_nonce"]))
    config = ServerConfig(
        credentials=(credential(trace, "server"),),
        groups=(GROUPS[trace["key_exchange_group"]],),
        verifier=Trusting(),
        client_authentication=ClientAuthentication.REQUIRED if asks else ClientAuthentication.NONE,
        cookie_key=bytes(32) if retried else None,
        provider=provider(trace, "server", *random),
        sessions=PublishedTickets(issued, known),
        tickets=1,
        ticket_lifetime_seconds=30,
        max_early_data=1024,
        replay_guard=StrikeRegister(MET_AT - 3600),
    )
    return Connection.server(config, trace=observe)


def keep_cookie(request: ServerHello, patch: pytest.MonkeyPatch) -> None:
    """The trace's cookie, whose sealing its server kept to itself: what is in it is remembered beside it."""
    cookie = request.extensions[1].extension_data[2:]
    sealed: list[cookies.Retry] = []

    def seal(config: ServerConfig, key: bytes, retry: cookies.Retry, peer_address: str) -> bytes:
        sealed.append(retry)
        return cookie

    def unseal(config: ServerConfig, key: bytes, shown: bytes, peer_address: str) -> cookies.Retry:
        assert shown == cookie
        return dataclasses.replace(sealed[0], cookie=cookie)

    patch.setattr(cookies, "seal", seal)
    patch.setattr(cookies, "unseal", unseal)


# ---- replaying -------------------------------------------------------------------------------------------------------


def replay(trace: Trace, connection: Connection) -> None:
    """Give it what its peer sent, have it send what it sent; every record must be the trace's."""
    own = connection.role.value
    pending = b""
    for record in trace["records"]:
        raw, payload = bytes.fromhex(record["record"]), bytes.fromhex(record["payload"])
        if record["role"] != own:
            assert pending == b"", "it sends more than the trace does"
            connection.receive_data(raw)
            continue
        if not pending:
            if record["key"] == "client_early" and record["content_type"] == "application_data":
                connection.send_early_data(payload)
            elif record["content_type"] == "application_data":
                connection.send_data(payload)
            elif record["content_type"] == "alert":
                connection.close()
            pending = connection.data_to_send()
        assert pending[: len(raw)].hex() == raw.hex(), f"record {record['content_type']} under {record['key']}"
        pending = pending[len(raw) :]
    assert pending == b""
    assert connection.data_to_send() == b""


def check_secrets(trace: Trace, seen: list[Any]) -> None:
    secrets = {event.name: event for event in seen if isinstance(event, SecretDerived)}
    shown = dict(trace["secrets"])
    if trace["name"] == RESUMED:
        shown["binder_key"] = {"secret": trace["psk"]["binder_key"]}
    if "new_session_ticket" not in trace:
        secrets.pop("resumption_psk_00", None)  # of the ticket that PublishedTickets does not let out
    assert {OUR_NAMES.get(name, name) for name in shown} == set(secrets)
    for name, value in shown.items():
        event = secrets[OUR_NAMES.get(name, name)]
        assert event.secret.reveal().hex() == value["secret"], name
        if "label" in value:
            assert (event.label, event.context.hex()) == (value["label"], value["context"]), name
            assert event.parent is not None
            assert secrets[event.parent].secret.reveal().hex() == value["prk"], name
    keys = {
        event.secret_name: (event.key.reveal(), event.iv.reveal()) for event in seen if type(event) is KeysInstalled
    }
    assert keys == {
        KEYS[name]: (bytes.fromhex(value["key"]), bytes.fromhex(value["iv"]))
        for name, value in trace["traffic_keys"].items()
    }
    (shared,) = (event for event in seen if isinstance(event, SharedSecretComputed))
    assert shared.secret.reveal().hex() == trace["shared_secret"]


def check_events(trace: Trace, connection: Connection) -> None:
    events, error = events_of(connection)
    assert error is None
    own = connection.role.value
    data = [
        bytes.fromhex(r["payload"])
        for r in trace["records"]
        if r["content_type"] == "application_data" and r["role"] != own
    ]
    (complete,) = (event for event in events if isinstance(event, HandshakeComplete))
    assert [event.data for event in events if hasattr(event, "data")] == data
    assert isinstance(events[-1], CloseNotify)
    ticket = trace.get("new_session_ticket")
    if ticket is not None and own == "client":
        (received,) = (event.ticket for event in events if isinstance(event, TicketReceived))
        assert received.ticket.hex() == ticket["ticket"]
        assert received.ticket_nonce.hex() == ticket["ticket_nonce"]
    negotiated = complete.negotiated
    resumes = trace["name"] == RESUMED
    assert negotiated.resumed is resumes
    assert (negotiated.early_data is EarlyDataOutcome.ACCEPTED) is resumes
    assert (EarlyData(b"ABCDEF") in events) is (resumes and own == "server")
    assert negotiated.group == GROUPS[trace["key_exchange_group"]]
    assert negotiated.retried is (trace["name"] == "hello_retry_request")
    assert (negotiated.client_signature_scheme is not None) is ("client" in trace.get("certificates", ()))


def session_of(name: str, patch: pytest.MonkeyPatch) -> MemorySessionStore:
    """What our client keeps of a trace."""
    store = MemorySessionStore()
    with patch.context() as apart:
        replay(of(name), our_client(of(name), apart, lambda _: None, store))
    ticket = of(name)["new_session_ticket"]
    ((_, (session,)),) = store.items()
    assert session.psk.hex() == ticket["psk"]
    assert (session.lifetime_seconds, session.age_add) == (30, int(ticket["ticket_age_add"], 16))
    assert session.max_early_data_size == ticket["max_early_data_size"]
    return store


def issued_in(name: str, patch: pytest.MonkeyPatch) -> ServerSession:
    """What our server's ticket of a trace stands for."""
    with patch.context() as apart:
        connection = our_server(of(name), apart, lambda _: None)
        replay(of(name), connection)
    store = connection._context.config.session_store
    assert isinstance(store, PublishedTickets)
    assert store.session is not None
    assert store.session.psk.hex() == of(name)["new_session_ticket"]["psk"]
    return store.session


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.rfc("9846 §7.1", "the key schedule: every secret of RFC 8448's traces")
@pytest.mark.rfc("9846 §4.1", "the transcript hash, after a HelloRetryRequest too")
@pytest.mark.rfc("9846 §5.2", "record protection: every record of RFC 8448's traces")
@pytest.mark.rfc("9846 §4.3.11.2", "a PSK binder is a Finished over the ClientHello up to the binders")
def test_client_reproduces_the_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    store = session_of("simple_1rtt", monkeypatch) if name == RESUMED else None
    connection = our_client(trace(name), monkeypatch, seen.append, store)
    replay(trace(name), connection)
    check_secrets(trace(name), seen)
    check_events(trace(name), connection)


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.rfc("9846 §7.1", "the key schedule: every secret of RFC 8448's traces")
@pytest.mark.rfc("9846 §4.1", "the transcript hash, after a HelloRetryRequest too")
@pytest.mark.rfc("9846 §5.2", "record protection: every record of RFC 8448's traces")
@pytest.mark.rfc("9846 §4.3.11.2", "a PSK binder is a Finished over the ClientHello up to the binders")
def test_server_reproduces_the_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    known = issued_in("simple_1rtt", monkeypatch) if name == RESUMED else None
    connection = our_server(trace(name), monkeypatch, seen.append, known)
    replay(trace(name), connection)
    check_secrets(trace(name), seen)
    check_events(trace(name), connection)


@pytest.mark.parametrize("name", CERTIFIED)
@pytest.mark.parametrize("which", ["Certificate", "CertificateVerify", "Finished"])
def test_client_replay_can_fail(name: str, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of the server's flight, changed before protection: the same replay must not come to its end."""
    wrong = {**trace(name), "records": [dict(record) for record in trace(name)["records"]]}
    connection = our_client(wrong, monkeypatch, lambda _: None)
    receive = connection._handshake.receive

    def tampered(raw: bytes) -> Any:
        changed = {"Certificate": H.CERTIFICATE, "CertificateVerify": H.CERTIFICATE_VERIFY, "Finished": H.FINISHED}
        return receive(raw[:-1] + bytes((raw[-1] ^ 1,)) if message_type(raw) == changed[which] else raw)

    monkeypatch.setattr(connection._handshake, "receive", tampered)
    with pytest.raises((AssertionError, OSError)):
        replay(wrong, connection)
    _, error = events_of(connection)
    assert error is not None


@pytest.mark.parametrize("what", ["binder", "early data", "EndOfEarlyData", "Finished"])
def test_resumed_server_replay_can_fail(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bit of what the client sends: the same replay must not come to its end."""
    wrong = {**trace(RESUMED), "records": [dict(record) for record in trace(RESUMED)["records"]]}
    at = {"binder": 0, "early data": 1, "EndOfEarlyData": 4, "Finished": 5}[what]
    record = bytes.fromhex(wrong["records"][at]["record"])
    wrong["records"][at]["record"] = (record[:-1] + bytes((record[-1] ^ 1,))).hex()
    connection = our_server(wrong, monkeypatch, lambda _: None, issued_in("simple_1rtt", monkeypatch))
    with pytest.raises((AssertionError, OSError)):
        replay(wrong, connection)
    events, error = events_of(connection)
    assert error is not None
    assert (EarlyData(b"ABCDEF") in events) is (what in {"EndOfEarlyData", "Finished"})
    assert not any(isinstance(event, HandshakeComplete) for event in events)
