"""What the user wants: frozen values. No file is opened here, nothing is negotiated.

What is offered is what the provider holds and the configuration names; the order is the preference.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from pellucid.credential import ONLY_X509, check_codes
from pellucid.credential import CertificateRequestInfo as CertificateRequestInfo
from pellucid.credential import ClientAuthentication as ClientAuthentication
from pellucid.credential import ClientHelloInfo as ClientHelloInfo
from pellucid.credential import Credential as Credential
from pellucid.crypto import credentials as own
from pellucid.crypto.compression import ZLIB, CertificateCompression
from pellucid.crypto.provider import CryptoProvider, Group, Pending, Suite, Verifier
from pellucid.crypto.pyca import PYCA
from pellucid.errors import UsageError
from pellucid.limits import (
    COOKIE_LIFETIME_SECONDS,
    MAX_CERTIFICATE_AUTHORITIES,
    MAX_EARLY_DATA,
    MAX_INNER_PLAINTEXT,
    MAX_PLAINTEXT,
    MAX_TICKET_LIFETIME_SECONDS,
    MAX_TICKETS_PER_HANDSHAKE,
    MIN_RECORD_SIZE_LIMIT,
    TICKET_LIFETIME_SECONDS,
    TICKETS_ON_RESUMPTION,
    TICKETS_PER_HANDSHAKE,
    VERDICT_CACHE_SECONDS,
)
from pellucid.registry import CipherSuite as CS
from pellucid.registry import NamedGroup as G
from pellucid.registry import PskKeyExchangeMode, group_name, scheme_name, suite_name
from pellucid.schedule import HASH_LENGTHS, KEY_LENGTHS
from pellucid.sessions.client import ClientSessionStore, MemorySessionStore
from pellucid.sessions.early_data import ReplayGuard, StrikeRegister
from pellucid.sessions.psk import ExternalPsk, Psk
from pellucid.sessions.tickets import ServerSessions, TicketKeys
from pellucid.trace import Observer, Role
from pellucid.verify.combine import all_of, check_requirements, refuse_what_is_no_verifier
from pellucid.verify.request import PeerVerifier, Requirement
from pellucid.verify.revocation import DEFAULT_REVOCATION, RevocationPolicy
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


A = TypeVar("A")
CredentialResolver = Callable[[A], Credential | Pending | Awaitable[Credential | None] | None]
"""What the peer asked for → the credential to show it: at once, later (PENDING), or as something to await."""

PaddingPolicy = Callable[[int, int], int]
"""(content type, content length) → zero bytes to append to the record, 0..2^14 - length (RFC 9846 §5.4)."""


def pad_to_multiple(multiple: int) -> PaddingPolicy:
    """Return the policy that pads every record's content to a multiple of *multiple* bytes, 1..2^14."""
    if not 1 <= multiple <= MAX_PLAINTEXT:
        raise UsageError(f"records are padded to a multiple of 1 to {MAX_PLAINTEXT} bytes, not {multiple}")

    def policy(content_type: int, length: int) -> int:
        return min(-length % multiple, MAX_PLAINTEXT - length)

    return policy


N = TypeVar("N", Suite, Group, Verifier)


def _pick(kind: str, available: tuple[N, ...], wanted: tuple[int, ...], name: Callable[[int], str]) -> dict[int, N]:
    """Return the provider's items by code, in the order wanted. Raises UsageError for one it does not have."""
    by_code = {item.code: item for item in available}
    if missing := [name(code) for code in wanted if code not in by_code]:
        raise UsageError(f"the provider has no {kind} {', '.join(missing)}")
    if not wanted or len(set(wanted)) != len(wanted):
        raise UsageError(f"the list of {kind}s is empty or names one twice")
    return {code: by_code[code] for code in wanted}


