"""`pellucid.SSLContext`: the shape of `ssl.SSLContext`, for every library that takes one. Pellucid does the TLS.

It derives from `ssl.SSLContext` because libraries ask isinstance; the OpenSSL context inside is never used. Every
public name of the base is overridden, here or in `ssl_settings`: what cannot be honoured raises ConfigurationError.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, TypeVar

from pellucid.config import (
    ClientAuthentication,
    ClientConfig,
    ConfigSource,
    Credential,
    ServerConfig,
    current_config,
)
from pellucid.connection import Connection
from pellucid.crypto.certificates import parse_certificate
from pellucid.crypto.provider import Buffer
from pellucid.errors import PeerError, UsageError
from pellucid.explain.keylog import KeyLogWriter
from pellucid.explain.recorder import tee
from pellucid.integrations.handshake_watch import HandshakeCallback, HandshakeWatch
from pellucid.integrations.ssl_certificate import certificate_dict
from pellucid.integrations.ssl_engine import Engine, Pause
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.integrations.ssl_object import SSLObject
from pellucid.integrations.ssl_settings import Settings
from pellucid.integrations.ssl_socket import SSLSocket
from pellucid.net.load import load_trust, system_trust
from pellucid.trace import Observer, unwatched
from pellucid.verify.trust import TrustStore

__all__ = ["SSLContext"]

Config = ClientConfig | ServerConfig
FilePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_AUTHENTICATION: Final = {
    ClientAuthentication.NONE: ssl.CERT_NONE,
    ClientAuthentication.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientAuthentication.REQUIRED: ssl.CERT_REQUIRED,
}


H = TypeVar("H", bound=HandshakeCallback)


class SSLContext(Settings, ssl.SSLContext):  # type: ignore[misc,override]  # attributes there, properties here
    """An `ssl.SSLContext` in shape, TLS 1.3 by Pellucid in fact.

    config: a ClientConfig or a ServerConfig makes a context of that side, as does a source of a ServerConfig, which is
            asked at each connection (`ReloadingConfig`); None makes one of either side, a client's with the
            system's roots, a server's once `load_cert_chain` was called. `ssl.PROTOCOL_TLS_CLIENT` and
            `PROTOCOL_TLS_SERVER` are taken too.
    answer: answers the pauses of a signer, resolver or verifier that said PENDING; called in the connection's thread.

    Peers are verified: `verify_mode = CERT_NONE` and `check_hostname = False` raise ConfigurationError unless the
    config has a verifier of its own, which alone decides then (see `dangerous_accept_any`). Changes count for
    connections made afterwards.
    """

    sslobject_class = SSLObject  # type: ignore[assignment]  # as wrap_bio
    sslsocket_class = SSLSocket  # type: ignore[assignment]

    def __new__(cls, *_: object, **__: object) -> SSLContext:
        return ssl.SSLContext.__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(
        self,
        config: Config | ConfigSource | int | None = None,
        *,
        answer: Callable[[Pause], object] | None = None,
    ) -> None:
        side = {int(ssl.PROTOCOL_TLS_CLIENT): False, int(ssl.PROTOCOL_TLS_SERVER): True, int(ssl.PROTOCOL_TLS): None}
        self._source: ConfigSource | None = None
        self._built_of: tuple[ServerConfig, ServerConfig] | None = None
        """of a source: what it gave last, and what was made of it"""
        if config is not None and not isinstance(config, (ClientConfig, ServerConfig, int)):
            current_config(config)
            self._source, config = config, int(ssl.PROTOCOL_TLS_SERVER)
        if isinstance(config, int):
            if config not in side:
                raise ConfigurationError("only TLS 1.3 is spoken here: PROTOCOL_TLS_CLIENT or PROTOCOL_TLS_SERVER")
            self._server_side = side[config]
            self._base: Config | None = None
        else:
            self._server_side = None if config is None else isinstance(config, ServerConfig)
            self._base = config
        self.answer = answer
        self._alpn: tuple[str, ...] | None = None
        self._suites: tuple[int, ...] | None = None
        self._groups: tuple[int, ...] | None = None
        self._schemes: tuple[int, ...] | None = None
        self._trust: TrustStore | None = _trust_of(config)
        self._credentials: tuple[Credential, ...] = (
            () if isinstance(config, int) or config is None else (config.credentials)
        )
        self._authentication: ClientAuthentication | None = None
        if isinstance(config, ServerConfig):
            self._authentication = config.client_authentication
        self._later = isinstance(config, ClientConfig) and config.post_handshake_auth
        self._keylog: str | None = None
        self._callbacks: tuple[HandshakeCallback, ...] = ()
        self._records = False
        self._built: dict[bool, Config] = {}

    @property  # type: ignore[misc]  # object's can be set
    def __class__(self) -> type:  # survives truststore.inject_into_ssl()
        return ssl.SSLContext

    # ---- connections -----------------------------------------------------------------------------------------------

    def wrap_bio(  # type: ignore[override]  # ours is no ssl.SSLObject, whose constructor forbids it
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: object = None,
    ) -> SSLObject:
        """Return a TLS connection between two buffers. server_hostname: text, or ASCII bytes as anyio gives it."""
        _no_session(session)
        name = _host_name(server_hostname)
        engine = self.new_engine(server_side=server_side, server_hostname=name)
        return SSLObject(engine, incoming, outgoing, server_side=server_side, server_hostname=name)

    def wrap_socket(  # type: ignore[override]  # ours is no ssl.SSLSocket, whose constructor forbids it
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: object = None,
    ) -> SSLSocket:
        """Return *sock* under TLS, past the handshake if it is connected. *sock* itself is used up."""
        _no_session(session)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_STREAM:
            raise NotImplementedError("only stream sockets are supported")
        name = _host_name(server_hostname)
        if server_side and name is not None:
            raise ValueError("server_hostname can only be specified in client mode")
        self._config(server_side=server_side)  # a mistake in the settings shows before the socket is taken
        return SSLSocket(
            self,
            sock,
            server_side=server_side,
            server_hostname=name,
            handshake=do_handshake_on_connect,
            suppress_ragged_eofs=suppress_ragged_eofs,
        )

    def new_engine(self, *, server_side: bool, server_hostname: str | None) -> Engine:
        """Return the engine of a new connection. Raises ConfigurationError if the settings do not allow one."""
        config = self._config(server_side=server_side)
        own = self._observer(config)
        watch = HandshakeWatch(self._callbacks) if self._callbacks else None
        observer = own if watch is None else tee(own, watch)
        told = unwatched if observer is None else observer
        if isinstance(config, ServerConfig):
            return Engine(Connection.server(config, trace=told), self, observer, own=own, watch=watch)
        if not server_hostname:
            raise ConfigurationError("a client names the server: server_hostname is what its certificate must be for")
        try:
            return Engine(Connection.client(config, server_hostname, trace=told), self, observer, own=own, watch=watch)
        except UsageError as error:
            raise ConfigurationError(error.reason) from error

    def config(self, *, server_side: bool) -> Config:
        """Return the configuration that connections of one side are made with now."""
        return self._config(server_side=server_side)

    def on_handshake(self, callback: H, *, records: bool = False) -> H:
        """Have *callback* called with the record of each connection, once, when its handshake completes or fails.

        It is called where the handshake is driven, a thread or an event loop, and should be quick; the recorder goes on
        recording. For connections made from now on; of several callbacks each is called. Usable as a decorator.
        records: whether the records are recorded too, as `write_pcapng` needs them; that slows bulk data.
        """
        self._callbacks = (*self._callbacks, callback)
        self._records = self._records or records
        self._built.clear()
        return callback

    # ---- certificates and trust ------------------------------------------------------------------------------------

    def load_cert_chain(
        self,
        certfile: FilePath,
        keyfile: FilePath | None = None,
        password: Callable[[], str | bytes | bytearray] | str | bytes | bytearray | None = None,
    ) -> None:
        """Add a certificate chain with its key, from PEM files. It takes the place of one for the same names and key.

        Raises OSError if a file cannot be read, ConfigurationError if what it holds cannot be used.
        """
        if self._source is not None:
            raise ConfigurationError("the certificates of this context are those of the source it was made with")
        with open(certfile, "rb") as file:
            chain = file.read()
        key = None
        if keyfile is not None:
            with open(keyfile, "rb") as file:
                key = file.read()
        try:
            added = _credential(chain, key, _password(password))
        except UsageError as error:
            raise ConfigurationError(f"{os.fsdecode(certfile)}: {error.reason}") from error
        kept = tuple(
            one
            for one in self._credentials
            if (one.names, one.leaf.key_algorithm) != (added.names, added.leaf.key_algorithm)
        )
        self._credentials = (added, *kept)
        self._built.clear()

    def load_verify_locations(  # type: ignore[override]  # typeshed's Buffer is of Python 3.12
        self,
        cafile: FilePath | None = None,
        capath: FilePath | None = None,
        cadata: str | Buffer | None = None,
    ) -> None:
        """Trust these roots too; where nothing was trusted explicitly before, these alone and not the system's.

        Raises OSError if a file cannot be read, ConfigurationError if there is no root in it.
        """
        if cafile is None and capath is None and cadata is None:
            raise TypeError("cafile, capath and cadata cannot be all omitted")
        try:
            for path in (cafile, capath):
                if path is not None:
                    os.stat(path)
                    self._add_trust(load_trust(os.fsdecode(path)))
            if isinstance(cadata, str):
                self._add_trust(TrustStore.from_pem(cadata))
            elif cadata is not None:
                self._add_trust(TrustStore.from_der(_der_certificates(bytes(cadata))))
        except UsageError as error:
            raise ConfigurationError(error.reason) from error

    def load_default_certs(self, purpose: object = ssl.Purpose.SERVER_AUTH) -> None:
        """Trust the system's roots (too)."""
        self._add_trust(system_trust())

    def set_default_verify_paths(self) -> None:
        self._add_trust(system_trust())

    def get_ca_certs(self, binary_form: bool = False) -> list[Any]:
        """Return the trusted roots, as DER or as dictionaries; a root that cannot be read is left out of those."""
        if binary_form:
            return list(self._trusted().roots)
        found = []
        for der in self._trusted().roots:
            try:
                found.append(certificate_dict(parse_certificate(der)))
            except PeerError:  # a root whose key TLS 1.3 cannot use: it stays in the store, and helps nobody here
                continue
        return found

    def cert_store_stats(self) -> dict[str, int]:
        count = len(self._trusted())
        return {"x509": count, "crl": 0, "x509_ca": count}

    # ---- whom to verify --------------------------------------------------------------------------------------------

    @property
    def verify_mode(self) -> ssl.VerifyMode:
        """CERT_REQUIRED for a client; for a server whether clients are asked for a certificate."""
        if self._server_side is not True and self._authentication is None:
            return ssl.CERT_REQUIRED
        if self._source is not None and self._authentication is None:
            return _AUTHENTICATION[current_config(self._source).client_authentication]
        return _AUTHENTICATION[self._authentication or ClientAuthentication.NONE]

    @verify_mode.setter
    def verify_mode(self, value: int) -> None:
        mode = ssl.VerifyMode(value)
        if self._server_side is not True and mode is not ssl.CERT_REQUIRED and not self._own_verifier():
            raise ConfigurationError(
                "a server's certificate is always verified; to accept any, for tests, give the config a verifier: "
                "ClientConfig(verifier=dangerous_accept_any())"
            )
        if self._server_side is not False:
            self._authentication = next(kind for kind, its in _AUTHENTICATION.items() if its == mode)
            self._built.clear()

    @property
    def check_hostname(self) -> bool:
        """True for a client: the name is always checked. False for a server, whose clients have none."""
        return self._server_side is not True

    @check_hostname.setter
    def check_hostname(self, value: bool) -> None:
        if bool(value) is self.check_hostname or (not value and self._own_verifier()):
            return
        if value:
            raise ConfigurationError("a server has no host name to check: clients' certificates are not for one")
        raise ConfigurationError(
            "the server's name is always checked; to accept any, for tests, give the config a verifier: "
            "ClientConfig(verifier=dangerous_accept_any())"
        )

    # ---- what is negotiated ----------------------------------------------------------------------------------------

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Offer or accept these protocols, preferred first."""
        self._change(_alpn=tuple(alpn_protocols))

    @property  # type: ignore[override]  # typeshed: never None
    def keylog_filename(self) -> str | None:
        """Where the secrets of connections are appended (RFC 9850); None: nowhere."""
        return self._keylog

    @keylog_filename.setter
    def keylog_filename(self, path: str | os.PathLike[str] | None) -> None:
        if path is not None:
            KeyLogWriter(path)  # raises OSError at once if it cannot be written
        self._keylog = None if path is None else os.fspath(path)

    # ---- within ----------------------------------------------------------------------------------------------------

    def _change(self, **settings: Any) -> None:  # Any: each setting has its own type
        """Make a change of settings, if a configuration can be made with it; ConfigurationError if not."""
        before = {name: getattr(self, name) for name in settings}
        self.__dict__.update(settings)
        self._built.clear()
        try:
            for server_side in (False, True):
                unready = server_side and not self._credentials and self._source is None
                if self._server_side in (None, server_side) and not unready:
                    self._config(server_side=server_side)
        except ConfigurationError:
            self.__dict__.update(before)
            raise

    def _config(self, *, server_side: bool) -> Config:
        if self._server_side not in (None, server_side):
            raise ConfigurationError(f"this context is for a {'server' if self._server_side else 'client'} only")
        if self._source is not None:
            return self._sourced_config(self._source)
        built = self._built.get(server_side)
        if built is None:
            try:
                built = self._server_config() if server_side else self._client_config()
            except UsageError as error:
                raise ConfigurationError(error.reason) from error
            self._built[server_side] = built
        return built

    def _client_config(self) -> ClientConfig:
        base = self._base if isinstance(self._base, ClientConfig) else ClientConfig()
        trust = self._trust
        if trust is None and base.verifier is None:
            trust = system_trust()
        changes = {**self._overrides(), "post_handshake_auth": self._later}
        return replace(base, trust=trust, credentials=self._credentials, **changes)

    def _server_config(self) -> ServerConfig:
        overrides = self._overrides()
        authentication = self._authentication or ClientAuthentication.NONE
        asked_later = self._later and authentication is not ClientAuthentication.NONE
        in_handshake = ClientAuthentication.NONE if asked_later else authentication
        if isinstance(self._base, ServerConfig):
            changes = {**overrides, "client_authentication": in_handshake, "client_trust": self._trust}
            return replace(self._base, credentials=self._credentials, **changes)
        if not self._credentials:
            raise ConfigurationError("a server needs a certificate: call load_cert_chain first")
        trust = self._trust
        if trust is None and authentication is not ClientAuthentication.NONE:
            raise ConfigurationError("no CA of clients is trusted: call load_verify_locations first")
        return ServerConfig(
            credentials=self._credentials, client_authentication=in_handshake, client_trust=trust, **overrides
        )

    def _sourced_config(self, source: ConfigSource) -> ServerConfig:
        """Return what the source has now, with what was set here."""
        base, known = current_config(source), self._built_of
        if known is not None and known[0] is base and self._built:
            return known[1]
        changes = self._overrides()
        mode = base.client_authentication if self._authentication is None else self._authentication
        if self._later and mode is not ClientAuthentication.NONE:
            mode = ClientAuthentication.NONE
        if mode is not base.client_authentication:
            changes["client_authentication"] = mode
        if self._trust is not None:
            changes["client_trust"] = self._trust
        try:
            built = replace(base, **changes) if changes else base
        except UsageError as error:
            raise ConfigurationError(error.reason) from error
        self._built_of, self._built = (base, built), {True: built}
        return built

    def _overrides(self) -> dict[str, Any]:  # Any: each setting has its own type
        names = {"alpn": self._alpn, "suites": self._suites, "groups": self._groups, "signature_schemes": self._schemes}
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

    def _own_verifier(self) -> bool:
        return self._base is not None and self._base.verifier is not None

    def _trusted(self) -> TrustStore:
        trust = self._trust
        if trust is None and self._source is not None:
            trust = current_config(self._source).client_trust
        return TrustStore.empty() if trust is None else trust

    def _add_trust(self, trust: TrustStore) -> None:
        self._trust = trust if self._trust is None else self._trust | trust
        self._built.clear()


def _trust_of(config: Config | int | None) -> TrustStore | None:
    if isinstance(config, ServerConfig):
        return config.client_trust
    return config.trust if isinstance(config, ClientConfig) else None


def _host_name(name: str | bytes | None) -> str | None:
    if isinstance(name, bytes):
        return name.decode("ascii")
    return name


def _no_session(session: object) -> None:
    if session is not None:
        raise ConfigurationError("sessions are not resumed through this interface")


def _password(password: Callable[[], str | bytes | bytearray] | str | bytes | bytearray | None) -> bytes | None:
    value = password() if callable(password) else password
    return value.encode("utf-8") if isinstance(value, str) else None if value is None else bytes(value)


def _credential(chain: bytes, key: bytes | None, password: bytes | None) -> Credential:
    """Return the credential. A password that the key does not need is no mistake, as with OpenSSL."""
    if password is not None and b"ENCRYPTED" not in (chain if key is None else key):
        password = None
    return Credential.from_pem(chain, key, password)


def _der_certificates(data: bytes) -> list[bytes]:
    """Return the DER certificates that follow one another in *data*. Raises ConfigurationError for anything else."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        head = data[at : at + 6]
        if len(head) < 4 or head[0] != 0x30 or head[1] not in (0x81, 0x82, 0x83):
            raise ConfigurationError("cadata as bytes is DER, one certificate after another; PEM is text")
        width = head[1] & 0x0F
        end = at + 2 + width + int.from_bytes(head[2 : 2 + width], "big")
        found.append(data[at:end])
        at = end
    return found
