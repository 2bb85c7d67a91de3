"""Certificates and raw public keys with their private keys, from memory: PEM, DER, PKCS#12. No file is opened here."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import SignatureAlgorithmOID

from pellucid.crypto.certificates import (
    PARSE_ERRORS,
    EndEntity,
    X509Certificate,
    parse_certificate,
    parse_raw_public_key,
)
from pellucid.crypto.signatures import PrivateKey, PrivateKeySigner, signing_schemes
from pellucid.errors import PeerError, UsageError
from pellucid.limits import MAX_RSA_BITS, MIN_RSA_BITS
from pellucid.registry import CertificateType, certificate_type_name
from pellucid.registry import SignatureScheme as S

_SIGNATURES: Final = {
    "1.2.840.113549.1.1.5": frozenset({S.RSA_PKCS1_SHA1}),
    "1.2.840.113549.1.1.11": frozenset({S.RSA_PKCS1_SHA256}),
    "1.2.840.113549.1.1.12": frozenset({S.RSA_PKCS1_SHA384}),
    "1.2.840.113549.1.1.13": frozenset({S.RSA_PKCS1_SHA512}),
    "1.2.840.10045.4.1": frozenset({S.ECDSA_SHA1}),
    "1.2.840.10045.4.3.2": frozenset({S.ECDSA_SECP256R1_SHA256}),
    "1.2.840.10045.4.3.3": frozenset({S.ECDSA_SECP384R1_SHA384}),
    "1.2.840.10045.4.3.4": frozenset({S.ECDSA_SECP521R1_SHA512}),
    "1.3.101.112": frozenset({S.ED25519}),
    "1.3.101.113": frozenset({S.ED448}),
    "2.16.840.1.101.3.4.3.17": frozenset({S.MLDSA44}),
    "2.16.840.1.101.3.4.3.18": frozenset({S.MLDSA65}),
    "2.16.840.1.101.3.4.3.19": frozenset({S.MLDSA87}),
}
"""A certificate's signature algorithm → the schemes that a peer would accept it under."""
SHA_1: Final = frozenset({S.RSA_PKCS1_SHA1, S.ECDSA_SHA1})
_PSS_SIGNATURES: Final = {
    "sha256": frozenset({S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_PSS_SHA256}),
    "sha384": frozenset({S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_PSS_SHA384}),
    "sha512": frozenset({S.RSA_PSS_RSAE_SHA512, S.RSA_PSS_PSS_SHA512}),
}


def certificates_from_pem(pem: bytes) -> tuple[bytes, ...]:
    """Return the DER of every certificate in *pem*, in order. Raises UsageError if there is none."""
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise UsageError(f"no certificate can be read from the PEM text: {error}") from error
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


def private_key_from_pem(pem: bytes, password: bytes | None = None) -> PrivateKey:
    """Return the private key in *pem* (PKCS#8, PKCS#1, SEC 1). Raises UsageError."""
    try:
        return _usable(load_pem_private_key(pem, password))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"the private key cannot be read: {error}") from error


def private_key_from_der(der: bytes, password: bytes | None = None) -> PrivateKey:
    """Return the private key in *der*. Raises UsageError."""
    try:
        return _usable(load_der_private_key(der, password))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"the private key cannot be read: {error}") from error


def private_key_of(data: bytes, password: bytes | None = None) -> PrivateKey:
    """Return the private key in *data*, PEM or DER. Raises UsageError."""
    return (private_key_from_pem if b"-----BEGIN " in data else private_key_from_der)(data, password)


def spki_of(key: PrivateKey) -> bytes:
    """Return the SubjectPublicKeyInfo, in DER, of the private *key*."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_in(leaf: EndEntity) -> bytes:
    """Return the SubjectPublicKeyInfo, in DER, of *leaf*, as it stands there."""
    return leaf.der if not isinstance(leaf, X509Certificate) else leaf.subject_public_key_info


def _usable(key: object) -> PrivateKey:
    if not isinstance(key, PrivateKey):
        raise UsageError(f"a {type(key).__name__} cannot sign TLS 1.3 handshakes")
    return key


def from_pkcs12(data: bytes, password: bytes | None) -> tuple[tuple[bytes, ...], PrivateKey]:
    """Return chain (DER, leaf first) and private key of a PKCS#12 file's bytes. Raises UsageError."""
    try:
        bundle = pkcs12.load_pkcs12(data, password)
    except ValueError as error:
        raise UsageError(f"the PKCS#12 data cannot be read: {error}") from error
    if bundle.cert is None or bundle.key is None:
        raise UsageError("the PKCS#12 data holds no certificate with a private key")
    chain = (bundle.cert, *bundle.additional_certs)
    return tuple(item.certificate.public_bytes(Encoding.DER) for item in chain), _usable(bundle.key)


def parse_own_certificate(der: bytes) -> X509Certificate:
    """Return our own certificate parsed. Raises UsageError: it is the caller's fault if it is not one."""
    try:
        return parse_certificate(der)
    except PeerError as error:
        raise UsageError(f"our own certificate cannot be used: {error.reason}") from error


