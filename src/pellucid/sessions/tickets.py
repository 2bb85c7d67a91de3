"""How a server makes tickets and knows them again: sealed under a ring of keys, or kept in memory (RFC 9846 §4.7.1)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Final, Protocol

from pellucid.crypto.provider import CryptoProvider, Pending
from pellucid.crypto.pyca import PYCA
from pellucid.errors import DecodeError, InternalError, UsageError
from pellucid.limits import (
    MAX_ISSUED_TICKET,
    MAX_SERVER_SESSIONS,
    MAX_TICKET_KEYS,
    TICKET_KEY_KEEP_SECONDS,
    TICKET_KEY_ROTATION_SECONDS,
)
from pellucid.sessions import stored
from pellucid.sessions.server import ServerSession
from pellucid.sessions.shared import Shared
from pellucid.wire import WireStruct, fixed, u8, vector, wire, wire_struct

__all__ = ["MemoryServerSessions", "ServerSession", "ServerSessions", "TicketKeys"]

_IDENTIFIER_LENGTH: Final = 32

# A sealed ticket. Random nonces of 96 bits last for 2^32 tickets a key (NIST SP 800-38D §8.3): 100,000 a second.
_NAME_LENGTH: Final = 16
_NONCE_LENGTH: Final = 12
_HEAD_LENGTH: Final = _NAME_LENGTH + _NONCE_LENGTH
_OVERHEAD: Final = _HEAD_LENGTH + 16
_KEY_LENGTH: Final = 32
_EXPORT_VERSION: Final = 1


class ServerSessions(Protocol):
    """How a server makes tickets and knows them again. Called by any number of connections and threads."""

    @property
    def single_use(self) -> bool:
        """Whether a ticket is redeemed at most once: then 0-RTT cannot be replayed either (RFC 9846 §8.1)."""
        ...

    def issue(self, session: ServerSession, now: float) -> bytes:
        """Return the ticket for *session*, 1..2^16-1 bytes. Raises UsageError if it would be too large to be useful:
        then the caller sends none."""
        ...

    def redeem(self, ticket: bytes, now: float) -> ServerSession | Pending | Awaitable[ServerSession | None] | None:
        """Return what *ticket* stands for; None: unknown, corrupt or expired, and the handshake is a full one without
        a word (attack E24); PENDING, or an
        awaitable: it is looked up elsewhere, and the connection pauses."""
        ...


class TicketKeys(Shared):
    """Stateless tickets: a session sealed with AES-256-GCM under a key of this ring, which rotates by itself.

    A ticket is 16 bytes of key name, 12 of random nonce, and the sealed session with the name as associated data. Keys
    are random from the start (attack E6), seal for *rotate_seconds*, open for *keep_seconds* more, and are then
    forgotten: what was sent under them stays secret if the ring is stolen later. A ring belongs to one server; one that
    is shared on purpose makes sessions portable between servers, whose `binding` then tells them apart (attacks E7,
    I20).

    Processes that share a ring: one exports (`export_keys`), the others import, before *rotate_seconds* have passed.
    One that is not told in time goes on with a key of its own, and strangers' tickets cost a full handshake. One that
    makes no tickets itself, and only hands the keys on, calls `advance` now and then.

    max_keys: how many keys are kept, the newest; `rotate()` more often than that forgets the oldest early.
    raises:   UsageError for settings that cannot be; InternalError if the provider's entropy is none.
    """

    __slots__ = ("_aeads", "_lock", "_provider", "_ring", "keep_seconds", "max_keys", "rotate_seconds")

    single_use: Final = False

    def __init__(
        self,
        provider: CryptoProvider = PYCA,
        *,
        rotate_seconds: float = TICKET_KEY_ROTATION_SECONDS,
        keep_seconds: float = TICKET_KEY_KEEP_SECONDS,
        max_keys: int = MAX_TICKET_KEYS,
    ) -> None:
        self._prepare(provider, rotate_seconds, keep_seconds, max_keys)
        self._set_ring([self._new_key(provider.now())])

    @classmethod
    def from_keys(
        cls,
        keys: bytes,
        provider: CryptoProvider = PYCA,
        *,
        rotate_seconds: float = TICKET_KEY_ROTATION_SECONDS,
        keep_seconds: float = TICKET_KEY_KEEP_SECONDS,
        max_keys: int = MAX_TICKET_KEYS,
    ) -> TicketKeys:
        """Return a ring of exactly the keys that `export_keys` wrote. Raises UsageError if *keys* is not that."""
        ring = cls.__new__(cls)
        ring._prepare(provider, rotate_seconds, keep_seconds, max_keys)
        ring._set_ring(_read_keys(keys)[:max_keys])
        return ring

    def _prepare(self, provider: CryptoProvider, rotate_seconds: float, keep_seconds: float, max_keys: int) -> None:
        if not rotate_seconds > 0 or not keep_seconds >= 0 or max_keys < 1:
            raise UsageError("ticket keys rotate after more than 0 seconds, and there is at least one of them")
        self._provider = provider
        self.rotate_seconds = rotate_seconds
        self.keep_seconds = keep_seconds
        self.max_keys = max_keys
        self._lock = threading.Lock()

    # ---- tickets ----

    def issue(self, session: ServerSession, now: float) -> bytes:
        """Return the ticket for *session*. Raises UsageError if it would have more than MAX_ISSUED_TICKET bytes."""
        inner = session.encode()
        if _OVERHEAD + len(inner) > MAX_ISSUED_TICKET:
            raise UsageError(f"the client's certificates make a ticket of {_OVERHEAD + len(inner)} bytes: too large")
        with self._lock:
            self._advance(now)
            name = self._ring[0].name
            aead = self._aeads[name]
        nonce = self._provider.random(_NONCE_LENGTH)
        return name + nonce + aead.encrypt(nonce, inner, name)

    def redeem(self, ticket: bytes, now: float) -> ServerSession | None:
        """Return what *ticket* stands for, None if it is none of ours, damaged or expired."""
        if not _OVERHEAD < len(ticket) <= MAX_ISSUED_TICKET:
            return None
        name, nonce, sealed = ticket[:_NAME_LENGTH], ticket[_NAME_LENGTH:_HEAD_LENGTH], ticket[_HEAD_LENGTH:]
        with self._lock:
            self._advance(now)
            aead = self._aeads.get(name)
        if aead is None:
            return None
        try:
            session = ServerSession.decode(aead.decrypt(nonce, sealed, name))
        except (self._provider.tag_error, DecodeError):
            return None
        return session if session.usable_at(now) else None

    # ---- keys ----

    def rotate(self, now: float | None = None) -> None:
        """Seal with a new key from here on. now: seconds since 1970; None: the provider's."""
        with self._lock:
            self._rotate(self._provider.now() if now is None else now)

    def advance(self, now: float | None = None) -> None:
        """Rotate if it is time, and forget what is too old; `issue` and `redeem` do so themselves. now: as `rotate`."""
        with self._lock:
            self._advance(self._provider.now() if now is None else now)

    def export_keys(self) -> bytes:
        """Return the whole ring. It is secret: whoever has it reads every ticket and whatever was sent in 0-RTT."""
        with self._lock:
            return _ExportedKeys(version=_EXPORT_VERSION, keys=tuple(self._ring)).encode()

    def import_keys(self, keys: bytes) -> None:
        """Seal with the newest key of *keys* (from `export_keys`) from here on; what the ring had still opens tickets.

        Raises UsageError if *keys* is not such an export; then nothing has changed.
        """
        imported = _read_keys(keys)
        names = {key.name for key in imported}
        now = self._provider.now()
        with self._lock:
            own = [_retired(key, self._retirement(key, now)) for key in self._ring if key.name not in names]
            kept = [key for key in imported + own if not self._is_forgotten(key, now)]
            self._set_ring(kept[: self.max_keys])

    def _advance(self, now: float) -> None:
        """Rotate if it is time; forget what is too old. Call with the lock."""
        # A key that is that far in the future was made under another clock: it would be in use for too long.
        if abs(now - self._ring[0].created_at) >= self.rotate_seconds:
            self._rotate(now)
        elif any(self._is_forgotten(key, now) for key in self._ring):
            self._set_ring([key for key in self._ring if not self._is_forgotten(key, now)])

    def _rotate(self, now: float) -> None:
        newest = self._ring[0]
        ring = [self._new_key(now), _retired(newest, self._retirement(newest, now)), *self._ring[1:]]
        self._set_ring([key for key in ring if not self._is_forgotten(key, now)][: self.max_keys])

    def _retirement(self, key: _TicketKey, now: float) -> float:
        """Return when *key* stopped sealing, or should have: a server that slept through it does not keep it longer."""
        return key.retired_at or min(now, key.created_at + self.rotate_seconds)

    def _is_forgotten(self, key: _TicketKey, now: float) -> bool:
        return bool(key.retired_at) and now >= key.retired_at + self.keep_seconds

    def _new_key(self, now: float) -> _TicketKey:
        key = _TicketKey(
            name=self._provider.random(_NAME_LENGTH),
            secret=self._provider.random(_KEY_LENGTH),
            created_at=now,
            retired_at=0.0,
        )
        if len(key.name) != _NAME_LENGTH or _is_weak(key.secret):
            raise InternalError("the provider's random bytes are not random: no ticket key is made of them")
        return key

    def _set_ring(self, ring: list[_TicketKey]) -> None:
        self._ring = ring
        self._aeads = {key.name: self._provider.cookie_aead(key.secret) for key in ring}

    def __repr__(self) -> str:
        return f"TicketKeys(<{len(self._ring)} keys hidden>)"


