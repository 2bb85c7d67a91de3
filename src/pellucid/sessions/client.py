"""What a client keeps of a connection to shorten the next one (RFC 9846 §2.2, §4.7.1), and where it keeps it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Protocol

from pellucid.errors import DecodeError, UsageError
from pellucid.limits import (
    AUTHENTICATION_LIFETIME_SECONDS,
    CLOCK_STEP_SECONDS,
    MAX_SESSION_SERVERS,
    MAX_SESSIONS_PER_SERVER,
    MAX_TICKET,
)
from pellucid.sessions import stored
from pellucid.sessions.shared import Shared
from pellucid.value import quickly_made
from pellucid.wire import WireStruct, opaque, u8, u16, u32, wire, wire_struct

_VERSION: Final = 2
_MAX_HOST: Final = 1024  # characters: a name has 253, an address with its zone some 60


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSession:
    """A ticket, its PSK, and what was true of the connection that it came from.

    ticket:            1..2^16-1 bytes, opaque to us.   psk: Hash.length bytes of cipher_suite.
    received_at:       when NewSessionTicket came; authenticated_at: when the server last proved its key with
                       CertificateVerify, however many resumptions ago. Seconds since 1970.
    lifetime_seconds:  1..604,800; who makes the session clamps what the server said.
    age_add:           ticket_age_add, uint32.
    max_early_data_size: bytes of 0-RTT data that the ticket allows; 0: none.
    signature_scheme:  of the server's CertificateVerify in the full handshake.
    leaf:              DER, SubjectPublicKeyInfo where certificate_type is 2 (RFC 7250), b"" where an external PSK
                       authenticated.   intermediates: as presented.   path: the verified path, leaf first.
    local_certificates: the client's own chain as it was sent, of local_certificate_type.
    raises:            UsageError for a value out of its range.
    """

    ticket: bytes = field(repr=False)
    psk: bytes = field(repr=False)
    cipher_suite: int
    received_at: float
    lifetime_seconds: int
    age_add: int = field(repr=False)
    max_early_data_size: int
    alpn: str | None
    signature_scheme: int
    authenticated_at: float
    leaf: bytes = field(repr=False)
    intermediates: tuple[bytes, ...] = field(repr=False)
    path: tuple[bytes, ...] = field(repr=False)
    certificate_type: int = 0
    ocsp_response: bytes | None = field(default=None, repr=False)
    scts: tuple[bytes, ...] = field(default=(), repr=False)
    local_certificates: tuple[bytes, ...] = field(default=(), repr=False)
    local_certificate_type: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.ticket) <= MAX_TICKET:
            raise UsageError(f"a ticket has 1 to {MAX_TICKET} bytes, not {len(self.ticket)}")
        stored.require_values(
            psk=self.psk,
            lifetime_seconds=self.lifetime_seconds,
            age_add=self.age_add,
            max_early_data_size=self.max_early_data_size,
        )

    @property
    def expires_at(self) -> float:
        """Seconds since 1970: the end of the ticket, or of what the server's signature is good for if that is first."""
        return min(self.received_at + self.lifetime_seconds, self.authenticated_at + AUTHENTICATION_LIFETIME_SECONDS)

    def usable_at(self, now: float) -> bool:
        """Whether the session may be offered (RFC 9846 §4.3.11.1). Not if it came in the future: the clock is wrong."""
        return self.received_at - CLOCK_STEP_SECONDS <= now < self.expires_at

    def obfuscated_age(self, now: float) -> int:
        """Return PskIdentity.obfuscated_ticket_age at *now* (RFC 9846 §4.3.11.1): milliseconds, modulo 2^32."""
        return (max(0, round((now - self.received_at) * 1000)) + self.age_add) % 2**32

    def encode(self) -> bytes:
        """Return the session as bytes: secret, since the PSK is in them."""
        return _StoredSession(
            version=_VERSION,
            ticket=self.ticket,
            psk=self.psk,
            cipher_suite=self.cipher_suite,
            received_at=self.received_at,
            lifetime_seconds=self.lifetime_seconds,
            age_add=self.age_add,
            max_early_data_size=self.max_early_data_size,
            alpn=self.alpn,
            signature_scheme=self.signature_scheme,
            authenticated_at=self.authenticated_at,
            leaf=self.leaf,
            intermediates=self.intermediates,
            path=self.path,
            certificate_type=self.certificate_type,
            ocsp_response=self.ocsp_response or b"",
            scts=self.scts,
            local_certificates=self.local_certificates,
            local_certificate_type=self.local_certificate_type,
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> ClientSession:
        """Return the session that `encode` wrote. Raises DecodeError."""
        stored.require_version(data, _VERSION, "ClientSession")
        kept = _StoredSession.decode(data)
        try:
            return cls(
                ticket=kept.ticket,
                psk=kept.psk,
                cipher_suite=kept.cipher_suite,
                received_at=kept.received_at,
                lifetime_seconds=kept.lifetime_seconds,
                age_add=kept.age_add,
                max_early_data_size=kept.max_early_data_size,
                alpn=kept.alpn,
                signature_scheme=kept.signature_scheme,
                authenticated_at=kept.authenticated_at,
                leaf=kept.leaf,
                intermediates=kept.intermediates,
                path=kept.path,
                certificate_type=kept.certificate_type,
                ocsp_response=kept.ocsp_response or None,
                scts=kept.scts,
                local_certificates=kept.local_certificates,
                local_certificate_type=kept.local_certificate_type,
            )
        except UsageError as error:
            raise DecodeError(f"ClientSession: {error.reason}") from None


@wire_struct
class _StoredSession(WireStruct):
    version: int = wire(u8)
    ticket: bytes = wire(opaque(1, MAX_TICKET))
    psk: bytes = wire(stored.psk)
    cipher_suite: int = wire(u16)
    received_at: float = wire(stored.timestamp)
    lifetime_seconds: int = wire(u32)
    age_add: int = wire(u32)
    max_early_data_size: int = wire(u32)
    alpn: str | None = wire(stored.name)
    signature_scheme: int = wire(u16)
    authenticated_at: float = wire(stored.timestamp)
    leaf: bytes = wire(opaque(0, 2**24 - 1))
    intermediates: tuple[bytes, ...] = wire(stored.certificates)
    path: tuple[bytes, ...] = wire(stored.certificates)
    certificate_type: int = wire(u8)
    ocsp_response: bytes = wire(opaque(0, 2**24 - 1))
    scts: tuple[bytes, ...] = wire(stored.certificates)
    local_certificates: tuple[bytes, ...] = wire(stored.certificates)
    local_certificate_type: int = wire(u8)

    def __repr__(self) -> str:
        return "_StoredSession(<hidden>)"


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKey:
    """Everything that authenticated a session; a session is used for nothing else (attack E8).

    scope: 32-byte digest of the rest: SNI, ALPN list, trust, the client's credential, the verifier.
    """

    host: str
    port: int
    scope: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.scope) != 32:
            raise UsageError(f"a scope is a digest of 32 bytes, not {len(self.scope)}")
        if not 0 <= self.port <= 0xFFFF:
            raise UsageError(f"{self.port} is no port")
        if not self.host or not self.host.isprintable() or len(self.host) > _MAX_HOST:
            raise UsageError(f"{self.host[:80]!r} is no host")


