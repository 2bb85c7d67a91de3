"""Certificates, keys, staples and CAs in files that are renewed while a server runs: read as one, or not at all.

Whoever renews a certificate replaces two files, or a symbolic link; between the two they fit together no more. What
is read here was there all at once, fits, and may be shown; and it is known by what it was, so that a change is seen.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from pellucid.config import Credential
from pellucid.crypto import own_chain
from pellucid.errors import UsageError
from pellucid.net.load import read_pem

__all__ = ["CredentialError", "Pair", "Paths", "Reading", "Stamp", "exposed", "load_pair", "pairs_in", "stamp_of"]

FilePath = str | os.PathLike[str]
Paths = FilePath | Iterable[FilePath]
Password = str | bytes | Callable[[str], str | bytes]
"""of encrypted keys; a function is given the key's path, at each reading"""


class FileStamp(NamedTuple):
    """What tells a file from what it was and will be. modified: nanoseconds since 1970; 0 of a directory."""

    identity: tuple[int | str, ...]
    modified: int


Stamp = FileStamp | None
"""None: it is not there"""

_ATTEMPTS: Final = 3
_NAMED_PAIRS: Final = (("fullchain.pem", "privkey.pem"), ("tls.crt", "tls.key"), ("cert.pem", "key.pem"))
_SUFFIXES: Final = (".pem", ".crt", ".cer")
_PKCS12: Final = (".p12", ".pfx")


class CredentialError(UsageError):
    """Files that a server must not be started with, or must not go on with.

    files: which ones.
    fault: "unreadable", "unusable", "changing", "empty", or a ChainFault: "expired", "not-yet-valid", "order", …
    """

    def __init__(self, reason: str, *, files: tuple[str, ...] = (), fault: str = "unusable") -> None:
        super().__init__(reason)
        self.files = files
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The files of one credential. key: None where the certificate's file holds it too. ocsp: None for no stapling."""

    cert: str
    key: str | None = None
    ocsp: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(path for path in (self.cert, self.key, self.ocsp) if path is not None)


@dataclass(slots=True)
class Reading:
    """One look at all files. Each is read once; at its end it is known whether any changed meanwhile."""

    stamps: dict[str, Stamp] = field(default_factory=dict)
    _contents: dict[str, bytes] = field(default_factory=dict, repr=False)
    _warnings: list[str] = field(default_factory=list)

    def read(self, path: str) -> bytes:
        """Return the file's content. Raises CredentialError if it cannot be read."""
        if path not in self._contents:
            self.stamps[path] = stamp_of(path)
            try:
                self._contents[path] = read_pem(path)
            except UsageError as error:
                raise CredentialError(error.reason, files=(path,), fault="unreadable") from error
        return self._contents[path]

    def warn(self, text: str) -> None:
        self._warnings.append(text)

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._warnings)

    @property
    def steady(self) -> bool:
        """Whether every file is still what it was when it was read."""
        return all(stamp_of(path) == stamp for path, stamp in self.stamps.items())


def stamp_of(path: str) -> Stamp:
    """Return what the file, or what a symbolic link leads to, is known by now. Of a directory: its names too."""
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            return FileStamp((found.st_dev, found.st_ino, *sorted(os.listdir(path))), 0)
    except OSError:
        return None
    return FileStamp((found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns), found.st_mtime_ns)


def expanded(paths: Iterable[FilePath]) -> list[str]:
    """Return *paths*, and what is in those that are directories."""
    found: list[str] = []
    for path in [os.fspath(path) for path in paths]:
        found.append(path)
        if os.path.isdir(path):
            with contextlib.suppress(OSError):  # gone since, or not ours to read: what it holds cannot be known
                found += [os.path.join(path, name) for name in _names(path)]
    return found


def _steadily(read: Callable[[Reading], Credential], what: tuple[str, ...]) -> tuple[Credential, Reading]:
    """Return what *read* makes of files that stood still meanwhile; a few attempts. Raises CredentialError."""
    failure: CredentialError | None = None
    for _ in range(_ATTEMPTS):
        reading = Reading()
        try:
            made = read(reading)
        except CredentialError as error:
            failure = error
            if reading.steady:
                raise
            continue
        if reading.steady:
            return made, reading
    raise failure or CredentialError(f"{', '.join(what)}: changing while read", files=what, fault="changing")


# ---- one credential --------------------------------------------------------------------------------------------------


def load_pair(pair: Pair, password: Password | None, now: Callable[[], float]) -> tuple[Credential, Reading]:
    """Return the credential in *pair*'s files, which fits and may be shown now, and what was read.

    now: the provider's clock. Raises CredentialError, naming the files: one cannot be read, key and certificate are no
    pair, the chain is out of order or has strangers in it, it has expired or is not valid yet.
    """
    return _steadily(lambda reading: _read_pair(pair, password, now, reading), pair.files)


def _read_pair(pair: Pair, password: Password | None, now: Callable[[], float], reading: Reading) -> Credential:
    where = pair.cert if pair.key is None else f"{pair.cert} and {pair.key}"
    try:
        credential = _parsed(pair, password, reading)
    except CredentialError:
        raise
    except UsageError as error:
        raise CredentialError(f"{where}: {error.reason}", files=pair.files) from error
    finding = own_chain.examine(credential.chain, now())
    if finding is not None:
        raise CredentialError(f"{pair.cert}: {finding.why}", files=pair.files, fault=finding.fault.value)
    if strange := own_chain.unfit(credential.chain):
        reading.warn(f"{pair.cert}: {strange}")
    for text in exposed(secret=(pair.key or pair.cert,), other=pair.files):
        reading.warn(text)
    if pair.ocsp is None:
        return credential
    return replace(credential, ocsp_response=_stapled(credential, pair.ocsp, now, reading))


