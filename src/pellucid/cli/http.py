"""HTTP over Pellucid: the network under httpx2. Connections are made by `pellucid.net`, and our errors come out whole.

httpx2 asks for a stream, has it turned into TLS and reads and writes; which HTTP is spoken, ALPN decides.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, TypeVar

import httpcore2
import httpx2

from pellucid.cli.common import CommandFailed
from pellucid.cli.routes import ConnectTo
from pellucid.config import ClientConfig
from pellucid.errors import AlertReceived, ProtocolVersion, TLSError, TruncatedStream, UsageError
from pellucid.handshake.actions import Negotiated
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_engine import Engine
from pellucid.limits import CONNECT_TIMEOUT_SECONDS, HANDSHAKE_TIMEOUT_SECONDS
from pellucid.net.eyeballs import ConnectFailed
from pellucid.net.operations import RECEIVE_SIZE, DeadlineExceeded
from pellucid.net.setup import refuse_early_bytes, with_system_trust
from pellucid.net.sync import Stream, wrap
from pellucid.net.tcp import connect_tcp
from pellucid.registry import AlertDescription
from pellucid.trace import Observer

__all__ = [
    "Backend",
    "Clock",
    "PlainStream",
    "TLSStream",
    "alpn_of",
    "client_over",
    "shaken",
    "socket_info",
]

_TICKET_SECONDS: Final = 0.25  # that a ticket is waited for beyond two round trips: many servers send none
_MAX_TICKET_SECONDS: Final = 2.0

T = TypeVar("T")


class Clock:
    """How much time is left: for connecting, and for everything. Seconds, None for no end."""

    def __init__(self, connect: float | None, total: float | None) -> None:
        self._connect = connect
        self._total = total
        self._end = None if total is None else time.monotonic() + total
        self._connected_by: float | None = None

    def connecting(self) -> float | None:
        """Return the seconds for TCP; the handshake has what is left of them."""
        self._connected_by = None if self._connect is None else time.monotonic() + self._connect
        return self._least(CONNECT_TIMEOUT_SECONDS if self._connect is None else self._connect)

    def shaking(self) -> float | None:
        """Return the seconds for the handshake."""
        left = HANDSHAKE_TIMEOUT_SECONDS
        if self._connected_by is not None:
            left = max(0.001, self._connected_by - time.monotonic())
        return self._least(left)

    def left(self) -> float | None:
        """Return the seconds left of all. Raises TimeoutError if there are none."""
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.over()
        return left

    def over(self) -> TimeoutError:
        return DeadlineExceeded(f"it took longer than {self._total:g} s")

    def _least(self, seconds: float) -> float:
        left = self.left()
        return seconds if left is None else min(seconds, left)


class Backend(httpcore2.NetworkBackend):
    """Makes the connections of a client.

    config: for every TLS connection; ALPN is what httpx2 wants.   observer: makes each connection's observer.
    keeps_sessions: whether a connection that is closed first waits a little for a ticket, for the next process.
    prepared: connections that were made ahead, by host and port: what is asked for next is one of these.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        clock: Clock,
        observer: Callable[[], Observer | None],
        connect_to: ConnectTo,
        keeps_sessions: bool = False,
    ) -> None:
        self.keeps_sessions = keeps_sessions
        self.prepared: dict[tuple[str, int], httpcore2.NetworkStream] = {}
        self.config = with_system_trust(config)
        self.clock = clock
        self.observer = observer
        self._connect_to = connect_to

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        prepared = self.prepared.pop((host, port), None)
        return self.connect(host, port) if prepared is None else prepared

    def connect(self, host: str, port: int) -> PlainStream:
        """Return a new TCP connection."""
        host, port, resolve = self._connect_to(host, port)
        observer = self.observer()
        try:
            sock = connect_tcp(host, port, timeout=self.clock.connecting(), resolve=resolve, trace=observer)
        except ConnectFailed:
            self.clock.left()  # where the whole time is over, that is what there is to say
            raise
        return PlainStream(sock, self, observer)


