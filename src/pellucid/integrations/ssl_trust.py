"""Whom an SSLContext believes: roots, CRLs, and how much of the verification there is. Nothing is verified here.

`ssl` has two switches that turn verification off. Here they turn only in a context that was made with
`dangerous_allow_unverified=True`, or where something else says who the peer is: a verifier of the configuration's own,
or external PSKs.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pellucid.config import ClientAuthentication, ClientConfig, ServerConfig
from pellucid.crypto.certificates import parse_certificate
from pellucid.crypto.provider import Buffer
from pellucid.errors import PeerError, UsageError
from pellucid.integrations.ssl_certificate import certificate_dict
from pellucid.integrations.ssl_errors import ConfigurationError
from pellucid.limits import VERDICT_CACHE_SECONDS
from pellucid.net.load import load_trust, read_pem, system_trust
from pellucid.verify import Strictness, WebPKIVerifier, dangerous_accept_any
from pellucid.verify.facts import certificate_facts
from pellucid.verify.revocation import DEFAULT_REVOCATION, RevocationPolicy
from pellucid.verify.trust import TrustStore, certificates_in_pem

__all__ = ["FilePath", "Trust"]

FilePath = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_AUTHENTICATION: Final = {
    ClientAuthentication.NONE: ssl.CERT_NONE,
    ClientAuthentication.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientAuthentication.REQUIRED: ssl.CERT_REQUIRED,
}
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_CRL_FILE: Final = re.compile(r".*\.(pem|crl)|[0-9a-f]{8}\.r\d+", re.IGNORECASE)

_PARTIAL_CHAIN: Final = ssl.VerifyFlags(getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0x80000))
_ALWAYS: Final = ssl.VERIFY_X509_TRUSTED_FIRST | _PARTIAL_CHAIN
"""What is so in any case: roots come first, and whatever is in the store is one, an intermediate or a leaf too."""
_MAY_BE_SET: Final = _ALWAYS | ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN

_OF_A_VERIFIER: Final[dict[str, Any]] = {  # Any: each setting has its own type
    "revocation": DEFAULT_REVOCATION,
    "verdict_cache_seconds": VERDICT_CACHE_SECONDS,
}
"""What a configuration says of the verifier that it makes itself; where it is given one, that has its own."""

_OFF: Final = (
    "to accept any peer, for tests, make the context with SSLContext(dangerous_allow_unverified=True), or give the "
    "config a verifier: ClientConfig(verifier=dangerous_accept_any())"
)


class Trust:
    """The part of SSLContext that says who is believed. `_server_side`, `base` and `_changed` are SSLContext's."""

    refuses_late = False
    """Whether verification that is turned off is refused when a connection is made rather than at once: there are
    libraries that make such a context when they are imported, and use it only if they are told to."""

    allows_unverified = False
    """Whether every context of the class may be turned to verify nobody."""

    base: Any  # Any: property of SSLContext
    _server_side: bool | None
    _changed: Callable[[], None]
    _psk_only: Callable[[], bool]

    def _prepare_trust(self, *, allow_unverified: bool, empty: bool) -> None:
        """empty: nobody is trusted until roots are loaded, as with `ssl`; else the system's are if none are."""
        self._allow_unverified = allow_unverified or self.allows_unverified
        self._starts_empty = empty
        self._added_trust: TrustStore | None = None
        self._crls: tuple[bytes, ...] = ()
        self._check_name = True
        self._mode = ssl.CERT_REQUIRED
        self._authentication: ClientAuthentication | None = None
        self._flags = ssl.VerifyFlags(_ALWAYS)

    # ---- roots -----------------------------------------------------------------------------------------------------

    def load_verify_locations(
        self,
        cafile: FilePath | None = None,
        capath: FilePath | None = None,
        cadata: str | Buffer | None = None,
    ) -> None:
        """Trust these roots too; where nothing was trusted explicitly before, these alone and not the system's.

        cafile, cadata: roots and CRLs in any number; PEM, or DER where *cadata* is bytes.
        capath:         a directory of such files, read at once.
        CRLs count once `verify_flags` has CRL_CHECK_LEAF or CRL_CHECK_CHAIN.
        Raises OSError if a file cannot be read, ConfigurationError if there is neither root nor CRL in it.
        """
        if cafile is None and capath is None and cadata is None:
            raise TypeError("cafile, capath and cadata cannot be all omitted")
        found: list[TrustStore] = []
        crls: list[bytes] = []
        try:
            if cafile is not None:
                self._read_file(_existing(cafile, "cafile"), found, crls)
            if capath is not None:
                self._read_directory(_existing(capath, "capath"), found, crls)
            if cadata is not None:
                found.append(_from_data(cadata, crls))
            RevocationPolicy(crls=tuple(crls))  # what cannot be parsed is refused here
        except UsageError as error:
            words = f"PEM lib: {error.reason}" if cadata is None else error.reason
            raise ConfigurationError(words) from error
        for trust in found:
            self._added_trust = trust if self._added_trust is None else self._added_trust | trust
        self._crls += tuple(crls)
        self._changed()

    @staticmethod
    def _read_file(path: str, found: list[TrustStore], crls: list[bytes]) -> None:
        data = read_pem(path)
        here = _CRL.findall(data)
        crls += here
        if not here or certificates_in_pem(data):
            found.append(load_trust(path))

    @staticmethod
    def _read_directory(path: str, found: list[TrustStore], crls: list[bytes]) -> None:
        """Read a directory of roots and CRLs. One without roots is no mistake, as with OpenSSL: it trusts nobody."""
        crls += _crls_in(path)
        try:
            found.append(load_trust(path))
        except UsageError:
            if not os.path.isdir(path):
                raise
            found.append(TrustStore.empty(origin=path))

    def load_default_certs(self, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
        """Trust the system's roots (too). Raises ConfigurationError if there are none on this machine."""
        if not isinstance(purpose, ssl.Purpose):
            raise TypeError(purpose)
        try:
            system = system_trust()
        except UsageError as error:
            raise ConfigurationError(error.reason) from error
        self._added_trust = system if self._added_trust is None else self._added_trust | system
        self._changed()

    def set_default_verify_paths(self) -> None:
        """Trust the system's roots (too): there is one way to find them, which is that of `load_default_certs`."""
        self.load_default_certs()

    def get_ca_certs(self, binary_form: bool = False) -> list[Any]:
        """Return the trusted CAs, as DER or as dictionaries; one that cannot be read is left out of those.

        What is trusted and no CA, a server's own certificate, is not among them, as in `ssl`.
        """
        cas = [der for der in self._trusted().roots if _is_ca(der)]
        if binary_form:
            return cas
        found = []
        for der in cas:
            try:
                found.append(certificate_dict(parse_certificate(der)))
            except PeerError:  # a root whose key TLS 1.3 cannot use: it stays in the store, and helps nobody here
                continue
        return found

    def cert_store_stats(self) -> dict[str, int]:
        """Return how many certificates there are, how many of them are CAs, and how many CRLs."""
        roots = self._trusted().roots
        return {"x509": len(roots), "crl": len(self._crls), "x509_ca": sum(map(_is_ca, roots))}

    def _trusted(self) -> TrustStore:
        """Return what was trusted explicitly, in the configuration and since."""
        base = self.base
        first = base.client_trust if isinstance(base, ServerConfig) else base.trust if base is not None else None
        if first is None or self._added_trust is None:
            return first or self._added_trust or TrustStore.empty()
        return first | self._added_trust

    # ---- the switches ----------------------------------------------------------------------------------------------

    @property
    def verify_mode(self) -> ssl.VerifyMode:
        """Client: CERT_REQUIRED unless it may be and was turned off. Server: whether clients show certificates."""
        if self._server_side is False:
            return self._mode
        asked = self._client_authentication()
        if self._server_side is None and asked is None:
            return self._mode
        return _AUTHENTICATION[asked or ClientAuthentication.NONE]

    @verify_mode.setter
    def verify_mode(self, value: int) -> None:
        try:
            mode = ssl.VerifyMode(value)
        except ValueError:
            if not isinstance(value, int):
                raise TypeError(f"{type(value).__name__!r} object cannot be interpreted as an integer") from None
            raise ConfigurationError(f"invalid value for verify_mode: {value}, which is no ssl.VerifyMode") from None
        if self._server_side is not True:
            off = mode is ssl.CERT_NONE
            if off and self._check_name and self._may_turn_off():
                raise ConfigurationError("Cannot set verify_mode to CERT_NONE when check_hostname is enabled.")
            if off and not self._may_turn_off():
                raise ConfigurationError(f"a server's certificate is always verified; {_OFF}")
            self._mode = mode
        if self._server_side is not False:
            self._authentication = next(kind for kind, its in _AUTHENTICATION.items() if its == mode)
        self._changed()

    @property
    def check_hostname(self) -> bool:
        """Whether the server's certificate must be for its name. False for a server, whose clients have none."""
        return self._server_side is not True and self._check_name

    @check_hostname.setter
    def check_hostname(self, value: bool) -> None:
        if self._server_side is True:
            if value:
                raise ConfigurationError("a server has no host name to check: clients' certificates are not for one")
            return
        if not value and not self._may_turn_off():
            raise ConfigurationError(f"the server's name is always checked; {_OFF}")
        self._check_name = bool(value)
        if value and ssl.CERT_NONE in (self._mode, self.verify_mode):
            self.verify_mode = ssl.CERT_REQUIRED
        self._changed()

    @property
    def verify_flags(self) -> ssl.VerifyFlags:
        """What is demanded of certificates beyond the rest: STRICT and CRL checks as set; others always."""
        return self._flags

    @verify_flags.setter
    def verify_flags(self, value: int) -> None:
        wanted = ssl.VerifyFlags(value)
        if refused := wanted & ~ssl.VerifyFlags(_MAY_BE_SET):
            why = "proxy certificates (RFC 3820) are never accepted, and nothing else is known by such a number"
            raise ConfigurationError(f"verify_flags cannot have {refused!r}: {why}; a verifier of your own may differ")
        if wanted & ssl.VERIFY_X509_STRICT and self.base is not None and self.base.verifier is not None:
            raise ConfigurationError(
                "the config has a verifier, which alone decides: make it WebPKIVerifier(trust, "
                "strictness=Strictness(conforming_issuers=True))"
            )
        self._flags = wanted | _ALWAYS
        self._changed()

    @property
    def hostname_checks_common_name(self) -> bool:
        """False: only subjectAltName counts (RFC 9525 §2)."""
        return False

    @hostname_checks_common_name.setter
    def hostname_checks_common_name(self, value: bool) -> None:
        if value:
            raise ConfigurationError(
                "only subjectAltName counts, never the common name (RFC 9525 §2): leave hostname_checks_common_name "
                "False, and have the certificate issued with a subjectAltName"
            )

    def _may_turn_off(self) -> bool:
        """Whether the switches may be turned off now: allowed, refused later, or there are other proofs."""
        base = self.base
        own = base is not None and base.verifier is not None
        return self._allow_unverified or self.refuses_late or own or self._psk_only()

    # ---- what becomes of it ----------------------------------------------------------------------------------------

    def _client_authentication(self) -> ClientAuthentication | None:
        """Return what clients are asked, in the handshake or later; None: nobody said anything of it."""
        base = self.base
        return (
            base.client_authentication
            if self._authentication is None and isinstance(base, ServerConfig)
            else (self._authentication)
        )

    def _client_trust_settings(self, base: ClientConfig) -> dict[str, Any]:  # Any: each setting has its own type
        """Return trust, verifier and revocation of a client's configuration. Raises ConfigurationError."""
        revocation = self._revocation(base.revocation)
        if base.verifier is not None:
            return {"trust": self._trusted() or None, "revocation": revocation}
        trust = self._trusted()
        if self._mode is ssl.CERT_NONE:
            if self._psk_only():
                return {"trust": None, "revocation": DEFAULT_REVOCATION}
            self._allowed("verify_mode is CERT_NONE: the server would not be verified")
            return {"trust": trust, "verifier": dangerous_accept_any(trust), **_OF_A_VERIFIER}
        if base.trust is None and self._added_trust is None and not self._starts_empty:
            trust = system_trust()
        if not self._check_name:
            self._allowed("check_hostname is False: any server with a certificate would do")
        elif not self._strict:
            return {"trust": trust, "revocation": revocation}
        strictness = Strictness(conforming_issuers=self._strict, dangerous_skip_name_check=not self._check_name)
        remember = base.verdict_cache_seconds
        verifier = WebPKIVerifier(trust, revocation=revocation, strictness=strictness, verdict_cache_seconds=remember)
        return {"trust": trust, "verifier": verifier, **_OF_A_VERIFIER}

    def _server_trust_settings(self, base: ServerConfig | None) -> dict[str, Any]:  # Any: each setting has its own type
        """Return client_trust, verifier and revocation of a server's configuration. Raises ConfigurationError."""
        trust = self._trusted() or (None if base is None else base.client_trust)
        revocation = self._revocation(DEFAULT_REVOCATION if base is None else base.revocation)
        own = base is not None and base.verifier is not None
        asks = self._client_authentication() or ClientAuthentication.NONE
        if not trust and not own and asks is not ClientAuthentication.NONE:
            raise ConfigurationError("no CA of clients is trusted: call load_verify_locations first")
        if not self._strict or own or trust is None:
            return {"client_trust": trust, "revocation": revocation}
        strictness = Strictness(conforming_issuers=True)
        remember = VERDICT_CACHE_SECONDS if base is None else base.verdict_cache_seconds
        verifier = WebPKIVerifier(trust, revocation=revocation, strictness=strictness, verdict_cache_seconds=remember)
        return {"client_trust": trust, "verifier": verifier, **_OF_A_VERIFIER}

    @property
    def _strict(self) -> bool:
        return bool(self._flags & ssl.VERIFY_X509_STRICT)

    def _allowed(self, what: str) -> None:
        if not self._allow_unverified:
            raise ConfigurationError(
                f"{what}, and this context does not allow that; {_OFF}; under pellucid.install, call "
                "pellucid.install(dangerous_allow_unverified=True)"
            )

    def _revocation(self, base: RevocationPolicy) -> RevocationPolicy:
        if not self._flags & (ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN):
            return base
        crls = (*base.crls, *self._crls)
        if not crls:
            raise ConfigurationError(
                "verify_flags asks CRLs, and there are none: load one for every CA with load_verify_locations, or give "
                "the config a RevocationPolicy"
            )
        chain = (self._flags & ssl.VERIFY_CRL_CHECK_CHAIN) == ssl.VERIFY_CRL_CHECK_CHAIN
        return replace(base, crls=crls, crl_depth="chain" if chain else "leaf", missing_crl="reject")


def _is_ca(der: bytes) -> bool:
    """Whether a certificate is a CA's: by its basicConstraints; of version 1, which has none, if it signed itself."""
    facts = certificate_facts(der)
    if facts is None or facts.is_ca:  # what cannot be read is in the store as a root
        return True
    try:
        return facts.self_issued and parse_certificate(der).x509.version.value == 0
    except PeerError:  # a key that TLS 1.3 cannot use
        return False


def _existing(path: FilePath, name: str) -> str:
    """Return *path* as text. Raises TypeError, and OSError if there is nothing."""
    try:
        found = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{name} should be a valid filesystem path") from None
    os.stat(found)
    return found


def _crls_in(directory: str) -> Iterator[bytes]:
    """Yield the CRLs in files of *directory* named as OpenSSL's hashes (5ad8a5d6.r0), *.crl and *.pem."""
    if os.path.isdir(directory):
        for entry in sorted(Path(directory).iterdir()):
            if _CRL_FILE.fullmatch(entry.name) and entry.is_file():
                yield from _CRL.findall(read_pem(entry))


def _from_data(data: str | Buffer, crls: list[bytes]) -> TrustStore:
    if isinstance(data, str):
        if not data.isascii():
            raise TypeError("cadata should be an ASCII string or a bytes-like object")
        here = _CRL.findall(data.encode())
        crls += here
        if "BEGIN CERTIFICATE-----" in data or "BEGIN TRUSTED CERTIFICATE-----" in data:
            return TrustStore.from_pem(data)
        if not here:
            raise ConfigurationError("no start line: cadata does not contain a certificate")
        return TrustStore.empty()
    try:
        given = bytes(memoryview(data))
    except TypeError:
        raise TypeError("cadata should be an ASCII string or a bytes-like object") from None
    return TrustStore.from_der(_der_certificates(given))


def _der_certificates(data: bytes) -> list[bytes]:
    """Return the DER certificates that follow one another in *data*. Raises ConfigurationError for anything else."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        head = data[at : at + 6]
        if len(head) < 4 or head[0] != 0x30 or head[1] not in (0x81, 0x82, 0x83):
            raise ConfigurationError(
                "not enough data: cadata does not contain a certificate; as bytes it is DER, and PEM is text"
            )
        width = head[1] & 0x0F
        end = at + 2 + width + int.from_bytes(head[2 : 2 + width], "big")
        found.append(data[at:end])
        at = end
    return found
