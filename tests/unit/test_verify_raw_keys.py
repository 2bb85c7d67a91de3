"""Raw public keys by themselves: what is one, whom the verifier believes, what configurations refuse (RFC 7250)."""

from __future__ import annotations

import binascii
import dataclasses
import functools
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import ClientConfig, Credential, PeerError, RawPublicKeyVerifier, ServerConfig, UsageError
from pellucid.config import ClientAuthentication
from pellucid.crypto.certificates import RawPublicKey, parse_certificate, parse_raw_public_key
from pellucid.crypto.signatures import PrivateKeySigner
from pellucid.errors import DecodeError
from pellucid.limits import MAX_RAW_PUBLIC_KEY
from pellucid.net.load import load_raw_public_keys
from pellucid.registry import CertificateType, certificate_type_name
from pellucid.registry import SignatureScheme as S
from pellucid.testing.ca import CA, Issued, KeyKind
from pellucid.verify import (
    CheckGroup,
    Failure,
    Outcome,
    Purpose,
    VerificationRequest,
    WebPKIVerifier,
    dangerous_accept_any,
    either,
)
from tests.support.pss import parameters, pss_credential

X509, RAW = CertificateType.X509, CertificateType.RAW_PUBLIC_KEY
SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@functools.cache
def authority() -> CA:
    return CA("Raw test root")


def issued(kind: KeyKind = "p256", name: str = "raw.test") -> Issued:
    return _issued(kind, name)


@functools.cache
def _issued(kind: KeyKind, name: str) -> Issued:
    return authority().issue(name, key=kind)


def spki(kind: KeyKind = "p256", name: str = "raw.test") -> bytes:
    return issued(kind, name).private_key.public_key().public_bytes(*SPKI)


def request(der: bytes, *, certificate: bool = False, purpose: Purpose = Purpose.SERVER_AUTH) -> VerificationRequest:
    return VerificationRequest(
        leaf=parse_certificate(der) if certificate else parse_raw_public_key(der),
        intermediates=(),
        purpose=purpose,
        server_name="raw.test" if purpose is Purpose.SERVER_AUTH else None,
        now=issued().certificate.not_valid_before_utc.timestamp() + 60,
    )


# ---- a key -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("p256", "EC secp256r1"),
        ("p384", "EC secp384r1"),
        ("p521", "EC secp521r1"),
        ("rsa2048", "RSA 2048"),
        ("ed25519", "Ed25519"),
        ("ed448", "Ed448"),
        ("mldsa44", "ML-DSA-44"),
        ("mldsa65", "ML-DSA-65"),
        ("mldsa87", "ML-DSA-87"),
    ],
)
def test_key_of_each_kind_is_that_of_its_certificate(kind: KeyKind, algorithm: str) -> None:
    certificate = parse_certificate(issued(kind).der)
    key = parse_raw_public_key(spki(kind))
    assert key.key_algorithm == certificate.key_algorithm == algorithm
    assert certificate.subject_public_key_info == key.der == spki(kind)
    assert len(key.der) <= MAX_RAW_PUBLIC_KEY
    assert (certificate.certificate_type, key.certificate_type) == (X509, RAW)
    loaded = load_pem_public_key(key.pem.encode())
    assert loaded.public_bytes(*SPKI) == key.der
    assert parse_raw_public_key(key.der) is key


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_pss_key_keeps_its_restriction_without_its_certificate(name: str) -> None:
    credential = pss_credential(parameters(name)).as_raw_public_key()
    assert isinstance(credential.leaf, RawPublicKey)
    assert credential.leaf.key_algorithm == "RSASSA-PSS 2048"
    assert credential.leaf.pss_hash == name
    assert credential.schemes == pss_credential(parameters(name)).schemes


def test_key_is_bounded_before_it_is_parsed() -> None:
    with pytest.raises(DecodeError, match=f"{MAX_RAW_PUBLIC_KEY + 1} bytes, at most {MAX_RAW_PUBLIC_KEY}"):
        parse_raw_public_key(bytes(MAX_RAW_PUBLIC_KEY + 1))
    with pytest.raises(DecodeError, match="no SubjectPublicKeyInfo"):
        parse_raw_public_key(bytes(MAX_RAW_PUBLIC_KEY))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["p256", "rsa2048", "ed25519", "mldsa44"]), st.integers(0, 2**16), st.integers(1, 255))
