"""`ssl.SSLObject` over a Connection: it drives two `ssl.MemoryBIO`s of its caller's, and never waits."""

from __future__ import annotations

import ssl
import weakref
from typing import TYPE_CHECKING

from pellucid.crypto.provider import Buffer
from pellucid.integrations.ssl_engine import Engine, Facts
from pellucid.integrations.ssl_errors import WantRead
from pellucid.integrations.ssl_hello import checked_context

if TYPE_CHECKING:
    from pellucid.integrations.ssl_context import SSLContext

__all__ = ["SSLObject"]


class SSLObject(Facts):
    """One TLS connection between two buffers. `SSLContext.wrap_bio` makes them.

    Every call first takes what is in *incoming*, and leaves in *outgoing* what is to be sent, the alert after an error
    included. Not for two threads at once.
    """

    def __init__(
        self,
        engine: Engine,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        server_side: bool,
        server_hostname: str | None,
    ) -> None:
        self._engine = engine
        engine.owner = weakref.ref(self)
        self._incoming = incoming
        self._outgoing = outgoing
        self._alert_announced = False
        self.server_side = server_side
        self.server_hostname = server_hostname
        if engine.watch is not None:
            # Of a handshake that its caller gives up, as after a timeout, nothing else tells here.
            weakref.finalize(self, engine.watch.over).atexit = False

    @property
    def context(self) -> SSLContext:
        return self._tls.context

    @context.setter
    def context(self, context: SSLContext) -> None:
        """Go on with the certificates of another context: for a server's `sni_callback`."""
        self._tls.context = checked_context(context)

    def do_handshake(self) -> None:
        """Go on with the handshake. Raises WantRead until it is complete, or early data is accepted by this server."""
        try:
            self._receive()
            self._tls.handshake()
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError:
            # asyncio does not send what is left in *outgoing* once the handshake has failed. A server can afford to
            # fail at the next call, so that the client gets the alert that says why it was refused.
            if self.server_side and not self._alert_announced:
                self._alert_announced = True
                if self._tls.has_output():
                    raise WantRead from None
            raise
        finally:
            self._send()

    def read(self, len: int = 1024, buffer: bytearray | memoryview | None = None) -> bytes | int:  # noqa: A002
        """Return 1 to *len* bytes, or how many were put into *buffer*; b"" or 0 after the peer's close_notify.

        Raises WantRead, SSLEOFError where the stream ended without close_notify, and the peer's other errors.
        """
        if buffer is None:
            return self._read(len)
        with memoryview(buffer) as given, given.cast("B") as view:
            size = view.nbytes if len <= 0 or len > view.nbytes else len
            data = self._read(size)
            view[: data.__len__()] = data
            return data.__len__()

    def _read(self, size: int) -> bytes:
        if size <= 0:
            return b""
        try:
            if not self._tls.pending:
                self._receive()
            data = self._tls.read(size)
        finally:
            self._send()
        if data is None:
            raise WantRead
        return data

    def write(self, data: Buffer) -> int:
        """Put *data*, protected, into *outgoing*; return how much of it: all, or 256 KiB of more."""
        try:
            if not self.handshake_complete:
                self._receive()
            return self._tls.write(data)
        finally:
            self._send()

    def unwrap(self) -> None:
        """Say close_notify and wait for the peer's: WantRead until it is there. Data that still comes is dropped.

        A server that has answered early data waits for the end of the handshake first: tickets follow it.
        """
        engine = self._tls
        try:
            if not self._handshake_over():
                raise WantRead
            engine.close()
            self._receive()
            engine.check()
        finally:
            self._send()
        if not engine.peer_closed:
            raise WantRead

    def _handshake_over(self) -> bool:
        engine = self._tls
        if engine.negotiated is None or self.handshake_complete:
            return True
        engine.discard()
        self._receive()
        return engine.error is not None or engine.connection.handshake_complete

    def pending(self) -> int:
        """Return how many decrypted bytes can be read at once."""
        return self._tls.pending

    def _receive(self) -> None:
        incoming = self._incoming
        if incoming.pending:
            self._tls.feed(incoming.read())
        if incoming.eof:
            self._tls.feed(b"")

    def _send(self) -> None:
        if data := self._tls.take():
            self._outgoing.write(data)
