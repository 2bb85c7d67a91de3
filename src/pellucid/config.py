"""What the user wants: frozen values. No file is opened here, nothing is negotiated.

What is offered is what the provider holds and the configuration names; the order is the preference.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from pellucid.crypto import credentials as own
from pellucid.crypto.certificates import X509Certificate
from pellucid.crypto.compression import ZLIB, CertificateCompression
from pellucid.crypto.provider import CryptoProvider, Group, Pending, Signer, Suite, Verifier
from pellucid.crypto.pyca import PYCA
from pellucid.errors import UsageError
from pellucid.limits import COOKIE_LIFETIME_SECONDS, MAX_CERTIFICATES, MAX_PLAINTEXT
from pellucid.registry import CipherSuite as CS
from pellucid.registry import NamedGroup as G
from pellucid.registry import group_name, scheme_name, suite_name
from pellucid.trace import Observer
from pellucid.verify.request import PeerVerifier
from pellucid.verify.trust import TrustStore
from pellucid.verify.webpki import WebPKIVerifier

DEFAULT_SUITES: Final = (
    CS.TLS_AES_128_GCM_SHA256,
    CS.TLS_AES_256_GCM_SHA384,
    CS.TLS_CHACHA20_POLY1305_SHA256,
)
DEFAULT_GROUPS: Final = tuple(group.code for group in PYCA.groups)
DEFAULT_KEY_SHARES: Final = (G.X25519MLKEM768, G.X25519)
DEFAULT_SCHEMES: Final = tuple(verifier.code for verifier in PYCA.verifiers)

PaddingPolicy = Callable[[int, int], int]
"""(content type, content length) → zero bytes to append to the record, 0..2^14 - length (RFC 9846 §5.4)."""


def pad_to_multiple(multiple: int) -> PaddingPolicy:
    """Return the policy that pads every record's content to a multiple of *multiple* bytes, 1..2^14."""
    if not 1 <= multiple <= MAX_PLAINTEXT:
        raise UsageError(f"records are padded to a multiple of 1 to {MAX_PLAINTEXT} bytes, not {multiple}")

    def policy(content_type: int, length: int) -> int:
        return min(-length % multiple, MAX_PLAINTEXT - length)

    return policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate chain and the way to its private key.

    chain:  DER, end-entity first; 1..10 certificates.
    signer: signs CertificateVerify; a private key in memory, or anything with `schemes` and `sign`.
    names:  what the leaf is for (its subjectAltName): how a server picks one by SNI.
    ocsp_response: DER of the leaf's OCSPResponse, sent with it to peers that ask (RFC 9846 §4.5.1.1); or a function
            that gives the present one, or None, at every handshake, and does not block: `net.load.ocsp_file`.
    scts:   SerializedSCTs for the leaf, sent to peers that ask (RFC 6962 §3.3).
    """

    chain: tuple[bytes, ...] = field(repr=False)
    signer: Signer = field(repr=False)
    ocsp_response: bytes | Callable[[], bytes | None] | None = field(default=None, repr=False)
    scts: tuple[bytes, ...] = field(default=(), repr=False)
    leaf: X509Certificate = field(init=False, repr=False, compare=False)
    names: tuple[str, ...] = field(init=False)
    issuers: frozenset[bytes] = field(init=False, repr=False, compare=False)
    """DER names of the issuers in the chain, for certificate_authorities"""

    def __post_init__(self) -> None:
        if not self.chain:
            raise UsageError("a credential needs at least one certificate")
        if len(self.chain) > MAX_CERTIFICATES:
            raise UsageError(f"a chain of {len(self.chain)} certificates; peers look at {MAX_CERTIFICATES}")
        own.check_stapled(self.ocsp_response, self.scts)
        leaf = own.parse_own_certificate(self.chain[0])
        object.__setattr__(self, "leaf", leaf)
        object.__setattr__(self, "names", own.certificate_names(leaf))
        object.__setattr__(self, "issuers", own.issuer_names(self.chain))

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


class ClientAuthentication(enum.Enum):
    """Whether a server asks for a client certificate. OPTIONAL: none is fine, a bad one is not (RFC 9846 §4.5.1.3)."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHelloInfo:
    """What a server's credential resolver may go by; everything in it is the client's claim."""

    server_name: str | None
    alpn: tuple[bytes, ...]
    cipher_suites: tuple[int, ...]
    groups: tuple[int, ...]
    signature_schemes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequestInfo:
    """What a client's credential resolver may go by. authorities: DER names, () if the server named none."""

    signature_schemes: tuple[int, ...]
    authorities: tuple[bytes, ...]


