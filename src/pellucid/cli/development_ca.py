"""The development CA: a local CA that is made when first needed, for this user's own programs to trust.

It lives in PELLUCID_HOME, else in the platform's place for data: ca.pem to trust, ca-key.pem for its owner alone.
Whoever has the key can pose as others to those who trust ca.pem. So its certificate itself says (name constraints,
RFC 5280 §4.2.1.10) that it is for names and addresses that no site of the Internet has; the one without that limit is
another, made on demand only. And files that others may read or write are refused.
"""

from __future__ import annotations

import datetime
import getpass
import ipaddress
import os
import shlex
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pellucid.cli.common import CommandFailed
from pellucid.config import Credential
from pellucid.crypto.certificates import parse_certificate
from pellucid.crypto.credentials import certificates_from_pem, private_key_from_pem, signer_for
from pellucid.crypto.pyca import PYCA
from pellucid.errors import PeerError, UsageError
from pellucid.net.load import read_pem
from pellucid.testing.ca import CA, DAY, Issued, private_key_pem
from pellucid.verify.names import normalize_server_name

__all__ = ["CERTIFICATE", "KEY", "LEAF_DAYS", "DevelopmentCA", "data_directory", "development_issuer"]

CERTIFICATE: Final = "ca.pem"
KEY: Final = "ca-key.pem"
_DIRECTORY: Final = "ca"
_ANY_NAME: Final = "ca-any-name"
_ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
_NAME: Final = "Pellucid development CA"
LEAF_DAYS: Final = 90
_RENEW_DAYS: Final = 91
"""A root that would not outlive its leaves is made anew."""
_ROOT_DAYS: Final = 3650

# Nobody can register these, or nobody has: RFC 6761, 6762, 8375, ICANN's "internal", and what routers call home.
_DOMAINS: Final = (
    *("localhost", "test", "example", "invalid", "local", "internal", "home.arpa", "lan", "localdomain"),
)
# RFC 6890: loopback, link-local, private, shared, documentation.
_NETWORKS: Final = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"),
    *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "::1/128", "fc00::/7", "fe80::/10", "2001:db8::/32"),
)


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
    """A CA of this user on this machine, for this machine's own programs to trust.

    certificate_path: what those programs are given.   created: whether this call made it.
    any_name: whether it is the one that may vouch for every name.
    """

    authority: CA
    certificate_path: Path
    created: bool
    any_name: bool = False

    @classmethod
    def open(cls, directory: Path | None = None, *, any_name: bool = False) -> DevelopmentCA:
        """Return the CA in *directory*, made if there is none. Raises CommandFailed (58) if it cannot be used."""
        home = _home(directory, any_name=any_name)
        created = False
        if not _exists(home) or _outdated(_load(home), any_name=any_name):
            _create(home, any_name=any_name)
            created = True
        return cls(_load(home), home / CERTIFICATE, created, any_name)

    @classmethod
    def existing(cls, directory: Path | None = None, *, any_name: bool = False) -> DevelopmentCA | None:
        """Return the CA in *directory*, None if there is none. Raises CommandFailed (58) if it cannot be used."""
        home = _home(directory, any_name=any_name)
        return cls(_load(home), home / CERTIFICATE, created=False, any_name=any_name) if _exists(home) else None

    @property
    def key_path(self) -> Path:
        return self.certificate_path.with_name(KEY)

    def check_names(self, names: Iterable[str]) -> None:
        """Raise CommandFailed (58) if this CA may not vouch for one of *names*: host names and addresses."""
        for name in names:
            if not _permitted(name, self.authority.permitted):
                raise CommandFailed(
                    f"the development CA may not vouch for {name}: it is for names that no site of the Internet has",
                    code=58,
                    hints=(
                        f"use a name below one of these: {', '.join(_DOMAINS)}",
                        f"or have another CA, without that limit, do it: pellucid dev-cert --any-name {name}",
                    ),
                )

    def credential(self, *hosts: str) -> Credential:
        """Return a new certificate for localhost, 127.0.0.1, ::1 and *hosts*. Its key is kept in memory alone.

        Raises CommandFailed (58) if this CA may not vouch for one of them.
        """
        leaf = self.issue(*hosts)
        return Credential.from_pem(leaf.chain_pem, leaf.key_pem)

    def issue(self, *hosts: str) -> Issued:
        """Return what `credential` does, with the key itself."""
        names = dict.fromkeys((*_ALWAYS, *(host for host in hosts if host)))
        self.check_names(names)
        return self.authority.issue(*names, purposes=("server",), not_after=_now() + LEAF_DAYS * DAY)


