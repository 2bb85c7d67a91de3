"""`pellucid.install`: unmodified programs over Pellucid, by putting our context where they look for `ssl`'s.

Replaced are, in the module `ssl`, the class SSLContext and the functions that make one; and the same objects wherever a
module that is loaded has them under a name of its own, as after `from ssl import SSLContext`. Contexts that were made
before stay what they are, and still pass for `ssl.SSLContext`; of libraries that make one when they are imported, the
known ones get new ones (`_REMADE`). What cannot be reached: classes derived from the real one before; default values of
parameters; what instances and closures hold; and what speaks TLS without `ssl`, as libpq and curl do.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any, Final, NamedTuple

from pellucid.config import ClientConfig, ConfigSource, ServerConfig
from pellucid.crypto.provider import Buffer
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_default import default_context, take_key_log_file
from pellucid.integrations.ssl_engine import Pause
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.integrations.ssl_real import RealContext
from pellucid.integrations.ssl_trust import FilePath

__all__ = ["install", "installed", "uninstall"]

_SELF: Final = ("pellucid", "ssl", "_ssl", "truststore")
"""packages whose own references to the real thing are meant. truststore's context verifies with the system's means"""


class _Remade(NamedTuple):
    """A context that a library made when it was imported. make: what it is made by, given the library's module."""

    module: str
    name: str
    make: Callable[[Any], object]


_REMADE: Final = (
    _Remade("aiohttp.connector", "_SSL_CONTEXT_VERIFIED", lambda module: module._make_ssl_context(True)),
    _Remade("aiohttp.connector", "_SSL_CONTEXT_UNVERIFIED", lambda module: module._make_ssl_context(False)),
    _Remade("requests.adapters", "_preloaded_ssl_context", lambda _: None),  # then urllib3 makes one when it connects
)

# Libraries that go on in plaintext where TLS fails: asyncpg does, by default (sslmode=prefer).
_FALL_BACK: Final = frozenset({"asyncpg"})

# What the real class's setters look for with super(SSLContext, SSLContext), by its name in `ssl`.
_RAW: Final = ("_msg_callback", "maximum_version", "minimum_version", "options", "verify_flags", "verify_mode")


class _Raw:
    """The C module's attributes. They come after the installed class in its order of bases, and are hidden by it: real
    contexts, whose setters name the class that is installed, find them there."""


for _name in _RAW:
    setattr(_Raw, _name, getattr(super(RealContext, RealContext), _name))


class _Shape(type):
    """Real contexts pass for the installed class: those that were made before, and those of subclasses."""

    def __instancecheck__(cls, instance: object) -> bool:
        return super().__instancecheck__(instance) or (cls in _KINDS and isinstance(instance, RealContext))

    def __subclasscheck__(cls, kind: type) -> bool:
        return super().__subclasscheck__(kind) or (cls in _KINDS and issubclass(kind, RealContext))


def _kind(*, unverified: bool) -> type[SSLContext]:
    """Return the class to install."""

    class InstalledContext(_Raw, SSLContext, metaclass=_Shape):  # type: ignore[misc,override]  # as SSLContext
        allows_unverified = unverified

        @property
        def refuses_late(self) -> bool:  # type: ignore[override]  # at once where a late refusal would undo all of TLS
            return _caller() not in _FALL_BACK

        def __init__(
            self,
            protocol: ClientConfig | ServerConfig | ConfigSource | int | None = None,
            *_: object,
            answer: Callable[[Pause], object] | None = None,
            dangerous_allow_unverified: bool = False,
        ) -> None:
            which = int(ssl.PROTOCOL_TLS) if protocol is None else protocol
            allow = dangerous_allow_unverified or self.allows_unverified
            super().__init__(which, answer=answer, dangerous_allow_unverified=allow)

    for name in _RAW:
        setattr(InstalledContext, name, _attribute(SSLContext, name))
    InstalledContext.__name__ = InstalledContext.__qualname__ = "SSLContext"
    InstalledContext.__doc__ = SSLContext.__doc__
    return InstalledContext


