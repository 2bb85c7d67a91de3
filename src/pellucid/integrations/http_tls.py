"""What both kinds of httpcore stream do alike, without I/O: handshake, early data, and errors of two families."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from pellucid.errors import Circumstances, Explained, TLSError
from pellucid.handshake.actions import EarlyDataOutcome
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_engine import Engine, Facts
from pellucid.integrations.ssl_errors import WantRead
from pellucid.net.trouble import explained

__all__ = ["AnotherProtocol", "Steps", "Tls", "both", "early_host", "network_error"]

Steps = Generator[bytes | None, bytes | None, None]
"""gives what is to be sent, or None for more of the peer, which it is then sent"""

early_host: Final[ContextVar[str | None]] = ContextVar("pellucid_early_host", default=None)
"""the host to which the present request may be sent as early data; None: to none"""


class AnotherProtocol(Exception):
    """The server rejected the early data and agreed on another application protocol: the request is to be made anew."""


class TLSObject(Facts):
    """What `get_extra_info("ssl_object")` gives: all that there is to know of the connection."""

    def __init__(self, engine: Engine, server_hostname: str | None) -> None:
        self._engine = engine
        self.server_side = False
        self.server_hostname = server_hostname

    def selected_alpn_protocol(self) -> str | None:
        """Return the protocol that was agreed on; while a request is held for early data, that of its session."""
        if self.negotiated is None:
            return self.connection.early_data_protocol
        return super().selected_alpn_protocol()


class Tls:
    """One connection. *library* has the errors that are raised, beside ours."""

    def __init__(self, library: ModuleType, context: SSLContext, server_hostname: str | None) -> None:
        self._library = library
        self.engine = context.new_engine(server_side=False, server_hostname=server_hostname)
        self.facts = TLSObject(self.engine, server_hostname)
        self._host = server_hostname
        self._held: bytes | None = None
        self.ready = False

    def start(self) -> bool:
        """Make the ClientHello; whether data may be held back to go with it."""
        self.engine.connection.start()
        wanted = early_host.get() == self._host is not None
        if wanted and self.engine.connection.early_data_left > 0:
            self._held = b""
            return True
        return False

    def hold(self, data: bytes) -> bool:
        """Keep *data* to be sent with the ClientHello, if it is of a request that may be, and there is room."""
        held = self._held
        if held is None or self.ready or early_host.get() != self._host:
            return False
        if len(held) + len(data) > self.engine.connection.early_data_left:
            return False
        self._held = held + data
        return True

    def shake(self) -> Steps:
        """Shake hands; send again what was held and rejected. Raises AnotherProtocol where that cannot be."""
        engine, held = self.engine, self._held
        if held:
            engine.connection.send_early_data(held)
        while True:
            try:
                engine.handshake()
            except WantRead:
                if data := engine.take():
                    yield data
                received = yield None
                engine.feed(received or b"")
            except TLSError:
                if data := engine.take():
                    with contextlib.suppress(self._library.NetworkError, self._library.TimeoutException):
                        yield data  # the alert, to a peer that may be gone
                raise
            else:
                break
        agreed = engine.connection.negotiated
        if held and agreed is not None and agreed.early_data is not EarlyDataOutcome.ACCEPTED:
            if agreed.alpn != engine.connection.early_data_protocol:
                raise AnotherProtocol
            while held:
                held = held[engine.write(held) :]
        if data := engine.take():
            yield data
        self._held = None
        self.ready = True

    def over(self) -> None:
        """The connection is closed: whoever waits for the record of a handshake that was given up is told."""
        if not self.ready and self.engine.watch is not None:
            self.engine.watch.over()

    # ---- errors ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def errors(self, kind: type[Exception]) -> Iterator[None]:
        """Raise errors of ours as those of *kind*, too."""
        try:
            yield
        except TLSError as error:
            raise both(error, kind) from error.__cause__
        except (self._library.NetworkError, self._library.TimeoutException) as error:
            raise self._told(error, type(error), None) from error.__cause__

    @contextlib.contextmanager
    def connecting(self, timeout: float | None) -> Iterator[None]:
        """Raise whatever ends the handshake as ConnectError or ConnectTimeout, too, and tell its watcher."""
        try:
            yield
        except TLSError as error:
            raise both(error, self._library.ConnectError) from error.__cause__
        except self._library.TimeoutException as error:
            raise self._told(error, self._library.ConnectTimeout, timeout) from error.__cause__
        except self._library.NetworkError as error:
            raise self._told(error, self._library.ConnectError, timeout) from error.__cause__
        finally:
            self.over()

    def _told(self, error: Exception, kind: type[Exception], seconds: float | None) -> Exception:
        if isinstance(error, Explained):
            return error
        cause = _os_error(error)
        known: object = None if cause is None else explained(cause, self.engine.connection, seconds=seconds)
        return both(known, kind) if isinstance(known, Explained) else kind(*error.args)


@contextlib.contextmanager
def network_error(library: ModuleType, host: str, port: int) -> Iterator[None]:
    """Raise ConnectError and ConnectTimeout of *library* with an explanation, where there is one."""
    try:
        yield
    except (library.ConnectError, library.ConnectTimeout) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        failure = ConnectionFailed(cause.errno, cause.strerror or str(cause) or type(cause).__name__)
        failure.circumstances = Circumstances(role="client", server_name=host, port=port)
        raise both(failure, type(error)) from cause


class ConnectionFailed(Explained, OSError):
    """No connection was made; the cause is what the system said."""


def _os_error(error: BaseException | None) -> OSError | None:
    """Return the system's error behind a library's."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error


def both(error: Any, kind: type[Exception], other: BaseException | None = None) -> Any:
    """Return *error*, an OSError that is Explained, as one that is of *kind* too: same words, report, notes and cause.

    other: the error of *kind* in whose place it stands; what that knows it knows too.
    """
    if isinstance(error, kind):
        return error
    key = (type(error), kind)
    kept = _classes.get(key)
    if kept is None:
        names = {"__doc__": type(error).__doc__, "__module__": type(error).__module__}
        kept = _classes.setdefault(key, type(type(error).__name__, key, names))
    copy: Any = OSError.__new__(kept)
    copy.__dict__.update({} if other is None else other.__dict__)
    copy.__dict__.update(error.__dict__)
    if copy.__dict__.get("_notes") is not None:
        copy.__dict__["_notes"] = list(copy.__dict__["_notes"])
    OSError.__init__(copy, *error.args)
    copy.__cause__, copy.__context__ = error.__cause__, error.__context__
    return copy.with_traceback(error.__traceback__ if other is None else other.__traceback__)


_classes: Final[dict[tuple[type[BaseException], type[Exception]], type[Any]]] = {}
"""one for each pair of classes that was met"""