def test_damaged_key_is_a_peers_fault_or_another_key(kind: Any, at: int, change: int) -> None:
    damaged = bytearray(spki(kind))
    damaged[at % len(damaged)] ^= change
    try:
        key = parse_raw_public_key(bytes(damaged))
    except PeerError:
        return
    assert key.der != spki(kind)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 255))
def test_damaged_pss_key_is_a_peers_fault_or_another_key(at: int, change: int) -> None:
    good = pss_credential(parameters("sha384")).as_raw_public_key().chain[0]
    damaged = bytearray(good)
    damaged[at % 70] ^= change  # where the algorithm stands
    try:
        key = parse_raw_public_key(bytes(damaged))
    except PeerError:
        return
    assert key.der != good


@given(st.binary(max_size=300))
def test_any_bytes_are_a_key_or_a_peers_fault(data: bytes) -> None:
    try:
        parse_raw_public_key(data)
    except PeerError:
        return


def test_names_of_types_are_words() -> None:
    assert [certificate_type_name(code) for code in (0, 2, 1)] == ["X.509", "raw public key", "0x01"]


# ---- our own ---------------------------------------------------------------------------------------------------------


def test_credential_shows_the_public_half_of_a_key_in_every_form() -> None:
    key = load_pem_private_key(issued().key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    forms = [
        (issued().key_pem, None),
        (key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), None),
        (key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")), b"secret"),
        (key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()), None),
    ]
    for data, password in forms:
        credential = Credential.raw_public_key(data, password)
        assert credential.chain == (spki(),)
        assert credential.certificate_type == RAW
        assert (credential.names, credential.issuers, credential.chain_schemes) == ((), frozenset(), ())
        assert credential.may_sign
        assert credential.schemes == (S.ECDSA_SECP256R1_SHA256,)
        assert credential.extension("2.5.29.15") is None
        assert "PRIVATE" not in repr(credential)


def test_credential_of_a_signer_and_its_key() -> None:
    key = issued().private_key
    signer = PrivateKeySigner(key, (S.ECDSA_SECP256R1_SHA256,))  # type: ignore[arg-type]  # a P-256 key
    credential = Credential(chain=(spki(),), signer=signer, certificate_type=RAW)
    assert credential.leaf.key_algorithm == "EC secp256r1"
    whole = Credential.from_pem(issued().chain_pem, issued().key_pem)
    same = dataclasses.replace(whole, signature_schemes=(S.ECDSA_SECP256R1_SHA256,)).as_raw_public_key()
    assert (same.chain, same.signature_schemes) == ((spki(),), (S.ECDSA_SECP256R1_SHA256,))
    assert same.as_raw_public_key().chain == same.chain


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chain": (b"\0",)}, "our own raw public key cannot be used"),
        ({"chain": ("x25519",)}, "our own raw public key cannot be used"),
        ({"chain": ("twice",)}, "a raw public key stands alone"),
        ({"certificate_type": 1}, "not of type 1"),
        ({"certificate_type": X509}, "our own certificate cannot be used"),
        ({"must_match_issuer": True}, "has no issuer"),
        ({"ocsp_response": b"0\0"}, "no OCSP response"),
        ({"scts": (b"sct",)}, "no SCTs"),
    ],
)
def test_credential_that_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    signer = Credential.raw_public_key(issued().key_pem).signer
    if changes.get("chain") == ("twice",):
        changes = {"chain": (spki(), spki())}
    if changes.get("chain") == ("x25519",):
        changes = {"chain": (bytes.fromhex("302a300506032b656e032100") + bytes(range(32)),)}
    with pytest.raises(UsageError, match=words):
        Credential(**{"chain": (spki(),), "signer": signer, "certificate_type": RAW} | changes)