def _check_authorities(names: tuple[bytes, ...]) -> None:
    if not all(1 <= len(name) < 2**16 for name in names):
        raise UsageError("a name in certificate_authorities is empty or too long")
    if (size := sum(map(len, names))) > MAX_CERTIFICATE_AUTHORITIES:
        raise UsageError(f"certificate_authorities of {size} bytes; peers take {MAX_CERTIFICATE_AUTHORITIES}")


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


def narrowed(config: ClientConfig | ServerConfig) -> tuple[str, ...]:
    """Return what *config* offers less of than is usual: some of "groups", "suites", "schemes"."""
    usual = {
        "groups": (DEFAULT_GROUPS, config.groups),
        "suites": (DEFAULT_SUITES, config.suites),
        "schemes": (DEFAULT_SCHEMES, config.signature_schemes),
    }
    return tuple(name for name, (default, here) in usual.items() if not set(default) <= set(here))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Config:
    """What both ends have in common.

    suites, groups: code points, preferred first.
    signature_schemes: what the peer may sign with, preferred first; what signs for us is for `Credential` to say.
    signature_algorithms_cert: what its certificates may be signed with, if that is something else (RFC 9846 §4.3.3).
    certificate_authorities: names in DER of whom the peer's certificate should be from (§4.3.4). None: a client names
             nobody, a server those of its verifier. `TrustStore.authorities` has a store's.
    alpn:    protocol names, preferred first, e.g. ("h2", "http/1.1").
    record_size_limit: 64..2^14+1, bytes of plaintext with content type and padding that a protected record to us may
              have (RFC 8449). A client with None does not offer it; a server with None answers a client's offer with
              2^14+1, so that the client's limit is obeyed.
    certificate_compression: algorithms of RFC 8879, preferred first; () for none. Ours are compressed with the first
             that the peer accepts, if that makes them smaller; what the peer may use: `ClientConfig`, `ServerConfig`.
    padding: None, `pad_to_multiple(n)` or any PaddingPolicy.
    psk_modes:     key exchange modes for PSKs, preferred first. Alone, PSK_KE has no forward secrecy (§4.3.9).
    external_psks: keys agreed on elsewhere (RFC 9258); each says which end this is.
    reverify_on_resumption: whether the verifier judges a session's certificates again whenever it is resumed.
    requirements: what is demanded of a peer that the verifier has accepted, such as `verify.SpkiPins`: each may refuse
              it, and lets nobody in.
    revocation: what the WebPKI verifier asks about revocation; not for a verifier of one's own, which has its own ways.
    verdict_cache_seconds: how long the WebPKI verifier takes a chain again that it accepted, as it is and for the same
              name; `WebPKIVerifier` has the bounds. 0: it verifies every time. Not for a verifier of one's own either.
    provider: algorithms, entropy and time; PYCA is pyca/cryptography and the system's.
    trace:   called for each connection that is given no observer of its own; may return None.
    trace_records: whether RecordTraced is emitted too.
    """

    suites: tuple[int, ...] = DEFAULT_SUITES
    groups: tuple[int, ...] = DEFAULT_GROUPS
    signature_schemes: tuple[int, ...] = DEFAULT_SCHEMES
    signature_algorithms_cert: tuple[int, ...] | None = None
    certificate_authorities: tuple[bytes, ...] | None = field(default=None, repr=False)
    alpn: tuple[str, ...] = ()
    certificate_compression: tuple[CertificateCompression, ...] = (ZLIB,)
    credentials: tuple[Credential, ...] = ()
    verifier: PeerVerifier | None = None
    requirements: tuple[Requirement, ...] = ()
    revocation: RevocationPolicy = DEFAULT_REVOCATION
    verdict_cache_seconds: float = VERDICT_CACHE_SECONDS
    record_size_limit: int | None = None
    padding: PaddingPolicy | None = None
    psk_modes: tuple[int, ...] = (PskKeyExchangeMode.PSK_DHE_KE,)
    external_psks: tuple[ExternalPsk, ...] = ()
    reverify_on_resumption: bool = False
    provider: CryptoProvider = field(default=PYCA, repr=False)
    trace: Callable[[], Observer | None] | None = field(default=None, repr=False)
    trace_records: bool = False

    suite_table: dict[int, Suite] = field(init=False, repr=False, compare=False)
    group_table: dict[int, Group] = field(init=False, repr=False, compare=False)
    verifier_table: dict[int, Verifier] = field(init=False, repr=False, compare=False)
    signing_table: dict[int, Verifier] = field(init=False, repr=False, compare=False)
    """what may sign handshakes, whether it is accepted from the peer or not"""
    alpn_names: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    suites_by_hash: dict[str, Suite] = field(init=False, repr=False, compare=False)
    """the first suite with each hash, hashlib's name: what PSKs of that hash are computed with"""
    psks: tuple[Psk, ...] = field(init=False, repr=False, compare=False)
    """external_psks as they are offered: one for each hash that an imported one can be used with"""
    compression_table: dict[int, CertificateCompression] = field(init=False, repr=False, compare=False)
    decompression_table: dict[int, CertificateCompression] = field(init=False, repr=False, compare=False)
    """what the peer is told that it may use"""
    memo: dict[str, object] = field(init=False, repr=False, compare=False)
    """What handshakes find out of these values alone, kept for the next; whoever keeps something here bounds it.

    Threads share it: what is kept is set by single operations on a dict, and whoever loses a race finds the same."""

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "memo", {})
        set_field(self, "suite_table", _pick("cipher suite", self.provider.suites, self.suites, suite_name))
        set_field(self, "group_table", _pick("group", self.provider.groups, self.groups, group_name))
        schemes = _pick("signature scheme", self.provider.verifiers, self.signature_schemes, scheme_name)
        set_field(self, "verifier_table", schemes)
        signing = {verifier.code: verifier for verifier in self.provider.verifiers if verifier.handshake}
        set_field(self, "signing_table", signing)
        if self.signature_algorithms_cert is not None:
            check_codes("signature_algorithms_cert", self.signature_algorithms_cert)
        if self.certificate_authorities is not None:
            _check_authorities(self.certificate_authorities)
        set_field(self, "alpn_names", _alpn(self.alpn))
        set_field(self, "compression_table", _compressions(self.certificate_compression))
        set_field(self, "decompression_table", self.compression_table)
        limit = self.record_size_limit
        if limit is not None and not MIN_RECORD_SIZE_LIMIT <= limit <= MAX_INNER_PLAINTEXT:
            raise UsageError(f"record_size_limit is {MIN_RECORD_SIZE_LIMIT} to {MAX_INNER_PLAINTEXT}, not {limit}")
        if self.verifier is not None and self.revocation != DEFAULT_REVOCATION:
            raise UsageError(
                "a verifier was given: it asks about revocation itself, and a policy beside it asks nothing"
            )
        if self.verifier is not None and self.verdict_cache_seconds != VERDICT_CACHE_SECONDS:
            raise UsageError("a verifier was given: what it remembers, it is told itself (verdict_cache_seconds)")
        by_hash: dict[str, Suite] = {}
        for suite in self.suite_table.values():
            if suite.hash_length not in HASH_LENGTHS or suite.key_length not in KEY_LENGTHS:
                raise UsageError(f"{suite.name}: keys of {KEY_LENGTHS} bytes and hashes of {HASH_LENGTHS} are possible")
            by_hash.setdefault(suite.hash_name, suite)
        set_field(self, "suites_by_hash", by_hash)
        if not self.psk_modes or not set(self.psk_modes) <= {PskKeyExchangeMode.PSK_KE, PskKeyExchangeMode.PSK_DHE_KE}:
            raise UsageError("psk_modes has PSK_DHE_KE, PSK_KE or both")
        set_field(self, "psks", tuple(psk for external in self.external_psks for psk in external.psks(by_hash)))

    def _takes(self, request_ocsp: bool) -> tuple[object, ...]:
        """Return for `_identity` what decides beside the verifier whether a peer is who it says: its signatures,
        whether it is asked for a staple and judged again, and the keys that do without certificates. A session made
        by what was withdrawn since is none any more (attacks E7, E8)."""
        keys = tuple((one.identity, one.key, one.hash_name, one.context) for one in self.external_psks)
        judged = (request_ocsp, self.reverify_on_resumption)
        return (judged, self.signature_schemes, self.signature_algorithms_cert, keys)

    def _webpki(self, trust: TrustStore) -> WebPKIVerifier:
        return WebPKIVerifier(trust, revocation=self.revocation, verdict_cache_seconds=self.verdict_cache_seconds)

    def _with_requirements(self, verifier: PeerVerifier | None) -> PeerVerifier | None:
        check_requirements(self.requirements)
        if verifier is None:
            return None
        refuse_what_is_no_verifier(verifier)
        return all_of(verifier, *self.requirements) if self.requirements else verifier

    def _check_psk_roles(self, role: Role) -> None:
        for external in self.external_psks:
            if external.role is not role:
                raise UsageError(f"an external PSK of this end as {external.role.value} is in a {role.value}'s config")


