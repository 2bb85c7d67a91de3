"""How an ASGI application sees the connection its request came on: `scope["extensions"]`, "tls" and "pellucid".

Nothing here knows a server; `integrations.hypercorn` and `integrations.uvicorn` put the
values there. An application reaches a connection through
the scope of a request on it and in no other way: there is no list of connections in which one could look up another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import secrets
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final, Protocol

from pellucid.connection import Connection
from pellucid.crypto.certificates import X509Certificate
from pellucid.explain.recorder import Recorder, precede
from pellucid.handshake.actions import Negotiated
from pellucid.registry import TLS_1_3, CertificateType, group_name, scheme_name, suite_name
from pellucid.trace import Observer, TraceEvent
from pellucid.verify.report import VerificationReport, VerifiedPeer

__all__ = [
    "EXTENSION",
    "TLS_EXTENSION",
    "Early",
    "Introduced",
    "LiveRecorder",
    "OwnConnection",
    "Recorders",
    "Tls",
    "Turns",
    "own_connection",
    "recorder_of",
    "tls_extension",
    "wants_recorder",
    "watched",
]

EXTENSION: Final = "pellucid"
TLS_EXTENSION: Final = "tls"
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_EVENTS: Final = 4096
_RECORD_BYTES: Final = 2**20
_MESSAGE_BYTES: Final = 2**20
_MANY: Final = 256
_LEAST_EVENTS: Final = 256  # enough for any handshake
_LEAST_MESSAGE_BYTES: Final = 2**17
_MANY_TURNS: Final = 16


class Tls(Protocol):
    """What is asked of a connection: `integrations.ssl_engine.Facts`, and whatever has its names."""

    @property
    def connection(self) -> Connection: ...
    @property
    def negotiated(self) -> Negotiated | None: ...
    @property
    def handshake_complete(self) -> bool: ...
    @property
    def early_bytes(self) -> int: ...
    @property
    def peer(self) -> VerifiedPeer | None: ...


# ---- the tls extension -----------------------------------------------------------------------------------------------


def tls_extension(tls: Tls | Connection) -> dict[str, Any]:  # Any: ASGI's dictionaries
    """Return `scope["extensions"]["tls"]` of ASGI's TLS extension 0.2, all six fields, for a server's connection.

    server_cert:       PEM of the certificate that was sent; None where none was: on resumption, under an external PSK,
                       and for a raw public key.
    client_cert_chain: PEM of what the client sent, its own first, each certificate signed by the next one; on
                       resumption of what was verified when the session began.
    client_cert_name:  the subject of the first of them as RFC 4514 has it: "CN=alice,O=Example"; line breaks and other
                       control characters are escaped.
    client_cert_error: why it is not to be trusted, where a verifier of the name `dangerous_…` let it pass. With the
                       others a client whose certificate is refused does not come as far as a request.
    tls_version, cipher_suite: 0x0304, and the code point; None before anything is agreed on.
    """
    negotiated = tls.negotiated
    peer = _client_of(tls)
    chain = _client_chain(negotiated, peer)
    own = () if negotiated is None else negotiated.local_certificates
    shows_certificate = peer is not None and isinstance(peer.leaf, X509Certificate)
    is_certificate = negotiated is not None and negotiated.server_certificate_type != CertificateType.RAW_PUBLIC_KEY
    return {
        "server_cert": _own_pem(own[0]) if own and is_certificate else None,
        "client_cert_chain": tuple(map(_pem, chain)) if shows_certificate else (),
        "client_cert_name": _subject(peer),
        "client_cert_error": _mistrust(peer),
        "tls_version": None if negotiated is None else TLS_1_3,
        "cipher_suite": None if negotiated is None else negotiated.cipher_suite,
    }


def _client_of(tls: Tls | Connection) -> VerifiedPeer | None:
    """Return who the client is; of a session that is resumed too, while early data is read."""
    if tls.peer is not None or tls.negotiated is None:
        return tls.peer
    return tls.negotiated.peer


def _client_chain(negotiated: Negotiated | None, peer: VerifiedPeer | None) -> tuple[bytes, ...]:
    """Return of the verified path what was sent: a root that was not is not the client's."""
    if peer is None:
        return ()
    sent = negotiated.peer_certificates if negotiated is not None and peer is negotiated.peer else ()
    return tuple(der for der in peer.chain if der in sent) or peer.chain or (peer.leaf.der,)


def _pem(der: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(der)


@functools.lru_cache(64)
def _own_pem(der: bytes) -> str:
    """Return it as `_pem`; all connections that show the same certificate share one text of it."""
    return _pem(der)


def _subject(peer: VerifiedPeer | None) -> str | None:
    leaf = None if peer is None else peer.leaf
    if not isinstance(leaf, X509Certificate):
        return None
    # The text is the certificate owner's, and lands in logs and headers: RFC 4514 §2.4 lets every octet be escaped.
    return _CONTROLS.sub(_escaped, leaf.x509.subject.rfc4514_string())


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"\\{octet:02X}" for octet in found[0].encode())


def _mistrust(peer: VerifiedPeer | None) -> str | None:
    if peer is None or not peer.report.dangerous:
        return None
    report = peer.report
    return report.summary or (report.failure.value if report.failure is not None else "nobody verified it")


