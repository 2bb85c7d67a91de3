"""What `ssl` calls a session: a handle on what a client keeps of a connection, and the counters of a context.

A session is resumed for nothing but what authenticated it: `SessionKey` has the server's name and a digest of the rest,
and one that does not fit is not offered; the handshake is a full one then.
"""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pellucid.crypto.provider import Pending
from pellucid.sessions import ClientSession, ServerSession, SessionKey
from pellucid.sessions.client import ClientSessionStore
from pellucid.sessions.tickets import ServerSessions

if TYPE_CHECKING:
    from pellucid.integrations.ssl_context import SSLContext

__all__ = ["ConnectionSessions", "CountedSessions", "SSLSession", "Statistics"]

_COUNTERS: Final = (
    "number",
    "connect",
    "connect_good",
    "connect_renegotiate",
    "accept",
    "accept_good",
    "accept_renegotiate",
    "hits",
    "misses",
    "timeouts",
    "cache_full",
)
"""Those of `SSLContext.session_stats`; TLS 1.3 has no renegotiation."""


class SSLSession:
    """An `ssl.SSLSession` in shape: give it to `wrap_bio` or `wrap_socket` of the same context to resume.

    Its ticket may not have come yet when the handshake is complete: `has_ticket` says whether it had, when the session
    was asked for. One without is no error, and resumes nothing. Two are equal if their `id` is. Nothing secret shows,
    and it cannot be pickled: `FileSessionStore` keeps sessions.
    """

    __slots__ = ("_context", "_id", "_kept", "_time")

    __hash__ = None  # type: ignore[assignment]  # as ssl's

    def __init__(
        self, context: SSLContext, kept: tuple[SessionKey, ClientSession] | None, *, binding: bytes, now: float
    ) -> None:
        self._context = context
        self._kept = kept
        # TLS 1.3 has no session identifiers: this one tells sessions apart, and tells nobody the ticket.
        known = b"c" + binding if kept is None else b"t" + kept[1].ticket
        self._id = hashlib.sha256(b"pellucid session" + known).digest()
        self._time = now if kept is None else kept[1].received_at

    @property  # type: ignore[misc]  # object's can be set
    def __class__(self) -> type:  # for who asks isinstance(_, ssl.SSLSession)
        return ssl.SSLSession

    @property
    def context(self) -> SSLContext:
        """The context that it is of: no other takes it."""
        return self._context

    @property
    def kept(self) -> tuple[SessionKey, ClientSession] | None:
        """What there is to resume, and what it is bound to. Secret."""
        return self._kept

    @property
    def id(self) -> bytes:
        """32 bytes, the same for the same ticket; where there is none yet, for the same connection."""
        return self._id

    @property
    def time(self) -> int:
        """When it began, seconds since 1970."""
        return int(self._time)

    @property
    def timeout(self) -> int:
        """For how many seconds from `time` it can be resumed; 0: it cannot."""
        return 0 if self._kept is None else int(self._kept[1].expires_at - self._kept[1].received_at)

    @property
    def ticket_lifetime_hint(self) -> int:
        """What the server said of the ticket's life, in seconds, at most a week; 0 without a ticket."""
        return 0 if self._kept is None else self._kept[1].lifetime_seconds

    @property
    def has_ticket(self) -> bool:
        return self._kept is not None

    def __eq__(self, other: object) -> bool:
        return self._id == other._id if isinstance(other, SSLSession) else NotImplemented

    def __repr__(self) -> str:
        return f"<SSLSession {self._id[:4].hex()}, {'with' if self._kept else 'without'} a ticket>"

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("cannot pickle 'SSLSession' object: it has a secret in it")


class ConnectionSessions:
    """The store of one client connection: it offers the session that was given, and shows the newest that came.

    shared: where sessions go too, and come from if none was given; None: nowhere.
    """

    __slots__ = ("_shared", "given", "latest")

    def __init__(self, shared: ClientSessionStore | None) -> None:
        self._shared = shared
        self.given: SSLSession | None = None
        self.latest: tuple[SessionKey, ClientSession] | None = None

    def put(self, key: SessionKey, session: ClientSession) -> None:
        self.latest = key, session
        if self._shared is not None:
            self._shared.put(key, session)

    def take(self, key: SessionKey, now: float) -> ClientSession | None:
        """Return the given session if it is bound to all that *key* says; else one of the shared store."""
        if self.given is not None:
            kept = self.given.kept
            return kept[1] if kept is not None and kept[0] == key and kept[1].usable_at(now) else None
        return None if self._shared is None else self._shared.take(key, now)

    def discard(self, key: SessionKey) -> None:
        if self._shared is not None:
            self._shared.discard(key)


class Statistics:
    """The counters of one context, for any number of threads."""

    __slots__ = ("_counts", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(_COUNTERS, 0)

    def count(self, *names: str) -> None:
        with self._lock:
            for name in names:
                self._counts[name] += 1

    def counts(self, number: int) -> dict[str, int]:
        """Return all of them. number: the sessions that are kept now."""
        with self._lock:
            return {**self._counts, "number": number}


class CountedSessions:
    """A server's sessions that count the tickets they did not know."""

    __slots__ = ("_statistics", "inner")

    def __init__(self, inner: ServerSessions, statistics: Statistics) -> None:
        self.inner = inner
        self._statistics = statistics

    @property
    def single_use(self) -> bool:
        return self.inner.single_use

    def issue(self, session: ServerSession, now: float) -> bytes:
        return self.inner.issue(session, now)

    def redeem(self, ticket: bytes, now: float) -> ServerSession | Pending | Awaitable[ServerSession | None] | None:
        found = self.inner.redeem(ticket, now)
        if found is None:
            self._statistics.count("misses")
        return found

    def __len__(self) -> int:
        """How many sessions are kept here; 0 where tickets hold them."""
        inner: Any = self.inner  # Any: only stores that keep something have a length
        return len(inner) if hasattr(inner, "__len__") else 0

    def __bool__(self) -> bool:
        return True  # an empty store is a store
