"""What a server keeps of a connection so that the next one is shorter (RFC 9846 §4.7.1): what a ticket stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pellucid.errors import DecodeError, UsageError
from pellucid.limits import AUTHENTICATION_LIFETIME_SECONDS, CLOCK_STEP_SECONDS
from pellucid.sessions import stored
from pellucid.value import quickly_made
from pellucid.wire import WireStruct, fixed, opaque, u8, u16, u32, wire, wire_struct

_VERSION: Final = 2
_MAX_INDEX: Final = 255
_NO_TYPE: Final = 255


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSession:
    """What a ticket stands for. It is good only where all that it is bound to is the same (attack E7).

    psk:              Hash.length bytes of cipher_suite.
    issued_at, authenticated_at: seconds since 1970. The second is of the handshake that the session began with and is
                      carried from ticket to ticket (attack E25).
    lifetime_seconds: 1..604,800.   age_add: uint32, fresh for each ticket.
    binding:          32-byte digest of the whole client-authentication configuration.
    max_early_data_size: bytes of 0-RTT data; 0: none.
    server_certificate_type: CertificateType of what the server showed (RFC 7250); None: an external PSK was used.
    client_chain:     the client's verified path, DER, or one SubjectPublicKeyInfo; () if it showed no certificate.
    client_presented: its certificates as they came.
    raises:           UsageError for a value out of its range.
    """

    cipher_suite: int
    psk: bytes = field(repr=False)
    issued_at: float
    lifetime_seconds: int
    age_add: int = field(repr=False)
    authenticated_at: float
    server_name: str | None
    alpn: str | None
    binding: bytes = field(repr=False)
    max_early_data_size: int = 0
    server_certificate_type: int | None = None
    client_chain: tuple[bytes, ...] = field(default=(), repr=False)
    client_certificate_type: int = 0
    client_signature_scheme: int | None = None
    client_presented: tuple[bytes, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if len(self.binding) != 32:
            raise UsageError(f"a binding is a digest of 32 bytes, not {len(self.binding)}")
        stored.require_values(
            psk=self.psk,
            lifetime_seconds=self.lifetime_seconds,
            age_add=self.age_add,
            max_early_data_size=self.max_early_data_size,
        )

    @property
    def expires_at(self) -> float:
        """Seconds since 1970: the end of the ticket, or of the first handshake's authentication if that is first."""
        return min(self.issued_at + self.lifetime_seconds, self.authenticated_at + AUTHENTICATION_LIFETIME_SECONDS)

    def usable_at(self, now: float) -> bool:
        """Whether the session may be resumed: neither expired nor issued in the future (two servers' clocks differ)."""
        return self.issued_at - CLOCK_STEP_SECONDS <= now < self.expires_at

    def encode(self) -> bytes:
        """Return the session as bytes: secret, since the PSK is in them. A certificate named twice is kept once."""
        unique = tuple(dict.fromkeys((*self.client_presented, *self.client_chain)))
        if len(unique) > _MAX_INDEX:
            raise UsageError(f"a session keeps at most {_MAX_INDEX} certificates, not {len(unique)}")
        return _StoredSession(
            version=_VERSION,
            cipher_suite=self.cipher_suite,
            psk=self.psk,
            issued_at=self.issued_at,
            lifetime_seconds=self.lifetime_seconds,
            age_add=self.age_add,
            authenticated_at=self.authenticated_at,
            server_name=self.server_name,
            alpn=self.alpn,
            binding=self.binding,
            max_early_data_size=self.max_early_data_size,
            server_certificate_type=_NO_TYPE if self.server_certificate_type is None else self.server_certificate_type,
            client_certificate_type=self.client_certificate_type,
            client_signature_scheme=self.client_signature_scheme or 0,
            certificates=unique,
            chain=bytes(map(unique.index, self.client_chain)),
            presented=bytes(map(unique.index, self.client_presented)),
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> ServerSession:
        """Return the session that `encode` wrote. Raises DecodeError."""
        stored.require_version(data, _VERSION, "ServerSession")
        kept = _StoredSession.decode(data)
        try:
            return cls(
                cipher_suite=kept.cipher_suite,
                psk=kept.psk,
                issued_at=kept.issued_at,
                lifetime_seconds=kept.lifetime_seconds,
                age_add=kept.age_add,
                authenticated_at=kept.authenticated_at,
                server_name=kept.server_name,
                alpn=kept.alpn,
                binding=kept.binding,
                max_early_data_size=kept.max_early_data_size,
                server_certificate_type=None
                if kept.server_certificate_type == _NO_TYPE
                else kept.server_certificate_type,
                client_chain=tuple(kept.certificates[i] for i in kept.chain),
                client_certificate_type=kept.client_certificate_type,
                client_signature_scheme=kept.client_signature_scheme or None,
                client_presented=tuple(kept.certificates[i] for i in kept.presented),
            )
        except UsageError as error:
            raise DecodeError(f"ServerSession: {error.reason}") from None
        except IndexError:
            raise DecodeError("ServerSession: it names a certificate that it does not keep") from None


@wire_struct
class _StoredSession(WireStruct):
    """chain, presented: positions in certificates. client_signature_scheme: 0 for none; server's type: 255."""

    version: int = wire(u8)
    cipher_suite: int = wire(u16)
    psk: bytes = wire(stored.psk)
    issued_at: float = wire(stored.timestamp)
    lifetime_seconds: int = wire(u32)
    age_add: int = wire(u32)
    authenticated_at: float = wire(stored.timestamp)
    server_name: str | None = wire(stored.name)
    alpn: str | None = wire(stored.name)
    binding: bytes = wire(fixed(32))
    max_early_data_size: int = wire(u32)
    server_certificate_type: int = wire(u8)
    client_certificate_type: int = wire(u8)
    client_signature_scheme: int = wire(u16)
    certificates: tuple[bytes, ...] = wire(stored.certificates)
    chain: bytes = wire(opaque(0, _MAX_INDEX))
    presented: bytes = wire(opaque(0, _MAX_INDEX))

    def __repr__(self) -> str:
        return "_StoredSession(<hidden>)"
