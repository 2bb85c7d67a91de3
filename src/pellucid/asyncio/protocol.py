"""What the TCP transport speaks to: carries bytes to a Connection and tells the user's protocol what they meant.

It decides when the user's protocol is there (the peer is known, or early data accepted), how a connection ends, and who
is told of it. Sending is `outgoing`'s, the user's view of it all `transport`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pellucid.asyncio.buffers import Buffers
from pellucid.asyncio.losing import nothing_more, peer_address, unread_alert
from pellucid.asyncio.outgoing import ENDING, FLUSHING, LOST, OPEN, SHAKING, Outgoing
from pellucid.asyncio.transport import Transport
from pellucid.config import ClientConfig, ServerConfig
from pellucid.connection import Connection
from pellucid.errors import AlertReceived, InternalError, TLSError, TruncatedStream
from pellucid.events import (
    NEED_DATA,
    ApplicationData,
    CloseNotify,
    EarlyData,
    EarlyDataAccepted,
    HandshakeComplete,
    PeerAuthenticated,
)
from pellucid.handshake.actions import Negotiated
from pellucid.limits import CLOSE_TIMEOUT_SECONDS, FULL_RECORD, HANDSHAKE_TIMEOUT_SECONDS, RECEIVE_HEADROOM
from pellucid.net.kernel import unacknowledged
from pellucid.net.operations import DeadlineExceeded, Pause, Until, nobody_awaits
from pellucid.net.output import LAST_WORDS_SECONDS
from pellucid.net.script import MAX_DRAINED, MAX_QUIET, QUIET_SECONDS
from pellucid.net.setup import send_at_once
from pellucid.net.trouble import explained, log_own_fault
from pellucid.registry import AlertDescription
from pellucid.trace import Observer

__all__ = ["Answer", "Begun", "Settings", "Start", "Wire"]

_MAX_AHEAD: Final = 2**16  # bytes taken of a peer while somebody thinks about an answer
_NOBODY: Final[frozenset[asyncio.Task[None]]] = frozenset()
_log: Final = logging.getLogger("pellucid.asyncio")

Answer = Callable[[Pause], Awaitable[object]]
"""Answers a pause that said PENDING; returns what `Connection.resume` takes. What must be awaited is, without it."""


class Begun(NamedTuple):
    """A connection that has just been made. observer: who watches it."""

    connection: Connection
    config: ClientConfig | ServerConfig
    observer: Observer | None
    server_hostname: str | None = None


Start = Callable[[asyncio.BaseTransport], Begun]
"""Makes the connection, once there is a transport."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Seconds, None for no end; answer: who answers pauses that nobody can await."""

    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS
    shutdown_timeout: float | None = CLOSE_TIMEOUT_SECONDS
    answer: Answer | None = None


