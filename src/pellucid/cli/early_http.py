"""`pellucid get --early-data`: a safe request travels with the ClientHello, and what happens if it was too early.

TLS never sends it again (RFC 9846 §4.3.10); HTTP does, here: after a rejection the same bytes once the handshake is
complete, or the request anew where another protocol was agreed on; after 425 the request without early data (RFC 8470).
"""

from __future__ import annotations

import socket
import time
from dataclasses import replace
from typing import Any, Final

import httpcore2
import httpx2

from pellucid.cli.http import Backend, PlainStream, TLSStream, shaken, socket_info
from pellucid.cli.sessions import EarlyReport
from pellucid.connection import Connection
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.net.setup import new_connection
from pellucid.net.sync import Stream

__all__ = ["EarlyTransport"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADER: Final = "early-data"
_TOO_EARLY: Final = 425


class _AnotherProtocol(Exception):
    """The server rejected the early data and agreed on another application protocol than the session's."""


class EarlyTransport(httpx2.BaseTransport):
    """Over *inner*, whose connections *backend* makes: the first request to a host goes early, if that can be.

    alpn: what is offered to servers.
    """

    def __init__(self, inner: httpx2.BaseTransport, backend: Backend, alpn: tuple[str, ...]) -> None:
        self.report = EarlyReport()
        self._inner = inner
        self._backend = backend
        self._alpn = alpn
        self._marked = False
        self._visited: set[tuple[str, int]] = set()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._marked:
            request.headers.pop(_HEADER, None)  # a redirect takes over the headers of the request before it
        if not self._goes_early(request):
            return self._inner.handle_request(request)
        request.headers[_HEADER] = "1"
        self._marked = True
        try:
            response = self._inner.handle_request(request)
        except _AnotherProtocol:
            del request.headers[_HEADER]
            return self._inner.handle_request(request)
        if response.status_code != _TOO_EARLY:
            return response
        # RFC 8470 §5.2: again, and not in early data. The connection is past its handshake, or a new one is made.
        self.report.too_early = True
        response.read()
        response.close()
        del request.headers[_HEADER]
        return self._inner.handle_request(request)

    def close(self) -> None:
        for unused in self._backend.prepared.values():
            unused.close()
        self._inner.close()

    def _goes_early(self, request: httpx2.Request) -> bool:
        """Whether *request* is sent early: it is safe, and a session allows it on a connection that is made for it."""
        url = request.url
        host, port = url.raw_host.decode("ascii"), url.port or 443
        if (host, port) in self._visited:
            return False  # there is a connection already
        if request.method not in _SAFE:
            self.report.reason = f"{request.method} is not a safe method"
            return False
        if "content-length" in request.headers or "transfer-encoding" in request.headers:
            self.report.reason = "the request has a body"
            return False
        self._visited.add((host, port))
        plain = self._backend.connect(host, port)
        early = _EarlyStart(plain, host, self._alpn, self.report)
        self._backend.prepared[host, port] = early
        return early.possible


class _EarlyStart(httpcore2.NetworkStream):
    """A TCP connection, and a TLS connection on it whose ClientHello is made and not sent."""

    def __init__(self, plain: PlainStream, host: str, alpn: tuple[str, ...], report: EarlyReport) -> None:
        self._plain = plain
        self._report = report
        config = replace(plain.backend.config, alpn=alpn)
        try:
            self._connection = new_connection(config, host, plain.observer, plain.socket, early_data=b"wanted")
            self._connection.start()
        except BaseException:
            plain.close()
            raise
        self.possible = self._connection.early_data_left > 0

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        plain = self._plain
        plain.refuse_early_bytes()
        stream = _EarlyStream(plain.socket, self._connection, plain.backend, self._report)
        if not self.possible:
            stream.shake_hands()
        return stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._plain.read(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._plain.write(buffer)

    def close(self) -> None:
        self._plain.close()

    def get_extra_info(self, info: str) -> Any:  # Any: httpcore2's
        return self._plain.get_extra_info(info)


class _EarlyStream(TLSStream):
    """What is written before the first read leaves with the ClientHello, as far as the session allows."""

    def __init__(self, sock: socket.socket, connection: Connection, backend: Backend, report: EarlyReport) -> None:
        self._socket = sock
        self._connection = connection
        self._report = report
        self._held = b""
        self._shaken = False
        super().__init__(Stream(sock, connection), backend)

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol of the session as long as no other is agreed on."""
        return self.negotiated.alpn if self._shaken else self._connection.early_data_protocol

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.shake_hands()
        return super().read(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not self._shaken:
            if len(self._held) + len(buffer) <= self._connection.early_data_left:
                self._held += buffer
                return
            self.shake_hands()
        super().write(buffer)

    def close(self) -> None:
        if self._shaken:
            super().close()
        else:
            self._socket.close()

    def get_extra_info(self, info: str) -> Any:  # Any: httpcore2's
        if info != "ssl_object" and not self._shaken:
            return socket_info(self._socket, info)
        return super().get_extra_info(info)

    def shake_hands(self) -> None:
        """Send the ClientHello with what was held back, shake hands, and send that again if it was rejected."""
        if self._shaken:
            return
        timeout = self._backend.clock.shaking()
        begun = time.monotonic()
        self.stream = Stream(self._socket, self._connection, handshake_timeout=timeout, early_data=self._held)
        try:
            shaken(self.stream.do_handshake)
        except BaseException:
            self.stream.abort()
            raise
        self._shaken = True
        self.handshake_seconds = time.monotonic() - begun
        outcome = self.stream.early_data
        self._report.accepted = outcome is EarlyDataOutcome.ACCEPTED
        self._report.reason = outcome.value
        self._report.sent = len(self._held)
        if self._held and not self._report.accepted:
            if self.negotiated.alpn != self._connection.early_data_protocol:
                self.close()
                raise _AnotherProtocol
            super().write(self._held)
        self._held = b""
