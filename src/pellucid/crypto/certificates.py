"""Parsed certificates and raw public keys: DER in, the facts that the handshake and the verifier need out.

Whether one is to be trusted is verify's question, not this file's.
"""

from __future__ import annotations

import binascii
import functools
import hashlib
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from pellucid.crypto.der import SEQUENCE, SPKI, inside, tbs_fields
from pellucid.crypto.pss import key_restriction, raw_key_restriction
from pellucid.errors import BadCertificate, DecodeError, UnsupportedCertificate
from pellucid.limits import MAX_RAW_PUBLIC_KEY
from pellucid.registry import CertificateType

OID_RSASSA_PSS = "1.2.840.113549.1.1.10"

CertificateKey = (
    ec.EllipticCurvePublicKey
    | rsa.RSAPublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)


# What pyca/cryptography raises for a certificate, or a part of one, that it cannot parse: not only ValueError.
# KeyError: for a TLS feature it has no name for. Warning: for applications that make warnings errors.
PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    KeyError,
    Warning,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


class X509Certificate:
    """One X.509 certificate of a peer.

    der:           as received.
    x509:          pyca/cryptography's object.
    public_key:    of a kind that TLS 1.3 can use.
    key_algorithm: "EC secp256r1", "RSA 2048", "RSASSA-PSS 2048", "Ed25519", "Ed448", "ML-DSA-65", …
    pss_hash:      the one hash that an RSASSA-PSS key's parameters allow, "" if no scheme has it; None: any.
    """

    __slots__ = ("der", "key_algorithm", "pss_hash", "public_key", "x509")

    certificate_type: Final = CertificateType.X509

    def __init__(
        self,
        der: bytes,
        certificate: x509.Certificate,
        key: CertificateKey,
        key_algorithm: str,
        pss_hash: str | None = None,
    ) -> None:
        self.der = der
        self.x509 = certificate
        self.public_key = key
        self.key_algorithm = key_algorithm
        self.pss_hash = pss_hash

    @property
    def subject_public_key_info(self) -> bytes:
        """The public key in DER, as it stands in the certificate."""
        return tbs_fields(self.x509.tbs_certificate_bytes)[SPKI].encoding


class RawPublicKey:
    """A peer's public key without a certificate (RFC 7250): nothing in it says whose it is.

    der:           SubjectPublicKeyInfo as received.
    public_key, key_algorithm, pss_hash: as of `X509Certificate`.
    """

    __slots__ = ("der", "key_algorithm", "pss_hash", "public_key")

    certificate_type: Final = CertificateType.RAW_PUBLIC_KEY

    def __init__(self, der: bytes, key: CertificateKey, key_algorithm: str, pss_hash: str | None = None) -> None:
        self.der = der
        self.public_key = key
        self.key_algorithm = key_algorithm
        self.pss_hash = pss_hash

    @property
    def fingerprint(self) -> str:
        """SHA-256 of *der* in hexadecimal: what two people compare."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def pem(self) -> str:
        """The key as PEM, which programs take for a public key."""
        text = binascii.b2a_base64(self.der, newline=False).decode("ascii")
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        return "\n".join(("-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""))


EndEntity = X509Certificate | RawPublicKey
"""What a peer shows first in its Certificate message: whose key signs the handshake."""


@functools.lru_cache(maxsize=128)  # a host's certificates come again with every connection; parsing has no memory
def parse_certificate(der: bytes) -> X509Certificate:
    """Return the certificate *der* holds.

    Raises BadCertificate if it is not one, UnsupportedCertificate if its key is of a kind TLS 1.3 has no scheme for
    (RFC 9846 §4.5.1.2).
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
    except PARSE_ERRORS as error:
        raise BadCertificate(f"a certificate cannot be parsed: {error}", rfc="9846 §4.5.1") from error
    try:
        key = certificate.public_key()
    except (*PARSE_ERRORS, UnsupportedAlgorithm) as error:
        raise UnsupportedCertificate(
            f"a certificate's public key cannot be used: {error}", rfc="9846 §4.5.1.2"
        ) from error
    if not isinstance(key, CertificateKey):
        raise UnsupportedCertificate(
            f"a certificate's public key is a {type(key).__name__}, which no TLS 1.3 signature scheme uses",
            rfc="9846 §4.5.1.2",
        )
    pss = certificate.public_key_algorithm_oid.dotted_string == OID_RSASSA_PSS
    pss_hash = key_restriction(certificate.tbs_certificate_bytes) if pss else None
    return X509Certificate(der, certificate, key, _key_algorithm(key, pss=pss), pss_hash)


@functools.lru_cache(maxsize=128)
def parse_raw_public_key(der: bytes) -> RawPublicKey:
    """Return the key in *der*, exactly one SubjectPublicKeyInfo of at most 4,096 bytes (RFC 7250 §3).

    Raises DecodeError if it is not one, UnsupportedCertificate if the key is of a kind TLS 1.3 has no scheme for.
    """
    if len(der) > MAX_RAW_PUBLIC_KEY:
        raise DecodeError(f"a raw public key of {len(der)} bytes, at most {MAX_RAW_PUBLIC_KEY}", rfc="9846 §4.5.1")
    try:
        key = load_der_public_key(der)
        # What begins with a number is an RSA key of PKCS #1, which the library takes too.
        if inside(der)[0].tag != SEQUENCE:
            raise ValueError("not a SubjectPublicKeyInfo")
        pss, pss_hash = raw_key_restriction(der) if isinstance(key, rsa.RSAPublicKey) else (False, None)
    except UnsupportedAlgorithm as error:
        raise UnsupportedCertificate(f"a raw public key cannot be used: {error}", rfc="9846 §4.5.1.2") from error
    except PARSE_ERRORS as error:
        raise DecodeError("a raw public key is no SubjectPublicKeyInfo in DER", rfc="9846 §4.5.1") from error
    if not isinstance(key, CertificateKey):
        raise UnsupportedCertificate(
            f"a raw public key is a {type(key).__name__}, which no TLS 1.3 signature scheme uses", rfc="9846 §4.5.1.2"
        )
    return RawPublicKey(der, key, _key_algorithm(key, pss=pss), pss_hash)


@functools.lru_cache(maxsize=256)
def valid_until(der: bytes) -> float:
    """Return when the certificate *der* ends, seconds since 1970; 0.0 if it cannot be parsed."""
    try:
        return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
    except PARSE_ERRORS:
        return 0.0


def _key_algorithm(key: CertificateKey, *, pss: bool) -> str:
    match key:  # the common kinds first: each case is an abc check
        case ec.EllipticCurvePublicKey():
            return f"EC {key.curve.name}"
        case rsa.RSAPublicKey():
            return f"{'RSASSA-PSS' if pss else 'RSA'} {key.key_size}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case mldsa.MLDSA44PublicKey():
            return "ML-DSA-44"
        case mldsa.MLDSA65PublicKey():
            return "ML-DSA-65"
        case mldsa.MLDSA87PublicKey():
            return "ML-DSA-87"
