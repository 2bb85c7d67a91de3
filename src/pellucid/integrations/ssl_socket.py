"""`ssl.SSLSocket` over a Connection: a real socket that reads and writes through TLS, in every timeout mode."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pellucid.crypto.provider import Buffer
from pellucid.errors import TLSError
from pellucid.integrations.ssl_engine import Engine, Facts
from pellucid.integrations.ssl_errors import ConfigurationError, WantRead, WantWrite, ssl_error
from pellucid.integrations.ssl_hello import checked_context
from pellucid.integrations.ssl_session import SSLSession
from pellucid.net.setup import socket_address
from pellucid.net.tcp import trace_wrapped
from pellucid.net.trouble import explained
from pellucid.trace import Role

if TYPE_CHECKING:
    from pellucid.integrations.ssl_context import SSLContext

__all__ = ["SSLSocket"]

_RECEIVE_SIZE: Final = 2**16
_DONT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)


class SSLSocket(Facts, socket.socket):
    """A connected socket under TLS, or a listening one whose `accept` gives such sockets. It takes *sock* over.

    The timeout is the socket's: None waits, 0 raises WantRead or WantWrite, other values raise TimeoutError. After a
    write that ran out of time no more can be written, for nobody knows how much of a record was sent; after WantWrite
    the same data is to be written again. One thread may read while another writes.
    """

    def __init__(
        self,
        context: SSLContext,
        sock: socket.socket,
        *,
        server_side: bool,
        server_hostname: str | None,
        handshake: bool,
        suppress_ragged_eofs: bool,
        session: SSLSession | None = None,
    ) -> None:
        timeout = sock.gettimeout()
        socket.socket.__init__(self, sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.settimeout(timeout)
        self._context = context
        self._given_session = session
        self.server_side = server_side
        self.server_hostname = server_hostname
        self.do_handshake_on_connect = handshake
        self.suppress_ragged_eofs = suppress_ragged_eofs
        self._engine: Engine | None = None
        self._core = threading.RLock()  # around the engine; never held while waiting
        self._reading = threading.RLock()
        self._writing = threading.RLock()
        self._unsent = memoryview(b"")
        self._sealed = 0
        """bytes of a write that raised WantWrite: they are sealed, and partly sent"""
        self._broken = False
        try:
            if self._connected():
                self._begin()
        except BaseException:
            self.close()
            raise

    @property  # type: ignore[misc]  # object's can be set
    def __class__(self) -> type:  # httpcore and gunicorn ask isinstance(_, ssl.SSLSocket)
        return ssl.SSLSocket

    @property
    def _sslobj(self) -> SSLSocket | None:
        """Where httpcore looks for what was agreed on. None: not connected."""
        return None if self._engine is None else self

    @property
    def context(self) -> SSLContext:
        """The context; a server's `sni_callback` may set another one, whose certificates are shown then."""
        return self._context

    @context.setter
    def context(self, context: SSLContext) -> None:
        self._context = checked_context(context)
        if self._engine is not None:
            self._engine.context = context

    # ---- connecting ------------------------------------------------------------------------------------------------

    def _connected(self) -> bool:
        try:
            self.getpeername()
        except OSError:  # it listens, or is to be connected later
            return False
        return True

    def _begin(self) -> None:
        self._engine = self._context.new_engine(
            server_side=self.server_side, server_hostname=self.server_hostname, session=self._given_session
        )
        self._engine.owner = weakref.ref(self)
        if self._engine.observer is not None:
            trace_wrapped(self, self._engine.observer, Role.SERVER if self.server_side else Role.CLIENT)
        if self.do_handshake_on_connect:
            if self.gettimeout() == 0.0:
                raise ValueError("do_handshake_on_connect should not be specified for non-blocking sockets")
            self.do_handshake()

    def connect(self, address: Any) -> None:  # Any: as socket.connect, whose addresses depend on the family
        if self.server_side:
            raise ValueError("can't connect in server-side mode")
        if self._engine is not None:
            raise ValueError("attempt to connect already-connected SSLSocket!")
        super().connect(address)
        self._begin()

    def connect_ex(self, address: Any) -> int:  # Any: see connect
        if self.server_side or self._engine is not None:
            raise ValueError("can't connect in server-side mode, nor a connected socket")
        code = super().connect_ex(address)
        if code == 0:
            self._begin()
        return code

    def accept(self) -> tuple[SSLSocket, Any]:  # Any: an address, as socket.accept's
        """Return (a socket past its handshake, the client's address)."""
        plain, address = super().accept()
        try:
            wrapped = self._context.wrap_socket(
                plain,
                server_side=True,
                do_handshake_on_connect=self.do_handshake_on_connect,
                suppress_ragged_eofs=self.suppress_ragged_eofs,
            )
        except BaseException:
            plain.close()
            raise
        return wrapped, address

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands. block: wait even if the socket's timeout is 0."""
        timeout = self.gettimeout()
        if block and timeout == 0.0:
            self.settimeout(None)
        try:
            with self._reading:
                self._shake_hands()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except OSError:  # the network's errors, too, are the end of a handshake
            if self._engine is not None and self._engine.watch is not None:
                self._engine.watch.over()
            raise
        finally:
            if block and timeout == 0.0:
                self.settimeout(timeout)

    def _shake_hands(self) -> None:
        engine = self._tls
        while True:
            try:
                with self._core:
                    engine.handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            except ssl.SSLError:
                self._last_words()
                raise
            else:
                self._flush_last(engine)
                return

    def _flush_last(self, engine: Engine) -> None:
        """Send the end of our flight. Of a server that is tickets: a client that has left already wants none."""
        try:
            self._flush()
        except ssl.SSLError:
            raise
        except OSError:
            if engine.connection.role is not Role.SERVER:
                raise
            # Noted as broken: the next write says so, and the next read finds what the client said before it left.

    # ---- reading ---------------------------------------------------------------------------------------------------

    def read(self, len: int = 1024, buffer: bytearray | memoryview | None = None) -> bytes | int:  # noqa: A002
        """Return 1 to *len* bytes, or how many were put into *buffer*; b"" or 0 at the end of the peer's data."""
        if buffer is None:
            return self.recv(len)
        return self.recv_into(buffer, len)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        _no_flags(flags, "recv")
        if self._engine is None:
            return super().recv(buflen)
        return self._receive(buflen)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:  # Any: a writable buffer
        _no_flags(flags, "recv_into")
        with memoryview(buffer) as given, given.cast("B") as view:
            size = min(nbytes or view.nbytes, view.nbytes)
            if self._engine is None:
                return super().recv_into(view, size)
            data = self._receive(size)
            view[: len(data)] = data
            return len(data)

    def _receive(self, size: int) -> bytes:
        if size <= 0:
            return b""
        engine = self._tls
        with self._reading:
            while True:
                try:
                    with self._core:
                        data = engine.read(size)
                except ssl.SSLWantReadError:
                    self._shake_hands()
                    continue
                except ssl.SSLEOFError:
                    if self.suppress_ragged_eofs:
                        return b""
                    raise
                except ssl.SSLError:
                    self._last_words()
                    raise
                if data is not None:
                    self._flush_if_free()
                    return data
                self._flush_if_free()
                self._fill()

    def _fill(self) -> None:
        """Wait for bytes of the peer, and take them."""
        try:
            data = super().recv(_RECEIVE_SIZE)
        except BlockingIOError:
            raise WantRead from None
        except OSError as error:
            raise self._explained(error) from error
        with self._core:
            self._tls.feed(data)

    def _explained(self, error: OSError) -> OSError:
        """Return *error* as one that has a report."""
        peer = socket_address(self.getpeername)
        return explained(error, self._tls.connection, peer=peer, seconds=self.gettimeout())

    def verify_client_post_handshake(self) -> None:
        """Server: ask for the client's certificate, at once; the next reads find the answer."""
        with self._core:
            super().verify_client_post_handshake()
        self._flush_if_free()

    def pending(self) -> int:
        """Return how many decrypted bytes can be read at once: look here before waiting for the descriptor."""
        return 0 if self._engine is None else self._engine.pending

    # ---- writing ---------------------------------------------------------------------------------------------------

    def write(self, data: Buffer) -> int:
        return self.send(data)

    def send(self, data: Any, flags: int = 0) -> int:  # Any: a readable buffer
        """Send *data*; return how much of it: all, or 256 KiB of more."""
        _no_flags(flags, "send")
        if self._engine is None:
            return super().send(data)
        self._ready()
        with self._writing:
            if self._sealed:
                self._flush()
                size, self._sealed = self._sealed, 0
                return size
            self._writable()
            try:
                with self._core:
                    size = self._tls.write(data)
            except ssl.SSLError:
                self._last_words()
                raise
            self._sealed = size
            self._flush()
            self._sealed = 0
        self._flush_if_free()
        return size

    def sendall(self, data: Any, flags: int = 0) -> None:  # Any: a readable buffer
        _no_flags(flags, "sendall")
        if self._engine is None:
            super().sendall(data)
            return
        self._ready()
        with self._writing, memoryview(data) as given, given.cast("B") as view:
            at = 0
            while at < len(view):
                with view[at:] as rest:
                    at += self.send(rest)

    def sendfile(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:  # type: ignore[override]
        """Send a file's content through TLS: the kernel's sendfile would send it in plaintext."""
        if self._engine is None:
            return super().sendfile(file, offset, count)
        if offset:
            file.seek(offset)
        sent = 0
        while count is None or sent < count:
            data = file.read(_RECEIVE_SIZE if count is None else min(_RECEIVE_SIZE, count - sent))
            if not data:
                break
            self.sendall(data)
            sent += len(data)
        return sent

    def _ready(self) -> None:
        if self._tls.negotiated is None:
            self.do_handshake()

    def _writable(self) -> None:
        if self._broken:
            raise ssl_error(TLSError("an earlier write was cut short; nothing more can be sent"))

    def _flush(self) -> None:
        """Send all there is to send. WantWrite if the socket takes no more; after a timeout sending is over."""
        with self._writing:
            while True:
                if not self._unsent:
                    with self._core:
                        self._unsent = memoryview(self._tls.take())
                    if not self._unsent:
                        return
                self._writable()
                try:
                    sent = super().send(self._unsent)
                except BlockingIOError:
                    raise WantWrite from None
                except OSError as error:
                    self._broken = True
                    raise self._explained(error) from error
                self._unsent = self._unsent[sent:]

    def _flush_if_free(self) -> None:
        """Send what reading produced (KeyUpdate, tickets), unless a writer is at it: who writes looks again after."""
        while not self._broken:
            with self._core:
                if not self._unsent and not self._tls.has_output():
                    return
            if not self._writing.acquire(blocking=False):
                return
            try:
                with contextlib.suppress(ssl.SSLWantWriteError):  # there will be room at the next call
                    self._flush()
                    continue
                return
            finally:
                self._writing.release()

    def _last_words(self) -> None:
        """Send what fits of what is to be sent, an alert mostly, without waiting: the error to come is what matters."""
        if not self._writing.acquire(blocking=False):
            return
        try:
            with self._core:
                data = bytes(self._unsent) + self._tls.take()
            self._unsent = memoryview(b"")
            if data and not self._broken:
                self._broken = super().send(data, _DONT_WAIT) < len(data)
        except OSError:  # the peer is gone, or takes nothing: there is nobody to be told
            self._broken = True
        finally:
            self._writing.release()

    # ---- closing ---------------------------------------------------------------------------------------------------

    def unwrap(self) -> socket.socket:
        """Say close_notify, wait for the peer's, and return the plain socket. What is still sent is dropped."""
        engine = self._tls
        with self._core:
            engine.close()
        self._flush()
        with self._reading:
            while not engine.peer_closed:
                with self._core:
                    engine.check()
                self._fill()
        timeout = self.gettimeout()
        plain = socket.socket(self.family, self.type, self.proto, fileno=self.detach())
        plain.settimeout(timeout)
        self._engine = None
        return plain

    def shutdown(self, how: int) -> None:
        """As a socket's; close_notify goes first where writing ends."""
        if how != socket.SHUT_RD:
            self._say_goodbye()
        super().shutdown(how)

    def _real_close(self) -> None:  # not in typeshed; makefile's files come here last
        self._say_goodbye()
        super()._real_close()  # type: ignore[misc]

    def _say_goodbye(self) -> None:
        """Send close_notify if there is room for it (RFC 9846 §6.1): closing does not wait."""
        engine = self._engine
        if engine is not None and engine.error is None and engine.negotiated is not None:
            with self._core:
                engine.close()
            self._last_words()

    # ---- what a socket can do and TLS cannot -----------------------------------------------------------------------

    def dup(self) -> SSLSocket:
        raise NotImplementedError("a TLS connection cannot be duplicated")

    def recvfrom(self, *_: Any, **__: Any) -> Any:
        raise ValueError("recvfrom is not for TLS")

    def recvfrom_into(self, *_: Any, **__: Any) -> Any:
        raise ValueError("recvfrom_into is not for TLS")

    def recvmsg(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("recvmsg is not for TLS")

    def recvmsg_into(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("recvmsg_into is not for TLS")

    def sendto(self, *_: Any, **__: Any) -> Any:
        raise ValueError("sendto is not for TLS")

    def sendmsg(self, buffers: Iterable[Any], *_: Any, **__: Any) -> Any:
        raise NotImplementedError("sendmsg is not for TLS")


def _no_flags(flags: int, name: str) -> None:
    if flags:
        raise ConfigurationError(f"{name} takes no flags on a TLS socket")