N = TypeVar("N", Suite, Group, Verifier)


def _pick(kind: str, available: tuple[N, ...], wanted: tuple[int, ...], name: Callable[[int], str]) -> dict[int, N]:
    """Return the provider's items by code, in the order wanted. Raises UsageError for one it does not have."""
    by_code = {item.code: item for item in available}
    if missing := [name(code) for code in wanted if code not in by_code]:
        raise UsageError(f"the provider has no {kind} {', '.join(missing)}")
    if not wanted or len(set(wanted)) != len(wanted):
        raise UsageError(f"the list of {kind}s is empty or names one twice")
    return {code: by_code[code] for code in wanted}


def _compressions(algorithms: tuple[CertificateCompression, ...]) -> dict[int, CertificateCompression]:
    by_code = {algorithm.code: algorithm for algorithm in algorithms}
    if len(by_code) != len(algorithms) or len(by_code) > 127 or not all(0 <= code < 2**16 for code in by_code):
        raise UsageError("certificate compression takes up to 127 algorithms of different code points, 0..65535")
    return by_code


def _alpn(names: tuple[str, ...]) -> tuple[bytes, ...]:
    encoded = tuple(name.encode("utf-8") for name in names)
    if not all(1 <= len(name) <= 255 for name in encoded):
        raise UsageError("an ALPN protocol name has 1 to 255 bytes")
    return encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class _Config:
    """What both ends have in common.

    suites, groups, signature_schemes: code points, preferred first.
    alpn:    protocol names, preferred first, e.g. ("h2", "http/1.1").
    certificate_compression: algorithms of RFC 8879, preferred first; () for none. Ours are compressed with the first
             that the peer accepts, if that makes them smaller; what the peer may use: `ClientConfig`, `ServerConfig`.
    padding: None, `pad_to_multiple(n)` or any PaddingPolicy.
    trace:   called for each connection that is given no observer of its own; may return None.
    trace_records: whether RecordTraced is emitted too.
    """

    suites: tuple[int, ...] = DEFAULT_SUITES
    groups: tuple[int, ...] = DEFAULT_GROUPS
    signature_schemes: tuple[int, ...] = DEFAULT_SCHEMES
    alpn: tuple[str, ...] = ()
    certificate_compression: tuple[CertificateCompression, ...] = (ZLIB,)
    credentials: tuple[Credential, ...] = ()
    verifier: PeerVerifier | None = None
    middlebox_compatibility: bool = True
    padding: PaddingPolicy | None = None
    provider: CryptoProvider = field(default=PYCA, repr=False)
    trace: Callable[[], Observer | None] | None = field(default=None, repr=False)
    trace_records: bool = False

    suite_table: dict[int, Suite] = field(init=False, repr=False, compare=False)
    group_table: dict[int, Group] = field(init=False, repr=False, compare=False)
    verifier_table: dict[int, Verifier] = field(init=False, repr=False, compare=False)
    alpn_names: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    compression_table: dict[int, CertificateCompression] = field(init=False, repr=False, compare=False)
    decompression_table: dict[int, CertificateCompression] = field(init=False, repr=False, compare=False)
    """what the peer is told that it may use"""

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "suite_table", _pick("cipher suite", self.provider.suites, self.suites, suite_name))
        set_field(self, "group_table", _pick("group", self.provider.groups, self.groups, group_name))
        schemes = _pick("signature scheme", self.provider.verifiers, self.signature_schemes, scheme_name)
        set_field(self, "verifier_table", schemes)
        set_field(self, "alpn_names", _alpn(self.alpn))
        set_field(self, "compression_table", _compressions(self.certificate_compression))
        set_field(self, "decompression_table", self.compression_table)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig(_Config):
    """How a client behaves. One value serves any number of connections.

    trust:       whom to believe; None: the system's roots, which `pellucid.connect` loads (the core opens no file).
    verifier:    instead of the WebPKI verifier over *trust*. There is no flag that turns verification off.
    certificate_compression: is offered to the server too.
    request_ocsp, request_scts: whether the server is asked to staple an OCSP response and SCTs to its leaf.
    key_shares:  groups to send shares for at once; None: X25519MLKEM768 and x25519 as far as they are in *groups*.
    credentials: client certificates to choose from when the server asks.
    credential_resolver: chooses one by itself; may answer PENDING, or None for "no certificate".
    send_server_name:    SNI (RFC 6066 §3). Never sent for an address.
    grease, permute_extensions: RFC 8701's reserved values, and a new order of extensions on every connection.
    """

    trust: TrustStore | None = None
    request_ocsp: bool = True
    request_scts: bool = True
    key_shares: tuple[int, ...] | None = None
    credential_resolver: Callable[[CertificateRequestInfo], Credential | Pending | None] | None = None
    send_server_name: bool = True
    grease: bool = True
    permute_extensions: bool = True

    peer_verifier: PeerVerifier | None = field(init=False, repr=False, compare=False)
    initial_shares: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _Config.__post_init__(self)
        verifier = self.verifier
        if verifier is None and self.trust is not None:
            verifier = WebPKIVerifier(self.trust)
        object.__setattr__(self, "peer_verifier", verifier)
        shares = self.key_shares
        if shares is None:
            shares = tuple(code for code in DEFAULT_KEY_SHARES if code in self.group_table) or self.groups[:1]
        if not set(shares) <= set(self.groups) or len(set(shares)) != len(shares):
            raise UsageError("key_shares names a group that is not in groups, or one twice")
        ordered = tuple(code for code in self.groups if code in shares)  # §4.3.8: in the order of supported_groups
        object.__setattr__(self, "initial_shares", ordered)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(_Config):
    """How a server behaves. One value serves any number of connections.

    credentials: chosen by SNI, then by what the client can verify; the first is the default.
    credential_resolver: chooses one by itself; may answer PENDING; None falls back to *credentials*.
    strict_server_name:  refuse a client whose SNI no credential is for (unrecognized_name).
    client_authentication, client_trust: whether to ask for a certificate, and whom to believe.
    request_ocsp, request_scts: whether clients are asked to staple an OCSP response and SCTs to their leaf.
    client_certificate_compression: what clients may compress their certificates with. Off by default: to decompress
                         is work that is done for somebody who has not yet shown who it is.
    cookie_key:          32 secret bytes, shared by servers that answer each other's retries: HelloRetryRequests carry
                         an authenticated cookie, and a fresh Connection can go on where another sent one.
    always_retry:        demand the cookie from every client (reachability, §4.3.2). Needs cookie_key.
    """

    client_authentication: ClientAuthentication = ClientAuthentication.NONE
    client_trust: TrustStore | None = None
    credential_resolver: Callable[[ClientHelloInfo], Credential | Pending | None] | None = None
    strict_server_name: bool = False
    request_ocsp: bool = False
    request_scts: bool = False
    client_certificate_compression: tuple[CertificateCompression, ...] = ()
    cookie_key: bytes | None = field(default=None, repr=False)
    cookie_lifetime_seconds: float = COOKIE_LIFETIME_SECONDS
    always_retry: bool = False

    peer_verifier: PeerVerifier | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _Config.__post_init__(self)
        if not self.credentials and self.credential_resolver is None:
            raise UsageError("a server needs a credential, or a resolver of credentials")
        verifier = self.verifier
        if verifier is None and self.client_trust is not None:
            verifier = WebPKIVerifier(self.client_trust)
        if verifier is None and self.client_authentication is not ClientAuthentication.NONE:
            raise UsageError("client authentication needs client_trust, or a verifier")
        if self.cookie_key is not None and len(self.cookie_key) != 32:
            raise UsageError("cookie_key has 32 bytes")
        if self.always_retry and self.cookie_key is None:
            raise UsageError("always_retry needs cookie_key")
        object.__setattr__(self, "peer_verifier", verifier)
        object.__setattr__(self, "decompression_table", _compressions(self.client_certificate_compression))
