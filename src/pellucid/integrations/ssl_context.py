"""`pellucid.SSLContext`: the shape of `ssl.SSLContext`, for every library that takes one. Pellucid does the TLS.

It derives from `ssl.SSLContext` because libraries ask isinstance; the OpenSSL context inside is never used. Every
public name of the base is overridden, here or in `ssl_trust`, `ssl_settings` and `ssl_callbacks`: what cannot be
honoured raises ConfigurationError. docs/reference/ssl-context.md has each of them.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NoReturn, TypeVar

from pellucid.config import (
    ClientAuthentication,
    ClientConfig,
    ConfigSource,
    Credential,
    ServerConfig,
    current_config,
)
from pellucid.connection import Connection
from pellucid.errors import UsageError
from pellucid.explain.keylog import KeyLogWriter, begin_key_log
from pellucid.explain.recorder import tee
from pellucid.handshake.negotiate import ClientOffer
from pellucid.integrations.handshake_watch import HandshakeCallback, HandshakeWatch
from pellucid.integrations.ssl_callbacks import Callbacks
from pellucid.integrations.ssl_engine import Engine, Pause
from pellucid.integrations.ssl_errors import ConfigurationError, HostNameError
from pellucid.integrations.ssl_hello import FirstFlight, chosen_config, no_credential
from pellucid.integrations.ssl_object import SSLObject
from pellucid.integrations.ssl_real import RealContext
from pellucid.integrations.ssl_session import ConnectionSessions, CountedSessions, SSLSession, Statistics
from pellucid.integrations.ssl_settings import Settings
from pellucid.integrations.ssl_socket import SSLSocket
from pellucid.integrations.ssl_trust import FilePath, Trust
from pellucid.sessions import MemoryServerSessions, TicketKeys
from pellucid.sessions.tickets import ServerSessions
from pellucid.trace import Observer, unwatched

__all__ = ["SSLContext"]

Config = ClientConfig | ServerConfig

_SIDES: Final = {int(ssl.PROTOCOL_TLS_CLIENT): False, int(ssl.PROTOCOL_TLS_SERVER): True, int(ssl.PROTOCOL_TLS): None}
_UNNAMED: Final = "unnamed.invalid"  # RFC 6761 §6.4: nobody's
_PASSWORD = Callable[[], str | bytes | bytearray] | str | bytes | bytearray | None

H = TypeVar("H", bound=HandshakeCallback)
K = TypeVar("K")

_LONGEST_PASSWORD: Final = 1024  # bytes; ssl's


class SSLContext(Trust, Settings, Callbacks, RealContext):  # type: ignore[misc,override]  # attributes there, not here
    """An `ssl.SSLContext` in shape, TLS 1.3 by Pellucid in fact.

    config: a ClientConfig or a ServerConfig makes a context of that side, as does a source of a ServerConfig, which is
            asked at each connection (`ReloadingConfig`). None makes one of either side: a client's with the system's
            roots, a server's once `load_cert_chain` was called. `ssl.PROTOCOL_TLS_CLIENT`, `PROTOCOL_TLS_SERVER` and
            `PROTOCOL_TLS` are taken too, and are as in `ssl`: nobody is trusted until roots are loaded.
    protocol: the same, by the name that `ssl` has for it.
    answer: answers the pauses of a signer, resolver or verifier that said PENDING; called in the connection's thread.
    dangerous_allow_unverified: lets `verify_mode = CERT_NONE` and `check_hostname = False` do what they do in `ssl`.

    Peers are verified: without that, and unless the config has a verifier of its own, which alone decides then, turning
    verification off raises ConfigurationError. Changes count for connections made afterwards. It cannot be pickled or
    copied, as in `ssl`.
    """

    answer: Callable[[Pause], object] | None = None

    sslobject_class = SSLObject  # type: ignore[assignment]  # as wrap_bio
    sslsocket_class = SSLSocket  # type: ignore[assignment]

    def __new__(cls, config: object = None, *_: object, **settings: object) -> SSLContext:
        self = RealContext.__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        protocol = settings.get("protocol", config)
        given = isinstance(protocol, int)
        # A subclass may go without our __init__, or set things before it: with `ssl` both work.
        self._prepare(_SIDES.get(protocol) if isinstance(protocol, int) else None, None, empty=given)
        return self

    def __init__(
        self,
        config: Config | ConfigSource | int | None = None,
        *,
        protocol: int | None = None,
        answer: Callable[[Pause], object] | None = None,
        dangerous_allow_unverified: bool = False,
    ) -> None:
        if protocol is not None:
            if config is not None:
                raise TypeError("SSLContext takes a config or a protocol, not both")
            config = protocol
        if isinstance(config, (ClientConfig, ServerConfig)):
            self._prepare(isinstance(config, ServerConfig), config, allow_unverified=dangerous_allow_unverified)
        elif isinstance(config, int):
            self._prepare(_side(config), None, allow_unverified=dangerous_allow_unverified, empty=True)
            if self._server_side is None and self._allow_unverified:  # as PROTOCOL_TLS in ssl
                self._check_name, self._mode = False, ssl.CERT_NONE
        elif config is None:
            self._allow_unverified = dangerous_allow_unverified or self._allow_unverified
        else:
            self._prepare(True, _checked_source(config), allow_unverified=dangerous_allow_unverified)
        self.answer = answer or self.answer

    def _prepare(
        self,
        server_side: bool | None,
        base: Config | ConfigSource | None,
        *,
        allow_unverified: bool = False,
        empty: bool = False,
    ) -> None:
        self._server_side = server_side
        self._base = base
        self._prepare_trust(allow_unverified=allow_unverified, empty=empty)
        self._prepare_settings(later=isinstance(base, ClientConfig) and base.post_handshake_auth)
        self._prepare_callbacks()
        self._added: tuple[Credential, ...] = ()
        self._keylog: str | None = None
        self._callbacks: tuple[HandshakeCallback, ...] = ()
        self._records = False
        self._own_sessions: dict[bool, ServerSessions] = {}
        self._built: dict[bool, tuple[object, Config]] = {}
        self.statistics = Statistics()

    @property  # type: ignore[misc]  # object's can be set
    def __class__(self) -> type:  # survives truststore.inject_into_ssl()
        return ssl.SSLContext

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("cannot pickle 'SSLContext' object")

    # ---- connections -----------------------------------------------------------------------------------------------

    def wrap_bio(  # type: ignore[override]  # ours is no ssl.SSLObject, whose constructor forbids it
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: SSLSession | None = None,
    ) -> SSLObject:
        """Return a TLS connection between two buffers. server_hostname: text, or ASCII bytes as anyio gives it."""
        name = self._checked_name(server_hostname, session, server_side=server_side)
        engine = self.new_engine(server_side=server_side, server_hostname=name, session=session)
        return _derived(self.sslobject_class, SSLObject, "sslobject_class")._create(
            incoming, outgoing, engine=engine, server_side=server_side, server_hostname=name
        )

    def wrap_socket(  # type: ignore[override]  # ours is no ssl.SSLSocket, whose constructor forbids it
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: SSLSession | None = None,
    ) -> SSLSocket:
        """Return *sock* under TLS, past the handshake if it is connected. *sock* itself is used up."""
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_STREAM:
            raise NotImplementedError("only stream sockets are supported")
        if server_side and server_hostname:
            raise ValueError("server_hostname can only be specified in client mode")
        try:
            name = self._checked_name(server_hostname, session, server_side=server_side)
        except UnicodeError:
            sock.close()  # as ssl does with what it was given, where the name is impossible
            raise
        kind = _derived(self.sslsocket_class, SSLSocket, "sslsocket_class")
        self.config(server_side=server_side)  # a mistake in the settings shows before the socket is taken
        return kind._create(
            sock,
            context=self,
            server_side=server_side,
            server_hostname=name,
            do_handshake_on_connect=do_handshake_on_connect,
            suppress_ragged_eofs=suppress_ragged_eofs,
            session=session,
        )

    def _checked_name(
        self, server_hostname: str | bytes | None, session: SSLSession | None, *, server_side: bool
    ) -> str | None:
        name = _ascii_name(server_hostname)
        if session is not None:
            self.check_session(session, server_side=server_side)
        if server_side:
            return name
        if name is not None and (not name or name.startswith(".")):
            raise HostNameError("server_hostname cannot be an empty string or start with a leading dot.")
        if name is None and self.check_hostname and not self._psk_only():
            raise ConfigurationError(
                "check_hostname requires server_hostname: it is what the server's certificate must be for"
            )
        return name

    def new_engine(
        self, *, server_side: bool, server_hostname: str | None, session: SSLSession | None = None
    ) -> Engine:
        """Return the engine of a new connection. Raises ConfigurationError if the settings do not allow one."""
        config = self.config(server_side=server_side)
        own = self._observer(config)
        watch = HandshakeWatch(self._callbacks) if self._callbacks else None
        observer = own if watch is None else tee(own, watch)
        told = unwatched if observer is None else observer
        if isinstance(config, ServerConfig):
            hello = FirstFlight() if self._hears_first else None
            connection = Connection.server(config, trace=told)
            return Engine(connection, self, observer, own=own, watch=watch, hello=hello)
        sessions = ConnectionSessions(config.session_store if isinstance(self._base, ClientConfig) else None)
        sessions.given = session
        config = config.with_sessions(sessions)
        if (psk := self._client_psk()) is not None:
            config = replace(config, external_psks=(psk, *config.external_psks))
        if not server_hostname:
            config = replace(config, send_server_name=False, sessions=None)
        try:
            connection = Connection.client(config, server_hostname or _UNNAMED, trace=told)
        except UsageError as error:
            raise ConfigurationError(error.reason) from error
        return Engine(connection, self, observer, own=own, watch=watch, sessions=sessions)

    def server_connection(self, engine: Engine, offer: ClientOffer) -> Connection:
        """Return the connection that a ClientHello gets: the callbacks are asked. Raises CallbackFailed."""
        config = chosen_config(self, engine, offer)
        return Connection.server(config, trace=unwatched if engine.observer is None else engine.observer)

    def config(self, *, server_side: bool) -> Config:
        """Return the configuration that connections of one side are made with now."""
        if self._server_side not in (None, server_side):
            side = "server" if self._server_side else "client"
            raise ConfigurationError(
                f"Cannot create a {'server' if server_side else 'client'} socket with a "
                f"PROTOCOL_TLS_{side.upper()} context: it is for a {side} only"
            )
        base = self.base
        known = self._built.get(server_side)
        if known is not None and known[0] is base:
            return known[1]
        try:
            built = self._make_server_config() if server_side else self._make_client_config()
        except UsageError as error:
            raise error if isinstance(error, ConfigurationError) else ConfigurationError(error.reason) from error
        self._built[server_side] = (base, built)
        return built

    def server_config(self) -> ServerConfig:
        """Return the configuration of servers. Raises ConfigurationError if this context is for clients."""
        config = self.config(server_side=True)
        if not isinstance(config, ServerConfig):
            raise ConfigurationError("this context is for a client only")
        return config

    def on_handshake(self, callback: H, *, records: bool = False) -> H:
        """Have *callback* called with the record of each connection, once, when its handshake completes or fails.

        It is called where the handshake is driven, a thread or an event loop, and should be quick; the recorder goes on
        recording. For connections made from now on; of several callbacks each is called. Usable as a decorator.
        records: whether the records are recorded too, as `write_pcapng` needs them; that slows bulk data.
        """
        self._callbacks = (*self._callbacks, callback)
        self._records = self._records or records
        self._changed()
        return callback

    def reload(self) -> None:
        """Have the source of this context read everything again, as `ReloadingConfig.reload` does, and raise as that.

        Connections that are there keep what they were made with. Raises ConfigurationError without such a source.
        """
        again = getattr(self._base, "reload", None)
        if not callable(again):
            raise ConfigurationError("nothing can be reloaded: make the context with a ReloadingConfig")
        again()

    # ---- certificates ----------------------------------------------------------------------------------------------

    def load_cert_chain(self, certfile: FilePath, keyfile: FilePath | None = None, password: _PASSWORD = None) -> None:
        """Add a certificate chain with its key, from PEM files. It takes the place of one for the same names and key.

        Raises OSError if a file cannot be read, ConfigurationError if what it holds cannot be used.
        """
        if self._base is not None and not isinstance(self._base, (ClientConfig, ServerConfig)):
            raise ConfigurationError("the certificates of this context are those of the source it was made with")
        with open(certfile, "rb") as file:
            chain = file.read()
        key = None
        if keyfile is not None:
            with open(keyfile, "rb") as file:
                key = file.read()
        try:
            added = _credential(chain, key, password)
        except UsageError as error:
            raise ConfigurationError(f"{_pem_words(error)}: {os.fsdecode(certfile)}: {error.reason}") from error
        self._added = (added, *(one for one in self._added if not _replaces(added, one)))
        self._changed()

    def _credentials(self, base: Config | None) -> tuple[Credential, ...]:
        """Return what was loaded, and what the configuration has beside it."""
        kept = () if base is None else base.credentials
        return (*self._added, *(one for one in kept if not any(_replaces(added, one) for added in self._added)))

    # ---- sessions --------------------------------------------------------------------------------------------------

    def session_stats(self) -> dict[str, int]:
        """Return what this context has counted since it was made: handshakes begun, completed, resumed, and so on.

        number: sessions kept in memory now, as OP_NO_TICKET has a server do.   hits: resumptions.
        misses: tickets that clients showed and that were not known here.
        """
        known = self._built.get(True)
        store = known[1].sessions if known is not None else None
        return self.statistics.counts(len(store) if isinstance(store, CountedSessions) else 0)

    def session_of(self, engine: Engine) -> SSLSession:
        """Return the session of a complete handshake."""
        connection = engine.connection
        kept = None if engine.sessions is None else engine.sessions.latest
        binding = b"" if connection.negotiated is None or connection.closed else connection.channel_binding()
        return SSLSession(self, kept, binding=binding, now=engine.completed_at)

    def check_session(self, session: SSLSession, *, server_side: bool) -> None:
        """Raise TypeError or ValueError unless *session* may be given to a client of this context."""
        if server_side:
            raise ValueError("session can only be specified in client mode")
        if not isinstance(session, SSLSession):
            raise TypeError("Value is not a SSLSession.")
        if session.context is not self:
            raise ValueError("Session refers to a different SSLContext.")

    # ---- the key log -----------------------------------------------------------------------------------------------

    @property  # type: ignore[override]  # typeshed: never None
    def keylog_filename(self) -> str | None:
        """Where the secrets of connections are appended (RFC 9850); None: nowhere."""
        return self._keylog

    @keylog_filename.setter
    def keylog_filename(self, path: str | os.PathLike[str] | None) -> None:
        if path is not None:
            begin_key_log(path)
        self._keylog = None if path is None else os.fspath(path)

    # ---- within ----------------------------------------------------------------------------------------------------

    @property
    def base(self) -> Config | None:
        """The configuration that it was made with; of a source, what it has now."""
        base = self._base
        if base is None or isinstance(base, (ClientConfig, ServerConfig)):
            return base
        return current_config(base)

    def _server_base(self) -> ServerConfig | None:
        base = self.base
        return base if isinstance(base, ServerConfig) else None

    def _changed(self) -> None:
        """Have the next connection made with the settings as they are now."""
        self._built.clear()
        self.switched.clear()

    def _change(self, **settings: Any) -> None:  # Any: each setting has its own type
        """Make a change of settings, if a configuration can be made with it; ConfigurationError if not."""
        before = {name: getattr(self, name) for name in settings}
        self.__dict__.update(settings)
        self._changed()
        try:
            for server_side in (False, True):
                if self._server_side in (None, server_side) and self._complete(server_side=server_side):
                    self.config(server_side=server_side)
        except ConfigurationError:
            self.__dict__.update(before)
            self._changed()
            raise

    def _complete(self, *, server_side: bool) -> bool:
        """Whether what is missing is not merely still to come: a server's certificate, or a verifier."""
        if server_side:
            asks = (self._authentication or ClientAuthentication.NONE) is not ClientAuthentication.NONE
            return self._base is not None or bool(self._added and (not asks or self._trusted()))
        off = self._mode is ssl.CERT_NONE or not self._check_name
        crls = self._flags & (ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN)
        return not (off and self.refuses_late) and not (crls and not self._crls)

    def _make_client_config(self) -> ClientConfig:
        base = self._base if isinstance(self._base, ClientConfig) else ClientConfig()
        changes = {
            **self._overrides(server_side=False),
            **self._client_trust_settings(base),
            "post_handshake_auth": self._later,
        }
        credentials = _signing_with(self._credentials(base if base is self._base else None), self._client_schemes)
        return replace(base, credentials=credentials, **changes)

    def _make_server_config(self) -> ServerConfig:
        base = self._server_base()
        changes = self._overrides(server_side=True)
        asks = self._client_authentication() or ClientAuthentication.NONE
        in_handshake = ClientAuthentication.NONE if self._later else asks
        credentials = _signing_with(self._credentials(base), self._server_schemes)
        if base is None and not credentials:
            if self._psk_server is None:
                raise ConfigurationError("a server needs a certificate: call load_cert_chain first")
            changes["credential_resolver"] = no_credential
        if self._tickets is not None:
            changes |= {"tickets": self._tickets, "tickets_on_resumption": min(self._tickets, 1)}
        changes |= {
            "credentials": credentials,
            "client_authentication": in_handshake,
            **self._server_trust_settings(base),
            "sessions": CountedSessions(self._sessions(base), self.statistics),
        }
        if base is None:
            return ServerConfig(**changes)
        return replace(base, replay_guard=base.early_data_guard, **changes)

    def _sessions(self, base: ServerConfig | None) -> ServerSessions:
        """Return what tickets stand for: the configuration's own; else of this context, whatever is set meanwhile."""
        if base is not None and base.session_store is not None:
            return base.session_store
        in_memory = bool(self.options & ssl.OP_NO_TICKET)
        if in_memory not in self._own_sessions:
            self._own_sessions[in_memory] = MemoryServerSessions() if in_memory else TicketKeys()
        return self._own_sessions[in_memory]

    def _overrides(self, *, server_side: bool) -> dict[str, Any]:  # Any: each setting has its own type
        accepted = self._client_schemes if server_side else self._server_schemes
        names = {"alpn": self._alpn, "suites": self._suites, "groups": self._groups, "signature_schemes": accepted}
        changes: dict[str, Any] = {name: value for name, value in names.items() if value is not None}
        if self._records:
            changes["trace_records"] = True
        base = self._base
        if isinstance(base, ClientConfig) and base.key_shares is not None and self._groups is not None:
            changes["key_shares"] = tuple(code for code in base.key_shares if code in self._groups) or None
        return changes

    def _observer(self, config: Config) -> Observer | None:
        made = None if config.trace is None else config.trace()
        return made if self._keylog is None else tee(made, KeyLogWriter(self._keylog))


