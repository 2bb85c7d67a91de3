"""What a connection takes from outside, and how to be asked for it: entropy, time, key exchanges, signatures, sessions.

A configuration is copied so that all of it goes through one function: it can be noted there, or given from notes.
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from pellucid.config import ClientConfig, ServerConfig
from pellucid.crypto.provider import CryptoProvider, Group, KeyExchange, Pending, Signer
from pellucid.errors import IllegalParameter, PeerError, UsageError
from pellucid.sessions.client import ClientSession, ClientSessionStore, SessionKey
from pellucid.sessions.early_data import ReplayGuard
from pellucid.sessions.server import ServerSession
from pellucid.sessions.tickets import ServerSessions

__all__ = ["Draw", "drawing_client", "drawing_server"]

Draw = Callable[[str, Callable[[], bytes]], bytes]
"""(what is drawn, how it is drawn afresh) → it"""


def drawing_client(config: ClientConfig, draw: Draw, *, fresh: bool) -> ClientConfig:
    """Return *config*, which takes all that comes from outside through *draw*. fresh: whether it is drawn afresh."""
    store = config.session_store
    sessions = None if store is None else _ClientSessions(store, draw, fresh=fresh)
    return replace(config, sessions=sessions, **_common(config, draw))


def drawing_server(config: ServerConfig, draw: Draw) -> ServerConfig:
    """The same of a server, whose tickets and 0-RTT records it takes in this way too."""
    changes = _common(config, draw)
    if config.session_store is not None:
        changes["sessions"] = _ServerSessions(config.session_store, draw)
    if config.early_data_guard is not None:
        changes["replay_guard"] = _Guard(config.early_data_guard, draw)
    return replace(config, **changes)


def _common(config: ClientConfig | ServerConfig, draw: Draw) -> dict[str, Any]:  # Any: each field has its own type
    provider = config.provider

    def now() -> float:
        value: float = struct.unpack(">d", draw("now", lambda: struct.pack(">d", provider.now())))[0]
        return value

    own: CryptoProvider = replace(
        provider,
        random=lambda size: draw("random", lambda: provider.random(size)),
        now=now,
        groups=tuple(_group(group, draw) for group in provider.groups),
    )
    signing = tuple(replace(one, signer=_Signer(one.signer, draw)) for one in config.credentials)
    return {"provider": own, "credentials": signing}


def _group(group: Group, draw: Draw) -> Group:
    def respond(peer: bytes) -> tuple[bytes, bytes]:
        made: list[bytes] = []

        def share() -> bytes:
            made.extend(group.respond(peer))
            return made[0]

        public = draw("public", share)
        return public, draw("shared_secret", lambda: made[1])

    return replace(group, generate=lambda: _Exchange(group, draw), respond=respond)


class _Exchange:
    def __init__(self, group: Group, draw: Draw) -> None:
        self._made: KeyExchange | None = None
        self._draw = draw

        def public() -> bytes:
            self._made = group.generate()
            return self._made.public

        self.public = draw("public", public)

    def finish(self, peer: bytes) -> bytes:
        """Return the shared secret. A share that was refused is recorded as none, and refused again."""
        refusal: list[PeerError] = []

        def secret() -> bytes:
            if self._made is None:
                raise UsageError("a replay has no private keys")
            try:
                return self._made.finish(peer)
            except PeerError as error:
                refusal.append(error)
                return b""

        value = self._draw("shared_secret", secret)
        if refusal:
            raise refusal[0]
        if not value:
            raise IllegalParameter("the peer's key share was refused when this was recorded", rfc="9846 §4.3.8.2")
        return value


class _Signer:
    def __init__(self, signer: Signer, draw: Draw) -> None:
        self._signer = signer
        self._draw = draw

    @property
    def schemes(self) -> tuple[int, ...]:
        return self._signer.schemes

    def sign(self, scheme: int, data: bytes) -> bytes:
        def signed() -> bytes:
            return _at_once(self._signer.sign(scheme, data))

        return self._draw("signature", signed)


class _ClientSessions:
    """A client's store. A replay leaves the true one alone."""

    def __init__(self, store: ClientSessionStore, draw: Draw, *, fresh: bool) -> None:
        self._store = store
        self._draw = draw
        self._fresh = fresh

    def put(self, key: SessionKey, session: ClientSession) -> None:
        if self._fresh:
            self._store.put(key, session)

    def take(self, key: SessionKey, now: float) -> ClientSession | None:
        def taken() -> bytes:
            session = self._store.take(key, now)
            return b"" if session is None else session.encode()

        kept = self._draw("session", taken)
        return ClientSession.decode(kept) if kept else None

    def discard(self, key: SessionKey) -> None:
        if self._fresh:
            self._store.discard(key)


class _ServerSessions:
    """A server's tickets."""

    def __init__(self, store: ServerSessions, draw: Draw) -> None:
        self._store = store
        self._draw = draw

    @property
    def single_use(self) -> bool:
        return self._store.single_use

    def issue(self, session: ServerSession, now: float) -> bytes:
        return self._draw("ticket", lambda: self._store.issue(session, now))

    def redeem(self, ticket: bytes, now: float) -> ServerSession | None:
        def redeemed() -> bytes:
            session = _at_once(self._store.redeem(ticket, now))
            return b"" if session is None else session.encode()

        kept = self._draw("session", redeemed)
        return ServerSession.decode(kept) if kept else None


class _Guard:
    """What tells 0-RTT from its replays, those that are meant here apart."""

    def __init__(self, guard: ReplayGuard, draw: Draw) -> None:
        self._guard = guard
        self._draw = draw

    @property
    def window_seconds(self) -> float:
        return self._guard.window_seconds

    def first_use(self, key: bytes, *, now: float, issued_at: float) -> bool:
        def first() -> bytes:
            return bytes((_at_once(self._guard.first_use(key, now=now, issued_at=issued_at)),))

        return self._draw("first use", first) == b"\1"


T = TypeVar("T")


def _at_once(answer: T | Pending | Awaitable[T]) -> T:
    if isinstance(answer, Pending) or inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise UsageError("what is not answered at once cannot be recorded")
    return answer
