"""Blocking TLS over TCP: `connect`, `listen`, `wrap`, and the `Stream` they give. What happens when is `script`'s."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar

from pellucid.config import ClientConfig, ConfigSource, ServerConfig
from pellucid.connection import Connection
from pellucid.errors import UsageError
from pellucid.limits import CLOSE_TIMEOUT_SECONDS, CONNECT_TIMEOUT_SECONDS, HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.direct import DirectScript
from pellucid.net.driver import Driver, PauseAnswer, ThreadLock
from pellucid.net.eyeballs import Resolve
from pellucid.net.facts import StreamFacts
from pellucid.net.operations import RECEIVE_SIZE, Steps
from pellucid.net.setup import new_connection, observer_of, present, refuse_early_bytes, refuse_other_than_client
from pellucid.net.tcp import connect_tcp
from pellucid.trace import Observer

__all__ = ["Stream", "connect", "shaken", "wrap"]

T = TypeVar("T")


def connect(
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
    answer: PauseAnswer | None = None,
    early_data: bytes = b"",
) -> Stream:
    """Return a stream to *host*, verified and past the handshake.

    config:      None: verified against the system's roots, as is one that has neither trust nor verifier.
    server_name: whom the certificate must be for and SNI names; None: *host*.
    timeout, handshake_timeout: seconds for TCP with name resolution, and for the whole handshake; None: no end.
    resolve:     host → address(es), instead of asking the resolver.   local_address: (address, port) to connect from.
    trace:       observer of this connection; None: what config.trace gives.
    answer:      answers the pauses of a signer, verifier or resolver that said PENDING.
    early_data:  sent with the ClientHello, before the server has answered, if a session allows all of it (0-RTT). It
                 can be replayed, and is not sent again: `Stream.early_data` says whether the server took it.
    raises:      ConnectFailed (an OSError), TimeoutError, PeerError, AlertReceived, TruncatedStream.
    """
    refuse_other_than_client(config)
    observer = observer_of(config, trace)
    # Before the TCP connection: a mistake in the configuration costs no round trip.
    connection = new_connection(config, server_name or host, observer, port=port, early_data=early_data)
    sock = connect_tcp(host, port, timeout=timeout, local_address=local_address, resolve=resolve, trace=observer)
    return shaken(Stream(sock, connection, handshake_timeout=handshake_timeout, answer=answer, early_data=early_data))


def wrap(
    sock: socket.socket,
    config: ClientConfig | ServerConfig | ConfigSource | None = None,
    *,
    server_name: str | None = None,
    received: bytes = b"",
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    trace: Observer | None = None,
    answer: PauseAnswer | None = None,
    early_data: bytes = b"",
) -> Stream:
    """Return a stream over a connected socket, past the handshake: STARTTLS, proxies, socket pairs. Takes the socket.

    config:   a ServerConfig, or a source of one, makes it the server's end; else it is the client's, and *server_name*
              must be given.
    received: ciphertext that was read from the socket already. A client must have none, nor may any wait in
              the socket: a server that speaks before the ClientHello had it slipped in by somebody else.
    early_data: a client's, as for `connect`.
    raises:   UsageError for bytes that were there too early; the socket is closed then, as after any error.
    """
    try:
        config = present(config)
        if not isinstance(config, ServerConfig):
            if server_name is None:
                raise UsageError("a client names the server: server_name")
            refuse_early_bytes(sock, received)
        observer = observer_of(config, trace)
        connection = new_connection(config, server_name, observer, sock, early_data=early_data)
        if received:
            connection.receive_data(received)
    except BaseException:
        sock.close()
        raise
    return shaken(Stream(sock, connection, handshake_timeout=handshake_timeout, answer=answer, early_data=early_data))


def shaken(stream: Stream) -> Stream:
    """Return *stream* past its handshake; closed if that fails."""
    try:
        stream.do_handshake()
    except BaseException:
        stream.abort()
        raise
    return stream


class Stream(StreamFacts):
    """A TLS connection that blocks, with a socket's verbs. Any number of threads may read and write at a time.

    As a context manager it closes with close_notify, but after an exception without: the peer must not take for
    whole what was cut short. Reading ends (b"") with the peer's close_notify and nothing else: TruncatedStream where
    the transport ends without, AlertReceived where the peer gave up, which for a refused client certificate is only
    known after the handshake.
    timeout: seconds for each call, None for no end. A write that runs out of time ends the sending of this stream.
    """

    def __init__(
        self,
        sock: socket.socket,
        connection: Connection,
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
        answer: PauseAnswer | None = None,
        early_data: bytes = b"",
    ) -> None:
        self._socket = sock
        self._driver = Driver(sock, answer)
        script = DirectScript(connection, sock, handshake_timeout=handshake_timeout, early_data=early_data)
        super().__init__(script, sock)
        self._direct = script
        self.timeout: float | None = None

    # ---- data ----------------------------------------------------------------------------------------------

    def recv(self, size: int = RECEIVE_SIZE) -> bytes:
        """Return 1 to *size* bytes as soon as there are any; b"" after the peer's close_notify."""
        if size < 1:
            raise UsageError("a read asks for at least one byte")
        got = self._direct.read_now(size, wait=self.timeout is None)
        return got if isinstance(got, bytes) else self._run(got)

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        """Fill *buffer* from its start as `recv` would; return how many bytes that was."""
        view = memoryview(buffer).cast("B")
        data = self.recv(len(view))
        view[: len(data)] = data
        return len(data)

    def read_to_end(self, *, limit: int | None = None) -> bytes:
        """Return everything up to the peer's close_notify. Raises UsageError once it is more than *limit* bytes."""
        received = bytearray()
        for data in self:
            received += data
            if limit is not None and len(received) > limit:
                raise UsageError(f"the peer sent more than {limit} bytes")
        return bytes(received)

    def __iter__(self) -> Iterator[bytes]:
        """Yield data as it comes, until the peer's close_notify."""
        while data := self.recv():
            yield data

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of *data*; no other thread's data comes in between."""
        rest = self._direct.write_now(data, wait=self.timeout is None)
        if rest is not None:
            self._run(rest)

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send all of *data*; return how many bytes that was, as a socket does."""
        self.sendall(data)
        return memoryview(data).nbytes

    # ---- the connection ------------------------------------------------------------------------------------

    def do_handshake(self) -> None:
        """Shake hands, if it is not done yet; any other use does so too.

        A server that accepts early data is done as soon as it has: data may be read and written, and the rest goes on
        inside reading. See `early_bytes_read` and `wait_handshake_complete`.
        """
        self._run(self._script.handshake())

    def wait_handshake_complete(self) -> None:
        """Return once the handshake is complete: from then on this stream's early data is known to be no replay.

        What comes meanwhile is kept for reading. Raises what `do_handshake` does.
        """
        self._run(self._script.finish_handshake())

    def wait_for_ticket(self) -> bool:
        """Read until the server has sent a ticket for the next connection; data is kept for reading (256 KiB of it).

        False: the stream ended without one, or too much came before. TimeoutError where `timeout` is over: many servers
        send none.
        """
        return self._run(self._script.ticket())

    def key_update(self, *, request_peer: bool = False) -> None:
        """Change the sending key, and have the peer change its own if *request_peer* (RFC 9846 §4.7.3)."""
        self._run(self._script.key_update(request_peer=request_peer))

    def request_client_certificate(self, *, required: bool = False) -> None:
        """Server: ask for the client's certificate (RFC 9846 §4.7.2). Once a read found the answer, `peer` has it.

        required: an answer without one ends the connection. Raises UsageError where it cannot be asked for: see
        `Connection.request_client_certificate`.
        """
        self._run(self._script.request_client_certificate(required=required))

    def shutdown_write(self) -> None:
        """Send close_notify: nothing more will be written. Reading goes on (RFC 9846 §6.1)."""
        self._run(self._script.end_writing())

    def close(self) -> None:
        """Send close_notify, wait a little for the peer's end (about 0.1 s, 5 s at most), close the socket."""
        try:
            self._driver.run(self._script.close(), CLOSE_TIMEOUT_SECONDS)
        finally:
            self._close_socket()

    def abort(self) -> None:
        """Close the socket without close_notify: the peer sees a truncated stream."""
        try:
            self._driver.run(self._script.abort(), CLOSE_TIMEOUT_SECONDS)
        finally:
            self._close_socket()

    def settimeout(self, seconds: float | None) -> None:
        """Let each later call take at most *seconds*; None: no end."""
        self.timeout = seconds

    def gettimeout(self) -> float | None:
        return self.timeout

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 once closed. Readable does not mean that there is data."""
        return self._socket.fileno()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    # ---- the driver ----------------------------------------------------------------------------------------

    def _close_socket(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever still reads or writes
        for lock in (self._script.receiving, self._script.sending):
            if isinstance(lock, ThreadLock) and lock.acquire(timeout=1.0):
                lock.release()
        self._socket.close()

    def _run(self, steps: Steps[T]) -> T:
        try:
            return self._driver.run(steps, self.timeout)
        except OSError as error:
            if (told := self._told(error)) is error:
                raise
            raise told from error