def _side(protocol: int) -> bool | None:
    """Return whether *protocol* is a server's; None: either. Raises ConfigurationError for an older version's."""
    if protocol in _SIDES:
        return _SIDES[protocol]
    known = protocol in list(ssl._SSLMethod)
    what = "only TLS 1.3 is spoken here" if known else f"invalid or unsupported protocol version {protocol}"
    raise ConfigurationError(f"{what}: PROTOCOL_TLS_CLIENT or PROTOCOL_TLS_SERVER, or a config")


def _derived(kind: type[K], ours: type, name: str) -> type[K]:
    if not issubclass(kind, ours):
        raise ConfigurationError(f"{name} must be derived from pellucid.SSLContext.{name}, as {kind.__name__} is not")
    return kind


def _checked_source(source: ConfigSource) -> ConfigSource:
    current_config(source)
    return source


def _replaces(added: Credential, kept: Credential) -> bool:
    return (added.names, added.leaf.key_algorithm) == (kept.names, kept.leaf.key_algorithm)


def _signing_with(credentials: tuple[Credential, ...], schemes: tuple[int, ...] | None) -> tuple[Credential, ...]:
    """Return *credentials* that sign with none but *schemes*, where that is set."""
    if schemes is None:
        return credentials
    return tuple(replace(one, signature_schemes=schemes) for one in credentials)


