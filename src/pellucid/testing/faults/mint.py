"""The certificates that a faulty peer shows, and who vouches for them. Every server of faults has a CA of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pellucid.config import Credential
from pellucid.crypto.certificates import parse_certificate
from pellucid.crypto.signatures import VERIFIERS, PrivateKeySigner
from pellucid.testing.ca import CA, Issued

__all__ = ["ADDRESSES", "Mint", "Shown", "good", "shown"]

ADDRESSES = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Mint:
    """What certificates are made with: the CA that the victim trusts, the name that it asks for, and more names."""

    ca: CA
    host: str
    also: tuple[str, ...] = ADDRESSES

    @property
    def names(self) -> tuple[str, ...]:
        """What a good certificate is for."""
        return (self.host, *self.also)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a faulty peer shows.

    chain:      DER, leaf first, as it is sent.
    credential: an honest one with the leaf's key: it signs CertificateVerify.
    ca_pem:     whom the victim trusts.
    config:     what the victim's configuration needs beside that, where it depends on these certificates.
    crl:        a revocation list, DER; b"" for none.
    public_key_pem: the raw public key that the client knows the server by; b"" for none.
    client_pem: a certificate with its key for the client to show; b"" for none.
    key_pem:    the leaf's key; b"" where no certificate is shown.
    """

    chain: tuple[bytes, ...]
    credential: Credential = field(repr=False)
    ca_pem: bytes
    config: Mapping[str, Any] = field(default_factory=dict)  # Any: each field's own type
    crl: bytes = b""
    public_key_pem: bytes = b""
    client_pem: bytes = field(default=b"", repr=False)
    key_pem: bytes = field(default=b"", repr=False)


def good(mint: Mint) -> Shown:
    """Return a certificate that nothing is wrong with."""
    return shown(mint, mint.ca.issue(*mint.names))


def shown(
    mint: Mint,
    leaf: Issued,
    *,
    chain: Sequence[bytes | x509.Certificate] | None = None,
    staple: bytes | None = None,
    trusted: CA | None = None,
    config: Mapping[str, Any] | None = None,
    crl: bytes = b"",
) -> Shown:
    """Return what shows *leaf*.

    chain: what is sent; default: the leaf with its intermediates.   trusted: whom to trust instead of the mint's CA.
    """
    key = leaf.private_key
    honest = mint.ca.issue(mint.host, key=key)
    certificate = parse_certificate(honest.der)
    schemes = tuple(one.code for one in VERIFIERS if one.handshake and one.accepts(certificate))
    signer = PrivateKeySigner(key, schemes)  # type: ignore[arg-type]  # a key of a certificate that we made
    sent = leaf.chain_der if chain is None else tuple(map(_der, chain))
    return Shown(
        chain=sent,
        credential=Credential(chain=(honest.der,), signer=signer, ocsp_response=staple),
        ca_pem=(trusted or mint.ca).root_pem,
        config={} if config is None else config,
        crl=crl,
        key_pem=leaf.key_pem,
    )


def _der(certificate: bytes | x509.Certificate) -> bytes:
    return certificate if isinstance(certificate, bytes) else certificate.public_bytes(Encoding.DER)
