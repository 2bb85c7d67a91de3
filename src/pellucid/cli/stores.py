"""Stores of trusted CAs that other programs read: what to type to have one there or gone again, and doing just that.

What is printed is what is done: both are made from the same commands. An entry's name has the CA's fingerprint in it,
so that what was put there can be told from all else, and be taken away again, years later too.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from pellucid.crypto.certificates import parse_certificate
from pellucid.errors import UsageError
from pellucid.explain.text import escaped

__all__ = ["Debian", "Java", "Nss", "Root", "Store", "StoreFailed", "chromium", "firefox", "pem_certificates", "stores"]

_NAME: Final = "Pellucid development CA"
_STEM: Final = "pellucid-development-ca"
_PEM: Final = re.compile(b"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\\s]+)-----END CERTIFICATE-----")
_SECONDS: Final = 60.0
_SHOWN: Final = 300  # characters of what a failed program said


class StoreFailed(Exception):
    """A store could not be read or changed; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Root:
    """A CA's certificate in a file, to be trusted. tag: of its SHA-256, 12 hex digits."""

    path: Path
    der: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Root:
        """Return the first certificate of a PEM file. Raises UsageError, PeerError or OSError."""
        found = pem_certificates(path.read_bytes())
        if not found:
            raise UsageError("there is no certificate in it: it must be PEM")
        parse_certificate(found[0])
        return cls(path, found[0])

    @property
    def tag(self) -> str:
        return hashlib.sha256(self.der).hexdigest()[:12]


def pem_certificates(data: bytes) -> list[bytes]:
    """Return what the certificates of a PEM file hold, unparsed: whether one is there is all that is asked."""
    return [binascii.a2b_base64(one) for one in _PEM.findall(data)]


Command = tuple[str, ...]


class Store(Protocol):
    """A place where programs look for CAs to trust."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def missing(self) -> str:
        """Why it is of no use on this machine; "" where it can be used."""
        ...

    @property
    def needs_root(self) -> bool:
        """Whether this user may not change it."""
        ...

    def entries(self) -> dict[str, str]:
        """Return place and tag of each development CA that is there. Raises StoreFailed."""
        ...

    def holds(self, root: Root) -> bool:
        """Whether programs that read it trust *root*. Raises StoreFailed."""
        ...

    def add(self, root: Root) -> list[Command]:
        """Return the commands that put *root* there."""
        ...

    def remove(self, tag: str) -> list[Command]:
        """Return the commands that take the CA with this tag away."""
        ...


def run(commands: Sequence[Command]) -> None:
    """Run *commands* one after the other. Raises StoreFailed at the first that fails."""
    for command in commands:
        output_of(command)


def output_of(command: Command) -> str:
    """Return what *command* prints. Raises StoreFailed with what it says if it fails."""
    try:
        done = subprocess.run(  # noqa: S603  # programs of the table below, no shell
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreFailed(f"{command[0]}: {error}") from error
    if done.returncode:
        said = escaped(" ".join((done.stderr or done.stdout).split()))[:_SHOWN]
        raise StoreFailed(f"{shlex.join(command)}: {said or f'it left with {done.returncode}'}")
    return done.stdout


# ---- NSS: Chromium's, Firefox's --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Nss:
    """Databases of NSS. directories: of each; create: where one is made if there is none; None: nowhere."""

    name: str
    title: str
    directories: tuple[Path, ...]
    create: Path | None = None
    absent: str = "it has no profile here"

    @property
    def missing(self) -> str:
        if not self.directories and self.create is None:
            return self.absent
        return "" if shutil.which("certutil") else "certutil is not installed (apt install libnss3-tools)"

    @property
    def needs_root(self) -> bool:
        return False

    def entries(self) -> dict[str, str]:
        return {
            f"{directory}#{tag}": tag
            for directory in self.directories
            for tag in re.findall(
                rf"^{_NAME} ([0-9a-f]{{12}})\s", output_of(("certutil", "-L", "-d", f"sql:{directory}")), re.MULTILINE
            )
        }

    def holds(self, root: Root) -> bool:
        """Whether all of them have it, trusted for servers."""
        return bool(self.directories) and all(self._holds(directory, root) for directory in self.directories)

    def _holds(self, directory: Path, root: Root) -> bool:
        name = f"{_NAME} {root.tag}"
        listed = output_of(("certutil", "-L", "-d", f"sql:{directory}"))
        row = next((row for row in listed.splitlines() if row.startswith(name)), "")
        if "C" not in row.removeprefix(name).partition(",")[0]:
            return False
        pem = output_of(("certutil", "-L", "-d", f"sql:{directory}", "-n", name, "-a"))
        return root.der in pem_certificates(pem.encode())

    def add(self, root: Root) -> list[Command]:
        commands: list[Command] = []
        directories = self.directories
        if not directories and self.create is not None:
            directories = (self.create,)
            commands.append(("mkdir", "-p", "-m", "700", str(self.create)))
            commands.append(("certutil", "-N", "--empty-password", "-d", f"sql:{self.create}"))
        entry = ("-t", "C,,", "-n", f"{_NAME} {root.tag}", "-i", str(root.path))
        return commands + [("certutil", "-A", "-d", f"sql:{directory}", *entry) for directory in directories]

    def remove(self, tag: str) -> list[Command]:
        there = [place.rpartition("#")[0] for place, its in self.entries().items() if its == tag]
        return [("certutil", "-D", "-d", f"sql:{directory}", "-n", f"{_NAME} {tag}") for directory in there]


def chromium(home: Path) -> Nss:
    """Chromium, Chrome, Edge, Brave and all else on Linux that reads the user's NSS database."""
    shared = home / ".pki" / "nssdb"
    places = (shared, home / "snap" / "chromium" / "current" / ".pki" / "nssdb")
    found = tuple(place for place in places if (place / "cert9.db").exists())
    return Nss("nss", "Chromium, Chrome and others that use NSS", found, shared)