def _identity(*parts: object) -> bytes | None:
    """Return 32 bytes that are the same for the same *parts*; None where one cannot be compared.

    A verifier or resolver of the user's own can be compared if it has `session_identity`: bytes that are the same in
    every process where it would answer the same.
    """
    encoded = _encoded_identity(parts)
    return None if encoded is None else hashlib.sha256(encoded).digest()


def _encoded_identity(part: object) -> bytes | None:
    if part is None or isinstance(part, bool | int | str):
        return repr(part).encode()
    if isinstance(part, bytes):
        return b"b" + part
    if isinstance(part, tuple):
        inner = [_encoded_identity(one) for one in part]
        if None in inner:
            return None
        return b"(" + b"".join(len(one or b"").to_bytes(4, "big") + (one or b"") for one in inner) + b")"
    identity: object = getattr(part, "session_identity", None)
    return identity if isinstance(identity, bytes) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig(_Config):
    """How a client behaves. One value serves any number of connections.

    trust:       whom to believe; None: the system's roots, which `pellucid.connect` loads (the core opens no file).
                 With external_psks and neither trust nor a verifier, a PSK is the only way for the server.
    verifier:    instead of the WebPKI verifier over *trust*; sessions need its `session_identity`. No flag turns
                 verification off.
    certificate_compression: is offered to the server too.
    request_ocsp, request_scts: whether the server is asked to staple an OCSP response and SCTs to its leaf.
    key_shares:  groups to send shares for at once; None: X25519MLKEM768 and x25519 as far as they are in *groups*.
    credentials: client certificates to choose from when the server asks.
    credential_resolver: chooses one by itself; None for "no certificate". May be an `async def`, or answer PENDING.
    server_certificate_types: what the server may show, preferred first (RFC 7250): CertificateType.X509,
                 RAW_PUBLIC_KEY or both. The verifier must be for them: `verify.RawPublicKeyVerifier`, `verify.either`.
    client_certificate_types: what can be shown to the server; None: the types of *credentials*, in their order. For
                 a resolver that has raw public keys.
    insist_on_credential: whether to give up, saying why, where the server asks for a certificate and none of those
                 there are can be used; otherwise none is sent, and the server decides (RFC 9846 §4.5.1.2).
    post_handshake_auth: whether the server may ask for a certificate after the handshake too (§4.7.2).
    send_server_name:    SNI (RFC 6066 §3). Never sent for an address.
    middlebox_compatibility: look like TLS 1.2 (RFC 9846 §E.4). A server does so for every client that does.
    sessions:    where tickets are kept for the next connection; shared by copies of this value. None: no resumption.
    early_data:  whether 0-RTT data may be sent where a session allows it. It can be replayed: see RFC 9846 §8.
    ticket_request: how many tickets to ask for after a full handshake and after a resumption (RFC 9149); None: any.
    grease, permute_extensions: RFC 8701's reserved values, and a new order of extensions on every connection.
    """

    trust: TrustStore | None = None
    request_ocsp: bool = True
    request_scts: bool = True
    key_shares: tuple[int, ...] | None = None
    credential_resolver: CredentialResolver[CertificateRequestInfo] | None = None
    server_certificate_types: tuple[int, ...] = ONLY_X509
    client_certificate_types: tuple[int, ...] | None = None
    insist_on_credential: bool = False
    post_handshake_auth: bool = False
    send_server_name: bool = True
    middlebox_compatibility: bool = True
    grease: bool = True
    permute_extensions: bool = True
    sessions: ClientSessionStore | None = field(default_factory=MemorySessionStore, repr=False, compare=False)
    early_data: bool = False
    ticket_request: tuple[int, int] | None = None

    session_scope: bytes = field(init=False, repr=False, compare=False)
    """what a session is bound to beside host and port: a digest of all that authenticates, 32 bytes"""
    session_store: ClientSessionStore | None = field(init=False, repr=False, compare=False)
    """*sessions*; None too where a verifier or resolver cannot be told from others, having no `session_identity`"""
    peer_verifier: PeerVerifier | None = field(init=False, repr=False, compare=False)
    initial_shares: tuple[int, ...] = field(init=False, repr=False, compare=False)
    shown_certificate_types: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """*client_certificate_types*, or those of *credentials*"""

    def __post_init__(self) -> None:
        _Config.__post_init__(self)
        verifier = self.verifier
        if verifier is None and self.trust is not None:
            verifier = self._webpki(self.trust)
        verifier = self._with_requirements(verifier)
        object.__setattr__(self, "peer_verifier", verifier)
        takes = getattr(verifier, "certificate_types", ONLY_X509 if verifier is None else None)
        own.check_certificate_types("server_certificate_types", self.server_certificate_types, takes)
        shown = self.client_certificate_types
        if shown is None:
            shown = tuple(dict.fromkeys(credential.certificate_type for credential in self.credentials)) or ONLY_X509
        own.check_certificate_types("client_certificate_types", shown)
        object.__setattr__(self, "shown_certificate_types", shown)
        shares = self.key_shares
        if shares is None:
            shares = tuple(code for code in DEFAULT_KEY_SHARES if code in self.group_table) or self.groups[:1]
        if not set(shares) <= set(self.groups) or len(set(shares)) != len(shares):
            raise UsageError("key_shares names a group that is not in groups, or one twice")
        ordered = tuple(code for code in self.groups if code in shares)  # §4.3.8: in the order of supported_groups
        object.__setattr__(self, "initial_shares", ordered)
        self._check_psk_roles(Role.CLIENT)
        if self.ticket_request is not None and not all(0 <= count <= 255 for count in self.ticket_request):
            raise UsageError("ticket_request has two numbers of 0 to 255")
        chains = tuple((credential.certificate_type, credential.chain) for credential in self.credentials)
        scope = _identity(
            self.send_server_name,
            self.alpn,
            verifier,
            (self.server_certificate_types, shown),
            chains,
            self.credential_resolver,
            self.post_handshake_auth,
            self._takes(self.request_ocsp),
        )
        object.__setattr__(self, "session_scope", scope or bytes(32))
        object.__setattr__(self, "session_store", None if scope is None else self.sessions)

    def with_sessions(self, sessions: ClientSessionStore) -> ClientConfig:
        """Return this configuration with another store, at a fraction of what `dataclasses.replace` takes.

        Where no sessions can be kept, having nothing to bind them to, or *sessions* was None, none are.
        """
        if self.session_store is None:
            return self
        changed = copy.copy(self)
        object.__setattr__(changed, "sessions", sessions)
        object.__setattr__(changed, "session_store", sessions)
        return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(_Config):
    """How a server behaves. One value serves any number of connections.

    credentials: chosen by SNI, then by what the client can verify; the first is the default.
    credential_resolver: chooses one by itself; None falls back to *credentials*. May be an `async def`, or answer
                         PENDING.
    strict_server_name:  refuse a client whose SNI no credential is for (unrecognized_name).
    client_authentication, client_trust: whether to ask for a certificate in the handshake, and whom to believe. With
                         NONE and a client_trust, `Connection.request_client_certificate` may ask after it.
    client_certificate_types: what clients may show, preferred first (RFC 7250); the first that a client has is asked
                         for. One that has none is refused, even where showing one is optional.
    request_ocsp, request_scts: whether clients are asked to staple an OCSP response and SCTs to their leaf.
    client_certificate_compression: what clients may compress their certificates with. Off by default: to decompress
                         is work that is done for somebody who has not yet shown who it is.
    cookie_key:          32 secret bytes, shared by servers that answer each other's retries: HelloRetryRequests carry
                         an authenticated cookie, and a fresh Connection can go on where another sent one.
    cookie_lifetime_seconds: how long after its making a cookie is taken.
    always_retry:        demand the cookie from every client (reachability, §4.3.2). Needs cookie_key.
    tickets, tickets_on_resumption: NewSessionTickets after a full handshake and after a resumption, 0..16; a client may
                         ask for fewer or more (RFC 9149). With none of either, sessions are not resumed.
    ticket_lifetime_seconds: 1..604800.
    sessions:            what a ticket stands for: TicketKeys (stateless) or a store. None: a key ring of this value's
                         own, random, so that a copy does not resume what the original issued.
    max_early_data:      bytes of 0-RTT data taken from a client, 0: none. It can be replayed (§8): what answers it must
                         be safe to ask twice, and servers with the same ticket keys must share replay_guard.
    replay_guard:        remembers what 0-RTT was accepted. None: a register of this value's own.
    """

    client_authentication: ClientAuthentication = ClientAuthentication.NONE
    client_trust: TrustStore | None = None
    client_certificate_types: tuple[int, ...] = ONLY_X509
    credential_resolver: CredentialResolver[ClientHelloInfo] | None = None
    strict_server_name: bool = False
    request_ocsp: bool = False
    request_scts: bool = False
    client_certificate_compression: tuple[CertificateCompression, ...] = ()
    cookie_key: bytes | None = field(default=None, repr=False)
    cookie_lifetime_seconds: float = COOKIE_LIFETIME_SECONDS
    always_retry: bool = False
    tickets: int = TICKETS_PER_HANDSHAKE
    tickets_on_resumption: int = TICKETS_ON_RESUMPTION
    ticket_lifetime_seconds: int = TICKET_LIFETIME_SECONDS
    sessions: ServerSessions | None = field(default=None, repr=False, compare=False)
    max_early_data: int = 0
    replay_guard: ReplayGuard | None = field(default=None, repr=False, compare=False)

    session_store: ServerSessions | None = field(init=False, repr=False, compare=False)
    early_data_guard: ReplayGuard | None = field(init=False, repr=False, compare=False)
    client_authentication_digest: bytes = field(init=False, repr=False, compare=False)
    """what a ticket is bound to (attack E7): mode, trust and all options of client authentication, 32 bytes"""
    post_handshake_digest: bytes | None = field(init=False, repr=False, compare=False)
    """the same for tickets of clients that showed a certificate after the handshake; None: they get no ticket then"""
    external_table: dict[bytes, Psk] = field(init=False, repr=False, compare=False)
    peer_verifier: PeerVerifier | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _Config.__post_init__(self)
        if isinstance(self.credentials, Credential):
            raise UsageError("credentials is a tuple, of one too: credentials=(credential,)")
        if not self.credentials and self.credential_resolver is None and not self.external_psks:
            raise UsageError("a server needs a credential, a resolver of credentials, or an external PSK")
        verifier = self.verifier
        if verifier is None and self.client_trust is not None:
            verifier = self._webpki(self.client_trust)
        verifier = self._with_requirements(verifier)
        if verifier is None and self.requirements:
            raise UsageError(
                "requirements are of clients that are believed: there is neither client_trust nor verifier"
            )
        if verifier is None and self.client_authentication is not ClientAuthentication.NONE:
            raise UsageError("client authentication needs client_trust, or a verifier")
        takes = getattr(verifier, "certificate_types", None)
        own.check_certificate_types("client_certificate_types", self.client_certificate_types, takes)
        if self.cookie_key is not None and len(self.cookie_key) != 32:
            raise UsageError("cookie_key has 32 bytes")
        if self.always_retry and self.cookie_key is None:
            raise UsageError("always_retry needs cookie_key")
        object.__setattr__(self, "peer_verifier", verifier)
        object.__setattr__(self, "decompression_table", _compressions(self.client_certificate_compression))
        self._check_psk_roles(Role.SERVER)
        object.__setattr__(self, "external_table", {psk.identity: psk for psk in self.psks})
        self._set_up_sessions()

    def _set_up_sessions(self) -> None:
        set_field = object.__setattr__
        counts = (self.tickets, self.tickets_on_resumption)
        if not all(0 <= count <= MAX_TICKETS_PER_HANDSHAKE for count in counts):
            raise UsageError(f"a server sends 0 to {MAX_TICKETS_PER_HANDSHAKE} tickets")
        if not 1 <= self.ticket_lifetime_seconds <= MAX_TICKET_LIFETIME_SECONDS:
            raise UsageError(f"ticket_lifetime_seconds is 1 to {MAX_TICKET_LIFETIME_SECONDS}")
        if not 0 <= self.max_early_data <= MAX_EARLY_DATA:
            raise UsageError(f"max_early_data is 0 to {MAX_EARLY_DATA}")
        mode, verifier = self.client_authentication.value, self.peer_verifier
        takes = (self._takes(self.request_ocsp), self.client_certificate_types)
        digest = _identity(mode, None if mode == "none" else (verifier, takes))
        set_field(self, "client_authentication_digest", digest or bytes(32))
        after = digest
        if mode == "none":  # where nobody is asked in the handshake, other tickets are not bound to the verifier
            after = None if verifier is None else _identity("post-handshake", verifier, takes)
        set_field(self, "post_handshake_digest", after)
        store = self.sessions
        if digest is None or not any(counts):
            store = None
        elif store is None:
            store = TicketKeys(self.provider)
        set_field(self, "session_store", store)
        guard = self.replay_guard
        if guard is None and self.max_early_data:
            guard = StrikeRegister(self.provider)
        set_field(self, "early_data_guard", guard if self.max_early_data else None)


class ConfigSource(Protocol):
    """Where a server's configuration is at hand that may change while it serves: `pellucid.ReloadingConfig`.

    Whatever takes a ServerConfig for its listener takes one of these too, and asks once for each connection.
    """

    @property
    def current(self) -> ServerConfig:
        """What new connections are made with. Neither blocks nor raises; called in any thread."""
        ...


def current_config(source: ServerConfig | ConfigSource) -> ServerConfig:
    """Return what a connection made now is made with. Raises UsageError if *source* is no source of a ServerConfig."""
    config = source if isinstance(source, ServerConfig) else getattr(source, "current", None)
    if not isinstance(config, ServerConfig):
        raise UsageError(f"a server takes a ServerConfig or a source of one, not {type(source).__name__}")
    return config


# help() shows what is inherited, but not what was written of it.
for _end in (ClientConfig, ServerConfig):
    if _end.__doc__ and _Config.__doc__:  # not with -OO
        _end.__doc__ = f"{inspect.cleandoc(_end.__doc__)}\n\n{inspect.cleandoc(_Config.__doc__)}\n"