# ---- what came early, and the scopes ---------------------------------------------------------------------------------


_came_early: Final[ContextVar[bool]] = ContextVar("pellucid_came_early")


class Early:
    """Tells of data, as it is read from a connection, what of it came early: perhaps somebody's replay.

    A server starts the application in a task whenever a request's header section has ended: the task has the context of
    whoever read, and so the application knows whether the section ended in early data. In a task that was given another
    context, as by uvicorn's `reset_contextvars`, every request counts as early on a connection that had early data.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._position = 0
        self._over = False
        """something came that was not early: nothing that comes after it is"""

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what of *data* is to be handled now, and what after it; note in the context which kind it is."""
        if self._over:
            if _came_early.get(True):
                _came_early.set(False)
            return data, b""
        early = self._tls.early_bytes - self._position
        self._over = early <= 0 and bool(data)
        now, later = (data[:early], data[early:]) if early > 0 else (data, b"")
        self._position += len(now)
        _came_early.set(early > 0)
        return now, later


class Introduced:
    """A server's wrapper of the application, for one connection: its requests' scopes say which it is.

    Of "http" and "websocket" scopes: "tls" is as `tls_extension` has it; "pellucid" has `early_data`, whether the
    request may be a replay; `connection`, the OwnConnection; `negotiated`, what was agreed on, in names; and
    `verification`, the report on the client's certificate or None.
    """

    def __init__(self, application: Any, own: OwnConnection) -> None:  # Any: a server's wrapper of the application
        self._application = application
        self._own = own

    async def __call__(self, scope: Any, *arguments: Any) -> None:  # Any: ASGI's dictionaries and callables
        if scope["type"] in {"http", "websocket"}:
            own = self._own
            tls, told = own.introduction()
            told["early_data"] = _came_early.get(own.had_early_data)
            extensions = {**(scope.get("extensions") or {}), TLS_EXTENSION: tls, EXTENSION: told}
            scope = {**scope, "extensions": extensions}
        await self._application(scope, *arguments)


def _names_of(negotiated: Negotiated) -> dict[str, object]:
    group, scheme = negotiated.group, negotiated.signature_scheme
    client_scheme = negotiated.client_signature_scheme
    return {
        "version": "TLSv1.3",
        "cipher_suite": suite_name(negotiated.cipher_suite),
        "group": None if group is None else group_name(group),
        "signature_scheme": None if scheme is None else scheme_name(scheme),
        "client_signature_scheme": None if client_scheme is None else scheme_name(client_scheme),
        "alpn": negotiated.alpn,
        "server_name": negotiated.server_name,
        "resumed": negotiated.resumed,
        "early_data": negotiated.early_data.name.lower(),
    }


# ---- the connection of a request -------------------------------------------------------------------------------------


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
        tls: Tls,
        recorder: Recorder | None,
        *,
        retire: Callable[[], Awaitable[None]],
        flush: Callable[[], Awaitable[None]],
    ) -> None:
        self.recorder = recorder
        self.retired = False
        self.streams = 0
        """for the application: how many answers without an end it gives on this connection just now"""
        self._tls = tls
        self._retire = retire
        self._flush = flush
        self._known: tuple[object, object, dict[str, Any], dict[str, object]] | None = None
        """of whom the last introduction was, and what it said: the tls extension, and what was agreed on in names"""

    @functools.cached_property
    def id(self) -> str:
        return secrets.token_urlsafe(12)

    @functools.cached_property
    def turns(self) -> Turns:
        """For the application: what it does at length is not done for this connection alone."""
        return Turns()

    @property
    def negotiated(self) -> Negotiated | None:
        """What was agreed on; while early data is read: what will have been when the handshake is complete."""
        return self._tls.negotiated

    @property
    def handshake_complete(self) -> bool:
        return self._tls.handshake_complete

    @property
    def peer(self) -> VerifiedPeer | None:
        """Who the client is, by its verified certificate; None for one that showed none."""
        return _client_of(self._tls)

    @property
    def had_early_data(self) -> bool:
        """Whether anything came early on this connection: for whoever cannot tell which of its requests did."""
        return self._tls.early_bytes > 0

    @property
    def report(self) -> VerificationReport | None:
        """What was found of the client's certificate; None where it showed none."""
        return None if self.peer is None else self.peer.report

    def introduction(self) -> tuple[dict[str, Any], dict[str, Any]]:  # Any: ASGI's dictionaries
        """Return what a scope says of the connection: ASGI's tls extension, and ours.

        Copies, for the application; what they say is found out once for all requests of the same client.
        """
        tls, known = self._tls, self._known
        negotiated, peer = tls.negotiated, tls.peer
        if peer is None and negotiated is not None:
            peer = negotiated.peer
        if known is None or known[0] is not negotiated or known[1] is not peer:
            names = {} if negotiated is None else _names_of(negotiated)
            known = self._known = negotiated, peer, tls_extension(tls), names
        report = None if peer is None else peer.report
        return dict(known[2]), {"connection": self, "negotiated": dict(known[3]), "verification": report}

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
