"""The settings of `ssl.SSLContext` that TLS 1.3 leaves nothing of, or little: each is honoured or refused by name.

None is taken in silence: a program that asks for TLS 1.2 or DH parameters is told that it does not get them.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final

from pellucid.integrations.ssl_engine import VERSION, cipher_of
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.registry import group_by_name, scheme_by_name, suite_by_name

__all__ = ["Settings"]

_OPTIONS: Final = (
    ssl.OP_ALL
    | ssl.OP_NO_SSLv2
    | ssl.OP_NO_SSLv3
    | ssl.OP_NO_TLSv1
    | ssl.OP_NO_TLSv1_1
    | ssl.OP_NO_TLSv1_2
    | ssl.OP_NO_COMPRESSION
    | ssl.OP_NO_RENEGOTIATION
    | ssl.OP_NO_TICKET
    | ssl.OP_CIPHER_SERVER_PREFERENCE
    | ssl.OP_SINGLE_DH_USE
    | ssl.OP_SINGLE_ECDH_USE
    | ssl.OP_ENABLE_MIDDLEBOX_COMPAT
)
"""What is so in any case, and may therefore be asked for."""

_VERIFY_FLAGS: Final = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_TRUSTED_FIRST


class Settings:
    """The smaller half of SSLContext. `_change` and the private fields are SSLContext's."""

    _server_side: bool | None
    _later: bool
    _change: Callable[..., None]
    config: Callable[..., Any]  # Any: either side's configuration

    # ---- versions --------------------------------------------------------------------------------------------------

    @property
    def minimum_version(self) -> ssl.TLSVersion:
        return ssl.TLSVersion.TLSv1_3

    @minimum_version.setter
    def minimum_version(self, value: int) -> None:
        if value not in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.MAXIMUM_SUPPORTED):
            raise ConfigurationError(f"only TLS 1.3 is spoken here, minimum_version cannot be {_version(value)}")

    @property
    def maximum_version(self) -> ssl.TLSVersion:
        return ssl.TLSVersion.TLSv1_3

    @maximum_version.setter
    def maximum_version(self, value: int) -> None:
        if value not in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.MAXIMUM_SUPPORTED):
            raise ConfigurationError(f"only TLS 1.3 is spoken here, maximum_version cannot be {_version(value)}")

    @property
    def protocol(self) -> Any:  # Any: ssl._SSLMethod is private
        return {None: ssl.PROTOCOL_TLS, False: ssl.PROTOCOL_TLS_CLIENT, True: ssl.PROTOCOL_TLS_SERVER}[
            self._server_side
        ]

    # ---- algorithms ------------------------------------------------------------------------------------------------

    def set_ciphers(self, cipherlist: str, /) -> None:
        """Take the TLS 1.3 suites named, IANA's names with colons between. OpenSSL's language is for older versions."""
        self._change(_suites=_codes(cipherlist, suite_by_name, "a cipher suite of TLS 1.3"))

    set_ciphersuites = set_ciphers

    def get_ciphers(self) -> list[dict[str, Any]]:  # type: ignore[explicit-any,unused-ignore]
        found = []
        for code in self.config(server_side=bool(self._server_side)).suites:
            name, _, bits = cipher_of(code)
            found.append(
                {
                    "id": 0x03000000 | code,
                    "name": name,
                    "protocol": VERSION,
                    "description": f"{name} {VERSION}",
                    "strength_bits": bits,
                    "alg_bits": bits,
                    "aead": True,
                    "symmetric": name.removeprefix("TLS_").rpartition("_")[0].lower().replace("_", "-"),
                    "digest": None,
                    "kea": "kx-any",
                    "auth": "auth-any",
                }
            )
        return found

    def set_groups(self, grouplist: str, /) -> None:
        """Take these key-exchange groups, names with colons between, preferred first."""
        self._change(_groups=_codes(grouplist, group_by_name, "a group that is known here"))

    def get_groups(self, *, include_aliases: bool = False) -> list[str]:
        config = self.config(server_side=bool(self._server_side))
        return [config.group_table[code].name for code in config.groups]

    def set_server_sigalgs(self, sigalgs: str, /) -> None:
        """Take these signature schemes, names with colons between, preferred first."""
        self._change(_schemes=_codes(sigalgs, scheme_by_name, "a signature scheme that is known here"))

    set_client_sigalgs = set_server_sigalgs

    def set_ecdh_curve(self, name: str, /) -> None:
        self._change(_groups=_codes(name, group_by_name, "a group that is known here"))

    @property
    def security_level(self) -> int:
        return 2

    # ---- what is so in any case ------------------------------------------------------------------------------------

    @property
    def options(self) -> ssl.Options:
        return ssl.Options(_OPTIONS)

    @options.setter
    def options(self, value: int) -> None:
        if refused := ssl.Options(value) & ~ssl.Options(_OPTIONS):
            raise ConfigurationError(f"these options cannot be had here: {refused!r}")

    @property
    def verify_flags(self) -> ssl.VerifyFlags:
        return ssl.VerifyFlags(_VERIFY_FLAGS)

    @verify_flags.setter
    def verify_flags(self, value: int) -> None:
        if refused := ssl.VerifyFlags(value) & ~ssl.VerifyFlags(_VERIFY_FLAGS):
            raise ConfigurationError(f"these checks cannot be changed so, give the config a verifier: {refused!r}")

    @property
    def hostname_checks_common_name(self) -> bool:
        return False

    @hostname_checks_common_name.setter
    def hostname_checks_common_name(self, value: bool) -> None:
        if value:
            raise ConfigurationError("only subjectAltName counts, never the common name (RFC 9525 §2)")

    @property
    def post_handshake_auth(self) -> bool:
        """Client: whether the server may ask for a certificate later. Server: it asks then, not in the handshake."""
        return self._later

    @post_handshake_auth.setter
    def post_handshake_auth(self, value: bool) -> None:
        self._change(_later=bool(value))

    @property
    def num_tickets(self) -> int:
        return 0

    @num_tickets.setter
    def num_tickets(self, value: int) -> None:
        if value:
            raise ConfigurationError("no session tickets are issued through this interface")

    @property
    def sni_callback(self) -> None:
        return None

    @sni_callback.setter
    def sni_callback(self, value: object) -> None:
        if value is not None:
            raise ConfigurationError(
                "certificates are chosen by name: load several, or ServerConfig.credential_resolver"
            )

    def set_servername_callback(self, server_name_callback: object) -> None:
        self.sni_callback = server_name_callback

    def session_stats(self) -> dict[str, int]:
        """Return OpenSSL's counters, all 0: no sessions are kept here."""
        names = ("number", "connect", "connect_good", "connect_renegotiate", "accept", "accept_good")
        more = ("accept_renegotiate", "hits", "misses", "timeouts", "cache_full")
        return dict.fromkeys(names + more, 0)

    # ---- what is not of TLS 1.3 ------------------------------------------------------------------------------------

    def load_dh_params(self, path: object, /) -> None:
        raise ConfigurationError("TLS 1.3 has no DH parameters of its own: groups are named")

    def set_npn_protocols(self, npn_protocols: Iterable[str]) -> None:
        raise ConfigurationError("NPN is not of TLS 1.3: use set_alpn_protocols")

    def set_psk_client_callback(self, callback: object) -> None:
        if callback is not None:
            raise ConfigurationError("external PSKs are not offered through this interface")

    def set_psk_server_callback(self, callback: object, identity_hint: str | None = None) -> None:
        if callback is not None:
            raise ConfigurationError("external PSKs are not offered through this interface")


def _codes(names: str, find: Callable[[str], int], what: str) -> tuple[int, ...]:
    found = []
    for name in names.split(":"):
        try:
            found.append(find(name))
        except KeyError:
            raise ConfigurationError(f"{name!r} is not {what}") from None
    return tuple(found)


def _version(value: int) -> str:
    try:
        return ssl.TLSVersion(value).name
    except ValueError:
        return str(value)
