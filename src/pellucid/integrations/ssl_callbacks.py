"""The callbacks of an SSLContext: certificates chosen by name, and keys that both ends have from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.integrations.ssl_hello import AlpnCallback, PskServerCallback, SniCallback, given_psk
from pellucid.sessions.psk import ExternalPsk

__all__ = ["Callbacks"]

PskClientCallback = Callable[[str | None], tuple[str | None, bytes]]
"""hint → (identity, key); TLS 1.3 has no hints: it is None. (None, b"") offers nothing"""


class Callbacks:
    """The part of SSLContext that calls the application. `_server_side` and `_changed` are SSLContext's."""

    _server_side: bool | None
    _changed: Callable[[], None]

    def _prepare_callbacks(self) -> None:
        self._sni_callback: SniCallback | None = None
        self._alpn_callback: AlpnCallback | None = None
        self._psk_client: PskClientCallback | None = None
        self._psk_server: PskServerCallback | None = None
        self.switched: dict[tuple[int, int], Any] = {}
        """what `ssl_hello` made of this context's configuration and others'"""

    @property
    def _hears_first(self) -> bool:
        """Whether a server waits for the ClientHello to ask callbacks."""
        return any(one is not None for one in (self._sni_callback, self._alpn_callback, self._psk_server))

    # ---- names -----------------------------------------------------------------------------------------------------

    @property
    def sni_callback(self) -> SniCallback | None:
        """Server: is asked at every ClientHello: (SSLObject or SSLSocket, name or None, context).

        It may set `context` of the first to another SSLContext: that one's certificates and ALPN protocols are used. It
        returns None, or an alert (`ssl.ALERT_DESCRIPTION_*`) with which the client is refused; an exception refuses it
        with handshake_failure. The name is as it was sent, in A-labels.
        """
        return self._sni_callback

    @sni_callback.setter
    def sni_callback(self, value: SniCallback | None) -> None:
        if value is not None and self._server_side is False:
            raise ConfigurationError("sni_callback cannot be set on TLS_CLIENT context: it is a server's")
        if value is not None and not callable(value):
            raise TypeError("not a callable object")
        self._sni_callback = value

    def set_servername_callback(self, server_name_callback: SniCallback | None) -> None:
        """Set `sni_callback`. The older name of it."""
        self.sni_callback = server_name_callback

    @property
    def alpn_callback(self) -> AlpnCallback | None:
        """Server: chooses the protocol: (SSLObject or SSLSocket, those that the client offers, context).

        It returns one of them, or None for none; an exception refuses the client with handshake_failure. `ssl` has no
        such thing: there `set_alpn_protocols` decides, and it does here for clients that offer none, or without this.
        """
        return self._alpn_callback

    @alpn_callback.setter
    def alpn_callback(self, value: AlpnCallback | None) -> None:
        if value is not None and self._server_side is False:
            raise ConfigurationError("alpn_callback is a server's: a client offers, with set_alpn_protocols")
        if value is not None and not callable(value):
            raise TypeError("not a callable object")
        self._alpn_callback = value

    # ---- keys ------------------------------------------------------------------------------------------------------

    def set_psk_client_callback(self, callback: PskClientCallback | None) -> None:
        """Client: ask *callback* for a key before every ClientHello: it gets None, and returns (identity, key).

        The key is offered as it is, with the suites of SHA-256 and a key exchange beside it (RFC 9846 §4.3.11), as
        OpenSSL does it. 16 bytes and more: not passwords. A server that does not know it shows its certificate. With
        verify_mode CERT_NONE, which may be set then, the key is the only way for the server to prove itself.
        """
        if callback is not None and self._server_side is True:
            raise ConfigurationError("Cannot add PSK client callback to a PROTOCOL_TLS_SERVER context")
        if callback is not None and not callable(callback):
            raise TypeError("callback must be callable or None")
        self._psk_client = callback
        self._changed()

    def set_psk_server_callback(self, callback: PskServerCallback | None, identity_hint: str | None = None) -> None:
        """Server: ask *callback* for the key of a client's identity; b"" where there is none.

        A server that has certificates too shows one to a client whose identities it does not know.
        identity_hint: accepted, and told to nobody: TLS 1.3 has no hints.
        """
        if callback is not None and self._server_side is False:
            raise ConfigurationError("Cannot add PSK server callback to a PROTOCOL_TLS_CLIENT context")
        if callback is not None and not callable(callback):
            raise TypeError("callback must be callable or None")
        if identity_hint is not None and not isinstance(identity_hint, str):
            raise TypeError("identity_hint is a str or None")
        self._psk_server = callback
        self._changed()

    @property
    def psk_server_callback(self) -> PskServerCallback | None:
        return self._psk_server

    def _psk_only(self) -> bool:
        """Whether a server may prove itself by a key alone."""
        return self._psk_client is not None

    def _client_psk(self) -> ExternalPsk | None:
        """Ask for the key of a connection. Raises ConfigurationError if the callback fails."""
        callback = self._psk_client
        if callback is None:
            return None
        try:
            answer = callback(None)
        except Exception as error:
            raise ConfigurationError(f"callback failed: {type(error).__name__} in the PSK callback") from error
        return given_psk(answer)
