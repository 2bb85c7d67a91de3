"""Certificates and trust roots from files, the environment and the operating system: the one place that reads them.

Order of system_trust(): SSL_CERT_FILE and SSL_CERT_DIR, the operating system's store (through wassima, if installed),
the bundle where Linux distributions and BSDs keep it, certifi (if installed).
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cryptography.utils import CryptographyDeprecationWarning

from pellucid.errors import UsageError
from pellucid.verify.raw_keys import RawPublicKeyVerifier
from pellucid.verify.trust import TrustStore

_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS, FreeBSD, OpenBSD
    "/usr/local/share/certs/ca-root-nss.crt",
    "/etc/certs/ca-certificates.crt",  # illumos
)
_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer", ".der"})
_MAX_FILE: Final = 16 * 2**20  # bytes; the largest bundles have a quarter of a million

_Key = tuple[tuple[str, int | None], ...]
_cached: dict[_Key, TrustStore] = {}


def system_trust() -> TrustStore:
    """Return the roots that programs on this machine trust, read once for the same environment and files.

    SSL_CERT_FILE and SSL_CERT_DIR, if one of them is set, replace the system's store, as they do for OpenSSL; both may
    be set. Raises UsageError, naming the path, if what they name cannot be read or holds no root, and if there is no
    store at all.
    """
    key = _key()
    trust = _cached.get(key)
    if trust is None:
        trust = _from_environment() or _from_system()
        _cached.clear()  # The old environment's roots are of no more use.
        _cached[key] = trust
    return trust


def load_trust(path: str | os.PathLike[str]) -> TrustStore:
    """Return the roots in a file, PEM with any number of them or DER with one, or in all such files of a directory.

    In a directory, files named *.pem, *.crt, *.cer, *.der and OpenSSL's hashes (such as 5ad8a5d6.0) count.
    Raises UsageError, naming *path*, if it cannot be read or holds no root.
    """
    return _load(Path(path), origin=os.fspath(path))


def load_raw_public_keys(path: str | os.PathLike[str]) -> RawPublicKeyVerifier:
    """Return what accepts the raw public keys in a file: PEM with any number of PUBLIC KEYs, or DER with one.

    Raises UsageError, naming *path*, if it cannot be read or holds none that can be trusted.
    """
    data = read_pem(path)
    try:
        return RawPublicKeyVerifier(data)
    except UsageError as error:
        raise UsageError(f"{os.fspath(path)}: {error.reason}") from error


def read_pem(path: str | os.PathLike[str]) -> bytes:
    """Return the content of the file at *path*, at most 16 MiB. Raises UsageError, naming *path*, if it cannot."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"cannot read {os.fspath(path)}: {error.strerror or error}") from error
    if len(data) > _MAX_FILE:
        raise UsageError(f"{os.fspath(path)} is larger than {_MAX_FILE} bytes")
    return data


def ocsp_file(path: str | os.PathLike[str]) -> Callable[[], bytes | None]:
    """Return what gives the OCSP response in the file at *path* (DER), for `Credential.ocsp_response`.

    The file is read again when it has changed. While it is gone, half written or no OCSP response, the last good one is
    given. Raises UsageError, naming *path*, if there is none to begin with.
    """
    return _OcspFile(Path(path)).current


class _OcspFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        stamp = _stamp(path)
        self._known = stamp, _ocsp_response(path)

    def current(self) -> bytes | None:
        stamp = _stamp(self._path)
        if stamp == self._known[0] or stamp is None:
            return self._known[1]
        try:
            response = _ocsp_response(self._path)
        except UsageError:
            # Half written, perhaps; what it becomes will have another stamp.
            response = self._known[1]
        self._known = stamp, response  # in one step: several threads may shake hands
        return response


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _ocsp_response(path: Path) -> bytes:
    """Return the file's content. Raises UsageError if it is not one whole DER SEQUENCE, of up to 64 KiB."""
    data = read_pem(path)
    if data[:1] != b"\x30" or not 2 <= len(data) <= 65_535 or len(data) != _der_length(data):
        raise UsageError(f"{path} does not hold an OCSP response in DER")
    return data


