"""What `pellucid doctor` looks at before it tries anything: the CA, its files, the clock, variables in the way."""

from __future__ import annotations

import datetime
import enum
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pellucid.cli.development_ca import DevelopmentCA
from pellucid.cli.stores import Root, pem_certificates
from pellucid.crypto.pyca import PYCA
from pellucid.explain.text import escaped

__all__ = ["Finding", "Level", "ca_findings", "variable_findings"]

_SOON_DAYS: Final = 120
_BUILT: Final = datetime.datetime(2026, 7, 1, tzinfo=datetime.UTC)
"""No clock that is right is before it: RFC 9846 is of that month."""


class Level(enum.Enum):
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. what: "ca", "clock", or a variable's name; hint: what helps, "" for nothing."""

    what: str
    level: Level
    text: str
    hint: str = ""


def ca_findings(authority: DevelopmentCA) -> Iterator[Finding]:
    """Yield what is to be said of the CA and the clock. Its permissions were checked when it was read."""
    certificate = authority.authority.certificate
    now = datetime.datetime.fromtimestamp(PYCA.now(), datetime.UTC)
    ends = certificate.not_valid_after_utc
    if now > ends:
        yield Finding("ca", Level.BAD, f"the development CA expired on {ends:%Y-%m-%d}", "pellucid dev-cert localhost")
    elif (left := (ends - now).days) < _SOON_DAYS:
        yield Finding("ca", Level.WARNING, f"the development CA ends in {left} days", "pellucid dev-cert localhost")
    else:
        yield Finding("ca", Level.GOOD, f"{authority.certificate_path}, valid until {ends:%Y-%m-%d}, key yours alone")
    if not authority.authority.permitted:
        text = "the development CA may vouch for every name: whoever gets its key can pose as any site to you"
        yield Finding(
            "ca", Level.WARNING, text, "pellucid untrust --apply; pellucid dev-cert localhost makes a new one"
        )
    if now < certificate.not_valid_before_utc or now < _BUILT:
        text = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, before the CA was made"
        yield Finding("clock", Level.BAD, text, "set the clock")


# what it does, and whether it takes the place of all roots (a CA that is not in its file is not trusted then)
_FILES: Final = {
    "SSL_CERT_FILE": "OpenSSL, Python, httpx and Go read their roots from it alone",
    "REQUESTS_CA_BUNDLE": "requests and pip read their roots from it alone",
    "CURL_CA_BUNDLE": "curl and requests read their roots from it alone",
    "PIP_CERT": "pip reads its roots from it alone",
    "GIT_SSL_CAINFO": "git reads its roots from it alone, whatever http.sslCAInfo says",
    "NODE_EXTRA_CA_CERTS": "node trusts what is in it too",
    "AWS_CA_BUNDLE": "the AWS tools read their roots from it alone",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "gRPC reads its roots from it alone",
}
_OFF: Final = {
    "NODE_TLS_REJECT_UNAUTHORIZED": ("0", "node verifies nothing"),
    "GIT_SSL_NO_VERIFY": ("", "git verifies nothing"),
    "PYTHONHTTPSVERIFY": ("0", "old Pythons verify nothing"),
}


def variable_findings(root: Root, environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Yield what variables of the environment have to do with it, and which are in the way."""
    present = os.environ if environment is None else environment
    for name, does in _FILES.items():
        if value := present.get(name):
            yield _file_finding(name, value, does, root)
    for name, (needed, does) in _OFF.items():
        value = present.get(name)
        if value is not None and (value == needed or (not needed and value.lower() not in {"", "0", "false"})):
            yield Finding(name, Level.WARNING, f"it is set: {does}", f"unset {name}")
    if present.get("SSLKEYLOGFILE"):
        text = "it is set: programs write the secrets of their connections there, and whoever reads it reads them all"
        yield Finding("SSLKEYLOGFILE", Level.WARNING, text, "unset SSLKEYLOGFILE")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        if present.get(name) and not _spares_localhost(present):
            text = "it is set: programs may send what is for localhost there"
            yield Finding(name, Level.WARNING, text, "export NO_PROXY=localhost,127.0.0.1,::1")


def _spares_localhost(present: Mapping[str, str]) -> bool:
    listed = f"{present.get('NO_PROXY', '')},{present.get('no_proxy', '')}".replace(" ", "").split(",")
    return bool({"localhost", "*"} & set(listed))


def _file_finding(name: str, value: str, does: str, root: Root) -> Finding:
    shown = escaped(value)[:200]
    try:
        found = pem_certificates(Path(value).read_bytes())
        if not found:
            raise ValueError("no certificate is in it")
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else "") or str(error)
        return Finding(name, Level.BAD, f"{shown} cannot be used ({why}): {does}", f"unset {name}")
    if root.der in found:
        return Finding(name, Level.GOOD, f"{shown} has the development CA")
    if name == "NODE_EXTRA_CA_CERTS":
        return Finding(name, Level.WARNING, f"{shown} lacks the development CA: {does}", f"export {name}={root.path}")
    hint = f"unset {name}, or: pellucid trust --bundle FILE; export {name}=FILE"
    return Finding(name, Level.WARNING, f"{shown} lacks the development CA: {does}", hint)
