"""Signature schemes over pyca/cryptography: what may sign with what, checking, and in-memory private keys.

RFC 9846 §4.3.3, §4.5.2. The library binds neither curve to hash nor PSS key to PSS scheme, and takes any salt length
unless told: all of that is bound here (attacks D19-D22).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa

from pellucid.crypto.certificates import CertificateKey, EndEntity
from pellucid.crypto.provider import Verifier
from pellucid.errors import UsageError
from pellucid.limits import MAX_RSA_BITS, MIN_RSA_BITS
from pellucid.registry import SignatureScheme as S
from pellucid.registry import scheme_name

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)

_SHA256: Final = hashes.SHA256()
_SHA384: Final = hashes.SHA384()
_SHA512: Final = hashes.SHA512()
_ECDSA: Final[dict[int, tuple[str, str, ec.ECDSA]]] = {
    S.ECDSA_SECP256R1_SHA256: ("EC secp256r1", "secp256r1", ec.ECDSA(_SHA256)),
    S.ECDSA_SECP384R1_SHA384: ("EC secp384r1", "secp384r1", ec.ECDSA(_SHA384)),
    S.ECDSA_SECP521R1_SHA512: ("EC secp521r1", "secp521r1", ec.ECDSA(_SHA512)),
}


def _pss(hash_algorithm: hashes.HashAlgorithm) -> tuple[padding.PSS, hashes.HashAlgorithm]:
    # The salt is as long as the digest; PSS.AUTO would accept any, a zero-length one too (§4.3.3).
    return padding.PSS(padding.MGF1(hash_algorithm), hash_algorithm.digest_size), hash_algorithm


_RSAE: Final = {
    S.RSA_PSS_RSAE_SHA256: _pss(_SHA256),
    S.RSA_PSS_RSAE_SHA384: _pss(_SHA384),
    S.RSA_PSS_RSAE_SHA512: _pss(_SHA512),
}
_PSS: Final = {
    S.RSA_PSS_PSS_SHA256: _pss(_SHA256),
    S.RSA_PSS_PSS_SHA384: _pss(_SHA384),
    S.RSA_PSS_PSS_SHA512: _pss(_SHA512),
}
_PSS_PADDING: Final = _RSAE | _PSS
_PLAIN: Final = {
    S.ED25519: "Ed25519",
    S.ED448: "Ed448",
    S.MLDSA44: "ML-DSA-44",
    S.MLDSA65: "ML-DSA-65",
    S.MLDSA87: "ML-DSA-87",
}

# The 8 encodings of Ed25519 points of small order, under which anybody's signature verifies (attack D25).
_ED25519_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(text)
    for text in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
)


# ---- checking ----------------------------------------------------------------------------------------------------


def is_small_order(key: CertificateKey) -> bool:
    """Return whether anybody's signature verifies under *key*: Ed25519's points of small order (attack D25)."""
    return isinstance(key, ed25519.Ed25519PublicKey) and key.public_bytes_raw() in _ED25519_SMALL_ORDER


def computable(certificate: EndEntity) -> bool:
    """Return whether a signature by the key may be computed with: RSA of 2048 to 8192 bits (attack D22), all others."""
    key = certificate.public_key
    return not isinstance(key, rsa.RSAPublicKey) or MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS


def _ecdsa(code: int) -> Verifier:
    algorithm, _, ecdsa = _ECDSA[code]

    def accepts(certificate: EndEntity) -> bool:
        return certificate.key_algorithm == algorithm

    def verify(certificate: EndEntity, signature: bytes, data: bytes) -> bool:
        key = certificate.public_key
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        try:
            key.verify(signature, data, ecdsa)
        except InvalidSignature:
            return False
        return True

    return Verifier(
        code=code, name=scheme_name(code), handshake=True, accepts=accepts, computes=computable, verify=verify
    )


def _rsa_pss(code: int) -> Verifier:
    pss, hash_algorithm = _PSS_PADDING[code]
    kind = "RSASSA-PSS " if code in _PSS else "RSA "

    def accepts(certificate: EndEntity) -> bool:
        return certificate.key_algorithm.startswith(kind) and certificate.pss_hash in {None, hash_algorithm.name}

    def verify(certificate: EndEntity, signature: bytes, data: bytes) -> bool:
        key = certificate.public_key
        if not isinstance(key, rsa.RSAPublicKey):
            return False
        try:
            key.verify(signature, data, pss, hash_algorithm)
        except InvalidSignature:
            return False
        return True

    return Verifier(
        code=code, name=scheme_name(code), handshake=True, accepts=accepts, computes=computable, verify=verify
    )


def _plain(code: int) -> Verifier:
    algorithm = _PLAIN[code]

    def accepts(certificate: EndEntity) -> bool:
        return certificate.key_algorithm == algorithm

    def verify(certificate: EndEntity, signature: bytes, data: bytes) -> bool:
        key = certificate.public_key
        if isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
            return False
        if is_small_order(key):
            return False
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True

    return Verifier(
        code=code, name=scheme_name(code), handshake=True, accepts=accepts, computes=computable, verify=verify
    )


def _certificate_only(code: int) -> Verifier:
    def never(*_: object) -> bool:
        return False

    return Verifier(code=code, name=scheme_name(code), handshake=False, accepts=never, computes=never, verify=never)


VERIFIERS: Final[tuple[Verifier, ...]] = (
    _ecdsa(S.ECDSA_SECP256R1_SHA256),
    _rsa_pss(S.RSA_PSS_RSAE_SHA256),
    _ecdsa(S.ECDSA_SECP384R1_SHA384),
    _rsa_pss(S.RSA_PSS_RSAE_SHA384),
    _plain(S.ED25519),
    _rsa_pss(S.RSA_PSS_RSAE_SHA512),
    _ecdsa(S.ECDSA_SECP521R1_SHA512),
    _rsa_pss(S.RSA_PSS_PSS_SHA256),
    _rsa_pss(S.RSA_PSS_PSS_SHA384),
    _rsa_pss(S.RSA_PSS_PSS_SHA512),
    _plain(S.ED448),
    _plain(S.MLDSA44),
    _plain(S.MLDSA65),
    _plain(S.MLDSA87),
    # Most of the web's chains are signed with these; they are never accepted in CertificateVerify (§4.3.3).
    _certificate_only(S.RSA_PKCS1_SHA256),
    _certificate_only(S.RSA_PKCS1_SHA384),
    _certificate_only(S.RSA_PKCS1_SHA512),
)


# ---- signing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrivateKeySigner:
    """A private key in memory. `repr` shows its schemes only; it is not pickled."""

    key: PrivateKey = field(repr=False)
    schemes: tuple[int, ...]

    def sign(self, scheme: int, data: bytes) -> bytes:
        """Return the signature over *data*. Raises UsageError if the key has no such scheme."""
        if scheme not in self.schemes:
            raise UsageError(f"the private key cannot sign with {scheme_name(scheme)}")
        key = self.key
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(data, _ECDSA[scheme][2])
        if isinstance(key, rsa.RSAPrivateKey):
            pss, hash_algorithm = _PSS_PADDING[scheme]
            return key.sign(data, pss, hash_algorithm)
        return key.sign(data)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a private key is not pickled")


def signing_schemes(certificate: EndEntity) -> tuple[int, ...]:
    """Return the schemes that the certificate's key can sign handshakes with, preferred first."""
    if not computable(certificate):
        return ()
    return tuple(verifier.code for verifier in VERIFIERS if verifier.handshake and verifier.accepts(certificate))