@wire_struct
class _TicketKey(WireStruct):
    """retired_at: since when it only opens; 0 while it seals. Times in seconds since 1970."""

    name: bytes = wire(fixed(_NAME_LENGTH))
    secret: bytes = wire(fixed(_KEY_LENGTH))
    created_at: float = wire(stored.timestamp)
    retired_at: float = wire(stored.timestamp)

    def __repr__(self) -> str:
        return "_TicketKey(<hidden>)"


@wire_struct
class _ExportedKeys(WireStruct):
    """The key that seals comes first."""

    version: int = wire(u8)
    keys: tuple[_TicketKey, ...] = wire(vector(_TicketKey.codec, 1, 2**16 - 1))

    def __repr__(self) -> str:
        return "_ExportedKeys(<hidden>)"


def _read_keys(data: bytes) -> list[_TicketKey]:
    """Return the keys in an export, the one that seals first. Raises UsageError, also for keys that are no secret."""
    try:
        stored.require_version(data, _EXPORT_VERSION, "ticket keys")
        keys = list(_ExportedKeys.decode(data).keys)
    except DecodeError as error:
        raise UsageError(f"not an export of ticket keys: {error.reason}") from None
    if any(_is_weak(key.secret) for key in keys):
        raise UsageError("a ticket key is 32 random bytes; one of these is not")
    if len({key.name for key in keys}) != len(keys):
        raise UsageError("two ticket keys have the same name")
    if keys[0].retired_at or not all(key.retired_at for key in keys[1:]):
        raise UsageError("of exported ticket keys the first is in use, and no other")
    return keys


