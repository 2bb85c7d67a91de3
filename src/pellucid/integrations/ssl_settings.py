"""What an SSLContext negotiates: versions, suites, groups, schemes, options. Each is honoured or refused by name.

What cannot be had in TLS 1.3 raises ConfigurationError. What only ever concerned older versions, and takes nothing away
from TLS 1.3, is taken: programs set it without a thought, and are served as well without.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final

from pellucid.integrations.ssl_engine import VERSION, cipher_of
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.integrations.ssl_real import RealContext
from pellucid.integrations.ssl_trust import FilePath
from pellucid.limits import MAX_TICKETS_PER_HANDSHAKE, TICKETS_PER_HANDSHAKE
from pellucid.registry import group_by_name, scheme_by_name, suite_by_name
from pellucid.verify.names import shown

__all__ = ["Settings"]

_ALWAYS: Final = (
    ssl.OP_NO_SSLv2
    | ssl.OP_NO_SSLv3
    | ssl.OP_NO_TLSv1
    | ssl.OP_NO_TLSv1_1
    | ssl.OP_NO_TLSv1_2
    | ssl.OP_NO_COMPRESSION
    | ssl.OP_NO_RENEGOTIATION
    | ssl.OP_CIPHER_SERVER_PREFERENCE
    | ssl.OP_SINGLE_DH_USE
    | ssl.OP_SINGLE_ECDH_USE
    | ssl.OP_ENABLE_MIDDLEBOX_COMPAT
)
"""What is so in any case: it may be asked for, and is never off."""

_KEPT: Final = ssl.OP_ALL | ssl.OP_NO_TICKET
"""What is as it was set."""

_OF_OLDER_VERSIONS: Final = (
    0x1  # OP_NO_EXTENDED_MASTER_SECRET
    | 0x4  # OP_LEGACY_SERVER_CONNECT
    | 0x10000  # OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION
    | 0x40000  # OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION
    | 0x80000  # OP_NO_ENCRYPT_THEN_MAC
    | 0x800000  # OP_TLS_ROLLBACK_BUG
    | 0x80000000  # OP_CRYPTOPRO_TLSEXT_BUG
)
"""What lets OpenSSL do something weaker in TLS 1.2: taken, and nothing of it is done."""

_KERNEL_TLS: Final = 0x8  # OP_ENABLE_KTLS: where it cannot be had, OpenSSL goes on without a word, too

_REASONS: Final = {
    int(ssl.OP_NO_TLSv1_3): "OP_NO_TLSv1_3: TLS 1.3 is all that is spoken here; use an ssl.SSLContext for others",
    int(getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0x80)): (
        "OP_IGNORE_UNEXPECTED_EOF: a stream that was cut short would pass for one that ended; "
        "wrap_socket(suppress_ragged_eofs=True) says so for one socket"
    ),
    0x200000: "OP_PRIORITIZE_CHACHA: the order is yours: set_ciphersuites('TLS_CHACHA20_POLY1305_SHA256:…')",
    0x400: "OP_ALLOW_NO_DHE_KEX: ServerConfig(psk_modes=…) has PSK_KE",
}


class Settings:
    """The part of SSLContext that says what is negotiated. `_change` and `_changed` are SSLContext's.

    `_change` sets fields, and none of them if no configuration can be made of them.
    """

    _server_side: bool | None
    _change: Callable[..., None]
    _changed: Callable[[], None]
    config: Callable[..., Any]  # Any: either side's configuration

    def _prepare_settings(self, *, later: bool) -> None:
        self._alpn: tuple[str, ...] | None = None
        self._suites: tuple[int, ...] | None = None
        self._groups: tuple[int, ...] | None = None
        self._server_schemes: tuple[int, ...] | None = None
        self._client_schemes: tuple[int, ...] | None = None
        self._tickets: int | None = None
        self._options = int(ssl.OP_ALL | _ALWAYS)
        self._later = later

    # ---- versions --------------------------------------------------------------------------------------------------

    @property
    def minimum_version(self) -> ssl.TLSVersion:
        """TLSv1_3. A lower minimum may be set, since TLS 1.3 is above it; it is not kept."""
        return ssl.TLSVersion.TLSv1_3

    @minimum_version.setter
    def minimum_version(self, value: int) -> None:
        _version(value)

    @property
    def maximum_version(self) -> ssl.TLSVersion:
        """TLSv1_3. A lower maximum raises ConfigurationError."""
        return ssl.TLSVersion.TLSv1_3

    @maximum_version.setter
    def maximum_version(self, value: int) -> None:
        version = _version(value)
        if version not in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.MAXIMUM_SUPPORTED):
            raise ConfigurationError(
                f"only TLS 1.3 is spoken here, maximum_version cannot be {version.name}: use an ssl.SSLContext for that"
            )

    @property
    def protocol(self) -> Any:  # Any: ssl._SSLMethod is private
        return {None: ssl.PROTOCOL_TLS, False: ssl.PROTOCOL_TLS_CLIENT, True: ssl.PROTOCOL_TLS_SERVER}[
            self._server_side
        ]

    # ---- algorithms ------------------------------------------------------------------------------------------------

    def set_ciphers(self, cipherlist: str, /) -> None:
        """Take a cipher string. Names of TLS 1.3 suites in it are the ones used from now on, in their order.

        Everything else in OpenSSL's language is about TLS 1.2 and below, and never concerned TLS 1.3: it is checked and
        changes nothing. Raises ConfigurationError for a string that selects nothing, as `ssl` does, or nothing but what
        TLS 1.3 was made to be rid of: CBC, RC4, NULL.
        """
        named = [name for name in re.split(r"[:, ;]+", cipherlist) if name.upper().startswith("TLS_")]
        if named:
            self.set_ciphersuites(":".join(named))
        else:
            _check_cipher_string(cipherlist)

    def set_ciphersuites(self, ciphersuites: str, /) -> None:
        """Take these suites of TLS 1.3, IANA's names with colons between, preferred first."""
        self._change(_suites=_codes(ciphersuites, suite_by_name, "a cipher suite of TLS 1.3"))

    def get_ciphers(self) -> list[dict[str, Any]]:  # type: ignore[explicit-any,unused-ignore]
        """Return the suites in use, preferred first, as `ssl` describes them."""
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
        """Take these key-exchange groups, names with colons between, preferred first; "?name" is one that may lack."""
        self._change(_groups=_codes(grouplist, group_by_name, "a group that is known here"))

    def get_groups(self, *, include_aliases: bool = False) -> list[str]:
        """Return the names of the groups in use, preferred first; with aliases, all names that `set_groups` takes."""
        config = self.config(server_side=bool(self._server_side))
        found: list[str] = []
        for code in config.groups:
            found.append(config.group_table[code].name)
            if include_aliases:
                found += [alias for alias in _GROUP_ALIASES if group_by_name(alias) == code]
        return found

    def set_ecdh_curve(self, name: str, /) -> None:
        """Take this one group, by any of its names."""
        given: Any = name  # Any: ssl takes bytes too
        text = given.decode("ascii", "replace") if isinstance(given, bytes) else given
        self._change(_groups=_codes(text, group_by_name, "a group that is known here"))

    def set_server_sigalgs(self, sigalgs: str, /) -> None:
        """Take these signature schemes of servers, preferred first: a client accepts them, a server signs with them."""
        self._change(_server_schemes=_schemes(sigalgs))

    def set_client_sigalgs(self, sigalgs: str, /) -> None:
        """Take these signature schemes of clients, preferred first: a server accepts them, a client signs with them."""
        self._change(_client_schemes=_schemes(sigalgs))

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Offer or accept these protocols, preferred first."""
        self._change(_alpn=tuple(alpn_protocols))

    @property
    def security_level(self) -> int:
        """2: nothing of less than 112 bits is accepted."""
        return 2

    # ---- tickets and certificates after the handshake --------------------------------------------------------------

    @property
    def num_tickets(self) -> int:
        """How many session tickets a server sends after a full handshake, 0 to 16: 2 unless it is set."""
        if self._tickets is not None:
            return self._tickets
        base = self._server_base() if self._server_side else None
        return TICKETS_PER_HANDSHAKE if base is None else int(base.tickets)

    @num_tickets.setter
    def num_tickets(self, value: int) -> None:
        if not isinstance(value, int):
            raise TypeError(f"{type(value).__name__!r} object cannot be interpreted as an integer")
        if value < 0:
            raise ConfigurationError("value must be non-negative: a server sends 0 tickets or more")
        if self._server_side is False:
            raise ConfigurationError("SSLContext is not a server context: clients send no tickets")
        if value > MAX_TICKETS_PER_HANDSHAKE:
            raise ConfigurationError(f"failed to set num tickets: {MAX_TICKETS_PER_HANDSHAKE} are the most")
        self._tickets = int(value)
        self._changed()

    _server_base: Callable[[], Any]  # Any: a ServerConfig or None

    @property
    def post_handshake_auth(self) -> bool:
        """Client: whether the server may ask for a certificate later. Server: it asks then, not in the handshake."""
        return self._later

    @post_handshake_auth.setter
    def post_handshake_auth(self, value: bool) -> None:
        self._change(_later=bool(value))

    # ---- options ---------------------------------------------------------------------------------------------------

    @property
    def options(self) -> ssl.Options:
        """What holds: OP_NO_TLSv1_2 and the like always. OP_NO_TICKET keeps a server's sessions here, not in tickets.

        What concerns older versions alone may be set or cleared, and nothing of it is done.
        """
        return ssl.Options(self._options)

    @options.setter
    def options(self, value: int) -> None:
        wanted = int(value)
        for bit, reason in _REASONS.items():
            if wanted & bit:
                raise ConfigurationError(f"an option that cannot be had here: {reason}")
        known = int(_ALWAYS) | int(_KEPT) | _OF_OLDER_VERSIONS | _KERNEL_TLS
        if refused := wanted & ~known:
            raise ConfigurationError(f"an option that is not known here: {ssl.Options(refused)!r}; leave it out")
        self._options = wanted & int(_KEPT) | int(_ALWAYS)
        self._changed()

    # ---- what is not of TLS 1.3 ------------------------------------------------------------------------------------

    def load_dh_params(self, path: FilePath, /) -> None:
        """Read a file of DH parameters, which TLS 1.2 alone has: it changes nothing, as with OpenSSL in TLS 1.3.

        Raises OSError if it cannot be read, ConfigurationError if there are none in it.
        """
        with open(path, "rb") as file:
            if b"-----BEGIN DH PARAMETERS-----" not in file.read(2**16):
                raise ConfigurationError(f"{os.fsdecode(path)} holds no DH parameters; TLS 1.3 needs none: set_groups")

    def set_npn_protocols(self, npn_protocols: Iterable[str]) -> None:
        """Raise ConfigurationError: NPN was never of TLS 1.3."""
        raise ConfigurationError("NPN is not of TLS 1.3: use set_alpn_protocols")


_GROUP_ALIASES: Final = ("P-256", "prime256v1", "P-384", "P-521")
_SCHEME_ALIASES: Final = {
    "ECDSA+SHA256": ("ecdsa_secp256r1_sha256",),
    "ECDSA+SHA384": ("ecdsa_secp384r1_sha384",),
    "ECDSA+SHA512": ("ecdsa_secp521r1_sha512",),
    **{
        f"{name}+SHA{size}": (f"rsa_pss_rsae_sha{size}", f"rsa_pss_pss_sha{size}")
        for name in ("RSA-PSS", "PSS")
        for size in (256, 384, 512)
    },
    **{f"RSA+SHA{size}": (f"rsa_pkcs1_sha{size}",) for size in (256, 384, 512)},
}
"""OpenSSL's way to write them."""