def _der_length(data: bytes) -> int:
    """Return how many bytes the DER value at the start of *data*, 2 bytes or more, says that it has in all."""
    if data[1] < 0x80:
        return 2 + data[1]
    width = data[1] & 0x7F
    return 2 + width + int.from_bytes(data[2 : 2 + width], "big")


def _key() -> _Key:
    paths = [os.environ.get("SSL_CERT_FILE", "")]
    paths += os.environ.get("SSL_CERT_DIR", "").split(os.pathsep)
    if not any(paths):
        paths = list(_BUNDLES)
    return tuple((path, _modified(path)) for path in paths if path)


def _modified(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _from_environment() -> TrustStore | None:
    """The store that SSL_CERT_FILE and SSL_CERT_DIR name; None if neither is set."""
    stores: list[TrustStore] = []
    if file := os.environ.get("SSL_CERT_FILE"):
        stores.append(_load(Path(file), origin=f"SSL_CERT_FILE={file}"))
    missing: list[str] = []
    for directory in filter(None, os.environ.get("SSL_CERT_DIR", "").split(os.pathsep)):
        origin = f"SSL_CERT_DIR={directory}"
        try:
            stores.append(_load(Path(directory), origin=origin))
        except UsageError as error:
            missing.append(f"{origin}: {error}")
    if not stores and missing:
        raise UsageError("; ".join(missing))
    if not stores:
        return None
    trust = stores[0]
    for store in stores[1:]:
        trust |= store
    # A directory that is not there does no harm beside others that are; it is not forgotten either.
    return trust | TrustStore(roots=(), certificates=(), origin=stores[0].origin, skipped=tuple(missing))


def _from_system() -> TrustStore:
    trust = _from_wassima() or _from_bundle() or _from_certifi()
    if trust is None:
        raise UsageError(
            "no trusted roots were found on this machine; set SSL_CERT_FILE, install certifi, or pass a TrustStore"
        )
    return trust


def _from_wassima() -> TrustStore | None:
    try:
        import wassima  # noqa: PLC0415  # an optional dependency, at the edge
    except ImportError:
        return None
    roots = wassima.root_der_certificates()
    with _old_roots_allowed():
        return TrustStore.from_der(roots, origin="operating system (wassima)") if roots else None


def _from_bundle() -> TrustStore | None:
    for path in _BUNDLES:
        if os.path.isfile(path):
            return _load(Path(path), origin=path)
    return None


def _from_certifi() -> TrustStore | None:
    try:
        import certifi  # noqa: PLC0415  # an optional dependency, at the edge
    except ImportError:
        return None
    path = Path(certifi.where())
    return _parse(read_pem(path), path, "certifi")


def _load(path: Path, *, origin: str) -> TrustStore:
    if not path.is_dir():
        return _parse(read_pem(path), path, origin)
    trust = TrustStore.empty(origin=origin)
    for file in _certificate_files(path):
        try:
            trust |= _parse(read_pem(file), file, origin)
        except UsageError as error:
            trust |= TrustStore(roots=(), certificates=(), origin=origin, skipped=(str(error),))
    if not trust:
        raise UsageError(f"no root certificate in the directory {path}")
    return trust


def _parse(data: bytes, path: Path, origin: str) -> TrustStore:
    try:
        with _old_roots_allowed():
            if b"-----BEGIN " in data:
                return TrustStore.from_pem(data, origin=origin)
            return TrustStore.from_der([data], origin=origin)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


@contextlib.contextmanager
def _old_roots_allowed() -> Iterator[None]:
    """Every system has roots with the serial number 0; that upstream warns of them helps nobody who uses them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


def _certificate_files(directory: Path) -> Iterator[Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise UsageError(f"cannot read {directory}: {error.strerror or error}") from error
    for entry in entries:
        hashed = entry.suffix[1:].isdigit() and len(entry.stem) == 8
        if (entry.suffix.lower() in _SUFFIXES or hashed) and entry.is_file():
            yield entry
