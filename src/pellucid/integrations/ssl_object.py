"""`ssl.SSLObject` over a Connection: it drives two `ssl.MemoryBIO`s of its caller's, and never waits."""

from __future__ import annotations

import ssl
import weakref
from typing import TYPE_CHECKING, Final, Self

from pellucid.crypto.provider import Buffer
from pellucid.integrations.ssl_engine import Engine, Facts
from pellucid.integrations.ssl_errors import WantRead, ZeroReturn
from pellucid.integrations.ssl_handle import Handle
from pellucid.integrations.ssl_hello import checked_context

if TYPE_CHECKING:
    from pellucid.integrations.ssl_context import SSLContext

__all__ = ["SSLObject"]

_STDLIB_CLASS: Final = ssl.SSLObject  # before anybody replaces it


class SSLObject(Facts):
    """One TLS connection between two buffers. `SSLContext.wrap_bio` makes them.

    Every call first takes what is in *incoming*, and leaves in *outgoing* what is to be sent, the alert after an error
    included. Not for two threads at once.
    """

    _engine: Engine
    _incoming: ssl.MemoryBIO
    _outgoing: ssl.MemoryBIO
    _alert_announced: bool
    _unwrapped: bool

    def __init__(self, *_: object, **__: object) -> None:
        raise TypeError(f"{type(self).__name__} does not have a public constructor: SSLContext.wrap_bio() makes them")

    @property  # type: ignore[misc]  # object's can be set
    def __class__(self) -> type:  # for who asks isinstance(_, ssl.SSLObject)
        return _STDLIB_CLASS

    @classmethod
    def _create(
        cls,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        engine: Engine,
        server_side: bool,
        server_hostname: str | None,
    ) -> Self:
        """Return the object of a new connection; `SSLContext.wrap_bio` calls it, of whatever class it was given."""
        self = cls.__new__(cls)
        self._engine = engine
        self._incoming = incoming
        self._outgoing = outgoing
        self._alert_announced = False
        self._unwrapped = False
        self.server_side = server_side
        self.server_hostname = server_hostname
        engine.owner = weakref.ref(self)
        if engine.watch is not None:
            # Of a handshake that its caller gives up, as after a timeout, nothing else tells here.
            weakref.finalize(self, engine.watch.over).atexit = False
        return self

    @property
    def _sslobj(self) -> Handle:
        return Handle(self._engine, self)

    @property
    def context(self) -> SSLContext:
        """The context; a server's SNI callback sets another one, whose certificates are then shown."""
        return self._tls.context

    @context.setter
    def context(self, context: SSLContext) -> None:
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
        if buffer is not None:
            return self._read_into(len, buffer)
        if len <= 0:
            if len < 0:
                raise ValueError("size should not be negative")
            return b""
        engine = self._engine
        if engine.pending:  # what came with it was answered when it came
            return engine.read(len) or b""
        try:
            self._receive()
            data = engine.read(len)
        finally:
            self._send()
        if data is None:
            raise WantRead
        if not data and engine.connection.closed:
            raise ZeroReturn  # as in ssl: both ends have closed, and this one knows
        return data

    def _read_into(self, size: int, buffer: bytearray | memoryview) -> int:
        with memoryview(buffer) as given, given.cast("B") as view:
            if not view.nbytes:
                return 0
            if 0 < size < view.nbytes:
                with view[:size] as part:
                    return self._fill(part)
            return self._fill(view)

    def _fill(self, target: memoryview) -> int:
        engine = self._engine
        try:
            if not engine.pending:
                self._receive()
            size = engine.read_into(target)
        finally:
            self._send()
        if size is None:
            raise WantRead
        if not size and engine.connection.closed:
            raise ZeroReturn
        return size

    def write(self, data: Buffer) -> int:
        """Put all of *data*, protected, into *outgoing*; return its size: trio and anyio do not look at that."""
        try:
            if not self.handshake_complete:
                self._receive()
            with memoryview(data) as given, given.cast("B") as view:
                sent = self._tls.write(view)
                while sent < len(view):
                    self._send()
                    with view[sent:] as rest:
                        sent += self._tls.write(rest)
                return sent
        finally:
            self._send()

    def unwrap(self) -> None:
        """Say close_notify and wait for the peer's: WantRead until it is there.

        What still comes can be read meanwhile; what was not read when `unwrap` is called again is dropped.
        A server that has answered early data waits for the end of the handshake first: tickets follow it.
        """
        engine = self._tls
        try:
            if not self._handshake_over():
                raise WantRead
            if engine.connection.closed:
                engine.drop()
            engine.say_goodbye()
            self._receive()
            engine.check()
        finally:
            self._send()
        if not engine.peer_closed:
            raise WantRead
        rest = engine.connection.trailing_data
        if rest and not self._unwrapped and not self._incoming.eof:  # at its end, it takes nothing back
            self._incoming.write(rest)  # it is not TLS's any more
        self._unwrapped = True

    def _handshake_over(self) -> bool:
        engine = self._tls
        if engine.negotiated is None or self.handshake_complete:
            return True
        engine.discard()
        self._receive()
        return engine.error is not None or engine.connection.handshake_complete

    def pending(self) -> int:
        """Return how many decrypted bytes can be read at once; 1 if it is the end that the next read tells of.

        uvloop reads only while this, or *incoming*, has something. Where OpenSSL leaves the close_notify in *incoming*
        until the data before it was read, it is out of there.
        """
        engine = self._tls
        return engine.pending or int(engine.ended and not engine.end_told)

    def _receive(self) -> None:
        incoming = self._incoming
        if self._engine.peer_closed:
            return  # what follows is not TLS's
        if incoming.pending:
            self._tls.feed(incoming.read())
        if incoming.eof:
            self._tls.feed(b"")

    def _send(self) -> None:
        if data := self._tls.take():
            self._outgoing.write(data)
