"""Credentials of the commands: from files, or a development certificate by a local CA that is made when first needed.

The CA lives in PELLUCID_HOME, else in the platform's place for data: ca.pem to trust, ca-key.pem for its owner alone.
Whoever has the key can pose as anybody to those who trust ca.pem: files that others may read or write are refused.
"""

from __future__ import annotations

import datetime
import getpass
import os
import shlex
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pellucid.cli.common import CommandFailed
from pellucid.config import Credential
from pellucid.crypto.certificates import X509Certificate, parse_certificate
from pellucid.crypto.credentials import certificates_from_pem, private_key_from_pem, signer_for
from pellucid.crypto.pyca import PYCA
from pellucid.errors import PeerError, UsageError
from pellucid.net.load import read_pem
from pellucid.signers import credential_at, is_location
from pellucid.testing.ca import CA, DAY, private_key_pem

__all__ = ["DevelopmentCA", "check_dates", "data_directory", "development_issuer", "load_credential", "trust_lines"]

CERTIFICATE: Final = "ca.pem"
KEY: Final = "ca-key.pem"
_ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
_NAME: Final = "Pellucid development CA"
_LEAF_DAYS: Final = 90
_RENEW_DAYS: Final = 91
"""A root that would not outlive its leaves is made anew."""


# ---- files -------------------------------------------------------------------------------------------------------


def load_credential(certificate: Path, key: str | Path | None, password: str | None) -> Credential:
    """Return the chain with its key: PEM, with the key in its own file or the same, or PKCS#12.

    key: a file, or where a key is that is in none: "agent:SOCKET", "pkcs11:…".
    Raises CommandFailed (58): a file cannot be read, is not what it should be, or the two are no pair.
    """
    secret = password.encode() if password else None
    try:
        data = read_pem(certificate)
        if isinstance(key, str) and is_location(key):
            return credential_at(key, data)
        if b"-----BEGIN " in data:
            return Credential.from_pem(data, None if key is None else read_pem(key), secret)
        if key is not None:
            raise UsageError(f"{certificate} is not PEM; PKCS#12 holds its key itself")
        return Credential.from_pkcs12(data, secret)
    except UsageError as error:
        hints = ("give the private key's password: --pass",) if "assword" in error.reason and not password else ()
        where = "" if str(certificate) in error.reason or (key and str(key) in error.reason) else f"{certificate}: "
        raise CommandFailed(f"{where}{error.reason}", code=58, hints=hints) from error


def check_dates(credential: Credential, what: object) -> None:
    """Raise CommandFailed (58) if the credential's certificate is not valid now. A raw public key always is."""
    now = datetime.datetime.fromtimestamp(PYCA.now(), datetime.UTC)
    if not isinstance(credential.leaf, X509Certificate):
        return
    leaf = credential.leaf.x509
    if now > leaf.not_valid_after_utc:
        raise CommandFailed(
            f"{what}: the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: nobody would accept it",
            code=58,
            hints=("renew it, or leave --cert out for a development certificate",),
        )
    if now < leaf.not_valid_before_utc:
        raise CommandFailed(
            f"{what}: the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            code=58,
            hints=("check this machine's clock",),
        )


# ---- the development CA ----------------------------------------------------------------------------------------------


def data_directory() -> Path:
    """Return where Pellucid keeps its data: PELLUCID_HOME, else the platform's place."""
    if home := os.environ.get("PELLUCID_HOME"):
        return Path(home)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "pellucid"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "pellucid"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "pellucid"


@dataclass(frozen=True, slots=True)
class DevelopmentCA:
    """A CA of this user on this machine, for this machine's own programs to trust."""

    authority: CA
    certificate_path: Path
    created: bool
    """whether this call made it"""

    @classmethod
    def open(cls, directory: Path | None = None) -> DevelopmentCA:
        """Return the CA in *directory*/ca, made if there is none. Raises CommandFailed if it cannot be used."""
        home = (data_directory() if directory is None else directory) / "ca"
        created = False
        if not _exists(home) or _about_to_expire(_load(home)):
            _create(home)
            created = True
        return cls(_load(home), home / CERTIFICATE, created)

    def credential(self, *hosts: str) -> Credential:
        """Return a new certificate for localhost, 127.0.0.1, ::1 and *hosts*. Its key is kept in memory alone."""
        names = dict.fromkeys((*_ALWAYS, *(host for host in hosts if host)))
        leaf = self.authority.issue(*names, purposes=("server",), not_after=_now() + _LEAF_DAYS * DAY)
        return Credential.from_pem(leaf.chain_pem, leaf.key_pem)


