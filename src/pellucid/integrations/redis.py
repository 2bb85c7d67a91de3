"""redis-py over Pellucid: connection classes, for redis-py takes no context. They go into a pool or a URL's client.

redis.Redis.from_url("rediss://cache.example", connection_class=PellucidSSLConnection, ssl_context=context)
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio.connection import SSLConnection as AsyncConnection
from redis.connection import SSLConnection as BlockingConnection

from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_errors import ConfigurationError

__all__ = ["AsyncPellucidSSLConnection", "PellucidSSLConnection"]

_UNLIKE_OURS: Final = {
    "ssl_validate_ocsp": "no OCSP server is asked: staple and CRLs are what ClientConfig(revocation=…) checks",
    "ssl_validate_ocsp_stapled": "what is stapled is checked in the handshake: ClientConfig(revocation=…) says how",
    "ssl_ocsp_context": "it is of pyOpenSSL, which does no TLS here",
    "ssl_ocsp_expected_cert": "what is stapled is checked in the handshake, for the certificate that was shown",
}


class PellucidSSLConnection(BlockingConnection):
    """A connection to Redis with TLS 1.3 by Pellucid, for `redis.Redis` and `redis.ConnectionPool`.

    ssl_context: what it is made with, a `pellucid.SSLContext` of the client's side.

    Without it, one is made of redis-py's own settings: ssl_ca_certs, ssl_ca_data, ssl_ca_path, ssl_certfile,
    ssl_keyfile, ssl_password, ssl_min_version, ssl_ciphers; the system's roots where no CA is given. Raises
    ConfigurationError for a setting that cannot be honoured, and for any beside a context, which would not count.
    """

    def __init__(self, *, ssl_context: SSLContext | None = None, **settings: Any) -> None:  # Any: redis-py's own
        self.context = _context(ssl_context, settings)
        super().__init__(**settings)

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> socket.socket:
        return self.context.wrap_socket(sock, server_hostname=self.host)


class AsyncPellucidSSLConnection(AsyncConnection):
    """The same for `redis.asyncio`."""

    def __init__(self, *, ssl_context: SSLContext | None = None, **settings: Any) -> None:  # Any: redis-py's own
        self.context = _context(ssl_context, settings)
        super().__init__(**settings)

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {"host": self.host, "port": self.port, "ssl": self.context}


def _context(given: SSLContext | None, settings: dict[str, Any]) -> SSLContext:
    """Take what is of TLS out of *settings*; return *given*, or the context that they describe."""
    own = {name: settings.pop(name) for name in tuple(settings) if name.startswith("ssl_")}
    for name, value in own.items():
        if name in _UNLIKE_OURS and value:
            raise ConfigurationError(f"{name}: {_UNLIKE_OURS[name]}")
    if given is None:
        return _described(own)
    if own:
        raise ConfigurationError(f"{', '.join(own)}: the ssl_context says that, and these would not count")
    if not isinstance(given, SSLContext):
        raise ConfigurationError("ssl_context is a pellucid.SSLContext: with any other, something else does the TLS")
    return given


_MODES: Final = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
    None: ssl.CERT_NONE,
}


def _described(own: Mapping[str, Any]) -> SSLContext:
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asked = own.get("ssl_cert_reqs", "required")
    mode = ssl.CERT_NONE if asked is None else _MODES.get(asked, asked)
    context.check_hostname = own.get("ssl_check_hostname", True) and mode is not ssl.CERT_NONE
    context.verify_mode = mode
    for flag in own.get("ssl_include_verify_flags") or ():
        context.verify_flags |= flag
    for flag in own.get("ssl_exclude_verify_flags") or ():
        context.verify_flags &= ~flag
    chain, key = own.get("ssl_certfile"), own.get("ssl_keyfile")
    if chain:
        context.load_cert_chain(chain, key, own.get("ssl_password"))
    elif key:
        raise ConfigurationError("ssl_keyfile: there is no ssl_certfile that it is the key of")
    trusted = [own.get(name) for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data")]
    if any(one is not None for one in trusted):
        context.load_verify_locations(*trusted)
    else:
        context.load_default_certs()
    if own.get("ssl_min_version") is not None:
        context.minimum_version = own["ssl_min_version"]
    if own.get("ssl_ciphers"):
        context.set_ciphers(own["ssl_ciphers"])
    return context