def client_over(backend: Backend, *, follow: bool, max_redirects: int, http2: bool = True) -> httpx2.Client:
    """Return the HTTP client whose connections, to proxies of the environment too, *backend* makes."""
    # httpx2 has no parameter for the network. The context is only asked to note the ALPN names.
    context: Any = _AlpnNames()
    client = httpx2.Client(
        verify=context, http2=http2, follow_redirects=follow, max_redirects=max_redirects, timeout=None
    )
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, httpx2.HTTPTransport):
            transport._pool._network_backend = backend
    return client


def alpn_of(*, http2: bool) -> tuple[str, ...]:
    """Return the names that httpcore2 offers."""
    return ("h2", "http/1.1") if http2 else ("http/1.1",)


class _AlpnNames:
    """What httpcore2 asks of an SSL context."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()

    def set_alpn_protocols(self, names: Iterable[str]) -> None:
        self.names = tuple(names)


class PlainStream(httpcore2.NetworkStream):
    """A TCP connection: to be turned into TLS, or to a proxy."""

    def __init__(self, sock: socket.socket, backend: Backend, observer: Observer | None) -> None:
        self.socket = sock
        self.backend = backend
        self.observer = observer

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.socket.settimeout(self.backend.clock.left())
        try:
            return self.socket.recv(max_bytes)
        except TimeoutError:
            raise self.backend.clock.over() from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.socket.settimeout(self.backend.clock.left())
        try:
            self.socket.sendall(buffer)
        except TimeoutError:
            raise self.backend.clock.over() from None

    def close(self) -> None:
        self.socket.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        config = _with_alpn(self.backend.config, ssl_context)
        self.refuse_early_bytes()
        begun = time.monotonic()
        stream = shaken(
            lambda: wrap(
                self.socket,
                config,
                server_name=server_hostname,
                handshake_timeout=self.backend.clock.shaking(),
                trace=self.observer,
            )
        )
        return TLSStream(stream, self.backend, time.monotonic() - begun)

    def refuse_early_bytes(self) -> None:
        """Raise CommandFailed, and close, if the server spoke before the ClientHello."""
        try:
            refuse_early_bytes(self.socket, b"")
        except UsageError as error:
            self.close()
            raise CommandFailed(error.reason, code=35) from error

    def get_extra_info(self, info: str) -> Any:  # Any: httpcore2's
        return socket_info(self.socket, info)


class TLSStream(httpcore2.NetworkStream):
    """A TLS connection. handshake_seconds: how long the handshake took, a round trip and more."""

    def __init__(self, stream: Stream, backend: Backend, handshake_seconds: float = 0.0) -> None:
        self.stream = stream
        self.handshake_seconds = handshake_seconds
        self._backend = backend

    @property
    def negotiated(self) -> Negotiated:
        return self.stream.negotiated

    def selected_alpn_protocol(self) -> str | None:
        """Return what httpcore2 chooses the HTTP version by."""
        return self.negotiated.alpn

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.stream.settimeout(self._backend.clock.left())
        try:
            return self.stream.recv(max_bytes)
        except DeadlineExceeded as error:
            raise self._backend.clock.over() from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.settimeout(self._backend.clock.left())
        try:
            self.stream.sendall(buffer)
        except DeadlineExceeded as error:
            raise self._backend.clock.over() from error
        except TLSError:
            raise
        except OSError as error:  # httpcore2 still reads the response of a server that has stopped listening
            raise httpcore2.WriteError(str(error)) from error

    def close(self) -> None:
        if self._backend.keeps_sessions:
            self._wait_for_ticket()
        self.stream.close()

    def _wait_for_ticket(self) -> None:
        """Let a ticket arrive, as it may after the response only: without it the next process has no session."""
        self.stream.settimeout(min(_MAX_TICKET_SECONDS, _TICKET_SECONDS + 2 * self.handshake_seconds))
        with contextlib.suppress(OSError):  # it does without, then
            self.stream.wait_for_ticket()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """Return TLS inside of this TLS: the other side of a proxy spoken to over HTTPS."""
        config = replace(_with_alpn(self._backend.config, ssl_context), trace=self._backend.observer)
        engine = SSLContext(config).new_engine(server_side=False, server_hostname=server_hostname)
        inner = _InnerStream(self, engine)
        shaken(inner.do_handshake)
        return inner

    def get_extra_info(self, info: str) -> Any:  # Any: httpcore2's
        if info == "ssl_object":
            return self
        return _stream_info(self.stream, info)


class _InnerStream(httpcore2.NetworkStream):
    """TLS that runs inside another stream."""

    def __init__(self, outer: TLSStream, engine: Engine) -> None:
        self._outer = outer
        self._engine = engine

    @property
    def negotiated(self) -> Negotiated | None:
        return self._engine.connection.negotiated

    def selected_alpn_protocol(self) -> str | None:
        return None if self.negotiated is None else self.negotiated.alpn

    def do_handshake(self) -> None:
        engine = self._engine
        engine.connection.start()
        try:
            while engine.error is None and not engine.connection.handshake_complete:
                self._send()
                engine.feed(self._outer.read(RECEIVE_SIZE))
            self._send()
            engine.check()
        except BaseException:
            self._outer.close()
            raise

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while (data := self._engine.read(max_bytes)) is None:
            self._send()
            self._engine.feed(self._outer.read(RECEIVE_SIZE))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        while view:
            view = view[self._engine.write(view) :]
            self._send()

    def close(self) -> None:
        try:
            self._engine.close()
            self._send()
        finally:
            self._outer.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        raise CommandFailed("TLS in TLS in TLS is not supported", code=2)

    def get_extra_info(self, info: str) -> Any:  # Any: httpcore2's
        return self if info == "ssl_object" else self._outer.get_extra_info(info)

    def _send(self) -> None:
        if data := self._engine.take():
            self._outer.write(data)


def _with_alpn(config: ClientConfig, context: Any) -> ClientConfig:
    # To a proxy httpcore2 gives a context of its own making, and wants HTTP/1.1.
    return replace(config, alpn=context.names if isinstance(context, _AlpnNames) else ("http/1.1",))


def shaken(work: Callable[[], T]) -> T:
    """Return what *work*, a handshake, returns. What ended it without a verdict becomes a sentence, exit code 35."""
    try:
        return work()
    except (AlertReceived, ProtocolVersion) as error:
        old = isinstance(error, ProtocolVersion) or error.description == AlertDescription.PROTOCOL_VERSION
        if not old:
            raise
        raise CommandFailed(
            f"the server does not speak TLS 1.3, and nothing older is spoken here ({error})", code=35
        ) from error
    except TimeoutError:
        raise
    except TruncatedStream as error:
        raise CommandFailed(f"the TLS handshake failed: {error}", code=35) from error
    except TLSError:
        raise
    except OSError as error:
        raise CommandFailed(f"the TLS handshake failed: {error.strerror or error}", code=35) from error


def _stream_info(stream: Stream, info: str) -> Any:  # Any: httpcore2's
    if info == "client_addr":
        return stream.local_address
    if info == "server_addr":
        return stream.peer_address
    return _readable(stream.fileno()) if info == "is_readable" else None


def socket_info(sock: socket.socket, info: str) -> Any:  # Any: httpcore2's
    if info == "client_addr":
        return sock.getsockname()
    if info == "server_addr":
        return sock.getpeername()
    return _readable(sock.fileno()) if info == "is_readable" else None


def _readable(descriptor: int) -> bool:
    """Return whether an idle connection has something to read: then it has ended, or will not be trusted with more."""
    if descriptor < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])