def _password(password: _PASSWORD) -> bytes | None:
    """Return the password, asked for if it is a function. Raises TypeError, and ValueError where it is too long."""
    asked = callable(password)
    value: Any = password() if callable(password) else password  # Any: what a function returns is looked at here
    if value is None and not asked:
        return None
    if not isinstance(value, (str, bytes, bytearray)):
        raise TypeError(
            "password callback must return a string" if asked else "password should be a string or callable"
        )
    found = value.encode("utf-8") if isinstance(value, str) else bytes(value)
    if len(found) > _LONGEST_PASSWORD:
        raise ValueError(f"password cannot be longer than {_LONGEST_PASSWORD} bytes")
    return found


def _credential(chain: bytes, key: bytes | None, password: _PASSWORD) -> Credential:
    """Return the credential. A password that the key does not need is not asked for, and no mistake."""
    needed = b"ENCRYPTED" in (chain if key is None else key)
    return Credential.from_pem(chain, key, _password(password) if needed else None)


def _pem_words(error: UsageError) -> str:
    """Return OpenSSL's words for what is wrong with a certificate and its key, which programs look for."""
    mismatch = "does not belong" in error.reason
    return "[X509: KEY_VALUES_MISMATCH] key values mismatch" if mismatch else "[SSL] PEM lib"


def _ascii_name(name: str | bytes | None) -> str | None:
    """Return a host name in ASCII: what `socket` makes of it (IDNA 2003), so that it is the one that was connected to.

    Raises TypeError for one with a NUL, as `ssl` does.
    """
    if name is None:
        return None
    text = name.decode("ascii") if isinstance(name, bytes) else name
    if "\0" in text:
        raise TypeError("server_hostname: embedded null character")
    if text.isascii():
        return text
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise HostNameError(f"server_hostname is no host name: {error}") from error
