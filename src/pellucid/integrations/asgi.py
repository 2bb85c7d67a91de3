"""How an ASGI application sees the connection its request came on: `scope["extensions"]["pellucid"]`.

Nothing here knows a server; `integrations.hypercorn` puts the value there. An application reaches a connection through
the scope of a request on it and in no other way: there is no list of connections in which one could look up another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

from pellucid.explain.recorder import Recorder, precede
from pellucid.handshake.actions import Negotiated
from pellucid.integrations.ssl_engine import Facts
from pellucid.trace import Observer, TraceEvent

__all__ = [
    "EXTENSION",
    "LiveRecorder",
    "OwnConnection",
    "Recorders",
    "Turns",
    "own_connection",
    "recorder_of",
    "wants_recorder",
    "watched",
]

EXTENSION: Final = "pellucid"
_EVENTS: Final = 4096
_RECORD_BYTES: Final = 2**20
_MESSAGE_BYTES: Final = 2**20
_MANY: Final = 256
_LEAST_EVENTS: Final = 256  # enough for any handshake
_LEAST_MESSAGE_BYTES: Final = 2**17
_MANY_TURNS: Final = 16


class LiveRecorder(Recorder):
    """A recorder of one connection that tells who waits of what is new."""

    def __init__(
        self, limit: int = _EVENTS, *, record_bytes: int = _RECORD_BYTES, message_bytes: int = _MESSAGE_BYTES
    ) -> None:
        super().__init__(limit, record_bytes=record_bytes, message_bytes=message_bytes)
        self._waiting: set[Callable[[], None]] = set()

    def __call__(self, event: TraceEvent) -> None:
        dropped = self.dropped
        super().__call__(event)
        if self.dropped == dropped:
            self.wake()

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have *wake* called after each event that is kept; return what ends that. It is called where the event is."""
        self._waiting.add(wake)
        return lambda: self._waiting.discard(wake)

    def wake(self) -> None:
        """Call everybody who waits, without an event."""
        for one in tuple(self._waiting):
            one()


class Recorders:
    """Makes the recorders of a server's connections. Of more than *many* at a time each new one keeps less."""

    def __init__(self, many: int = _MANY) -> None:
        self._many = many
        self._alive: weakref.WeakSet[LiveRecorder] = weakref.WeakSet()

    def __call__(self) -> LiveRecorder:
        share = max(1, (len(self._alive) + 1) // self._many)
        recorder = LiveRecorder(
            max(_EVENTS // share, _LEAST_EVENTS),
            record_bytes=_RECORD_BYTES // share,
            message_bytes=max(_MESSAGE_BYTES // share, _LEAST_MESSAGE_BYTES),
        )
        self._alive.add(recorder)
        return recorder


class Turns:
    """What an application does at length for one connection: one thing at a time.

    All connections of an event loop share half of its time: one thing is done after another, and after each comes a
    pause as long. Who asks for much at once waits for itself, and others for one thing of its at most.

    many: so many wait on this connection, and no more.
    """

    def __init__(self, many: int = _MANY_TURNS) -> None:
        self._many = many
        self._waiting = 0
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Wait for a turn, for what is done at once, without waiting; give False, and no turn, where too many wait."""
        if self._waiting >= self._many:
            yield False
            return
        self._waiting += 1
        try:
            # A connection has one place among those of the loop, who are served as they came.
            async with self._lock, _half_of_the_time().turn():
                yield True
        finally:
            self._waiting -= 1


class _Half:
    """Half of an event loop's time, for one at a time in the order in which they came."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._next = 0.0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        async with self._lock:
            await asyncio.sleep(max(0.0, self._next - time.monotonic()))
            began = time.monotonic()
            try:
                yield
            finally:
                ended = time.monotonic()
                self._next = ended + (ended - began)


_halves: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Half]] = weakref.WeakKeyDictionary()


def _half_of_the_time() -> _Half:
    return _halves.setdefault(asyncio.get_running_loop(), _Half())


class OwnConnection:
    """The connection of a request, for the application that answers it.

    recorder: what was recorded of it, the TCP handshake first; None where nobody records.
    id:       random, 16 characters for URLs: it says that two requests came on the same connection, and opens nothing.
    retired:  whether the client was told to take another connection for its next request.
    """

    def __init__(
        self,
        tls: Facts,
        recorder: Recorder | None,
        *,
        retire: Callable[[], Awaitable[None]],
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        self.recorder = recorder
        self.id = secrets.token_urlsafe(12)
        self.retired = False
        self.streams = 0
        """for the application: how many answers without an end it gives on this connection just now"""
        self.turns = Turns()
        """for the application: what it does at length is not done for this connection alone"""
        self._tls = tls
        self._retire = retire
        self._flush = flush

    @property
    def negotiated(self) -> Negotiated | None:
        """What was agreed on; while early data is read: what will have been when the handshake is complete."""
        return self._tls.negotiated

    @property
    def handshake_complete(self) -> bool:
        return self._tls.handshake_complete

    async def key_update(self, *, request_peer: bool = False) -> None:
        """Go to our next key (RFC 9846 §4.7.3), and with *request_peer* ask the client to.

        In HTTP/2 both happens at once: the client is pinged, and its KeyUpdate comes with the answer. HTTP/1.1 has no
        such thing: ours goes out with the next answer, the client's with its next request. Raises UsageError before
        the handshake is complete and after the close.
        """
        self._tls.connection.send_key_update(request_peer=request_peer)
        await self._flush()

    async def retire(self) -> None:
        """Have the client take another connection for its next request; this one closes once its requests are answered.

        HTTP/2 is told by GOAWAY (RFC 9113 §6.8), right after the answer. In HTTP/1.1 the answer has to say so: give it
        the header `connection: close`.
        """
        if not self.retired:
            self.retired = True
            await self._retire()
            if isinstance(self.recorder, LiveRecorder):
                self.recorder.wake()

    def __repr__(self) -> str:
        return f"<OwnConnection {self.id}>"


def own_connection(scope: Any) -> OwnConnection | None:  # Any: ASGI's dictionaries
    """Return the connection of the request, None where the server is not ours."""
    found = ((scope.get("extensions") or {}).get(EXTENSION) or {}).get("connection")
    return found if isinstance(found, OwnConnection) else None


def wants_recorder(application: object) -> bool:
    """Whether *application* says, by its attribute `records_connections`, that it shows what was recorded."""
    return bool(getattr(application, "records_connections", False))


class _Watched:
    """An observer that remembers which of those behind it is the recorder."""

    def __init__(self, recorder: Recorder, others: Observer) -> None:
        self.recorder = recorder
        self._others = others

    def __call__(self, event: TraceEvent) -> None:
        self.recorder(event)
        self._others(event)

    def precede(self, events: Iterable[TraceEvent]) -> None:
        events = tuple(events)
        precede(self.recorder, events)
        precede(self._others, events)


def watched(recorder: Recorder, others: Observer | None) -> Observer:
    """Return an observer that tells *recorder*, then *others*; `recorder_of` finds the recorder in it."""
    return recorder if others is None else _Watched(recorder, others)


def recorder_of(observer: Observer | None) -> Recorder | None:
    """Return the recorder that `watched` was given, or *observer* if it is one itself."""
    if isinstance(observer, _Watched):
        return observer.recorder
    return observer if isinstance(observer, Recorder) else None
