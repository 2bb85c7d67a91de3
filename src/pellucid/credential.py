"""Who one is, and who asks: credentials, and what their choice may go by. Frozen values; no file is opened here."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from pellucid.crypto import credentials as own
from pellucid.crypto.certificates import EndEntity
from pellucid.crypto.provider import Signer
from pellucid.errors import UsageError
from pellucid.limits import MAX_CERTIFICATES
from pellucid.messages.extensions import OIDFilter
from pellucid.messages.handshake import ClientHello, handshake_message
from pellucid.messages.ja4 import ja4
from pellucid.registry import CertificateType, ExtensionType
from pellucid.value import quickly_made

ONLY_X509: Final = (CertificateType.X509,)


def check_codes(name: str, codes: tuple[int, ...]) -> None:
    if not codes or len(set(codes)) != len(codes) or not all(0 <= code < 2**16 for code in codes):
        raise UsageError(f"{name} is empty, or names something twice or out of 0..65535")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate chain, or a raw public key, and the way to its private key.

    chain:  DER, end-entity first; 1..10 certificates, or one SubjectPublicKeyInfo.
    signer: signs CertificateVerify; a private key in memory, or anything with `schemes` and `sign`.
    certificate_type: what the chain is of: CertificateType.X509, or RAW_PUBLIC_KEY (RFC 7250).
    names:  what the leaf is for (its subjectAltName): how a server picks one by SNI. A raw public key has none, and
            will do for any.
    signature_schemes: which of the signer's schemes are used, preferred first; those that it does not have are passed
            over. None: all, in the signer's order.
    must_match_issuer: whether it is shown only to peers that name one of its issuers in certificate_authorities.
    ocsp_response: DER of the leaf's OCSPResponse, sent with it to peers that ask (RFC 9846 §4.5.1.1); or a function
            that gives the present one, or None, at every handshake, and does not block: `net.load.ocsp_file`.
    scts:   SerializedSCTs for the leaf, sent to peers that ask (RFC 6962 §3.3).
    """

    chain: tuple[bytes, ...] = field(repr=False)
    signer: Signer = field(repr=False)
    signature_schemes: tuple[int, ...] | None = field(default=None, repr=False)
    must_match_issuer: bool = field(default=False, repr=False)
    ocsp_response: bytes | Callable[[], bytes | None] | None = field(default=None, repr=False)
    scts: tuple[bytes, ...] = field(default=(), repr=False)
    certificate_type: int = field(default=CertificateType.X509, repr=False)
    leaf: EndEntity = field(init=False, repr=False, compare=False)
    names: tuple[str, ...] = field(init=False)
    issuers: frozenset[bytes] = field(init=False, repr=False, compare=False)
    """DER names of the issuers in the chain, for certificate_authorities"""
    chain_schemes: tuple[frozenset[int], ...] = field(init=False, repr=False, compare=False)
    """the schemes that each certificate but a self-signed one may be said to be signed with (RFC 9846 §4.5.1.2)"""
    sha1_schemes: frozenset[int] = field(init=False, repr=False, compare=False)
    """those of them that use SHA-1"""
    may_sign: bool = field(init=False, repr=False, compare=False)
    """whether the leaf's key usage, if it has one, allows digitalSignature"""

    def __post_init__(self) -> None:
        if not self.chain:
            raise UsageError("a credential needs at least one certificate")
        if len(self.chain) > MAX_CERTIFICATES:
            raise UsageError(f"a chain of {len(self.chain)} certificates; peers look at {MAX_CERTIFICATES}")
        own.check_stapled(self.ocsp_response, self.scts)
        leaf = own.parse_own(self.chain, self.certificate_type)
        certificates = self.chain
        if self.certificate_type != CertificateType.X509:
            certificates = ()
            if self.must_match_issuer or self.ocsp_response is not None or self.scts:
                raise UsageError("a raw public key has no issuer, no OCSP response and no SCTs")
        object.__setattr__(self, "leaf", leaf)
        object.__setattr__(self, "names", own.certificate_names(leaf))
        object.__setattr__(self, "issuers", own.issuer_names(certificates))
        schemes = own.chain_schemes(certificates)
        object.__setattr__(self, "chain_schemes", schemes)
        object.__setattr__(self, "sha1_schemes", own.SHA_1.intersection(frozenset().union(*schemes)))
        object.__setattr__(self, "may_sign", own.allows_signatures(leaf))
        if self.signature_schemes is not None:
            check_codes("signature_schemes", self.signature_schemes)

    @property
    def schemes(self) -> tuple[int, ...]:
        """What it can sign with, preferred first."""
        if self.signature_schemes is None:
            return self.signer.schemes
        return tuple(code for code in self.signature_schemes if code in self.signer.schemes)

    def extension(self, oid: str) -> bytes | None:
        """Return the value, in DER, of the leaf's extension with this OID in dotted form; None if it has none."""
        return own.extension_value(self.leaf, oid)

    @classmethod
    def from_pem(
        cls, certificates: bytes, private_key: bytes | None = None, password: bytes | None = None
    ) -> Credential:
        """Return the credential in PEM text: the chain, and the key (in the same text where *private_key* is None)."""
        chain = own.certificates_from_pem(certificates)
        key = own.private_key_from_pem(certificates if private_key is None else private_key, password)
        return cls(chain=chain, signer=own.signer_for(own.parse_own_certificate(chain[0]), key))

    @classmethod
    def from_der(cls, chain: Iterable[bytes], private_key: bytes, password: bytes | None = None) -> Credential:
        """Return the credential of DER certificates, end-entity first, and a DER private key."""
        chain = tuple(chain)
        if not chain:
            raise UsageError("a credential needs at least one certificate")
        key = own.private_key_from_der(private_key, password)
        return cls(chain=chain, signer=own.signer_for(own.parse_own_certificate(chain[0]), key))

    @classmethod
    def from_pkcs12(cls, data: bytes, password: bytes | None = None) -> Credential:
        """Return the credential in PKCS#12 data."""
        chain, key = own.from_pkcs12(data, password)
        return cls(chain=chain, signer=own.signer_for(own.parse_own_certificate(chain[0]), key))

    @classmethod
    def raw_public_key(cls, private_key: bytes, password: bytes | None = None) -> Credential:
        """Return the credential that shows the public half of *private_key*, PEM or DER, and no certificate (RFC 7250).

        For a key that is not in memory: Credential(chain=(spki,), signer=…, certificate_type=…).
        """
        key = own.private_key_of(private_key, password)
        spki = own.spki_of(key)
        raw = CertificateType.RAW_PUBLIC_KEY
        return cls(chain=(spki,), signer=own.signer_for(own.parse_own((spki,), raw), key), certificate_type=raw)

    def as_raw_public_key(self) -> Credential:
        """Return the credential that shows the same key without its certificate (RFC 7250)."""
        spki = own.spki_in(self.leaf)
        raw = CertificateType.RAW_PUBLIC_KEY
        return Credential(
            chain=(spki,), signer=self.signer, signature_schemes=self.signature_schemes, certificate_type=raw
        )