def _parsed(pair: Pair, password: Password | None, reading: Reading) -> Credential:
    data = reading.read(pair.cert)
    if b"-----BEGIN " not in data:
        if pair.key is not None:
            raise UsageError(f"{pair.cert} is not PEM; PKCS#12 holds its key itself")
        return Credential.from_pkcs12(data, _secret(password, pair.cert))
    key, key_path = (data, pair.cert) if pair.key is None else (reading.read(pair.key), pair.key)
    secret = _secret(password, key_path) if b"ENCRYPTED" in key else None
    try:
        return Credential.from_pem(data, key, secret)
    except UsageError as error:
        if "does not belong" not in error.reason or (found := own_chain.owner_of(data, key, secret)) is None:
            raise
        raise CredentialError(
            f"{pair.cert}: the key is that of certificate {found + 1}, and the server's own has to be the first",
            files=pair.files,
            fault=own_chain.ChainFault.ORDER.value,
        ) from error


def _secret(password: Password | None, path: str) -> bytes | None:
    given = password(path) if callable(password) else password
    return given.encode("utf-8") if isinstance(given, str) else given


def exposed(*, secret: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    """Return warnings of files that every user may read, being secret, or may write."""
    found = [
        f"{path}: what is secret in it can be read by every user of this machine ({mode:04o})"
        for path in secret
        if (mode := _mode(path)) & stat.S_IROTH
    ]
    found += [
        f"{path}: it can be written by every user of this machine ({mode:04o})"
        for path in other
        if (mode := _mode(path)) & stat.S_IWOTH
    ]
    return tuple(found)


def _mode(path: str) -> int:
    try:
        return stat.S_IMODE(os.stat(path).st_mode) if os.name == "posix" else 0
    except OSError:
        return 0


def _stapled(
    credential: Credential, path: str, now: Callable[[], float], reading: Reading
) -> Callable[[], bytes | None] | None:
    """Return what gives the OCSP response while it is good; None, with a warning, where it is not this leaf's."""
    why = ""
    try:
        staple = own_chain.read_staple(reading.read(path))
        if staple.serial != own_chain.serial_of(credential.chain):
            why = "it is for another certificate"
        elif not staple.good:
            why = "it does not say that the certificate is good"
        elif staple.until is not None and staple.until < now():
            why = "it has expired"
    except UsageError as error:
        why = error.reason
    if why:
        reading.warn(f"{path}: the OCSP response is not stapled: {why}")
        return None
    return lambda: staple.response if staple.until is None or now() <= staple.until else None


# ---- directories -----------------------------------------------------------------------------------------------------


def pairs_in(directory: str) -> tuple[Pair, ...]:
    """Return the certificates with their keys in *directory*, by name: as certbot, Kubernetes and people lay them out.

    fullchain.pem with privkey.pem, tls.crt with tls.key, cert.pem with key.pem, there or one level below; NAME.crt,
    NAME.pem or NAME.cer with NAME.key or NAME-key.pem (mkcert, `pellucid dev-cert`); NAME.pem that holds its key;
    NAME.p12 and NAME.pfx. NAME.ocsp and ocsp.der are stapled to what is beside them. Names that begin with a dot
    are passed over. Raises CredentialError for none.
    """
    try:
        names = _names(directory)
    except OSError as error:
        raise CredentialError(
            f"cannot read {directory}: {error.strerror or error}", files=(directory,), fault="unreadable"
        ) from error
    found = list(_within(directory, names))
    for name in names:
        below = os.path.join(directory, name)
        if os.path.isdir(below):
            found += _named(below)
    if not found:
        raise CredentialError(
            f"there is no certificate with its key in {directory}, of such names as fullchain.pem and privkey.pem, "
            "tls.crt and tls.key, NAME.pem and NAME.key, NAME.pem and NAME-key.pem",
            files=(directory,),
            fault="empty",
        )
    return tuple(found)


def _names(directory: str) -> list[str]:
    return sorted(name for name in os.listdir(directory) if not name.startswith("."))


def _named(directory: str) -> Iterator[Pair]:
    for cert, key in _NAMED_PAIRS:
        if os.path.exists(path := os.path.join(directory, cert)):
            ocsp = os.path.join(directory, "ocsp.der")
            yield Pair(cert=path, key=os.path.join(directory, key), ocsp=ocsp if os.path.exists(ocsp) else None)
            return


def _within(directory: str, names: list[str]) -> Iterator[Pair]:
    named = list(_named(directory))
    yield from named
    taken = {os.path.basename(path) for pair in named for path in pair.files}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if name in taken or suffix not in (*_SUFFIXES, *_PKCS12):
            continue
        path = os.path.join(directory, name)
        ocsp = os.path.join(directory, f"{stem}.ocsp")
        staple = ocsp if os.path.exists(ocsp) else None
        key = next((one for one in (f"{stem}.key", f"{stem}-key.pem") if one in names), None)
        if key is not None:
            yield Pair(cert=path, key=os.path.join(directory, key), ocsp=staple)
        elif suffix in _PKCS12 or (suffix == ".pem" and _holds_key(path)):
            yield Pair(cert=path, ocsp=staple)


def _holds_key(path: str) -> bool:
    try:
        data = read_pem(path)
    except UsageError:
        return False
    return b"PRIVATE KEY-----" in data and b"BEGIN CERTIFICATE-----" in data
