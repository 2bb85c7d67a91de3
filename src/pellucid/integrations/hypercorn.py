"""ASGI applications over hypercorn and Pellucid: every request knows the connection it came on, and what came early.

hypercorn's connections are ours while `connections()` runs. They give each application its own connection in the scope
(`integrations.asgi`), and read through a reader of ours, which gives early data or other data and notes in the context
which it was. hypercorn starts the application in a task whenever a request's header section has ended: the task has
that context, and so the application knows whether the section ended in early data.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any, Final

import hypercorn.asyncio.run
from h2.exceptions import ProtocolError
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Event, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame

from pellucid.explain.recorder import precede
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.integrations.asgi import Early, Introduced, OwnConnection, recorder_of
from pellucid.integrations.ssl_engine import Facts
from pellucid.net.tcp import trace_accepted
from pellucid.trace import TraceEvent

__all__ = ["OpenConnections", "connections"]

_END_STREAM: Final = 0x1
_GOODBYE_SECONDS: Final = 0.25  # between the last answer of a retired connection and its end: clients go first
_RETIRED_SECONDS: Final = 5.0  # for the requests that a retired connection still answers


@contextlib.contextmanager
def connections() -> Iterator[None]:
    """Have hypercorn tell each application of its own connection while the block runs, where TLS is Pellucid's."""
    # hypercorn has no parameter for the class of its connections.
    module: Any = hypercorn.asyncio.run
    with _lock:
        _blocks.append(module)
        module.TCPServer = _Server
    try:
        yield
    finally:
        with _lock:
            _blocks.pop()
            if not _blocks:
                module.TCPServer = TCPServer


_lock: Final = threading.Lock()
_blocks: Final[list[object]] = []
"""one for each block of `connections` that runs, in whatever thread"""


class OpenConnections:
    """The connections of a server that has to know of them before it stops.

    retiring: whether each is to end with its next answer, which says so: `connection: close`, or GOAWAY.
    """

    def __init__(self) -> None:
        self.retiring = False
        self._since: dict[object, float] = {}
        """since when there is one, 0.0 once a request has come on it"""

    def begun(self, connection: object) -> None:
        self._since[connection] = time.monotonic()

    def asked(self, connection: object) -> None:
        """Note that a request has come."""
        self._since[connection] = 0.0

    def over(self, connection: object) -> None:
        self._since.pop(connection, None)

    def expected(self, seconds: float) -> bool:
        """Whether on one of the last *seconds* no request has come yet."""
        now = time.monotonic()
        return any(now - since < seconds for since in self._since.values())

    def __len__(self) -> int:
        return len(self._since)


class _Server(TCPServer):
    """hypercorn's connection, which introduces itself to the application."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ending: asyncio.TimerHandle | None = None
        self._own: OwnConnection | None = None
        self._goodbye = b""
        self._said_goodbye = False
        self._every: OpenConnections | None = getattr(self.config, "open_connections", None)
        if self._every is not None:
            self._every.begun(self)
        tls: Any = self.writer.get_extra_info("ssl_object")
        if not isinstance(tls, Facts):
            return
        recorder = recorder_of(tls.trace)
        observer = tls._tls.observer
        if hasattr(observer, "precede"):
            precede(observer, _tcp_opening(self.writer.get_extra_info("socket")))
        self._own = OwnConnection(tls, recorder, retire=self._retire, flush=self._flush)
        application: Any = Introduced(self.app, self._own)
        self.app = application
        if tls.negotiated is None or tls.negotiated.early_data is EarlyDataOutcome.ACCEPTED:
            reader: Any = _Reader(self.reader, tls)
            self.reader = reader

    async def protocol_send(self, event: Event) -> None:
        if self._every is not None and self._every.retiring:
            self._make_it_the_last(event)
        if isinstance(event, RawData) and self._goodbye and _ends_a_stream(event.data):
            event, self._goodbye = RawData(data=event.data + self._goodbye), b""
        await super().protocol_send(event)
        if not isinstance(event, Updated):
            return
        if self._every is not None and not event.idle:
            self._every.asked(self)
        if event.idle and (self._said_goodbye or (self._own is not None and self._own.retired)):
            self._end_after(_GOODBYE_SECONDS)

    def _make_it_the_last(self, event: Event) -> None:
        """Have the answer that is begun, or ends, say that the connection will."""
        protocol = self.protocol.protocol
        if isinstance(protocol, H11Protocol):
            if isinstance(event, Updated) and not event.idle:
                protocol.keep_alive_requests = self.config.keep_alive_max_requests
        elif isinstance(event, RawData) and not self._said_goodbye and _ends_a_stream(event.data):
            self._goodbye = _goaway(protocol)
            self._said_goodbye = True
            # RFC 9113 §6.8: the client may send anew, elsewhere, what comes after; so it must not be answered here.
            context: Any = copy.copy(protocol.context)
            context.terminated = _Terminated()
            protocol.context = context

    async def _close(self) -> None:
        if self._every is not None:
            self._every.over(self)
        await super()._close()

    async def _retire(self) -> None:
        """Have GOAWAY go out with the end of the answer, in one piece: no request comes in between.

        Not before it, for h2 as a client takes no answer after it; and ours is not told, for it would give none.
        """
        protocol = self.protocol.protocol
        if isinstance(protocol, H2Protocol):
            self._goodbye = _goaway(protocol)
        self._end_after(_RETIRED_SECONDS)

    async def _flush(self) -> None:
        """Have what is to be sent go out with data, and the client answer: in HTTP/2 by PING (RFC 9113 §6.7)."""
        protocol = self.protocol.protocol
        if isinstance(protocol, H2Protocol):
            with contextlib.suppress(ProtocolError):
                protocol.connection.ping(secrets.token_bytes(8))
                await super().protocol_send(RawData(data=protocol.connection.data_to_send()))

    def _end_after(self, seconds: float) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = self.loop.call_later(seconds, self.writer.close)


class _Terminated:
    """What hypercorn's HTTP/2 asks whether to refuse new requests, of one connection alone."""

    def is_set(self) -> bool:
        return True


def _goaway(protocol: H2Protocol) -> bytes:
    return GoAwayFrame(0, last_stream_id=protocol.connection.highest_inbound_stream_id).serialize()


def _ends_a_stream(frames: bytes) -> bool:
    """Whether one of *frames*, which are whole, is the last of an answer (RFC 9113 §4.1)."""
    at = 0
    while at + 9 <= len(frames):
        kind, flags = frames[at + 3], frames[at + 4]
        if kind in {DataFrame.type, HeadersFrame.type} and flags & _END_STREAM:
            return True
        at += 9 + int.from_bytes(frames[at : at + 3], "big")
    return False


def _tcp_opening(sock: Any) -> list[TraceEvent]:  # Any: asyncio's shield around the socket
    events: list[TraceEvent] = []
    trace_accepted(sock, events.append)
    return events


class _Reader:
    """What of asyncio.StreamReader hypercorn uses. tls: knows how many of the first bytes came as early data."""

    def __init__(self, reader: asyncio.StreamReader, tls: Facts) -> None:
        self._reader = reader
        self._early = Early(tls)
        self._rest = b""

    def at_eof(self) -> bool:
        return not self._rest and self._reader.at_eof()

    async def read(self, size: int) -> bytes:
        """Return data that came early, or data that did not; the context of whoever awaits this says which."""
        data, self._rest = self._early.take(self._rest or await self._reader.read(size))
        return data
