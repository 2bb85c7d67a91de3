"""`ssl.SSLSocket` over a Connection: a real socket that reads and writes through TLS, in every timeout mode."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import ssl
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from pellucid.crypto.provider import Buffer
from pellucid.errors import TLSError
from pellucid.handshake.actions import Negotiated
from pellucid.integrations.forks import Forks
from pellucid.integrations.ssl_direct import receive_record
from pellucid.integrations.ssl_engine import Engine, Facts
from pellucid.integrations.ssl_errors import ConfigurationError, PlaintextFirst, WantRead, WantWrite, ssl_error
from pellucid.integrations.ssl_handle import Handle
from pellucid.integrations.ssl_hello import checked_context
from pellucid.integrations.ssl_plain import PlainOnly
from pellucid.integrations.ssl_session import SSLSession
from pellucid.limits import MAX_PLAINTEXT
from pellucid.net.setup import socket_address
from pellucid.net.tcp import trace_wrapped
from pellucid.net.trouble import explained
from pellucid.trace import Role

if TYPE_CHECKING:
    from pellucid.integrations.ssl_context import SSLContext

__all__ = ["SSLSocket"]

_RECEIVE_SIZE: Final = 2**16
_MUCH: Final = 2**14  # a record has no more data: who wants more is given what several have
_STDLIB_CLASS: Final = ssl.SSLSocket  # before anybody replaces it
_DONT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)


class SSLSocket(Facts, PlainOnly):
    """A connected socket under TLS, or a listening one whose `accept` gives such sockets. It takes *sock* over.

    The timeout is the socket's: None waits, 0 raises WantRead or WantWrite, other values raise TimeoutError. After a
    write that ran out of time no more can be written, for nobody knows how much of a record was sent; after WantWrite
    the same data is to be written again. One thread may read while another writes.
    """

    server_side: bool
    server_hostname: str | None
    do_handshake_on_connect: bool
    suppress_ragged_eofs: bool

    def __init__(self, *_: object, **__: object) -> None:
        raise TypeError(
            f"{type(self).__name__} does not have a public constructor: SSLContext.wrap_socket() makes them"
        )

    @classmethod
    def _create(
        cls,
        sock: socket.socket,
        *,
        context: SSLContext,
        server_side: bool,
        server_hostname: str | None,
        do_handshake_on_connect: bool,
        suppress_ragged_eofs: bool,
        session: SSLSession | None = None,
    ) -> Self:
        """Take *sock* over, and shake hands if it is connected; `SSLContext.wrap_socket` calls it."""
        timeout = sock.gettimeout()
        self = cls.__new__(cls)
        socket.socket.__init__(self, sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.server_side = server_side
        self.server_hostname = server_hostname
        self.do_handshake_on_connect = do_handshake_on_connect
        self.suppress_ragged_eofs = suppress_ragged_eofs
        self._prepare(context, session)
        try:
            self._connected = self._is_connected()
            self.settimeout(timeout)
            if self._connected:
                self._begin()
                self._shake_hands_at_once()
        except BaseException:
            self.close()
            raise
        return self

    def _prepare(self, context: SSLContext, session: SSLSession | None) -> None:
        self._context = context
        self._given_session = session
        self._engine: Engine | None = None
        self._under_tls = False
        """whether reading and writing go through TLS now: from connecting to `unwrap` or `close`"""
        self._unwrapped = False
        self._after = b""
        """what came after the peer's close_notify: not TLS's any more"""
        self._connected = False
        self._core = threading.RLock()  # around the engine; never held while waiting
        # Taken in this order: _shaking, _reading, _writing. Who reads or writes shakes hands before taking its own:
        # nobody who waits for data, or for room, holds up the handshake or who waits for its end.
        self._shaking = threading.RLock()
        self._reading = threading.RLock()
        self._writing = threading.RLock()
        self._unsent = memoryview(b"")
        self._sealed = 0
        """bytes of a write that raised WantWrite: they are sealed, and partly sent"""
        self._broken = False
        self._forks = Forks.count

    @property  # type: ignore[misc]  # object's can be set
    def __class__(self) -> type:  # httpcore and gunicorn ask isinstance(_, ssl.SSLSocket)
        return _STDLIB_CLASS

    @property
    def _sslobj(self) -> Handle | None:
        """Where httpcore looks for what was agreed on. None: not connected, or not any more."""
        return Handle(self._engine, self) if self._engine is not None and self._under_tls else None

    @property
    def context(self) -> SSLContext:
        """The context; a server's SNI callback sets another one, whose certificates are then shown."""
        return self._context

    @context.setter
    def context(self, context: SSLContext) -> None:
        self._context = checked_context(context)
        if self._engine is not None:
            self._engine.context = context

    @property
    def _agreed(self) -> Negotiated | None:
        return self.negotiated if self._under_tls else None

    # ---- connecting ------------------------------------------------------------------------------------------------

    def _is_connected(self) -> bool:
        """Whether there is a peer. Raises PlaintextFirst if there was one, which sent data and left.

        Only a socket that never was connected, or listens, has nothing to read; see the error for why that matters.
        """
        try:
            self.getpeername()
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EINVAL):
                raise
            self.setblocking(False)
            try:
                left_behind = super().recv(1)
            except OSError as nothing:
                if nothing.errno not in (errno.ENOTCONN, errno.EINVAL, errno.EAGAIN):
                    raise
                return False
            if left_behind:
                raise PlaintextFirst(error.errno) from None
            return False
        return True

    def _begin(self) -> None:
        engine = self._context.new_engine(
            server_side=self.server_side, server_hostname=self.server_hostname, session=self._given_session
        )
        engine.owner = weakref.ref(self)
        self._engine = engine
        self._under_tls = True

    def _shake_hands_at_once(self) -> None:
        engine = self._tls
        if engine.observer is not None:
            trace_wrapped(self, engine.observer, Role.SERVER if self.server_side else Role.CLIENT)
        if self.do_handshake_on_connect:
            if self.gettimeout() == 0.0:
                raise ValueError("do_handshake_on_connect should not be specified for non-blocking sockets")
            self.do_handshake()

    def connect(self, address: Any) -> None:  # Any: as socket.connect, whose addresses depend on the family
        self._connect(address, super().connect)

    def connect_ex(self, address: Any) -> int:  # Any: see connect
        """Connect and shake hands; return an errno where connecting fails. On a non-blocking socket: EINPROGRESS."""
        return self._connect(address, super().connect_ex) or 0

    def _connect(self, address: Any, connect: Callable[[Any], int | None]) -> int | None:
        if self.server_side:
            raise ValueError("can't connect in server-side mode")
        if self._connected or self._under_tls:
            raise ValueError("attempt to connect already-connected SSLSocket!")
        self._begin()  # before there is a peer: at no moment can anything be read or sent in plaintext
        try:
            code = connect(address)
            if not code:
                self._connected = True
                self._shake_hands_at_once()
        except (OSError, ValueError):
            self._under_tls = False
            raise
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
        self._check_connected()
        timeout = self.gettimeout()
        if block and timeout == 0.0:
            self.settimeout(None)
        try:
            with self._shaking:
                if self._tls.negotiated is not None:
                    self._flush_last(self._tls)
                    return
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
        if not self._under_tls:
            raise ValueError("Read on closed or unwrapped SSL socket.")
        if buffer is None:
            return self.recv(len)
        return self.recv_into(buffer, max(len, 0))

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        if not self._under_tls:
            return self._plain_recv(buflen, flags)
        _no_flags(flags, "recv")
        if buflen <= 0:
            if buflen < 0:
                raise ValueError("negative buffersize in recv")
            return b""
        return self._receive(buflen)

    def _plain_recv(self, size: int, flags: int) -> bytes:
        """Read without TLS: only after `unwrap` is there anything to be read so."""
        self._check_not_between()
        if self._after and size > 0:
            data, self._after = self._after[:size], self._after[size:]
            return data
        return super().recv(size, flags)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:  # Any: a writable buffer
        with memoryview(buffer) as given, given.cast("B") as view:
            size = min(nbytes or view.nbytes, view.nbytes)
            if not self._under_tls and self._unwrapped and not self._after:
                return super().recv_into(view, size, flags)
            data = self.recv(size, flags)
            view[: len(data)] = data
            return len(data)

    def _receive(self, size: int) -> bytes:
        self._ready()
        engine = self._tls
        with self._reading:
            while True:
                data = None if engine.expects_record() else self._read(engine, size)
                if self._unsent or engine.has_output():
                    # What the peer said is read first; that it cannot be written, the next write says.
                    with contextlib.suppress(OSError):
                        self._flush_if_free()
                if data is not None:
                    return data
                self._fill(size)

    def _read(self, engine: Engine, size: int) -> bytes | None:
        """Return what is at hand, b"" at the end; None: more of the peer is needed."""
        try:
            with self._core:
                return engine.read(size)
        except ssl.SSLEOFError:
            if self.suppress_ragged_eofs:
                return b""
            raise
        except ssl.SSLError:
            self._last_words()
            raise

    def _fill(self, size: int = 0) -> None:
        """Wait for bytes of the peer, and take those that a read of *size* bytes needs, or the handshake: 0.

        Of a socket that does not wait, and where little is wanted, one record at a time: even a close_notify stays
        where `select` sees it.
        """
        engine = self._tls
        much = size > _MUCH and self.gettimeout() != 0
        try:
            if not much and engine.expects_record():
                receive_record(self, engine, self._core)
                return
            with self._core:
                wanted = engine.wanted(size if much else 0)
            data = super().recv(wanted)
        except BlockingIOError:
            raise WantRead from None
        except OSError as error:
            raise self._explained(error) from error
        with self._core:
            engine.feed(data)
            if much and engine.pending and engine.ended:
                # The end was taken with the data before it: whoever waits with `select` for the next read sees it so.
                with contextlib.suppress(OSError):
                    super().shutdown(socket.SHUT_RD)

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
        return self._engine.pending if self._engine is not None and self._under_tls else 0

    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes | None:
        """As Facts has it. Raises OSError (ENOTCONN) where there is no peer."""
        self._check_connected()
        return super().getpeercert(binary_form)

    def _check_connected(self) -> None:
        """Raise OSError unless there is a peer: connecting may have ended since, on a non-blocking socket."""
        if not self._connected:
            self.getpeername()
            self._connected = True

    # ---- writing ---------------------------------------------------------------------------------------------------

    def write(self, data: Buffer) -> int:
        if not self._under_tls:
            raise ValueError("Write on closed or unwrapped SSL socket.")
        return self.send(data)

    def send(self, data: Any, flags: int = 0) -> int:  # Any: a readable buffer
        """Send *data*; return how much of it: all, as OpenSSL does. On a socket that does not wait: 256 KiB of more."""
        if not self._under_tls:
            self._check_not_between()
            return super().send(data, flags)
        _no_flags(flags, "send")
        if self.gettimeout() == 0:
            with memoryview(data) as given, given.cast("B") as view:
                return self._send_piece(view)
        return self._send_pieces(data)

    def _send_pieces(self, data: Any) -> int:  # Any: a readable buffer
        self._ready()
        with self._writing, memoryview(data) as given, given.cast("B") as view:
            at = self._send_piece(view)
            while at < len(view):
                with view[at:] as rest:
                    at += self._send_piece(rest)
            return at

    def _send_piece(self, data: memoryview) -> int:
        self._ready()
        with self._writing:
            self._writable()
            if self._sealed:
                self._flush()
                size, self._sealed = self._sealed, 0
                return size
            try:
                with self._core:
                    size = self._seal(data)
            except ssl.SSLError:
                self._last_words()
                raise
            self._sealed = size
            self._flush()
            self._sealed = 0
        self._flush_if_free()
        return size

    def _seal(self, data: memoryview) -> int:
        """Seal as much of *data*, bytes, as is sent at once; return how much that was. Both locks are held."""
        engine = self._tls
        if not self._unsent and len(data) <= MAX_PLAINTEXT and (record := engine.seal_record(bytes(data))) is not None:
            self._unsent = memoryview(record)
            return len(data)
        return engine.write(data)

    def sendall(self, data: Any, flags: int = 0) -> None:  # Any: a readable buffer
        if not self._under_tls:
            self._check_not_between()
            super().sendall(data, flags)
            return
        _no_flags(flags, "sendall")
        self._send_pieces(data)

    def sendfile(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:  # type: ignore[override]
        """Send a file's content through TLS, for the kernel's sendfile would send it in plaintext; return its size.

        The file stands behind what was sent then. Raises ValueError for text, and on a non-blocking socket.
        """
        if not self._under_tls:
            self._check_not_between()
            return super().sendfile(file, offset, count)
        self._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]  # socket's own
        if self.gettimeout() == 0:
            raise ValueError("non-blocking sockets are not supported")
        if offset:
            file.seek(offset)
        sent = 0
        try:
            while count is None or sent < count:
                data = file.read(_RECEIVE_SIZE if count is None else min(_RECEIVE_SIZE, count - sent))
                if not data:
                    break
                self.sendall(data)
                sent += len(data)
        finally:
            if sent and hasattr(file, "seek"):
                file.seek(offset + sent)
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
                    if not self._tls.has_output():
                        return
                    with self._core:
                        self._unsent = memoryview(self._tls.take())
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
        while not self._broken and (self._unsent or self._tls.has_output()):
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
                self._broken = not self._would_not_wait(writing=True) or super().send(data, _DONT_WAIT) < len(data)
            if self._engine is not None and self._engine.error is not None and self._would_not_wait(writing=False):
                # What is left unread when a socket is closed makes the kernel reset it, and the alert is lost.
                super().recv(_RECEIVE_SIZE, _DONT_WAIT)
        except OSError:  # the peer is gone, or takes nothing: there is nobody to be told
            self._broken = True
        finally:
            self._writing.release()

    def _would_not_wait(self, *, writing: bool) -> bool:
        """Return whether a call would not wait. With a timeout set, Python waits for it whatever MSG_DONTWAIT says."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_WRITE if writing else selectors.EVENT_READ)
            return bool(selector.select(0))

    # ---- closing ---------------------------------------------------------------------------------------------------

    def unwrap(self) -> SSLSocket:
        """Say close_notify, wait for the peer's, and return this socket, which is a plain one now.

        What the peer still sends through TLS is dropped; what it sends after its close_notify is read next. Where the
        peer closes first and goes on in plaintext, read 16 KiB at a time at most before: a longer read that meets its
        close_notify ends the socket's reading side, so that who waits for it to be readable learns of the end.
        """
        if not self._under_tls:
            raise ValueError(f"No SSL wrapper around {self}")
        engine = self._tls
        with self._core:
            engine.close()
        self._flush()
        with self._reading:
            while not engine.peer_closed:
                with self._core:
                    engine.check()
                self._fill()
        self._after = engine.connection.trailing_data
        self._under_tls, self._unwrapped = False, True
        return self

    def shutdown(self, how: int) -> None:
        """As a socket's; close_notify goes first where writing ends. Reading goes on then (RFC 9846 §6.1)."""
        if how != socket.SHUT_RD:
            self._say_goodbye()
        super().shutdown(how)

    def _real_close(self) -> None:  # not in typeshed; makefile's files come here last
        # After a fork there are two who have it, as with socketserver.ForkingMixIn: the one that closes its descriptor
        # may not be the one that speaks, and would seal with the same key and nonce as the other.
        if self._forks == Forks.count:
            self._say_goodbye()
        self._under_tls = self._unwrapped = False
        super()._real_close()  # type: ignore[misc]

    def _say_goodbye(self) -> None:
        """Send close_notify if there is room for it (RFC 9846 §6.1): closing does not wait."""
        engine = self._engine
        if engine is not None and self._under_tls and engine.error is None and engine.negotiated is not None:
            with self._core:
                engine.say_goodbye()
            self._last_words()


def _no_flags(flags: int, name: str) -> None:
    if flags:
        raise ConfigurationError(f"{name} takes no flags on a TLS socket")