class Wire(Outgoing, asyncio.BufferedProtocol):
    """One connection between a transport and the protocol of a user.

    factory: makes the user's protocol, once the handshake is complete or early data accepted, and never before.
    former:  who had the transport before, where these are streams. The writer is held: nobody else may have it any
             more, and without anybody it would close the transport (CPython 3.11.5 and later).
    waiter:  is told when that is done, or what went wrong; None: nobody waits, as at a server.
    """

    later_certificates: tuple[bytes, ...] = ()
    """a server's: what the client showed after the handshake, as it sent it; of the few that are asked, so no room is
    kept for it"""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        start: Start,
        factory: Callable[[], asyncio.BaseProtocol],
        settings: Settings,
        waiter: asyncio.Future[Transport] | None = None,
        *,
        early_data: bytes = b"",
        received: bytes = b"",
        former: tuple[asyncio.StreamWriter, asyncio.BaseProtocol] | None = None,
    ) -> None:
        super().__init__(loop)
        self.protocol = None
        self.transport: Transport | None = None
        self.error: BaseException | None = None
        """what ended the connection"""
        self.accepted: Negotiated | None = None
        """a server's, once early data is accepted: what will have been agreed when the handshake is complete"""
        self.early_bytes = 0
        self.early_data_too_long = False
        self.observer: Observer | None = None
        self.server_hostname: str | None = None
        self._start = start
        self._begun = False
        self._factory = factory
        self._settings = settings
        self.waiter = waiter
        self._early_data = early_data
        self._received = received
        self._former = former
        self._buffered = False
        self._paused = False
        self._stopped = False
        self._asked: set[asyncio.Task[None]] | frozenset[asyncio.Task[None]] = _NOBODY
        self._ahead = 0
        self._timer: asyncio.TimerHandle | None = None
        self._end_by: float | None = None
        self._left = self._drained = self._quiet = 0

    # ---- what the transport calls ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.lower = transport  # type: ignore[assignment]  # start_tls may be given any that reads and writes
        sock = transport.get_extra_info("socket")
        if sock is not None:
            send_at_once(sock)
        # Nothing more is sealed while anything waits there. Not 0: of a TLS transport, asyncio's and uvloop's, that is
        # reached by having nothing to send, and the protocol is paused for good.
        self.lower.set_write_buffer_limits(1)
        try:
            self.connection, self.config, self.observer, self.server_hostname = self._start(transport)
        except Exception as error:  # noqa: BLE001  # an observer's, or a configuration source's: the waiter has it
            self.error, self.state = error, ENDING
            self.lower.abort()
            return
        self._begun = True
        seconds = self._settings.handshake_timeout
        if seconds is not None:
            self._timer = self.loop.call_later(seconds, self._too_late)
        try:
            self.connection.start()
            self._send_early_data()
            if self._received:
                self.connection.receive_data(self._received)
        except TLSError as error:
            self.failed(error)
            return
        self._received = b""
        self._work()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._buffer.busy:
            self._buffer = Buffers()  # a connection inside another, whose records it is fed with
        return self._buffer.room

    def buffer_updated(self, nbytes: int) -> None:
        if self.state >= FLUSHING:
            self._thrown_away(nbytes)
            return
        connection = self.connection
        try:
            if nbytes <= FULL_RECORD:
                data = bytes(self._buffer.room[:nbytes])
                listening = self.state == OPEN and not self._paused and not self._asked
                plaintext = connection.open_record(data) if listening else None
                if plaintext is not None:
                    self._deliver(plaintext)  # as `_work` would, and nothing of ours is to be sent
                    return
                connection.receive_data(data)
            elif not self._receive_bulk(RECEIVE_HEADROOM, RECEIVE_HEADROOM + nbytes):
                return
        except TLSError as error:
            self.failed(error)
            return
        self._work()
        if self._asked:
            self._ahead += nbytes
            self._mind_reading()

    def _receive_bulk(self, start: int, end: int) -> bool:
        """Open and deliver the application data that came, piece by piece; return whether there is more to tell.

        As `receive_from` and `_work` would, which open all before any is delivered: 3 % more of a transfer. Nothing of
        ours is to be sent after application data.
        """
        buffer, connection = self._buffer, self.connection
        buffer.busy = True
        try:
            while start < end and self.state == OPEN and not (self._paused or self._asked):
                plaintext, start = connection.open_bulk(buffer.data, start, end)
                if not plaintext:
                    break
                self._deliver(plaintext)
        finally:
            buffer.busy = False
            if start < end:  # also where the program was interrupted: its loop may run on
                connection.receive_from(buffer.data, start, end)
        return start < end

    def eof_received(self) -> bool:
        """The transport ended: truncated, unless the peer has closed before. It is closed by us if it can stay open."""
        if self.state >= FLUSHING:
            self.lower.close()
            return False
        try:
            self.connection.receive_data(b"")
        except TLSError as error:
            self.failed(error)
        else:
            self._work()
        return self.lower.can_write_eof()  # asyncio's and uvloop's own TLS cannot stay half open, and complains

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone: everything that is still running ends, and who used the connection is told."""
        state, self.state = self.state, LOST
        self._stop_timer()
        for task in self._asked:
            task.cancel()
        self._forget_queue()
        former, self._former = self._former, None
        if former is not None:
            former[1].connection_lost(None)  # who waits for the plaintext's writer to be closed waits no more
        if self.error is None and state < ENDING:
            self.error = self._loss(exc, state)
        error, waiter, protocol = self.error, self.waiter, self.protocol
        if protocol is not None:
            self._call("connection_lost", error)
        if waiter is not None and not waiter.done():
            waiter.set_exception(error or ConnectionAbortedError("the connection was closed during the handshake"))
        elif protocol is None and error is not None:
            _log.debug("a handshake failed: %s", error)
            log_own_fault(error)
        self._let_go()

    def _let_go(self) -> None:
        """Know the user's protocol and transport no more: they know this one, keys and all.

        With both it would be for the collector of circles to find: 50 objects for each connection, and its secrets.
        """
        self.protocol = self.transport = None
        self._factory = nothing_more

    def _loss(self, exc: Exception | None, state: int) -> BaseException | None:
        """Return what to tell of a transport that failed, *exc*: the peer's alert, if it sent one and then went."""
        if exc is None:
            return (
                None if state != SHAKING else ConnectionAbortedError("the connection was closed during the handshake")
            )
        if not isinstance(exc, OSError) or not self._begun:
            return exc
        reason = unread_alert(self.lower, self.connection)
        if reason is not None:
            reason.__cause__ = exc
            return reason
        sock = self.lower.get_extra_info("socket")
        return explained(exc, self.connection, peer=("", 0) if sock is None else peer_address(self.lower))

    # ---- what happened -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Tell of what happened, as long as somebody listens, then send what came of it."""
        connection = self.connection
        try:
            while not self._paused and self.state < FLUSHING:
                event = connection.next_event()
                if type(event) is ApplicationData:
                    self._deliver(event.data)
                elif event is NEED_DATA:
                    break
                else:
                    self._happened(event)
        except TLSError as error:
            self.failed(error)
            return
        if self.state < ENDING:
            self.send_pending()

    def _happened(self, event: Any) -> None:  # Any: the union without the one that says that nothing did
        if isinstance(event, HandshakeComplete):
            self._stop_timer()
            if self.state == SHAKING:
                self._open()
        elif isinstance(event, EarlyDataAccepted):
            self.accepted = event.negotiated
            self._open()
        elif isinstance(event, EarlyData):
            self.early_bytes += len(event.data)
            self._deliver(event.data)
        elif isinstance(event, PeerAuthenticated):
            self.later_certificates = event.certificates or self.later_certificates
        elif isinstance(event, CloseNotify):
            # A protocol that wants to go on sending says True, as to any transport.
            if not self._call("eof_received") and self.state == OPEN:
                self.close()
        elif isinstance(event, Pause):
            self._ask(event)

    def _open(self) -> None:
        """The peer is known: make the user's protocol and give it its transport."""
        self.send_pending()
        if self.state != SHAKING:
            return
        self.state = OPEN
        self.transport = Transport(self)
        try:
            self.set_protocol(self._factory())
        except Exception as error:  # noqa: BLE001  # the application's own; the waiter has it
            self._broken(error, "the protocol's factory")
            return
        self._call("connection_made", self.transport)
        if self.waiter is not None and not self.waiter.done() and self.error is None:
            self.waiter.set_result(self.transport)
            self.waiter = None

    def _deliver(self, data: bytes) -> None:
        if self._buffered:
            self._run("buffer_updated", self._fill, data)
            return
        try:
            self.protocol.data_received(data)  # type: ignore[union-attr]  # set_protocol looked which kind it is
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  # the application's own: it is told, and the loop too
            self._broken(error, "data_received")

    def _fill(self, data: bytes) -> None:
        """Give *data* to an `asyncio.BufferedProtocol`, in pieces of what it has room for."""
        with memoryview(data) as rest:
            at = 0
            while at < len(data) and self.state < FLUSHING:
                protocol: Any = self.protocol
                with memoryview(protocol.get_buffer(len(data) - at)) as room, room.cast("B") as octets:
                    if not octets:
                        raise RuntimeError("get_buffer() returned an empty buffer")
                    size = min(len(octets), len(data) - at)
                    octets[:size] = rest[at : at + size]
                at += size
                protocol.buffer_updated(size)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def tell(self, what: str) -> None:
        self._call(what)

    def _call(self, what: str, *arguments: object) -> object:
        """Call the user's protocol. If it raises, the connection is over."""
        return self._run(what, getattr(self.protocol, what), *arguments)

    def _run(self, what: str, called: Callable[..., object], *arguments: object) -> object:
        try:
            return called(*arguments)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  # the application's own: it is told, and the loop too
            self._broken(error, what)
            return None

    def _broken(self, error: BaseException, what: str) -> None:
        if self.waiter is None or self.waiter.done():
            self.loop.call_exception_handler(
                {
                    "message": f"Fatal error: {what} failed.",
                    "exception": error,
                    "transport": self.transport,
                    "protocol": self.protocol,
                }
            )
        if self.state < ENDING:
            self.connection.fail(AlertDescription.INTERNAL_ERROR)
            self.failed(error)

    # ---- reading, paused and not -------------------------------------------------------------------------------------

    @property
    def life(self) -> str:
        """Where in its life the connection is, for who prints it."""
        return ("handshake", "open", "closing", "closing", "closed")[self.state]

    @property
    def reading(self) -> bool:
        return not self._paused and self.state < FLUSHING

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`: at most what one read brought waits, and the peer's TCP stalls."""
        if self.state < FLUSHING and not self._paused:
            self._paused = True
            self._mind_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.state < FLUSHING and not self._paused:
            self._work()
            self._mind_reading()

    def _mind_reading(self) -> None:
        """Have the transport read, or not: not while the user's protocol does not, an answer takes long, or what was
        written before the close still has to go.
        """
        busy = self._paused or (bool(self._asked) and self._ahead > _MAX_AHEAD)
        stop = self.state == FLUSHING or (self.state < FLUSHING and busy)
        if stop != self._stopped:
            self._stopped = stop
            if stop:
                self.lower.pause_reading()
            else:
                self.lower.resume_reading()

    # ---- pauses ------------------------------------------------------------------------------------------------------

    def _ask(self, pause: Pause) -> None:
        """Have what the connection waits for answered in a task of its own; other connections go on meanwhile."""
        self._ahead = 0
        task = self.loop.create_task(self._answered(pause))
        asked = self._asked if isinstance(self._asked, set) else set()
        asked.add(task)
        self._asked = asked
        task.add_done_callback(asked.discard)

    async def _answered(self, pause: Pause) -> None:
        try:
            if pause.answer is not None:
                value = await pause.answer
            elif self._settings.answer is None:
                raise nobody_awaits(pause)
            else:
                value = await self._settings.answer(pause)
        except asyncio.CancelledError:
            # By us, where the connection is lost; else what was awaited was, and nobody would ever answer.
            self._not_answered(InternalError("what the handshake awaited was cancelled"), pause)
            raise
        except Exception as error:  # noqa: BLE001  # a key service's, a resolver's: it ends the connection
            self._not_answered(error, pause)
        else:
            if self.state >= ENDING:
                return
            self.connection.resume(value, pause.need)
            self._send_early_data()
        if (task := asyncio.current_task()) is not None and isinstance(self._asked, set):
            self._asked.discard(task)
        if self.state < FLUSHING:
            self._work()
            self._mind_reading()

    def _not_answered(self, error: Exception, pause: Pause) -> None:
        if self.state < ENDING:
            self.connection.resume_with_error(error, pause.need)
            self._work()

    def _send_early_data(self) -> None:
        """Let the early data follow the ClientHello, if that may be and has not been done (RFC 9846 §4.3.10)."""
        data, left = self._early_data, self.connection.early_data_left
        if data and left:
            self._early_data = b""
            self.early_data_too_long = len(data) > left
            if not self.early_data_too_long:
                self.connection.send_early_data(data)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Send what was written, then close_notify, and wait a little for the peer's end. What comes is thrown away."""
        if self.state >= FLUSHING:
            return
        self._stop_timer()
        self.state = FLUSHING
        if self._queue:
            self._mind_reading()
        self._bound(self._settings.shutdown_timeout)
        self._pump()

    def last_words(self) -> None:
        self.state = ENDING
        self._mind_reading()
        with contextlib.suppress(TLSError):  # an owed KeyUpdate that cannot be sent: the end comes all the same
            self.connection.close()
        self._leave(self.connection.data_to_send())

    def failed(self, error: BaseException) -> None:
        """The connection is over because of *error*: the alert goes, and so does the transport."""
        if self.state >= ENDING:
            return
        self._stop_timer()
        self.error = error
        self.state = ENDING
        self._forget_queue()
        self._mind_reading()
        alert = self.connection.data_to_send()
        if not alert or isinstance(error, AlertReceived | TruncatedStream):
            self.lower.abort()
            return
        self._bound(LAST_WORDS_SECONDS)
        self._leave(alert)

    def abort(self) -> None:
        """End without a word: the peer sees that the stream was cut."""
        if self.state < LOST:
            self._stop_timer()
            self.state = ENDING
            self.lower.abort()

    def cancel(self) -> None:
        """Nobody waits for the handshake any more: say so, as far as that goes at once, and end."""
        waiter = self.waiter
        if waiter is not None and not waiter.cancel() and not waiter.cancelled():
            waiter.exception()  # it was there before the cancellation, which goes first
        if self.state == LOST or not self._begun:
            return
        if self.state < ENDING and not self._full and not self.lower.is_closing():
            # RuntimeError: uvloop's transport, which the loop may have closed without a word to us.
            with contextlib.suppress(TLSError, RuntimeError):
                self.connection.close()  # user_canceled, close_notify
                self.lower.write(self.connection.data_to_send())
        for task in self._asked:
            task.cancel()
        self.abort()

    def _too_late(self) -> None:
        seconds = self._settings.handshake_timeout or 0.0
        if self._paused:  # early data that the application does not read: it is not the peer who is slow
            self._timer = self.loop.call_later(seconds, self._too_late)
            return
        late = DeadlineExceeded(f"the handshake took longer than {seconds:g} s")
        late.until = Until(self.loop.time(), "the handshake", seconds)
        error = explained(late, self.connection, peer=peer_address(self.lower))
        for task in self._asked:
            task.cancel()
        self.connection.close()  # user_canceled, close_notify
        self.failed(error)

    def _leave(self, words: bytes) -> None:
        """Give the transport the last that is said, then its end; the peer's is waited for.

        To close a socket that has unread bytes resets the connection, which can take what was sent last from the peer.
        """
        lower = self.lower
        if lower.is_closing():
            return
        if words:
            lower.write(words)
        if self.connection.peer_closed:
            lower.close()
        elif lower.can_write_eof():
            with contextlib.suppress(OSError):  # the peer was faster
                lower.write_eof()

    def _thrown_away(self, size: int) -> None:
        self._drained += size
        self._quiet = 0
        if self._drained > MAX_DRAINED:
            self.lower.abort()

    def _bound(self, seconds: float | None) -> None:
        self._end_by = None if seconds is None else self.loop.time() + seconds
        self._left = self.write_buffer_size()
        self._timer = self.loop.call_later(QUIET_SECONDS, self._look)

    def _look(self) -> None:
        """See how far the end has come: each tenth of a second, until the transport is gone.

        What still goes out is given time as long as it does. Once all is acknowledged and the peer says nothing, the
        transport closes; a peer that takes nothing more is cut off when its time is over.
        """
        now, left = self.loop.time(), self.write_buffer_size()
        if left < self._left and self.state == FLUSHING and self._settings.shutdown_timeout is not None:
            self._end_by = now + self._settings.shutdown_timeout
        self._left = left
        if not left and self.state == ENDING and not self.lower.is_closing():  # asyncio's own TLS forgets its half then
            self._quiet += 1
            sock = self.lower.get_extra_info("socket")
            if self._quiet >= MAX_QUIET or (sock is not None and unacknowledged(sock) == 0):
                self.lower.close()
        if self._end_by is not None and now >= self._end_by:
            if left and self.error is None:
                self.error = DeadlineExceeded(f"the peer took no more: {left} bytes were not sent before the close")
            self.lower.abort()
        self._timer = self.loop.call_later(QUIET_SECONDS, self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
