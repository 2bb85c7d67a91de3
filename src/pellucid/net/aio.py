"""Async TLS over TCP, for asyncio and trio: `connect`, `listen`, `wrap`, and the `Stream` they give.

What happens when is `script`'s, as for the blocking streams.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, TypeVar

import anyio
import anyio.abc

from pellucid.config import ClientConfig, ConfigSource, ServerConfig, current_config
from pellucid.connection import Connection
from pellucid.errors import TLSError, UsageError
from pellucid.limits import CLOSE_TIMEOUT_SECONDS, CONNECT_TIMEOUT_SECONDS, HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.async_driver import AsyncDriver, AsyncPauseAnswer, ByteStreamTransport, SocketTransport, TaskLock
from pellucid.net.async_tcp import connect_tcp
from pellucid.net.eyeballs import Resolve
from pellucid.net.facts import StreamFacts
from pellucid.net.listener import BACKLOG, EXHAUSTED, GONE, PAUSE_SECONDS
from pellucid.net.operations import RECEIVE_SIZE, Steps
from pellucid.net.script import Script
from pellucid.net.setup import (
    new_connection,
    observer_of,
    present,
    refuse_early_bytes,
    refuse_other_than_client,
    send_at_once,
    socket_address,
)
from pellucid.net.tcp import bind_listener, trace_accepted
from pellucid.net.trouble import log_own_fault
from pellucid.trace import Observer, unwatched

__all__ = ["Listener", "Stream", "connect", "listen", "wrap"]

T = TypeVar("T")
_ABORT_SECONDS: Final = 1.0


async def connect(
    host: str,
    port: int = 443,
    config: ClientConfig | None = None,
    *,
    server_name: str | None = None,
    timeout: float | None = CONNECT_TIMEOUT_SECONDS,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    local_address: tuple[str, int] | None = None,
    resolve: Resolve | None = None,
    trace: Observer | None = None,
    answer: AsyncPauseAnswer | None = None,
    early_data: bytes = b"",
) -> Stream:
    """Return a stream to *host*, verified and past the handshake; the arguments are those of `pellucid.connect`.

    answer: an async function, called with each pause of a signer, verifier or resolver that said PENDING; one that is
            an `async def` itself is awaited without it.
    """
    refuse_other_than_client(config)
    observer = observer_of(config, trace)
    connection = new_connection(config, server_name or host, observer, port=port, early_data=early_data)
    sock = await connect_tcp(host, port, timeout=timeout, local_address=local_address, resolve=resolve, trace=observer)
    return await _shaken(
        Stream(sock, connection, handshake_timeout=handshake_timeout, answer=answer, early_data=early_data)
    )


async def wrap(
    transport: socket.socket | anyio.abc.ByteStream,
    config: ClientConfig | ServerConfig | ConfigSource | None = None,
    *,
    server_name: str | None = None,
    received: bytes = b"",
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    trace: Observer | None = None,
    answer: AsyncPauseAnswer | None = None,
    early_data: bytes = b"",
) -> Stream:
    """Return a stream over a connected socket or any byte stream of anyio's, past the handshake. Takes the transport.

    config:   a ServerConfig, or a source of one, makes it the server's end; else it is the client's, and *server_name*
              must be given.
    received: ciphertext that was read already. A client must have none, nor may any wait in its socket: a server
              that speaks before the ClientHello had it slipped in by somebody else (STARTTLS injection).
    early_data: a client's, as for `connect`.
    """
    sock = transport if isinstance(transport, socket.socket) else None
    try:
        config = present(config)
        if not isinstance(config, ServerConfig):
            refuse_early_bytes(sock, received)
        observer = observer_of(config, trace)
        connection = new_connection(config, server_name, observer, sock, early_data=early_data)
        if received:
            connection.receive_data(received)
    except BaseException:
        if isinstance(transport, socket.socket):
            transport.close()
        else:
            await anyio.aclose_forcefully(transport)
        raise
    return await _shaken(
        Stream(transport, connection, handshake_timeout=handshake_timeout, answer=answer, early_data=early_data)
    )


async def _shaken(stream: Stream) -> Stream:
    try:
        await stream.do_handshake()
    except BaseException as error:
        # A cancellation is not kept waiting for the peer; any other error leaves the alert time to arrive.
        with anyio.move_on_after(_ABORT_SECONDS, shield=isinstance(error, Exception)):
            await stream.abort()
        raise
    return stream


class Stream(StreamFacts, anyio.abc.ByteStream):
    """A TLS connection as one of anyio's byte streams. Any number of tasks may send and receive at a time.

    `receive` ends (EndOfStream) with the peer's close_notify and nothing else: TruncatedStream where the transport ends
    without, AlertReceived where the peer gave up. A cancelled `receive` loses nothing; a `send` that is cancelled
    while some of it is on its way ends the sending of this stream: half a record is never followed by another.
    Transport errors are BrokenResourceError, with the OSError as their cause; use after close, ClosedResourceError.
    As a context manager it closes with close_notify, but after an exception without.
    """

    def __init__(
        self,
        transport: socket.socket | anyio.abc.ByteStream,
        connection: Connection,
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
        answer: AsyncPauseAnswer | None = None,
        early_data: bytes = b"",
    ) -> None:
        self._socket = transport if isinstance(transport, socket.socket) else None
        self._transport: SocketTransport | ByteStreamTransport = (
            SocketTransport(transport) if isinstance(transport, socket.socket) else ByteStreamTransport(transport)
        )
        self._under = None if isinstance(transport, socket.socket) else transport
        self._driver = AsyncDriver(self._transport, answer)
        script = Script(connection, TaskLock, handshake_timeout=handshake_timeout, early_data=early_data)
        super().__init__(script, self._socket)

    async def receive(self, max_bytes: int = RECEIVE_SIZE) -> bytes:
        """Return 1 to *max_bytes* bytes as soon as there are any. Raises EndOfStream after the peer's close_notify."""
        if max_bytes < 1:
            raise UsageError("a read asks for at least one byte")
        data = await self._run(self._script.read(max_bytes))
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes | bytearray | memoryview) -> None:
        """Send all of *item*; no other task's data comes in between."""
        await self._run(self._script.write(item))

    async def send_eof(self) -> None:
        """Send close_notify: nothing more will be sent. Receiving goes on (RFC 9846 §6.1)."""
        await self._run(self._script.end_writing())

    async def do_handshake(self) -> None:
        """Shake hands, if it is not done yet; any other use does so too.

        A server that accepts early data is done as soon as it has: data may be read and written, and the rest goes on
        inside reading. See `early_bytes_read` and `wait_handshake_complete`.
        """
        await self._run(self._script.handshake())

    async def wait_handshake_complete(self) -> None:
        """Return once the handshake is complete: from then on this stream's early data is known to be no replay.

        What comes meanwhile is kept for reading. Raises what `do_handshake` does.
        """
        await self._run(self._script.finish_handshake())

    async def wait_for_ticket(self) -> bool:
        """Read until the server has sent a ticket for the next connection; data is kept for reading (256 KiB of it).

        False: the stream ended without one, or too much came before. Many servers send none: bound the time.
        """
        return await self._run(self._script.ticket())

    async def key_update(self, *, request_peer: bool = False) -> None:
        """Change the sending key, and have the peer change its own if *request_peer* (RFC 9846 §4.7.3)."""
        await self._run(self._script.key_update(request_peer=request_peer))

    async def request_client_certificate(self, *, required: bool = False) -> None:
        """Server: ask for the client's certificate (RFC 9846 §4.7.2). Once a read found the answer, `peer` has it.

        required: an answer without one ends the connection. Raises UsageError where it cannot be asked for: see
        `Connection.request_client_certificate`.
        """
        await self._run(self._script.request_client_certificate(required=required))

    async def aclose(self) -> None:
        """Send close_notify, wait a little for the peer's end (about 0.1 s, 5 s at most), close the transport.

        A cancellation cuts the waiting short, not the closing.
        """
        try:
            await self._run(self._script.close(), CLOSE_TIMEOUT_SECONDS)
        finally:
            await self._transport.close()

    async def abort(self) -> None:
        """Close the transport without close_notify: the peer sees a truncated stream."""
        try:
            await self._run(self._script.abort(), CLOSE_TIMEOUT_SECONDS)
        finally:
            await self._transport.close()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            await self.aclose()
        else:
            await self.abort()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What anyio asks a stream for: the socket's attributes."""
        if self._under is not None:
            return self._under.extra_attributes
        sock = self._socket
        if sock is None:
            return {}
        attributes: dict[Any, Callable[[], Any]] = {
            anyio.abc.SocketAttribute.family: lambda: sock.family,
            anyio.abc.SocketAttribute.raw_socket: lambda: sock,
            anyio.abc.SocketAttribute.local_address: lambda: self._local_address,
            anyio.abc.SocketAttribute.local_port: lambda: self._local_address[1],
            anyio.abc.SocketAttribute.remote_address: lambda: self._peer_address,
            anyio.abc.SocketAttribute.remote_port: lambda: self._peer_address[1],
        }
        return attributes

    async def _run(self, steps: Steps[T], timeout: float | None = None) -> T:
        try:
            return await self._driver.run(steps, self._script.sending, timeout)
        except UsageError as error:
            if self._script.closed:
                raise anyio.ClosedResourceError from error
            raise
        except (TLSError, TimeoutError) as error:
            self._told(error)
            raise
        except OSError as error:
            raise anyio.BrokenResourceError from self._told(error)