def development_issuer(presented: Sequence[bytes]) -> Path | None:
    """Return the file of this user's development CA, if one of *presented* (DER) names it as its issuer, else None.

    No CA is made here, and nothing is verified: what is returned is for a hint.
    """
    path = data_directory() / "ca" / CERTIFICATE
    try:
        authority = parse_certificate(certificates_from_pem(path.read_bytes())[0])
        issued = any(parse_certificate(der).x509.issuer == authority.x509.subject for der in presented)
    except (OSError, UsageError, PeerError, ValueError):  # there is none, or what was shown cannot be read
        return None
    return path if issued else None


def trust_lines(certificate: Path, url: str) -> tuple[tuple[str, str], ...]:
    """Return (program, what to type) for trusting *certificate*, one for each kind of client."""
    path, target = shlex.quote(str(certificate)), shlex.quote(url)
    return (
        ("pellucid", f"pellucid get --cacert {path} {target}"),
        ("curl", f"curl --cacert {path} {target}"),
        ("requests", f"REQUESTS_CA_BUNDLE={path} python your_program.py"),
        ("httpx", f"httpx.Client(verify=ssl.create_default_context(cafile={str(certificate)!r}))"),
        ("node", f"NODE_EXTRA_CA_CERTS={path} node your_program.js"),
        ("browsers", f"import {path} as an authority, in their settings for certificates"),
    )


def _exists(home: Path) -> bool:
    return (home / CERTIFICATE).exists() or (home / KEY).exists()


def _about_to_expire(authority: CA) -> bool:
    return authority.certificate.not_valid_after_utc < _now() + _RENEW_DAYS * DAY


def _load(home: Path) -> CA:
    _check_permissions(home, home / CERTIFICATE, home / KEY)
    try:
        key = private_key_from_pem(read_pem(home / KEY))
        certificate = parse_certificate(certificates_from_pem(read_pem(home / CERTIFICATE))[0])
        signer_for(certificate, key)  # are they a pair?
    except (UsageError, PeerError) as error:
        raise CommandFailed(
            f"the development CA in {home} cannot be used: {error.reason}",
            code=58,
            hints=(f"have a new one made: remove {home}",),
        ) from error
    authority = CA("unused", key=key)
    authority.name = certificate.x509.subject
    authority.certificate = certificate.x509
    return authority


def _check_permissions(home: Path, certificate: Path, key: Path) -> None:
    """Raise CommandFailed if others could read the key, or put a CA of theirs in this one's place."""
    if os.name != "posix":
        return
    for path, forbidden, repair in ((home, 0o022, "go-w"), (certificate, 0o022, "go-w"), (key, 0o077, "go=")):
        try:
            found = path.stat()
        except OSError as error:
            raise CommandFailed(
                f"the development CA is incomplete: {path}: {error.strerror or error}",
                code=58,
                hints=(f"have a new one made: remove {home}",),
            ) from error
        if found.st_uid != os.geteuid():
            raise CommandFailed(f"{path} belongs to somebody else: it is not used", code=58)
        if stat.S_IMODE(found.st_mode) & forbidden:
            what = "read" if forbidden == 0o077 else "change"
            raise CommandFailed(
                f"others may {what} {path}: the development CA is not used",
                code=58,
                hints=(f"if nobody did, repair it: chmod {repair} {shlex.quote(str(path))}; else remove {home}",),
            )


def _create(home: Path) -> None:
    """Make a CA in *home*. It appears there whole or not at all; of two processes one is first, and both use its CA."""
    who = f"{_user()}@{socket.gethostname()}"
    authority = CA(
        f"{_NAME} ({who})"[:64],
        path_length=0,
        usage=("key_cert_sign", "crl_sign"),
        not_before=_now() - datetime.timedelta(hours=1),
    )
    made = None
    try:
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".ca-", dir=home.parent))  # mode 0700
        _write(made / KEY, private_key_pem(authority.private_key), 0o600)
        _write(made / CERTIFICATE, authority.root_pem, 0o644)
        made.chmod(0o755)
        if _exists(home) and _about_to_expire(_load(home)):
            home.rename(Path(tempfile.mkdtemp(prefix=".expired-", dir=home.parent)) / "ca")
        try:
            made.rename(home)
        except OSError:
            if not _exists(home):  # else another process was faster
                raise
    except OSError as error:
        raise CommandFailed(
            f"cannot make a development CA in {home}: {error.strerror or error}",
            code=58,
            hints=("choose another place with PELLUCID_HOME, or give a certificate: --cert FILE --key FILE",),
        ) from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(data)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, in a container
        return str(os.getuid()) if hasattr(os, "getuid") else "user"


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(PYCA.now(), datetime.UTC).replace(microsecond=0)