def _caller() -> str:
    """Return the name of the package that called into this one."""
    frame = sys._getframe()
    while frame.f_back is not None and _package(frame) in _SELF:
        frame = frame.f_back
    return _package(frame)


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _attribute(kind: type, name: str) -> object:
    return next(vars(one)[name] for one in kind.__mro__ if name in vars(one))


_VERIFIED: Final = _kind(unverified=False)
_UNVERIFIED: Final = _kind(unverified=True)
_KINDS: Final = frozenset({_VERIFIED, _UNVERIFIED})


def _functions(kind: type[SSLContext]) -> dict[str, Any]:  # Any: as setattr takes them
    """Return what stands in `ssl` under which name, with *kind* installed."""

    def create_default_context(
        purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
        *,
        cafile: FilePath | None = None,
        capath: FilePath | None = None,
        cadata: str | Buffer | None = None,
    ) -> SSLContext:
        return default_context(kind, purpose, cafile, capath, cadata)

    def create_stdlib_context(
        protocol: int | None = None,
        *,
        cert_reqs: int | None = None,
        check_hostname: bool = True,
        purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
        certfile: FilePath | None = None,
        keyfile: FilePath | None = None,
        cafile: FilePath | None = None,
        capath: FilePath | None = None,
        cadata: str | Buffer | None = None,
    ) -> SSLContext:
        """Return what smtplib, imaplib and others use without a context of their caller's. Here it verifies."""
        context = default_context(kind, purpose, cafile, capath, cadata)
        if not check_hostname:
            context.check_hostname = False
        if cert_reqs is not None:
            context.verify_mode = cert_reqs
        if certfile is not None:
            context.load_cert_chain(certfile, keyfile)
        return context

    functions: dict[str, Any] = {
        "SSLContext": kind,
        "create_default_context": create_default_context,
        "get_server_certificate": _get_server_certificate,
        "CHANNEL_BINDING_TYPES": ["tls-exporter"],  # "tls-unique" is not defined for TLS 1.3 (RFC 9266 §3)
    }
    if kind is _VERIFIED:
        functions["_create_stdlib_context"] = create_stdlib_context
    return functions


def _get_server_certificate(
    addr: tuple[str, int],
    ssl_version: int = ssl.PROTOCOL_TLS_CLIENT,
    ca_certs: FilePath | None = None,
    timeout: float | None = None,
) -> str:
    """Return a server's certificate as PEM, as `ssl.get_server_certificate` does: not verified without *ca_certs*.

    No data is sent or received, so there is nothing to protect but what the certificate itself is used for.
    """
    context = SSLContext(int(ssl_version), dangerous_allow_unverified=True)
    context.check_hostname = False
    if ca_certs is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(ca_certs)
    take_key_log_file(context)
    with (
        socket.create_connection(addr, timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname=addr[0]) as secure,
    ):
        shown = secure.getpeercert(True)
    if not isinstance(shown, bytes):
        raise ConfigurationError("the server showed no X.509 certificate")
    return ssl.DER_cert_to_PEM_cert(shown)


_IN_PLACE: Final = {kind: _functions(kind) for kind in (_VERIFIED, _UNVERIFIED)}