def parse_own(chain: Sequence[bytes], certificate_type: int) -> EndEntity:
    """Return what stands first in our own *chain*, parsed. Raises UsageError."""
    if certificate_type == CertificateType.X509:
        return parse_own_certificate(chain[0])
    if certificate_type != CertificateType.RAW_PUBLIC_KEY:
        raise UsageError(f"a credential is an X.509 chain or a raw public key, not of type {certificate_type}")
    if len(chain) != 1:
        raise UsageError("a raw public key stands alone: a chain of one SubjectPublicKeyInfo (RFC 7250 §3)")
    try:
        return parse_raw_public_key(chain[0])
    except PeerError as error:
        raise UsageError(f"our own raw public key cannot be used: {error.reason}") from error


def check_certificate_types(name: str, types: Sequence[int], takes: object = None) -> None:
    """Raise UsageError unless *types* names types of RFC 7250 that are known here, each once.

    takes: those that the verifier ever accepts, if it says so; *types* may name no other.
    """
    if not types or len(set(types)) != len(types) or not set(types) <= _TYPES:
        raise UsageError(f"{name} has CertificateType.X509, RAW_PUBLIC_KEY or both, each once")
    if isinstance(takes, tuple) and (refused := [code for code in types if code not in takes]):
        raise UsageError(
            f"{name} has {certificate_type_name(refused[0])}, which the verifier never accepts: "
            "verify.either() has one verifier for each type"
        )


def check_stapled(ocsp_response: object, scts: Sequence[bytes]) -> None:
    """Raise UsageError for an OCSP response or SCTs that cannot be sent (RFC 6066 §8, RFC 6962 §3.3)."""
    if isinstance(ocsp_response, bytes) and not 1 <= len(ocsp_response) < 2**24:
        raise UsageError(f"an OCSP response has 1 to 2^24-1 bytes, not {len(ocsp_response)}")
    if not all(1 <= len(sct) < 2**16 for sct in scts) or sum(len(sct) + 2 for sct in scts) >= 2**16:
        raise UsageError("SCTs have 1 to 2^16-1 bytes each, and no more in all")


def signer_for(leaf: EndEntity, key: PrivateKey) -> PrivateKeySigner:
    """Return the signer of *key* for *leaf*. Raises UsageError if they are no pair, or of a size no peer accepts."""
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    # An RSA key under an RSASSA-PSS certificate is written with another OID: its numbers are compared.
    if isinstance(key, rsa.RSAPrivateKey) and isinstance(leaf.public_key, rsa.RSAPublicKey):
        same = key.public_key().public_numbers() == leaf.public_key.public_numbers()
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise UsageError(f"an RSA key of {key.key_size} bits; allowed are {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    else:
        same = key.public_key().public_bytes(*spki) == leaf.public_key.public_bytes(*spki)
    if not same:
        raise UsageError("the private key does not belong to the certificate")
    schemes = signing_schemes(leaf)
    if not schemes:
        raise UsageError(f"no TLS 1.3 signature scheme fits a certificate with a key of {leaf.key_algorithm}")
    return PrivateKeySigner(key, schemes)


_TYPES: Final = frozenset({CertificateType.X509, CertificateType.RAW_PUBLIC_KEY})


def issuer_names(chain: Sequence[bytes]) -> frozenset[bytes]:
    """Return the DER names of who issued the chain's certificates."""
    return frozenset(parse_own_certificate(der).x509.issuer.public_bytes() for der in chain)


def chain_schemes(chain: Sequence[bytes]) -> tuple[frozenset[int], ...]:
    """Return for each certificate that is not self-signed the schemes that stand for its signature (RFC 9846 §4.3.3).

    ECDSA's stand for a hash: the curve is that of a key that need not be at hand. Empty for one that has no scheme.
    """
    certificates = [parse_own_certificate(der).x509 for der in chain]
    return tuple(_signed_with(one) for one in certificates if one.subject != one.issuer)


def _signed_with(certificate: x509.Certificate) -> frozenset[int]:
    oid = certificate.signature_algorithm_oid
    if oid == SignatureAlgorithmOID.RSASSA_PSS:
        algorithm = certificate.signature_hash_algorithm
        return _PSS_SIGNATURES.get("" if algorithm is None else algorithm.name, frozenset())
    return _SIGNATURES.get(oid.dotted_string, frozenset())


def allows_signatures(leaf: EndEntity) -> bool:
    """Return whether the certificate's key usage, if it has one, has digitalSignature (RFC 9846 §4.5.1.2)."""
    if not isinstance(leaf, X509Certificate):
        return True
    try:
        usage = leaf.x509.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, *PARSE_ERRORS):
        return True
    return usage.digital_signature


def extension_value(leaf: EndEntity, oid: str) -> bytes | None:
    """Return the DER value of the certificate's extension with the dotted *oid*; None if it has none."""
    if not isinstance(leaf, X509Certificate):
        return None
    try:
        return leaf.x509.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid)).value.public_bytes()
    except (x509.ExtensionNotFound, *PARSE_ERRORS):
        return None


def certificate_names(leaf: EndEntity) -> tuple[str, ...]:
    """Return the names that the certificate is for: DNS names in lower case, then addresses (its subjectAltName)."""
    if not isinstance(leaf, X509Certificate):
        return ()
    try:
        names = leaf.x509.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    dns: Sequence[str] = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    single = (a for a in addresses if isinstance(a, (ipaddress.IPv4Address, ipaddress.IPv6Address)))
    return (*(name.lower() for name in dns), *(str(address) for address in single))
