"""A blocking listener: accepts without waiting for anybody's handshake, and survives what accepting can meet."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final

from pellucid.config import ConfigSource, ServerConfig, current_config
from pellucid.connection import Connection
from pellucid.errors import UsageError
from pellucid.limits import HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.driver import PauseAnswer
from pellucid.net.operations import DeadlineExceeded
from pellucid.net.setup import observer_of, send_at_once, socket_address
from pellucid.net.sync import Stream, shaken
from pellucid.net.tcp import bind_listener, trace_accepted
from pellucid.net.trouble import log_own_fault
from pellucid.trace import Observer, unwatched

__all__ = ["BACKLOG", "EXHAUSTED", "GONE", "Listener", "listen"]

BACKLOG: Final = 1024
PAUSE_SECONDS: Final = 0.1
# accept(2): the client went away before it was accepted.
GONE: Final = frozenset(
    getattr(errno, name, errno.ECONNABORTED)
    for name in (
        "ECONNABORTED",
        "EPROTO",
        "ENETDOWN",
        "ENOPROTOOPT",
        "EHOSTDOWN",
        "ENONET",
        "EHOSTUNREACH",
        "EOPNOTSUPP",
        "ENETUNREACH",
        "EINTR",
        "EPERM",
        "ECONNRESET",
    )
)
# There is no descriptor or memory left: others have to close first.
EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def listen(
    host: str | None,
    port: int,
    config: ServerConfig | ConfigSource,
    *,
    backlog: int = BACKLOG,
    handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
    trace: Callable[[], Observer | None] | None = None,
    answer: PauseAnswer | None = None,
) -> Listener:
    """Return a listener on *host* (None: every address) and *port* (0: any that is free; see `address`).

    config:            a ServerConfig, or a source that is asked for one at each connection: `ReloadingConfig`.
    handshake_timeout: seconds for each handshake as a whole, from when it starts.
    trace:             called for each connection, returns its observer or None; None: what config.trace gives.
    answer:            answers the pauses of a signer, verifier or resolver that said PENDING.
    """
    watched = trace is not None or current_config(config).trace is not None
    sock, unavailable = bind_listener(host, port, backlog=backlog, keep_syn=watched)
    return Listener(
        sock, config, handshake_timeout=handshake_timeout, trace=trace, answer=answer, unavailable=unavailable
    )


class Listener:
    """Gives a Stream for each client. May be closed from another thread: `accept` then raises UsageError."""

    def __init__(
        self,
        sock: socket.socket,
        config: ServerConfig | ConfigSource,
        *,
        handshake_timeout: float | None = HANDSHAKE_TIMEOUT_SECONDS,
        trace: Callable[[], Observer | None] | None = None,
        answer: PauseAnswer | None = None,
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
        self._wake, self._woken = socket.socketpair()
        self._accepting = threading.RLock()  # a signal handler may close while its own thread accepts
        self._closed = False

    @property
    def address(self) -> tuple[str, int]:
        """(address, port) clients connect to."""
        return self._address

    def accept(self, *, handshake: bool = False, timeout: float | None = None) -> Stream:
        """Return the next client's stream.

        handshake: shake hands first. Without, the stream's first use does, in whatever thread that is, so that
                   one slow client holds nobody up.
        timeout:   seconds to wait for a client; TimeoutError after that.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._accepting:
            sock = self._next(deadline)
        try:
            stream = self._stream(sock)
        except BaseException:
            sock.close()
            raise
        return shaken(stream) if handshake else stream

    def __iter__(self) -> Iterator[Stream]:
        """Yield streams, their handshakes not done yet, until the listener is closed."""
        while not self._closed:
            try:
                stream = self.accept()
            except UsageError:
                if self._closed:
                    return
                raise
            yield stream

    def serve(
        self,
        handler: Callable[[Stream], object],
        *,
        max_connections: int = 256,
        on_error: Callable[[Stream, Exception], object] | None = None,
    ) -> None:
        """Run *handler* in a thread for each client, handshake included, until the listener is closed.

        max_connections: at a time; further clients wait in the backlog.
        on_error:        told of what handshake or handler raised. Without it a broken connection (OSError) is passed
                         over, logged under `pellucid.server` only if this end is at fault, as where a resolver raised;
                         and anything else goes to threading.excepthook. Where no thread can be started, the client is
                         let go of, on_error is told, and there is a short pause.
        """
        places = threading.BoundedSemaphore(max_connections)

        def work(stream: Stream) -> None:
            try:
                with stream:
                    stream.do_handshake()
                    handler(stream)
            except Exception as error:
                if on_error is not None:
                    on_error(stream, error)
                elif not isinstance(error, OSError):
                    raise
                else:
                    log_own_fault(error)
            finally:
                places.release()

        while not self._closed:
            places.acquire()
            try:
                stream = self.accept()
                thread = threading.Thread(target=work, args=(stream,), name="pellucid-connection", daemon=True)
            except BaseException as error:
                places.release()
                if self._closed and isinstance(error, UsageError):
                    return
                raise
            try:
                thread.start()
            except RuntimeError as error:
                places.release()
                stream.abort()
                if on_error is not None:
                    on_error(stream, error)
                self._wait(None, self._woken, seconds=PAUSE_SECONDS)

    def close(self) -> None:
        """Stop accepting. Streams that were accepted go on."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._wake.send(b"\0")
        with self._accepting:
            for sock in (self._socket, self._wake, self._woken):
                sock.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def closed(self) -> bool:
        return self._closed

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, deadline: float | None) -> socket.socket:
        while True:
            if self._closed:
                raise UsageError("the listener is closed")
            try:
                return self._socket.accept()[0]
            except BlockingIOError:
                self._wait(deadline, self._socket, self._woken)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    # The clients wait in the backlog; to try again at once would only burn time.
                    self._wait(deadline, self._woken, seconds=PAUSE_SECONDS)
                elif error.errno not in GONE and self._socket.fileno() >= 0:
                    raise

    def _wait(self, deadline: float | None, *sockets: socket.socket, seconds: float | None = None) -> None:
        if deadline is not None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise DeadlineExceeded("no client came in time")
            seconds = remaining if seconds is None else min(seconds, remaining)
        if hasattr(select, "poll"):
            poll = select.poll()
            for sock in sockets:
                if sock.fileno() >= 0:
                    poll.register(sock, select.POLLIN)
            poll.poll(None if seconds is None else seconds * 1000)
        else:
            select.select([sock for sock in sockets if sock.fileno() >= 0], [], [], seconds)

    def _stream(self, sock: socket.socket) -> Stream:
        send_at_once(sock)
        config = current_config(self._config)
        trace = observer_of(config, self._trace() if self._trace is not None else None)
        if trace is not None:
            trace_accepted(sock, trace, self._unavailable)
        peer = socket_address(sock.getpeername)[0]
        connection = Connection.server(config, peer_address=peer, trace=unwatched if trace is None else trace)
        return Stream(sock, connection, handshake_timeout=self._handshake_timeout, answer=self._answer)