def development_issuer(presented: Sequence[bytes]) -> Path | None:
    """Return the file of this user's development CA, if one of *presented* (DER) names it as its issuer, else None.

    No CA is made here, and nothing is verified: what is returned is for a hint.
    """
    for any_name in (False, True):
        path = _home(None, any_name=any_name) / CERTIFICATE
        try:
            authority = parse_certificate(certificates_from_pem(path.read_bytes())[0])
            issued = any(parse_certificate(der).x509.issuer == authority.x509.subject for der in presented)
        except (OSError, UsageError, PeerError, ValueError):  # there is none, or what was shown cannot be read
            continue
        if issued:
            return path
    return None


def _home(directory: Path | None, *, any_name: bool) -> Path:
    return (data_directory() if directory is None else directory) / (_ANY_NAME if any_name else _DIRECTORY)


def _permitted(name: str, permitted: tuple[str, ...]) -> bool:
    """Whether a CA with these name constraints may vouch for *name*; with none, for every one."""
    if not permitted:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        host = name.lower().removeprefix("*.")
        return any(host == one or host.endswith(f".{one}") for one in permitted if "/" not in one)
    return any(address in ipaddress.ip_network(one) for one in permitted if "/" in one)


def _exists(home: Path) -> bool:
    return (home / CERTIFICATE).exists() or (home / KEY).exists()


def _outdated(authority: CA, *, any_name: bool) -> bool:
    """Whether it ends too soon, or is one of those that were made before the limit was."""
    ends_soon = authority.certificate.not_valid_after_utc < _now() + _RENEW_DAYS * DAY
    return ends_soon or (not any_name and not authority.permitted)


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


def _create(home: Path, *, any_name: bool) -> None:
    """Make a CA in *home*. It appears there whole or not at all; of two processes one is first, and both use its CA."""
    who = f"{_user()}@{socket.gethostname()}"
    authority = CA(
        f"{_NAME}{', any name' if any_name else ''} ({who})"[:64],
        path_length=1,  # an intermediate's key is never kept
        usage=("key_cert_sign", "crl_sign"),
        not_before=_now() - datetime.timedelta(hours=1),
        not_after=_now() + _ROOT_DAYS * DAY,
        permitted=() if any_name else (*_DOMAINS, *_this_machine(), *_NETWORKS),
    )
    made = None
    try:
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".ca-", dir=home.parent))  # mode 0700
        _write(made / KEY, private_key_pem(authority.private_key), 0o600)
        _write(made / CERTIFICATE, authority.root_pem, 0o644)
        made.chmod(0o755)
        if _exists(home) and _outdated(_load(home), any_name=any_name):
            home.rename(Path(tempfile.mkdtemp(prefix=".expired-", dir=home.parent)) / home.name)
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


def _this_machine() -> tuple[str, ...]:
    """Return this machine's own name as a domain to vouch for; nothing if it has none that may stand there.

    A constraint covers all that is below a name, and a label of letters alone may be a top-level domain: with the one
    of a machine called "dev" the CA could vouch for every site in .dev. Those have letters alone, or are A-labels.
    """
    try:
        name = normalize_server_name(socket.gethostname())
        ipaddress.ip_address(name)
    except UsageError:
        return ()
    except ValueError:
        top_level = "." not in name and (name.isalpha() or name.startswith("xn--"))
        return (name,) if not top_level and "_" not in name and name not in _DOMAINS else ()
    return ()


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
