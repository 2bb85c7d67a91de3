"""What the stack asks of cryptography: Protocols, and the record that lists the implementations.

What is offered on the wire is what the provider holds; there is no second list. `dataclasses.replace(PYCA,
random=…)` makes a test deterministic. No implementation lives here.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pellucid.crypto.certificates import EndEntity, RawPublicKey, X509Certificate

Buffer = bytes | bytearray | memoryview


class AEAD(Protocol):
    """One direction's cipher under one key (RFC 5116). Nonces are 12 bytes; the tag stands at the end.

    decrypt and decrypt_into raise the provider's `tag_error` if the tag does not match; the *_into forms write to
    *buf*, which must have exactly the length of the result, and return that length.
    """

    def encrypt(self, nonce: bytes, data: Buffer, associated_data: Buffer, /) -> bytes: ...
    def decrypt(self, nonce: bytes, data: Buffer, associated_data: Buffer, /) -> bytes: ...
    def encrypt_into(
        self, nonce: bytes, data: Buffer, associated_data: Buffer, buf: bytearray | memoryview, /
    ) -> int: ...
    def decrypt_into(
        self, nonce: bytes, data: Buffer, associated_data: Buffer, buf: bytearray | memoryview, /
    ) -> int: ...


class Hash(Protocol):
    """A running hash, as hashlib's."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...
    def copy(self) -> Hash: ...


class NewHash(Protocol):
    """Starts a hash over *data*, as hashlib.sha256 does."""

    def __call__(self, data: bytes = b"", /) -> Hash: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Suite:
    """A cipher suite: AEAD and hash (RFC 9846 §B.4)."""

    code: int
    name: str
    hash_name: str
    """as hashlib spells it"""
    hash_length: int
    key_length: int
    tag_length: int
    aead: Callable[[bytes], AEAD]
    new_hash: NewHash
    rekey_after: int | None
    """records under one key before KeyUpdate; None where the sequence number ends first (§5.5)"""


class KeyExchange(Protocol):
    """The private half of one key share; used once (RFC 9846 §4.3.8: no reuse)."""

    @property
    def public(self) -> bytes: ...

    def finish(self, peer: bytes) -> bytes:
        """Return the shared secret for the peer's share. Raises IllegalParameter if it is not a valid one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """A key-exchange group, KEM-shaped: a hybrid is no special case (RFC 9846 §4.3.7).

    generate: make a fresh client share.   respond: (client's share) → (server's share, shared secret).
    client_length, server_length: exact size of a share.   post_quantum: whether it resists a quantum computer.
    """

    code: int
    name: str
    client_length: int
    server_length: int
    bits: int
    """classical strength"""
    post_quantum: bool
    generate: Callable[[], KeyExchange]
    respond: Callable[[bytes], tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verifier:
    """A signature scheme's check (RFC 9846 §4.3.3).

    accepts: whether a key (its kind, curve and SPKI algorithm OID) may be used with the scheme.
    computes: whether its size is one to compute with (attack D22); asked before `verify`.
    verify:  (key, signature, data) → whether the signature is right. Never raises for a bad one.
    """

    code: int
    name: str
    handshake: bool
    """False: the scheme may stand in certificates only"""
    accepts: Callable[[EndEntity], bool]
    computes: Callable[[EndEntity], bool]
    verify: Callable[[EndEntity, bytes, bytes], bool]


class Pending(enum.Enum):
    """The answer of a signer, resolver, verifier or store that needs the outside world: the connection pauses.

    What it needs is told by an event, and `Connection.resume` takes it. An awaitable pauses likewise, and the event has
    it: async drivers await it by themselves.
    """

    PENDING = "pending"


PENDING: Final = Pending.PENDING


class Signer(Protocol):
    """A private key, or the way to one (RFC 9846 §4.5.2). schemes: what it can sign with, preferred first."""

    @property
    def schemes(self) -> tuple[int, ...]: ...

    def sign(self, scheme: int, data: bytes) -> bytes | Pending | Awaitable[bytes]:
        """Return the signature over *data* (not a digest), PENDING, or an awaitable: the connection then pauses."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CryptoProvider:
    """Everything the stack takes from outside: algorithms in order of preference, entropy, and time.

    random: n → n unpredictable bytes.   now: seconds since 1970, UTC.
    """

    suites: tuple[Suite, ...]
    groups: tuple[Group, ...]
    verifiers: tuple[Verifier, ...]
    parse_certificate: Callable[[bytes], X509Certificate]
    """DER → parsed; raises BadCertificate or UnsupportedCertificate"""
    parse_raw_public_key: Callable[[bytes], RawPublicKey]
    """SubjectPublicKeyInfo → parsed; raises DecodeError or UnsupportedCertificate"""
    random: Callable[[int], bytes]
    now: Callable[[], float]
    tag_error: type[Exception]
    """what an AEAD raises when the tag does not match"""
    cookie_aead: Callable[[bytes], AEAD]
    """32-byte key → the AEAD that seals HelloRetryRequest cookies"""

    def __repr__(self) -> str:
        # It is the default of a parameter: what help() shows of a configuration would be some 200 lines of it.
        counts = f"{len(self.suites)} suites, {len(self.groups)} groups, {len(self.verifiers)} signature schemes"
        return f"<CryptoProvider: {counts}>"