class ClientAuthentication(enum.Enum):
    """Whether a server asks for a client certificate. OPTIONAL: none is fine, a bad one is not (RFC 9846 §4.5.1.3)."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHelloInfo:
    """What a server's credential resolver may go by; everything in it is the client's claim.

    certificate_signature_schemes: signature_algorithms_cert; None if absent: then *signature_schemes* holds for
                                   certificates too (RFC 9846 §4.3.3).
    authorities:                   DER names in certificate_authorities, () if the client named none.
    certificate_types:             of those that are known here, what the client can verify (RFC 7250).
    supported_versions:            0x0304 among them.   key_shares: the groups that there is a share for.
    hello:                         the ClientHello, whole, as it was sent: the first one, where this connection sent a
                                   HelloRetryRequest. None in a value that was made by hand.
    peer_address:                  whence it came, where that is known; "" where it is not.
    """

    server_name: str | None
    alpn: tuple[bytes, ...]
    cipher_suites: tuple[int, ...]
    groups: tuple[int, ...]
    signature_schemes: tuple[int, ...]
    certificate_signature_schemes: tuple[int, ...] | None = None
    authorities: tuple[bytes, ...] = ()
    certificate_types: tuple[int, ...] = ONLY_X509
    supported_versions: tuple[int, ...] = ()
    key_shares: tuple[int, ...] = ()
    hello: ClientHello | None = field(default=None, repr=False)
    peer_address: str = ""

    @property
    def ja4(self) -> str:
        """The JA4 fingerprint, "t13d1516h2_8daaf6152771_e5627efa2ab1"; "" without *hello*. Computed when asked for.

        The cookie of a second ClientHello, which is no choice of the client's, does not count.
        """
        if self.hello is None:
            return ""
        sent = tuple(one for one in self.hello.extensions if one.extension_type != ExtensionType.COOKIE)
        return ja4(replace(self.hello, extensions=sent)).fingerprint

    @property
    def extensions(self) -> tuple[int, ...]:
        """The types of the ClientHello's extensions, in the order sent; () without *hello*."""
        return () if self.hello is None else tuple(one.extension_type for one in self.hello.extensions)

    @property
    def raw(self) -> bytes:
        """The ClientHello message as it was sent, header included; b"" without *hello*."""
        return b"" if self.hello is None else handshake_message(self.hello)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequestInfo:
    """What a client's credential resolver may go by; the fields are those of `ClientHelloInfo`.

    certificate_types: the one that the server chose.
    oid_filters: extensions that the certificate must have (RFC 9846 §4.3.5), as far as they are understood.
    post_handshake: whether the server asks after the handshake (§4.7.2).
    """

    signature_schemes: tuple[int, ...]
    authorities: tuple[bytes, ...]
    certificate_signature_schemes: tuple[int, ...] | None = None
    oid_filters: tuple[OIDFilter, ...] = ()
    certificate_types: tuple[int, ...] = ONLY_X509
    post_handshake: bool = False