def firefox(home: Path) -> Nss:
    """The profiles of Firefox and its relatives, wherever they were installed from."""
    roots = (
        home / ".mozilla" / "firefox",
        home / "snap" / "firefox" / "common" / ".mozilla" / "firefox",
        home / ".var" / "app" / "org.mozilla.firefox" / ".mozilla" / "firefox",
        home / "Library" / "Application Support" / "Firefox" / "Profiles",
    )
    found = tuple(database.parent for root in roots for database in sorted(root.glob("*/cert9.db")))
    return Nss("firefox", "Firefox", found)


# ---- Debian's --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Debian:
    """Debian's and Ubuntu's store: curl, git, wget, Python and all else that asks OpenSSL or GnuTLS there.

    directory: where the administrator's own go; bundle: what update makes of all.
    """

    directory: Path = Path("/usr/local/share/ca-certificates")
    bundle: Path = Path("/etc/ssl/certs/ca-certificates.crt")
    update: Command = ("update-ca-certificates",)
    name: str = "debian"
    title: str = "this system's store: curl, git, wget, Python, …"

    @property
    def missing(self) -> str:
        if not shutil.which(self.update[0]):
            return f"{self.update[0]} is not installed: this is no Debian"
        return "" if self.directory.is_dir() else f"{self.directory} is not there (apt install ca-certificates)"

    @property
    def needs_root(self) -> bool:
        return not os.access(self.directory, os.W_OK) or not os.access(self.bundle.parent, os.W_OK)

    def entries(self) -> dict[str, str]:
        return {
            str(path): path.stem.removeprefix(f"{_STEM}-")
            for path in sorted(self.directory.glob(f"{_STEM}-*.crt"))
            if re.fullmatch("[0-9a-f]{12}", path.stem.removeprefix(f"{_STEM}-"))
        }

    def holds(self, root: Root) -> bool:
        try:
            return root.der in pem_certificates(self.bundle.read_bytes())
        except (OSError, ValueError) as error:
            raise StoreFailed(f"{self.bundle}: {error}") from error

    def add(self, root: Root) -> list[Command]:
        return [("install", "-m", "644", str(root.path), str(self._path(root.tag))), self.update]

    def remove(self, tag: str) -> list[Command]:
        return [("rm", "-f", str(self._path(tag))), self.update]

    def _path(self, tag: str) -> Path:
        return self.directory / f"{_STEM}-{tag}.crt"


# ---- Java's ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Java:
    """Java's own store. keystore: None for the cacerts of the Java on the PATH."""

    keystore: Path | None = None
    name: str = "java"
    title: str = "Java"

    @property
    def missing(self) -> str:
        if self.keystore is not None and not self.keystore.exists():
            return f"{self.keystore} is not there"
        return "" if shutil.which("keytool") else "keytool is not installed: there is no Java"

    @property
    def needs_root(self) -> bool:
        return self.keystore is None and hasattr(os, "geteuid") and os.geteuid() != 0

    @property
    def _where(self) -> Command:
        place = ("-cacerts",) if self.keystore is None else ("-keystore", str(self.keystore))
        return (*place, "-storepass", "changeit")

    def entries(self) -> dict[str, str]:
        listed = output_of(("keytool", "-list", *self._where))
        return {f"cacerts#{tag}": tag for tag in re.findall(rf"^{_STEM}-([0-9a-f]{{12}}),", listed, re.MULTILINE)}

    def holds(self, root: Root) -> bool:
        if root.tag not in self.entries().values():
            return False
        pem = output_of(("keytool", "-exportcert", "-rfc", "-alias", f"{_STEM}-{root.tag}", *self._where))
        return root.der in pem_certificates(pem.encode())

    def add(self, root: Root) -> list[Command]:
        entry = ("-alias", f"{_STEM}-{root.tag}", "-file", str(root.path))
        return [("keytool", "-importcert", "-noprompt", *entry, *self._where)]

    def remove(self, tag: str) -> list[Command]:
        return [("keytool", "-delete", "-alias", f"{_STEM}-{tag}", *self._where)]


def stores() -> dict[str, Store]:
    """Return the stores of this machine and user by name, those that are missing too."""
    home = Path.home()
    found: tuple[Store, ...] = (chromium(home), firefox(home), Debian(), Java())
    return {store.name: store for store in found}


def other_lines(root: Root) -> tuple[tuple[str, str], ...]:
    """Return (where, what to type) for stores of other systems, which are not changed from here."""
    path = shlex.quote(str(root.path))
    if sys.platform == "darwin":
        chain = '"$HOME/Library/Keychains/login.keychain-db"'
        return (("keychain", f"security add-trusted-cert -r trustRoot -k {chain} {path}"),)
    if sys.platform == "win32":
        return (("windows", f'certutil -user -addstore Root "{root.path}"'),)
    return (("fedora", f"sudo trust anchor --store {path}"),) if shutil.which("trust") else ()