class ClientSessionStore(Protocol):
    """Where a client keeps its sessions. Called by any number of connections, in any number of threads."""

    def put(self, key: SessionKey, session: ClientSession) -> None:
        """Keep *session*; what does not fit is forgotten, the longest unused first."""
        ...

    def take(self, key: SessionKey, now: float) -> ClientSession | None:
        """Remove and return the newest session usable at *now*, so that nobody else uses it (RFC 9846 §C.4)."""
        ...

    def discard(self, key: SessionKey) -> None:
        """Forget every session of *key*: resumption failed, or the connection ended with a fatal alert (§6.2)."""
        ...


class MemorySessionStore(Shared):
    """Sessions in memory: the newest *per_server* of each key, for the *servers* keys used last."""

    __slots__ = ("_lock", "_sessions", "per_server", "servers")

    def __init__(self, per_server: int = MAX_SESSIONS_PER_SERVER, servers: int = MAX_SESSION_SERVERS) -> None:
        if per_server < 1 or servers < 1:
            raise UsageError("a session store keeps at least one session of one server")
        self.per_server = per_server
        self.servers = servers
        self._lock = threading.Lock()
        self._sessions: OrderedDict[SessionKey, list[ClientSession]] = OrderedDict()

    def put(self, key: SessionKey, session: ClientSession) -> None:
        with self._lock:
            kept = self._sessions.setdefault(key, [])
            kept.append(session)
            del kept[: -self.per_server]
            self._sessions.move_to_end(key)
            while len(self._sessions) > self.servers:
                self._sessions.popitem(last=False)

    def take(self, key: SessionKey, now: float) -> ClientSession | None:
        with self._lock:
            usable = [session for session in self._sessions.pop(key, ()) if session.usable_at(now)]
            if not usable:
                return None
            newest = usable.pop()
            if usable:
                self._sessions[key] = usable
            return newest

    def discard(self, key: SessionKey) -> None:
        with self._lock:
            self._sessions.pop(key, None)

    def items(self) -> tuple[tuple[SessionKey, tuple[ClientSession, ...]], ...]:
        """Return what is kept, the longest unused server and the oldest session first: for stores that write it."""
        with self._lock:
            return tuple((key, tuple(sessions)) for key, sessions in self._sessions.items())

    def __len__(self) -> int:
        """The sessions kept, of all servers."""
        with self._lock:
            return sum(map(len, self._sessions.values()))

    def __bool__(self) -> bool:
        return True  # an empty store is a store: `store or default` means "none was given"

    def __repr__(self) -> str:
        with self._lock:
            sessions, servers = sum(map(len, self._sessions.values())), len(self._sessions)
        return f"MemorySessionStore({sessions} sessions of {servers} servers)"
