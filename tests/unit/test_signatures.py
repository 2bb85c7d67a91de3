"""Which key may sign with which scheme: every pair of a kind of key and a scheme, made and checked."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from pellucid.crypto.certificates import X509Certificate, parse_certificate
from pellucid.crypto.pyca import PYCA
from pellucid.crypto.signatures import _ED25519_SMALL_ORDER, PrivateKeySigner, computable, signing_schemes
from pellucid.errors import UsageError
from pellucid.limits import MAX_RSA_BITS, MIN_RSA_BITS
from pellucid.registry import SignatureScheme as S
from tests.support.pair import credential

KINDS = ("p256", "p384", "p521", "rsa2048", "ed25519", "ed448", "mldsa44", "mldsa65", "mldsa87")
RSAE = (S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_RSAE_SHA512)
PSS = (S.RSA_PSS_PSS_SHA256, S.RSA_PSS_PSS_SHA384, S.RSA_PSS_PSS_SHA512)
SCHEMES = {
    "p256": (S.ECDSA_SECP256R1_SHA256,),
    "p384": (S.ECDSA_SECP384R1_SHA384,),
    "p521": (S.ECDSA_SECP521R1_SHA512,),
    "rsa2048": RSAE,
    "ed25519": (S.ED25519,),
    "ed448": (S.ED448,),
    "mldsa44": (S.MLDSA44,),
    "mldsa65": (S.MLDSA65,),
    "mldsa87": (S.MLDSA87,),
}
VERIFIERS = {verifier.code: verifier for verifier in PYCA.verifiers}
DATA = b"what is signed"


@functools.cache
def leaf(kind: str) -> X509Certificate:
    return credential(kind).leaf  # type: ignore[arg-type]


def signer(kind: str) -> PrivateKeySigner:
    made = credential(kind).signer  # type: ignore[arg-type]
    assert isinstance(made, PrivateKeySigner)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.rfc("9846 §4.3.3", "each ECDSA scheme is bound to its curve, each other scheme to its kind of key")
def test_key_signs_with_its_own_schemes_only(kind: str) -> None:
    assert signing_schemes(leaf(kind)) == signer(kind).schemes
    assert sorted(signer(kind).schemes) == sorted(SCHEMES[kind])
    for code, verifier in VERIFIERS.items():
        assert verifier.accepts(leaf(kind)) is (code in SCHEMES[kind])
        if code not in SCHEMES[kind]:
            with pytest.raises(UsageError):
                signer(kind).sign(code, DATA)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.rfc("9846 §4.5.2", "the receiver of CertificateVerify verifies the signature")
def test_signature_is_good_for_its_data_its_key_and_its_scheme(kind: str) -> None:
    for code in SCHEMES[kind]:
        verify, signature = VERIFIERS[code].verify, signer(kind).sign(code, DATA)
        assert verify(leaf(kind), signature, DATA)
        assert not verify(leaf(kind), signature, DATA + b".")
        assert not verify(leaf(kind), signature[:-1] + bytes((signature[-1] ^ 1,)), DATA)
        for wrong in (b"", signature[:-1], signature + b"\0", bytes(len(signature))):
            assert not verify(leaf(kind), wrong, DATA)
        for other in KINDS:
            if other != kind:
                assert not verify(leaf(other), signature, DATA)


@pytest.mark.rfc("9846 §4.3.3", "RSASSA-PSS: MGF1 with the scheme's hash, and a salt as long as the digest")
def test_rsa_signature_with_another_salt_or_padding_is_refused() -> None:
    key = signer("rsa2048").key
    assert isinstance(key, rsa.RSAPrivateKey)
    sha256, verify = hashes.SHA256(), VERIFIERS[S.RSA_PSS_RSAE_SHA256].verify
    assert verify(leaf("rsa2048"), key.sign(DATA, padding.PSS(padding.MGF1(sha256), 32), sha256), DATA)
    for scheme, digest in (
        (padding.PSS(padding.MGF1(sha256), 0), sha256),
        (padding.PSS(padding.MGF1(sha256), 20), sha256),
        (padding.PSS(padding.MGF1(sha256), padding.PSS.MAX_LENGTH), sha256),
        (padding.PSS(padding.MGF1(hashes.SHA384()), 32), sha256),
        (padding.PSS(padding.MGF1(sha256), 32), hashes.SHA384()),
        (padding.PKCS1v15(), sha256),
    ):
        assert not verify(leaf("rsa2048"), key.sign(DATA, scheme, digest), DATA)


@pytest.mark.parametrize("bits", [1024, MIN_RSA_BITS - 8, MIN_RSA_BITS])
def test_rsa_keys_have_a_least_size(bits: int) -> None:
    key = rsa.generate_private_key(65537, bits).public_key()
    for pss, codes in ((False, RSAE), (True, PSS)):
        name = f"{'RSASSA-PSS' if pss else 'RSA'} {bits}"
        certificate = X509Certificate(b"", leaf("rsa2048").x509, key, name)
        for code in codes:
            assert VERIFIERS[code].accepts(certificate)
        assert computable(certificate) is (bits >= MIN_RSA_BITS)
        assert bool(signing_schemes(certificate)) is (bits >= MIN_RSA_BITS)
        for code in {*RSAE, *PSS} - set(codes):
            assert not VERIFIERS[code].accepts(certificate)


def test_rsa_keys_have_a_greatest_size() -> None:
    """Checking with a giant key is work for the peer to give us; making one takes minutes, so its size is pretended."""

    class Giant:
        def __init__(self, bits: int) -> None:
            self.key_size = bits

    rsa.RSAPublicKey.register(Giant)
    for bits, taken in ((MAX_RSA_BITS, True), (MAX_RSA_BITS + 8, False)):
        certificate = X509Certificate(b"", leaf("rsa2048").x509, Giant(bits), f"RSA {bits}")  # type: ignore[arg-type]
        assert computable(certificate) is taken


@pytest.mark.parametrize("code", [S.RSA_PKCS1_SHA256, S.RSA_PKCS1_SHA384, S.RSA_PKCS1_SHA512])
@pytest.mark.rfc("9846 §4.3.3", "RSASSA-PKCS1-v1_5 and SHA-1 are not for signed handshake messages")
def test_pkcs1_is_offered_for_certificates_only(code: int) -> None:
    verifier = VERIFIERS[code]
    key = signer("rsa2048").key
    assert isinstance(key, rsa.RSAPrivateKey)
    assert not verifier.handshake
    assert not verifier.accepts(leaf("rsa2048"))
    assert not verifier.verify(leaf("rsa2048"), key.sign(DATA, padding.PKCS1v15(), hashes.SHA256()), DATA)


def test_nothing_with_sha1_is_offered() -> None:
    assert not {S.RSA_PKCS1_SHA1, S.ECDSA_SHA1} & set(VERIFIERS)


@pytest.mark.parametrize("point", sorted(_ED25519_SMALL_ORDER), ids=lambda point: point.hex()[:8] + point.hex()[-2:])
def test_ed25519_key_of_small_order_verifies_nothing(point: bytes) -> None:
    """R = identity, s = 0 is a signature over anything under such a key, in a library that does not look."""
    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(point)
    except ValueError:
        return  # the library refuses it first
    certificate = X509Certificate(b"", leaf("ed25519").x509, key, "Ed25519")
    identity = b"\x01" + bytes(31)
    for nonce in (identity, point):
        for data in (DATA, b"", b"else"):
            assert not VERIFIERS[S.ED25519].verify(certificate, nonce + bytes(32), data)


def test_private_key_is_neither_shown_nor_pickled() -> None:
    one = signer("p256")
    assert "PrivateKeySigner(schemes=" in repr(one)
    assert "key=" not in repr(one)
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            take(one)  # type: ignore[operator]


def test_key_algorithm_names_the_kind_of_key() -> None:
    names = ("EC secp256r1", "EC secp384r1", "EC secp521r1", "RSA 2048", "Ed25519", "Ed448")
    names += ("ML-DSA-44", "ML-DSA-65", "ML-DSA-87")
    assert tuple(leaf(kind).key_algorithm for kind in KINDS) == names
    assert parse_certificate(leaf("p256").der) is parse_certificate(leaf("p256").der)


def test_ecdsa_with_another_curve_of_the_same_hash_is_no_scheme() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    certificate = X509Certificate(b"", leaf("p256").x509, key.public_key(), "EC secp256k1")
    assert signing_schemes(certificate) == ()