class _Installation:
    """What is installed, by whom, and what stood there before. One for the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._lasting: type[SSLContext] | None = None
        self._blocks: list[tuple[object, type[SSLContext]]] = []
        self._now: type[SSLContext] | None = None
        self._before: dict[str, Any] = {}  # Any: what stood in `ssl`, by name
        self._replaced: dict[tuple[int, str], tuple[ModuleType, object]] = {}

    def last(self, kind: type[SSLContext] | None) -> None:
        """Install *kind* until it is changed; None: nothing."""
        with self._lock:
            self._lasting = kind
            self._settle()

    def enter(self, kind: type[SSLContext]) -> object:
        """Install *kind* until `leave` is called with what this returns, and above what is installed already."""
        token = object()
        with self._lock:
            self._blocks.append((token, kind))
            self._settle()
        return token

    def leave(self, token: object) -> None:
        with self._lock:
            self._blocks = [block for block in self._blocks if block[0] is not token]
            self._settle()

    def _settle(self) -> None:
        wanted = self._blocks[-1][1] if self._blocks else self._lasting
        if wanted is self._now:
            return
        before, self._now = self._now, wanted
        if wanted is None:
            self._restore(_IN_PLACE[before] if before else {})
            return
        if before is None:
            self._replaced.clear()
            names = {name for functions in _IN_PLACE.values() for name in functions}
            self._before = {name: getattr(ssl, name) for name in (*names, "_create_default_https_context")}
        self._replace({} if before is None else _IN_PLACE[before], _IN_PLACE[wanted])

    def _replace(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Put *new* where the real ones or *old* stand; what a program has put there since is its own idea of it."""
        for name, real in self._before.items():
            same = "create_default_context" if name == "_create_default_https_context" else name
            if getattr(ssl, name, None) in (self._before[same], old.get(same)):
                setattr(ssl, name, new.get(same, real))
        instead = {id(old.get(name, self._before[name])): new[name] for name in _NAMED_ELSEWHERE}
        instead |= {id(RealContext): new["SSLContext"], id(self._before["SSLContext"]): new["SSLContext"]}
        for module, name, value in _names():
            if (replacement := instead.get(id(value))) is not None and replacement is not value:
                if value not in old.values():
                    self._replaced.setdefault((id(module), name), (module, value))
                setattr(module, name, replacement)
        for module, one in _remade():
            self._replaced.setdefault((id(module), one.name), (module, getattr(module, one.name)))
            setattr(module, one.name, one.make(module))

    def _restore(self, old: dict[str, Any]) -> None:
        """Put everything back that is still ours; what somebody else replaced since is theirs."""
        for name, real in self._before.items():
            ours = old.get("create_default_context" if name == "_create_default_https_context" else name)
            if getattr(ssl, name, None) is ours:
                setattr(ssl, name, real)
        back = {id(old[name]): self._before[name] for name in _NAMED_ELSEWHERE}
        for module, name, value in _names():
            if id(value) in back:
                _, real = self._replaced.get((id(module), name), (module, back[id(value)]))
                setattr(module, name, real)
        for module, one in _remade():
            known = self._replaced.get((id(module), one.name))
            setattr(module, one.name, one.make(module) if known is None else known[1])
        self._replaced.clear()


_NAMED_ELSEWHERE: Final = ("SSLContext", "create_default_context", "get_server_certificate")
"""what other modules may have imported by name"""


def _names() -> Iterator[tuple[ModuleType, str, object]]:
    """Yield every name of every loaded module that is not ours or the real thing's own."""
    for module in list(sys.modules.values()):
        if type(module) is ModuleType and module.__name__.partition(".")[0] not in _SELF:
            for name, value in list(vars(module).items()):
                yield module, name, value


def _remade() -> Iterator[tuple[ModuleType, _Remade]]:
    for one in _REMADE:
        module = sys.modules.get(one.module)
        if module is not None and getattr(module, one.name, None) is not None:
            yield module, one


_installation: Final = _Installation()


def install(*, dangerous_allow_unverified: bool = False) -> None:
    """Have every program in this process that uses `ssl` use Pellucid, from now on. A second call changes the setting.

    What it replaces and what it cannot reach: see the head of this module, and docs/reference/ssl-context.md. Programs
    that turn verification off get ConfigurationError when they connect; smtplib and others that do not verify without a
    context of their caller's verify. dangerous_allow_unverified: both are as in `ssl` instead.
    """
    _installation.last(_UNVERIFIED if dangerous_allow_unverified else _VERIFIED)


def uninstall() -> None:
    """Undo `install`: everything is as it was before. Contexts that were made meanwhile stay Pellucid's."""
    _installation.last(None)


@contextlib.contextmanager
def installed(*, dangerous_allow_unverified: bool = False) -> Iterator[None]:
    """Do what `install` does, in a `with` block, of the whole process. Blocks may be nested; the innermost counts."""
    token = _installation.enter(_UNVERIFIED if dangerous_allow_unverified else _VERIFIED)
    try:
        yield
    finally:
        _installation.leave(token)
