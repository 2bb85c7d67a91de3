"""Certificates with their private keys, from memory: PEM, DER and PKCS#12. No file is opened here."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

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

from pellucid.crypto.certificates import X509Certificate, parse_certificate
from pellucid.crypto.signatures import PrivateKey, PrivateKeySigner, signing_schemes
from pellucid.errors import PeerError, UsageError
from pellucid.limits import MAX_RSA_BITS, MIN_RSA_BITS


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


def check_stapled(ocsp_response: object, scts: Sequence[bytes]) -> None:
    """Raise UsageError for an OCSP response or SCTs that cannot be sent (RFC 6066 §8, RFC 6962 §3.3)."""
    if isinstance(ocsp_response, bytes) and not 1 <= len(ocsp_response) < 2**24:
        raise UsageError(f"an OCSP response has 1 to 2^24-1 bytes, not {len(ocsp_response)}")
    if not all(1 <= len(sct) < 2**16 for sct in scts) or sum(len(sct) + 2 for sct in scts) >= 2**16:
        raise UsageError("SCTs have 1 to 2^16-1 bytes each, and no more in all")


def signer_for(leaf: X509Certificate, key: PrivateKey) -> PrivateKeySigner:
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


def issuer_names(chain: Sequence[bytes]) -> frozenset[bytes]:
    """Return the DER names of who issued the chain's certificates."""
    return frozenset(parse_own_certificate(der).x509.issuer.public_bytes() for der in chain)


def certificate_names(leaf: X509Certificate) -> tuple[str, ...]:
    """Return the names that the certificate is for: DNS names in lower case, then addresses (its subjectAltName)."""
    try:
        names = leaf.x509.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    dns: Sequence[str] = names.get_values_for_type(x509.DNSName)
    addresses = names.get_values_for_type(x509.IPAddress)
    single = (a for a in addresses if isinstance(a, (ipaddress.IPv4Address, ipaddress.IPv6Address)))
    return (*(name.lower() for name in dns), *(str(address) for address in single))
