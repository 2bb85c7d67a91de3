"""Which credential an end shows: by name, by what the peer can verify, by whom it names (RFC 9846 §4.5.1.2)."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pellucid import PENDING, PYCA, Connection, Credential, CredentialNeeded, HandshakeComplete, PeerError, UsageError
from pellucid.config import CertificateRequestInfo, ClientAuthentication, ClientHelloInfo
from pellucid.crypto.signatures import PrivateKeySigner
from pellucid.errors import HandshakeFailure, UnrecognizedName
from pellucid.explain.fields import message_fields
from pellucid.handshake.credentials import choose_credential
from pellucid.messages.extensions import OIDFilter
from pellucid.registry import AlertDescription as A
from pellucid.registry import HandshakeType as H
from pellucid.registry import SignatureScheme as S
from pellucid.testing.ca import CA, KeyKind
from pellucid.trace import ChoiceMade, MessageTraced, TraceEvent
from pellucid.verify.trust import TrustStore
from tests.support.pair import (
    NAME,
    Chunking,
    Pair,
    asking_server_config,
    client_config,
    events_of,
    server_config,
)

ABLE = frozenset(verifier.code for verifier in PYCA.verifiers if verifier.handshake)
OPTIONAL = ClientAuthentication.OPTIONAL
KEY_USAGE, EXTENDED = bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d25")
SIGNING, SIGNING_AND_AGREEMENT = bytes.fromhex("03020780"), bytes.fromhex("03020388")
CLIENT_AUTH, CODE_SIGNING = bytes.fromhex("06082b06010505070302"), bytes.fromhex("06082b06010505070303")


def ca(name: str, kind: KeyKind = "p256", sha: Any = 256) -> CA:
    return _ca(name, kind, sha)


@functools.cache
def _ca(name: str, kind: KeyKind, sha: Any) -> CA:
    return CA(name, key=kind, sha=sha)


@functools.cache
def issued(authority: str = "one", kind: KeyKind = "p256", *names: str, ca_kind: KeyKind = "p256") -> Credential:
    made = ca(authority, ca_kind).issue(*(names or (NAME,)), key=kind)
    return Credential.from_pem(made.chain_pem, made.key_pem)


def changed(credential: Credential, **changes: Any) -> Credential:
    return Credential(
        **{"chain": credential.chain, "signer": credential.signer, "signature_schemes": credential.signature_schemes}
        | changes
    )


def hello(*schemes: int, name: str | None = NAME, **more: Any) -> ClientHelloInfo:
    return ClientHelloInfo(
        server_name=name,
        alpn=(),
        cipher_suites=(0x1301,),
        groups=(29,),
        signature_schemes=schemes or tuple(ABLE),
        **more,
    )


def request(*schemes: int, **more: Any) -> CertificateRequestInfo:
    return CertificateRequestInfo(**{"signature_schemes": schemes or tuple(ABLE), "authorities": ()} | more)


def names_of(*authorities: str) -> tuple[bytes, ...]:
    return tuple(ca(name).name.public_bytes() for name in authorities)


def trust(*authorities: CA) -> TrustStore:
    return TrustStore.from_der([one.root_der for one in authorities])


def agreed(connection: Connection) -> Any:
    assert connection.negotiated is not None
    return connection.negotiated


# ---- the pure function -----------------------------------------------------------------------------------------------

P256 = S.ECDSA_SECP256R1_SHA256
P384 = S.ECDSA_SECP384R1_SHA384


def test_the_first_of_equals_is_chosen() -> None:
    credentials = (issued("one", "p384"), issued("one", "p256"), issued("one", "rsa2048"))
    for asked in (hello(), request()):
        choice = choose_credential(credentials, asked, ABLE)
        assert choice.credential is credentials[0]
        assert choice.scheme == P384


@pytest.mark.rfc("9846 §4.5.1.2", "the key can sign with a scheme of the peer's signature_algorithms")
def test_a_credential_without_a_common_scheme_is_passed_over() -> None:
    credentials = (issued("one", "rsa2048"), issued("one", "p384"), issued("one", "p256"))
    for asked in (hello(P256), request(P256)):
        assert choose_credential(credentials, asked, ABLE)[:2] == (credentials[2], P256)
    with pytest.raises(HandshakeFailure, match="no signature scheme in common: the peer accepts 0x0807") as caught:
        choose_credential(credentials, hello(S.ED25519), ABLE)
    assert caught.value.rfc == "9846 §4.3.3"


@pytest.mark.rfc("9846 §4.3.3", "RSASSA-PKCS1-v1_5 does not sign handshakes, though it may be offered for certificates")
def test_a_scheme_for_certificates_only_never_signs() -> None:
    class Careless:
        schemes = (S.RSA_PKCS1_SHA256, S.RSA_PSS_RSAE_SHA256)

        def sign(self, scheme: int, data: bytes) -> bytes:
            raise AssertionError("nothing is signed here")

    careless = Credential(chain=issued("one", "rsa2048").chain, signer=Careless())
    choice = choose_credential((careless,), hello(S.RSA_PKCS1_SHA256, S.RSA_PSS_RSAE_SHA256), ABLE)
    assert choice.scheme == S.RSA_PSS_RSAE_SHA256


def test_a_credentials_own_order_of_schemes_is_kept() -> None:
    rsa_credential = issued("one", "rsa2048")
    wanted = (S.RSA_PSS_RSAE_SHA512, S.ED25519, S.RSA_PSS_RSAE_SHA256)
    mine = changed(rsa_credential, signature_schemes=wanted)
    assert mine.schemes == (S.RSA_PSS_RSAE_SHA512, S.RSA_PSS_RSAE_SHA256)
    assert choose_credential((mine,), hello(), ABLE).scheme == S.RSA_PSS_RSAE_SHA512
    assert choose_credential((mine,), hello(S.RSA_PSS_RSAE_SHA256, P256), ABLE).scheme == S.RSA_PSS_RSAE_SHA256
    with pytest.raises(HandshakeFailure):
        choose_credential((mine,), hello(S.RSA_PSS_RSAE_SHA384), ABLE)
    useless = changed(rsa_credential, signature_schemes=(S.RSA_PKCS1_SHA384,))
    with pytest.raises(HandshakeFailure, match="no signature scheme in common"):
        choose_credential((useless,), hello(S.RSA_PKCS1_SHA384, S.RSA_PSS_RSAE_SHA384), ABLE)


def test_the_name_comes_first() -> None:
    credentials = (issued("one", "p256", "other.test"), issued("one", "rsa2048", NAME), issued("one", "p384", NAME))
    choice = choose_credential(credentials, hello(), ABLE)
    assert choice == (credentials[1], S.RSA_PSS_RSAE_SHA256, f"it is for {NAME}")
    choice = choose_credential(credentials, hello(P256, P384), ABLE)
    assert choice.credential is credentials[2]
    assert choose_credential(credentials, hello(name=None), ABLE).reason == "the client named no server"
    unknown = choose_credential(credentials, hello(name="third.test"), ABLE)
    assert (unknown.credential, unknown.reason) == (credentials[0], "none is for 'third.test': the default")
    with pytest.raises(UnrecognizedName):
        choose_credential(credentials, hello(name="third.test"), ABLE, strict_server_name=True)
    with pytest.raises(HandshakeFailure, match="no signature scheme"):  # another name's would not be believed
        choose_credential(credentials[:2], hello(P256), ABLE)


@pytest.mark.rfc("9846 §4.5.1.2", "a chain that is signed with what the peer advertises is preferred")
def test_a_chain_that_the_peer_can_verify_is_preferred() -> None:
    by_p384 = issued("big", "p256", ca_kind="p384")
    by_ed25519 = issued("small", "p256", ca_kind="ed25519")
    sha384 = ca("big", "p384", 384).issue(NAME)
    by_sha384 = Credential.from_pem(sha384.chain_pem, sha384.key_pem)
    assert [c.chain_schemes for c in (by_p384, by_ed25519, by_sha384)] == [
        (frozenset({P256}),),  # a hash says more than a curve that may not be known
        (frozenset({S.ED25519}),),
        (frozenset({P384}),),
    ]
    credentials = (by_ed25519, by_sha384)
    for asked, expected in (
        (hello(P256, S.ED25519), by_ed25519),
        (hello(P256, P384), by_sha384),
        (request(P256, P384), by_sha384),
        # signature_algorithms_cert is asked in the place of signature_algorithms
        (hello(P256, S.ED25519, certificate_signature_schemes=(P384,)), by_sha384),
        (request(P256, P384, certificate_signature_schemes=(S.ED25519,)), by_ed25519),
    ):
        choice = choose_credential(credentials, asked, ABLE)
        assert choice.credential is expected
        assert "fallback" not in choice.reason


@pytest.mark.rfc("9846 §4.5.1.2", "without a chain that fits the server goes on with one of its choice (F23)")
def test_a_fallback_chain_is_used_where_none_fits() -> None:
    credentials = (issued("small", "p256", ca_kind="ed25519"), issued("one", "p256"))
    for asked in (
        hello(P256, certificate_signature_schemes=(S.RSA_PKCS1_SHA256,)),
        request(P256, certificate_signature_schemes=(S.RSA_PKCS1_SHA256,)),
    ):
        choice = choose_credential(credentials, asked, ABLE)
        assert choice.credential is credentials[0]
        assert choice.reason.endswith("a fallback: the peer does not name what its chain is signed with")


@functools.cache
def signed_with_sha1() -> Credential:
    """A leaf under an RSA CA, signed anew with SHA-1: pyca/cryptography makes none."""
    authority = ca("old", "rsa2048")
    made = authority.issue(NAME, key="p256")
    tbs = made.certificate.tbs_certificate_bytes
    sha256, sha1 = bytes.fromhex("06092a864886f70d01010b0500"), bytes.fromhex("06092a864886f70d0101050500")
    assert tbs.count(sha256) == 1
    tbs = tbs.replace(sha256, sha1)
    key = authority.private_key
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(tbs, padding.PKCS1v15(), hashes.SHA1())
    bits = b"\x03" + b"\x82" + (len(signature) + 1).to_bytes(2, "big") + b"\0" + signature
    content = tbs + b"\x30" + bytes((len(sha1),)) + sha1 + bits
    leaf = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    pem = x509.load_der_x509_certificate(leaf).public_bytes(Encoding.PEM)
    return Credential.from_pem(pem, made.key_pem)


@pytest.mark.rfc("9846 §4.5.1.2", "a fallback chain uses no SHA-1, unless the client says that it accepts it")
def test_a_chain_signed_with_sha1_is_shown_only_to_who_accepts_it() -> None:
    old = signed_with_sha1()
    assert old.chain_schemes == (frozenset({S.RSA_PKCS1_SHA1}),)
    for asked in (hello(P256), hello(P256, certificate_signature_schemes=(S.RSA_PKCS1_SHA256,)), request(P256)):
        with pytest.raises(HandshakeFailure, match="SHA-1, which the peer does not accept"):
            choose_credential((old,), asked, ABLE)
    assert choose_credential((old,), hello(P256, S.RSA_PKCS1_SHA1), ABLE).credential is old
    taken = hello(P256, certificate_signature_schemes=(S.RSA_PKCS1_SHA1,))
    assert choose_credential((old,), taken, ABLE).credential is old


@pytest.mark.rfc("9846 §4.3.3", "a SHA-1 signed certificate is not offered unless there is no other valid chain")
def test_a_chain_signed_with_sha1_is_the_last_resort() -> None:
    old, young = signed_with_sha1(), issued("one", "p256")
    assert choose_credential((old, young), hello(P256, S.RSA_PKCS1_SHA1), ABLE).credential is young
    assert choose_credential((old, young), hello(P256), ABLE).credential is young


@pytest.mark.rfc("9846 §4.5.1.2", "self-signed certificates may be signed with any algorithm")
def test_how_a_self_signed_certificate_is_signed_does_not_matter() -> None:
    root = ca("small", "ed25519")
    made = root.issue(NAME)
    whole = Credential.from_pem(made.chain_pem + root.root_pem, made.key_pem)
    assert len(whole.chain) == 2 and len(whole.chain_schemes) == 1


@pytest.mark.rfc("9846 §4.5.1.2", "digitalSignature is set if the key usage extension is present")
def test_a_certificate_whose_key_may_not_sign_is_not_used() -> None:
    made = ca("one").issue(NAME, usage=("key_agreement",))
    unable = Credential.from_pem(made.chain_pem, made.key_pem)
    without = ca("one").issue(NAME, usage=None)
    able = Credential.from_pem(without.chain_pem, without.key_pem)
    assert choose_credential((unable, able), hello(), ABLE).credential is able
    with pytest.raises(HandshakeFailure, match="key usage does not allow signatures"):
        choose_credential((unable,), hello(), ABLE)


@pytest.mark.rfc("9846 §4.5.1.2", "a chain issued by one of the CAs that the peer names is preferred")
def test_an_authority_that_the_peer_names_is_preferred_and_not_demanded() -> None:
    credentials = (issued("one"), issued("two"))
    for asked in (hello(authorities=names_of("two")), request(authorities=names_of("two"))):
        choice = choose_credential(credentials, asked, ABLE)
        assert choice.credential is credentials[1]
        assert choice.reason.endswith("; the peer names one of its issuers")
        assert choose_credential(credentials[:1], asked, ABLE).credential is credentials[0]


def test_a_credential_that_must_match_an_issuer_is_passed_over_where_none_is_named() -> None:
    picky, plain = changed(issued("one"), must_match_issuer=True), issued("two")
    for asked_of in (hello, request):
        assert choose_credential((picky, plain), asked_of(), ABLE).credential is plain
        assert choose_credential((picky, plain), asked_of(authorities=names_of("two", "one")), ABLE).credential is picky
        for nobody in (asked_of(), asked_of(authorities=names_of("three"))):
            with pytest.raises(HandshakeFailure, match="no credential is of an issuer that the peer names") as caught:
                choose_credential((picky, picky), nobody, ABLE)
            assert caught.value.rfc == "9846 §4.3.4"
        # of several reasons the one that was nearest to success
        with pytest.raises(HandshakeFailure, match="issuer"):
            choose_credential((issued("one", "rsa2048"), picky, issued("one", "ed25519")), asked_of(P256), ABLE)


def test_without_a_credential_there_is_none_to_choose() -> None:
    with pytest.raises(HandshakeFailure, match="there is no credential"):
        choose_credential((), hello(), ABLE)


# ---- oid_filters -----------------------------------------------------------------------------------------------------


def filters(**by_name: bytes) -> tuple[OIDFilter, ...]:
    oids = {"usage": KEY_USAGE, "purposes": EXTENDED, "unknown": bytes.fromhex("06032a0304")}
    return tuple(OIDFilter(oids[name], value) for name, value in by_name.items())


def purposes(*oids: bytes) -> bytes:
    content = b"".join(oids)
    return b"\x30" + bytes((len(content),)) + content


@pytest.mark.rfc("9846 §4.3.5", "the certificate has all values that the filters name, and may have more")
@pytest.mark.parametrize(
    ("wanted", "suits"),
    [
        (filters(usage=SIGNING), True),
        (filters(usage=SIGNING_AND_AGREEMENT), False),
        (filters(usage=bytes.fromhex("030100")), True),
        (filters(usage=bytes.fromhex("0303078080")), False),  # a ninth bit: decipherOnly
        (filters(usage=bytes.fromhex("03030780ff")[:3] + b"\x80\x00"), True),  # a ninth bit that is not set
        (filters(purposes=purposes(CLIENT_AUTH)), True),
        (filters(purposes=purposes(CLIENT_AUTH, CODE_SIGNING)), False),
        (filters(purposes=purposes()), True),
        (filters(usage=SIGNING, purposes=purposes(CODE_SIGNING)), False),
        (filters(unknown=b"anything at all"), True),
        (filters(unknown=b"", usage=SIGNING), True),
        ((), True),
    ],
)
def test_oid_filters(wanted: tuple[OIDFilter, ...], suits: bool) -> None:
    asked = request(oid_filters=wanted)
    if suits:
        assert choose_credential((issued(),), asked, ABLE).credential is issued()
        return
    with pytest.raises(HandshakeFailure, match="no certificate has the extensions") as caught:
        choose_credential((issued(),), asked, ABLE)
    assert caught.value.rfc == "9846 §4.3.5"


@pytest.mark.rfc("9846 §4.3.5", "a certificate without the extension does not match")
@pytest.mark.parametrize("wanted", [filters(usage=SIGNING), filters(purposes=purposes(CLIENT_AUTH))])
def test_oid_filters_want_the_extension_itself(wanted: tuple[OIDFilter, ...]) -> None:
    made = ca("one").issue("client.test", usage=None, purposes=None)
    bare = Credential.from_pem(made.chain_pem, made.key_pem)
    assert choose_credential((bare, issued()), request(oid_filters=wanted), ABLE).credential is issued()


# ---- over the wire ---------------------------------------------------------------------------------------------------


def test_server_chooses_by_the_authorities_that_the_client_names(chunking: Chunking) -> None:
    """BoGo: CertificateSelection-Server-CheckIssuer."""
    one, two = issued("one"), issued("two")
    for credentials in ((one, two), (changed(one, must_match_issuer=True), two), (two, one)):
        client = client_config(trust=ca("two").trust, certificate_authorities=trust(ca("two")).authorities)
        pair = Pair.of(client, server_config(credentials=credentials), chunking=chunking).connect()
        assert agreed(pair.client).peer.leaf.der == two.chain[0]
    none = changed(one, must_match_issuer=True)
    pair = Pair.of(client, server_config(credentials=(none, none)), chunking=chunking)
    pair.pump()
    error = events_of(pair.server)[1]
    assert isinstance(error, PeerError) and (error.alert, error.rfc) == (A.HANDSHAKE_FAILURE, "9846 §4.3.4")


@pytest.mark.rfc("9846 §4.3.4", "a client may send certificate_authorities; a server sends those it trusts")
def test_authorities_and_certificate_schemes_reach_the_resolvers(chunking: Chunking) -> None:
    told: list[Any] = []

    def resolver(info: Any) -> Credential:
        told.append(info)
        return issued("one")

    cert = (P256, S.RSA_PKCS1_SHA256)
    seen: list[TraceEvent] = []
    client = client_config(
        trust=ca("one").trust,
        credential_resolver=resolver,
        signature_algorithms_cert=cert,
        certificate_authorities=names_of("one", "two"),
        trace=lambda: seen.append,
    )
    server = asking_server_config(
        client_trust=ca("one").trust,
        credential_resolver=resolver,
        signature_algorithms_cert=cert[::-1],
        certificate_authorities=names_of("three", "one"),
    )
    Pair.of(client, server, chunking=chunking).connect()
    by_client, by_server = told
    assert (by_client.certificate_signature_schemes, by_client.authorities) == (cert, names_of("one", "two"))
    assert (by_server.certificate_signature_schemes, by_server.authorities) == (cert[::-1], names_of("three", "one"))
    rows = {e.message_type: dict(message_fields(e)) for e in seen if isinstance(e, MessageTraced)}
    assert rows[H.CLIENT_HELLO]["in certificates"] == "ecdsa_secp256r1_sha256, rsa_pkcs1_sha256"
    assert rows[H.CERTIFICATE_REQUEST]["in certificates"] == "rsa_pkcs1_sha256, ecdsa_secp256r1_sha256"
    assert rows[H.CLIENT_HELLO]["authorities"] == rows[H.CERTIFICATE_REQUEST]["authorities"] == "2 named"


def test_a_server_may_name_nobody_or_others_than_it_trusts(chunking: Chunking) -> None:
    told: list[CertificateRequestInfo] = []

    def resolver(info: CertificateRequestInfo) -> Credential:
        told.append(info)
        return issued("one")

    for authorities in ((), None):
        server = asking_server_config(client_trust=ca("one").trust, certificate_authorities=authorities)
        Pair.of(client_config(credential_resolver=resolver), server, chunking=chunking).connect()
    assert [info.authorities for info in told] == [(), names_of("one")]


def test_client_chooses_what_the_server_can_verify(chunking: Chunking) -> None:
    by_ed25519, by_p256 = issued("small", ca_kind="ed25519"), issued("one")
    server = asking_server_config(
        client_trust=trust(ca("small", "ed25519"), ca("one")),
        certificate_authorities=(),
        signature_algorithms_cert=(P256,),
    )
    pair = Pair.of(client_config(credentials=(by_ed25519, by_p256)), server, chunking=chunking).connect()
    assert agreed(pair.server).peer.leaf.der == by_p256.chain[0]


@pytest.mark.rfc("9846 §4.5.1.2", "a client may use a fallback chain")
def test_client_falls_back_to_a_chain_that_the_server_may_not_verify(chunking: Chunking) -> None:
    server = asking_server_config(client_trust=ca("one").trust, signature_algorithms_cert=(S.ED448,))
    pair = Pair.of(client_config(credentials=(issued("one"),)), server, chunking=chunking).connect()
    assert agreed(pair.server).peer.leaf.der == issued("one").chain[0]


def test_what_signs_for_us_is_not_what_is_accepted_from_the_peer(chunking: Chunking) -> None:
    """Each end accepts one scheme only, and signs with another."""
    client = client_config(
        trust=ca("rsa", "rsa2048").trust,
        signature_schemes=(S.RSA_PSS_RSAE_SHA256,),
        signature_algorithms_cert=(S.RSA_PKCS1_SHA256,),
        credentials=(issued("one", "p384"),),
    )
    server = asking_server_config(
        client_trust=ca("one").trust,
        signature_schemes=(P384,),
        credentials=(issued("rsa", "rsa2048", ca_kind="rsa2048"),),
    )
    pair = Pair.of(client, server, chunking=chunking).connect()
    for end in (pair.client, pair.server):
        assert agreed(end).signature_scheme == S.RSA_PSS_RSAE_SHA256
        assert agreed(end).client_signature_scheme == P384


@pytest.mark.rfc("9846 §4.5.1", "a client without a suitable certificate sends an empty Certificate")
@pytest.mark.parametrize("insists", [False, True])
@pytest.mark.parametrize("why", ["scheme", "issuer"])
def test_a_client_without_a_fitting_credential(why: str, insists: bool, chunking: Chunking) -> None:
    mine = issued("one", "rsa2048") if why == "scheme" else changed(issued("one"), must_match_issuer=True)
    server = asking_server_config(
        client_trust=ca("two").trust, signature_schemes=(P256,), client_authentication=OPTIONAL
    )
    seen: list[TraceEvent] = []
    client = client_config(credentials=(mine,), insist_on_credential=insists, trace=lambda: seen.append)
    pair = Pair.of(client, server, chunking=chunking)
    pair.pump()
    rfc = {"scheme": "9846 §4.3.3", "issuer": "9846 §4.3.4"}[why]
    if insists:
        error = events_of(pair.client)[1]
        assert isinstance(error, PeerError) and (error.alert, error.rfc) == (A.HANDSHAKE_FAILURE, rfc)
        return
    assert [type(event) for event in events_of(pair.server)[0]] == [HandshakeComplete]
    assert agreed(pair.server).peer is None
    told = [e for e in seen if isinstance(e, ChoiceMade) and e.what == "client_certificate"]
    assert [(e.chosen, why in e.reason) for e in told] == [("none", True)]


def test_a_client_that_insists_but_has_none_sends_none(chunking: Chunking) -> None:
    server = asking_server_config(client_authentication=OPTIONAL)
    pair = Pair.of(client_config(insist_on_credential=True), server, chunking=chunking).connect()
    assert agreed(pair.server).peer is None


@pytest.mark.parametrize("end", ["client", "server"])
def test_a_resolvers_answer_is_held_to_the_same_rules(end: str, chunking: Chunking) -> None:
    """Late or at once: a credential that cannot be used is not."""
    picky = changed(issued("one"), must_match_issuer=True)
    for late in (False, True):
        resolver = {"credential_resolver": (lambda _: PENDING) if late else (lambda _: picky)}
        client = client_config(
            trust=ca("one").trust, insist_on_credential=True, **(resolver if end == "client" else {})
        )
        server = asking_server_config(
            credentials=(issued("one"),),
            certificate_authorities=(),
            client_trust=ca("one").trust,
            **(resolver if end == "server" else {}),
        )
        pair = Pair.of(client, server, chunking=chunking)
        pair.pump()
        victim = pair.client if end == "client" else pair.server
        if late:
            assert [type(event) for event in events_of(victim)[0]] == [CredentialNeeded]
            victim.resume(picky)
        error = events_of(victim)[1]
        assert isinstance(error, PeerError) and error.rfc == "9846 §4.3.4"


# ---- configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schemes", [(), (P256, P256), (2**16,), (-1,)])
def test_impossible_lists_of_schemes_are_refused(schemes: tuple[int, ...]) -> None:
    for make in (
        lambda: client_config(signature_algorithms_cert=schemes),
        lambda: server_config(signature_algorithms_cert=schemes),
        lambda: changed(issued(), signature_schemes=schemes),
    ):
        with pytest.raises(UsageError, match="is empty, or names something twice"):
            make()


@pytest.mark.parametrize("names", [(b"",), (bytes(2**16),), (bytes(10_001), bytes(10_000))])
def test_impossible_authorities_are_refused(names: tuple[bytes, ...]) -> None:
    for make in (client_config, server_config):
        with pytest.raises(UsageError, match="certificate_authorities"):
            make(certificate_authorities=names)


def test_the_longest_list_of_authorities_is_sent_and_read(chunking: Chunking) -> None:
    names = (bytes(10_000), bytes(10_000))
    told: list[ClientHelloInfo] = []

    def resolver(info: ClientHelloInfo) -> None:
        told.append(info)

    Pair.of(
        client_config(certificate_authorities=names), server_config(credential_resolver=resolver), chunking=chunking
    ).connect()
    assert told[0].authorities == names


def test_the_signers_own_schemes_are_the_default() -> None:
    signer = issued().signer
    assert isinstance(signer, PrivateKeySigner)
    assert issued().schemes == signer.schemes == (P256,)