def _schemes(names: str) -> tuple[int, ...]:
    written = (one for name in names.split(":") for one in _SCHEME_ALIASES.get(name.upper(), (name,)))
    return _codes(":".join(written), scheme_by_name, "a signature scheme that is known here")


def _codes(names: str, find: Callable[[str], int], what: str) -> tuple[int, ...]:
    """Return the code points of *names*. OpenSSL's "?name" is left out where it is not known."""
    if not isinstance(names, str):
        raise TypeError(f"names are a str with colons between, not {type(names).__name__}")
    found: list[int] = []
    for name in names.split(":"):
        try:
            found.append(find(name.removeprefix("?")))
        except KeyError:
            if not name.startswith("?"):
                raise ConfigurationError(f"{name!r} is not {what}") from None
    return tuple(dict.fromkeys(found))


def _check_cipher_string(text: str) -> None:
    """Raise ConfigurationError if OpenSSL would select nothing by *text*, or nothing that is still good.

    Its language has no other definition than OpenSSL, whose parser is asked: of a context that is thrown away.
    """
    scratch = RealContext.__new__(RealContext, ssl.PROTOCOL_TLS_CLIENT)
    try:
        RealContext.set_ciphers(scratch, text)
    except ssl.SSLError as error:
        reason = error.args[-1] if error.args else "no cipher can be selected"
        raise ConfigurationError(
            f"{reason} {shown(text)} names nothing: name suites of TLS 1.3, such as TLS_AES_128_GCM_SHA256"
        ) from error
    selected = [one for one in RealContext.get_ciphers(scratch) if one["protocol"] != VERSION]
    if not any(one["aead"] for one in selected):
        raise ConfigurationError(
            f"{shown(text)} asks for ciphers that TLS 1.3 does not have ({selected[0]['name']} …), and no other "
            "version is spoken here: leave set_ciphers out, or name suites of TLS 1.3"
        )


def _version(value: int) -> ssl.TLSVersion:
    try:
        version = ssl.TLSVersion(value)
    except ValueError:
        raise ConfigurationError(f"Unsupported TLS/SSL version {value!r}: TLSv1_3 is spoken here") from None
    return version