def _retired(key: _TicketKey, retired_at: float) -> _TicketKey:
    return _TicketKey(name=key.name, secret=key.secret, created_at=key.created_at, retired_at=retired_at)


def _is_weak(secret: bytes) -> bool:
    """Whether *secret* is short, constant or padded: 32 random bytes hold fewer than 12 different ones once in 2^80."""
    return len(secret) != _KEY_LENGTH or len(set(secret)) < 12


class MemoryServerSessions(Shared):
    """Sessions in the server's memory, found by 32 random bytes: the *capacity* used last.

    With *single_use* a session is gone when its ticket is shown, before the binder is checked: whoever copies a
    ticket off the wire can spend it (a full handshake follows), and cannot resume.
    """

    __slots__ = ("_lock", "_random", "_sessions", "capacity", "single_use")

    def __init__(
        self, provider: CryptoProvider = PYCA, capacity: int = MAX_SERVER_SESSIONS, *, single_use: bool = True
    ) -> None:
        if capacity < 1:
            raise UsageError("a session store keeps at least one session")
        self.capacity = capacity
        self.single_use = single_use
        self._random = provider.random
        self._lock = threading.Lock()
        self._sessions: OrderedDict[bytes, ServerSession] = OrderedDict()

    def issue(self, session: ServerSession, now: float) -> bytes:
        identifier = self._random(_IDENTIFIER_LENGTH)
        with self._lock:
            self._sessions[identifier] = session
            while len(self._sessions) > self.capacity:
                self._sessions.popitem(last=False)
        return identifier

    def redeem(self, ticket: bytes, now: float) -> ServerSession | None:
        if len(ticket) != _IDENTIFIER_LENGTH:
            return None
        with self._lock:
            session = self._sessions.pop(ticket, None)
            if session is None or not session.usable_at(now):
                return None
            if not self.single_use:
                self._sessions[ticket] = session
            return session

    def __len__(self) -> int:
        with self._lock:
            return len(self._sessions)

    def __bool__(self) -> bool:
        return True  # an empty store is a store

    def __repr__(self) -> str:
        return f"MemoryServerSessions({len(self)} of {self.capacity} sessions, single_use={self.single_use})"