async def listen(
    host: str | None,
    port: int,
    config: ServerConfig | ConfigSource,
    *,
    backlog: int = BACKLOG,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    trace: Callable[[], Observer | None] | None = None,
    answer: AsyncPauseAnswer | None = None,
) -> Listener:
    """Return a listener; the arguments are those of `pellucid.listen`."""
    watched = trace is not None or current_config(config).trace is not None
    # A name given here is this machine's own; looking it up does not take long enough to need a thread.
    sock, unavailable = bind_listener(host, port, backlog=backlog, keep_syn=watched)
    return Listener(
        sock, config, handshake_timeout=handshake_timeout, trace=trace, answer=answer, unavailable=unavailable
    )


class Listener(anyio.abc.AsyncResource):
    """Gives a Stream for each client."""

    def __init__(
        self,
        sock: socket.socket,
        config: ServerConfig | ConfigSource,
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
        trace: Callable[[], Observer | None] | None = None,
        answer: AsyncPauseAnswer | None = None,
        unavailable: tuple[tuple[str, str], ...] = (),
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._config = config
        self._handshake_timeout = handshake_timeout
        self._trace = trace
        self._answer = answer
        self._unavailable = unavailable
        self._address = socket_address(sock.getsockname)

    @property
    def address(self) -> tuple[str, int]:
        """(address, port) clients connect to."""
        return self._address

    async def accept(self) -> Stream:
        """Return the next client's stream; its first use shakes hands. Raises ClosedResourceError once closed."""
        while True:
            if self._socket.fileno() < 0:
                raise anyio.ClosedResourceError
            try:
                sock = self._socket.accept()[0]
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    # The clients wait in the backlog; to try again at once would only burn time.
                    await anyio.sleep(PAUSE_SECONDS)
                elif error.errno not in GONE:
                    raise
            else:
                break
        try:
            return self._stream(sock)
        except BaseException:
            sock.close()
            raise

    async def serve(
        self,
        handler: Callable[[Stream], Awaitable[object]],
        task_group: anyio.abc.TaskGroup | None = None,
        *,
        max_connections: int = 4096,
        on_error: Callable[[Stream, Exception], object] | None = None,
    ) -> None:
        """Run *handler* in a task for each client, handshake included, until cancelled or the listener is closed.

        max_connections: at a time; further clients wait in the backlog.
        on_error:        told of what handshake or handler raised. Without it a broken connection is passed over, logged
                         under `pellucid.server` only if this end is at fault, as where a resolver raised; and anything
                         else ends the server.
        """
        places = anyio.Semaphore(max_connections)

        async def work(stream: Stream) -> None:
            try:
                async with stream:
                    await stream.do_handshake()
                    await handler(stream)
            except Exception as error:
                if on_error is not None:
                    on_error(stream, error)
                elif not isinstance(error, _BROKEN):
                    raise
                else:
                    log_own_fault(error)
            finally:
                places.release()

        async with contextlib.AsyncExitStack() as stack:
            group = task_group if task_group is not None else await stack.enter_async_context(anyio.create_task_group())
            while True:
                await places.acquire()
                try:
                    stream = await self.accept()
                except BaseException as error:
                    places.release()
                    if isinstance(error, anyio.ClosedResourceError):
                        return
                    raise
                group.start_soon(work, stream)

    async def aclose(self) -> None:
        """Stop accepting. Streams that were accepted go on."""
        if self._socket.fileno() >= 0:
            anyio.notify_closing(self._socket)
            self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def _stream(self, sock: socket.socket) -> Stream:
        send_at_once(sock)
        config = current_config(self._config)
        trace = observer_of(config, self._trace() if self._trace is not None else None)
        if trace is not None:
            trace_accepted(sock, trace, self._unavailable)
        peer = socket_address(sock.getpeername)[0]
        connection = Connection.server(config, peer_address=peer, trace=unwatched if trace is None else trace)
        return Stream(sock, connection, handshake_timeout=self._handshake_timeout, answer=self._answer)


_BROKEN: Final = (OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError)