def test_private_key_that_cannot_be_used_is_refused() -> None:
    small = rsa.generate_private_key(65537, 1024)
    for data in (b"", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", issued().chain_pem, spki()):
        with pytest.raises(UsageError):
            Credential.raw_public_key(data)
    with pytest.raises(UsageError, match="an RSA key of 1024 bits"):
        Credential.raw_public_key(small.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


# ---- who is believed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", Purpose)
def test_verifier_takes_the_keys_it_was_given_and_no_other(purpose: Purpose) -> None:
    verifier = RawPublicKeyVerifier([spki("p256"), spki("ed25519")])
    for kind in ("p256", "ed25519"):
        report = verifier.verify(request(spki(kind), purpose=purpose))  # type: ignore[arg-type]
        assert (report.accepted, report.failure, report.path) == (True, None, (spki(kind),))  # type: ignore[arg-type]
        assert "is one of those that are trusted" in report.summary
    report = verifier.verify(request(spki("p256", "other.test"), purpose=purpose))
    assert (report.accepted, report.failure, report.path) == (False, Failure.UNKNOWN_KEY, ())
    assert report.summary.startswith("the server's" if purpose is Purpose.SERVER_AUTH else "the client's")
    assert report.summary.endswith("is none of the 2 that are trusted")
    assert report.outcome(CheckGroup.TRUST) is Outcome.FAILED
    assert report.outcome(CheckGroup.VALIDITY) is Outcome.PASSED


def test_verifier_of_keys_takes_no_certificate_with_such_a_key() -> None:
    report = RawPublicKeyVerifier(spki()).verify(request(issued().der, certificate=True))
    assert (report.accepted, report.failure) == (False, Failure.UNSUPPORTED)
    assert report.certificate_type == X509
    assert "only raw public keys are accepted" in report.summary


def test_verifier_of_certificates_takes_no_key_of_one_it_trusts() -> None:
    """Not even that of a root: nothing in a key says what it is for."""
    root = authority().private_key.public_key().public_bytes(*SPKI)
    for der in (spki(), root):
        report = WebPKIVerifier(authority().trust).verify(request(der))
        assert (report.accepted, report.failure, report.path) == (False, Failure.UNSUPPORTED, ())
        assert report.certificate_type == RAW
        assert "no CA vouches for one" in report.summary
        assert report.outcome(CheckGroup.TRUST) is Outcome.FAILED
    report = dangerous_accept_any().verify(request(spki()))  # type: ignore[assignment]
    assert report.accepted and report.dangerous
    assert report.path == (spki(),)


def test_verifier_takes_keys_as_der_and_pem_and_several_in_one_text() -> None:
    pem = [parse_raw_public_key(spki(kind)).pem.encode() for kind in ("p256", "ed25519")]  # type: ignore[arg-type]
    for keys in (spki(), pem[0], pem[1] + b"some words\n" + pem[0], [spki("rsa2048"), pem[0]], iter([spki()])):
        assert RawPublicKeyVerifier(keys).verify(request(spki())).accepted


SMALL_ORDER = bytes.fromhex("302a300506032b6570032100" + "01" + "00" * 31)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "nobody could ever be accepted"),
        (b"", "cannot be used"),
        ([b"\x30\x00"], "cannot be used"),
        ([SMALL_ORDER], "point of small order"),
        (b"-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no PUBLIC KEY"),
        ([rsa.generate_private_key(65537, 1024).public_key().public_bytes(*SPKI)], "RSA key of 1024 bits"),
        ([ec.generate_private_key(ec.SECP256K1()).public_key().public_bytes(*SPKI)], "curve secp256k1"),
        (bytes.fromhex("302a300506032b656e032100") + bytes(range(32)), "which no TLS 1.3 signature scheme uses"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_key_that_could_never_be_trusted_is_refused_at_once(keys: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RawPublicKeyVerifier(keys)


def test_d25_openssl_takes_what_is_refused_here() -> None:
    """The guard is ours: under that key R = the identity, S = 0 is a signature over everything."""
    key = ed25519.Ed25519PublicKey.from_public_bytes(SMALL_ORDER[-32:])
    key.verify(SMALL_ORDER[-32:] + bytes(32), b"anything")


def test_verifiers_of_the_same_keys_are_the_same_to_sessions() -> None:
    one, other = spki(), spki("ed25519")
    same = RawPublicKeyVerifier([one, other]).session_identity
    assert RawPublicKeyVerifier([other, one, one]).session_identity == same
    assert RawPublicKeyVerifier([one]).session_identity != same
    webpki = WebPKIVerifier(authority().trust)
    both: Any = either(webpki, RawPublicKeyVerifier([one]))
    assert both.session_identity == either(webpki, RawPublicKeyVerifier([one])).session_identity  # type: ignore[attr-defined]
    others = [
        RawPublicKeyVerifier([one]),
        webpki,
        either(webpki, RawPublicKeyVerifier([other])),
        either(WebPKIVerifier(CA("another").trust), RawPublicKeyVerifier([one])),
    ]
    assert both.session_identity not in {verifier.session_identity for verifier in others}  # type: ignore[attr-defined]
    assert both.authorities == webpki.authorities
    assert either(dangerous_accept_any(), RawPublicKeyVerifier([one])).session_identity is None  # type: ignore[attr-defined]


def test_either_needs_a_verifier_of_keys() -> None:
    with pytest.raises(UsageError, match="not by a WebPKIVerifier"):
        either(WebPKIVerifier(authority().trust), WebPKIVerifier(authority().trust))  # type: ignore[arg-type]


# ---- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server_certificate_types": ()}, "X509, RAW_PUBLIC_KEY or both"),
        ({"server_certificate_types": (RAW, RAW)}, "each once"),
        ({"server_certificate_types": (1,)}, "X509, RAW_PUBLIC_KEY or both"),
        ({"client_certificate_types": ()}, "client_certificate_types"),
        ({"client_certificate_types": (3,)}, "client_certificate_types"),
        ({"server_certificate_types": (RAW,)}, "raw public key, which the verifier never accepts"),
        ({"server_certificate_types": (X509, RAW)}, "verify.either"),
        ({"verifier": "keys"}, "X.509, which the verifier never accepts"),
        ({"verifier": "keys", "server_certificate_types": (RAW, X509)}, "X.509, which the verifier never accepts"),
        ({"trust": None, "server_certificate_types": (RAW,)}, "raw public key, which the verifier never accepts"),
    ],
)
def test_client_of_types_that_could_never_be_verified_is_refused(changes: dict[str, Any], words: str) -> None:
    if changes.get("verifier") == "keys":
        changes = changes | {"verifier": RawPublicKeyVerifier(spki()), "trust": None}
    with pytest.raises(UsageError, match=words):
        ClientConfig(**{"trust": authority().trust} | changes)


def test_server_of_types_that_could_never_be_verified_is_refused() -> None:
    credential = Credential.from_pem(issued().chain_pem, issued().key_pem)
    asking: dict[str, Any] = {"client_authentication": ClientAuthentication.REQUIRED, "credentials": (credential,)}
    keys = RawPublicKeyVerifier(spki())
    for changes, words in (
        ({"client_trust": authority().trust, "client_certificate_types": ()}, "client_certificate_types"),
        ({"client_trust": authority().trust, "client_certificate_types": (RAW,)}, "never accepts"),
        ({"verifier": keys}, "X.509, which the verifier never accepts"),
        ({"verifier": keys, "client_certificate_types": (X509, RAW)}, "X.509, which the verifier never accepts"),
    ):
        with pytest.raises(UsageError, match=words):
            ServerConfig(**asking | changes)
    ServerConfig(**asking, verifier=keys, client_certificate_types=(RAW,))
    both = either(WebPKIVerifier(authority().trust), keys)
    ServerConfig(**asking, verifier=both, client_certificate_types=(RAW, X509))
    ServerConfig(**asking, verifier=both)
    ServerConfig(credentials=(credential,), client_certificate_types=(RAW,))  # nobody is asked


def test_client_shows_the_types_of_its_credentials_in_their_order() -> None:
    raw = Credential.raw_public_key(issued().key_pem)
    whole = Credential.from_pem(issued().chain_pem, issued().key_pem)
    for credentials, types in (
        ((), (X509,)),
        ((raw,), (RAW,)),
        ((whole, raw, whole), (X509, RAW)),
        ((raw, whole), (RAW, X509)),
    ):
        assert ClientConfig(trust=authority().trust, credentials=credentials).shown_certificate_types == types
    explicit = ClientConfig(trust=authority().trust, credentials=(raw,), client_certificate_types=(X509, RAW))
    assert explicit.shown_certificate_types == (X509, RAW)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_keys_are_loaded_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for content in (spki(), parse_raw_public_key(spki()).pem.encode()):
        path.write_bytes(content)
        assert load_raw_public_keys(path).verify(request(spki())).accepted
    for content in (b"", b"junk", issued().chain_pem, issued().der):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=str(path)):
            load_raw_public_keys(path)
    with pytest.raises(UsageError, match="cannot read"):
        load_raw_public_keys(tmp_path / "none")


def test_pem_of_a_key_is_what_openssl_writes() -> None:
    text = parse_raw_public_key(spki("rsa2048")).pem
    key = load_pem_public_key(text.encode())
    assert key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() == text
    assert binascii.a2b_base64("".join(text.splitlines()[1:-1])) == spki("rsa2048")
