"""What `pellucid dev-cert` can make: names and how they are meant, algorithms, the certificates themselves."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pellucid.cli.common import CommandFailed
from pellucid.cli.development_ca import DevelopmentCA
from pellucid.crypto.pyca import PYCA
from pellucid.errors import UsageError
from pellucid.explain.text import escaped
from pellucid.testing.ca import DAY, Issued, KeyKind
from pellucid.verify.names import normalize_server_name

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["ALGORITHMS", "MAX_DAYS", "Made", "Names", "good", "read_names"]

ALGORITHMS: Final[dict[str, KeyKind]] = {
    "ecdsa-p256": "p256",
    "ecdsa-p384": "p384",
    "ecdsa-p521": "p521",
    "rsa-2048": "rsa2048",
    "rsa-3072": "rsa3072",
    "rsa-4096": "rsa4096",
    "ed25519": "ed25519",
    "ed448": "ed448",
    "ml-dsa-44": "mldsa44",
    "ml-dsa-65": "mldsa65",
    "ml-dsa-87": "mldsa87",
}
MAX_DAYS: Final = 825
"""Apple's systems believe no longer ones, by whomever they are."""
_MAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9*_-]+(\.[A-Za-z0-9_-]+)+\.?")


@dataclass(frozen=True, slots=True)
class Names:
    """Whom a certificate is for.

    subject:      the common name: for people to read.
    alternatives: the subject alternative names, as `CA.issue` takes them.
    hosts:        those of them that are host names, wildcards and IP addresses.
    """

    subject: str
    alternatives: tuple[str, ...]
    hosts: tuple[str, ...]


def read_names(names: Sequence[str], *, client: bool) -> Names:
    """Return how *names* are meant. Raises CommandFailed (2) for one that cannot stand in a certificate."""
    hosts, others, plain = [], [], []
    for name in names:
        if (client and _MAIL.fullmatch(name)) or (client and _URI.fullmatch(name)):
            others.append(name)
        elif client and not _is_host(name):
            plain.append(_person(name))
        else:
            hosts.append(_host(name))
    if len(plain) > 1:
        raise CommandFailed(f"{plain[0]} and {plain[1]}: a certificate has one subject", code=2)
    alternatives = tuple(dict.fromkeys((*hosts, *others)))
    return Names(plain[0] if plain else alternatives[0], alternatives, tuple(dict.fromkeys(hosts)))


def _is_host(name: str) -> bool:
    """Whether a client's name is a host's: those have a dot, or are addresses."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return _DOMAIN.fullmatch(name) is not None
    return True


def _person(name: str) -> str:
    if not 1 <= len(name) <= 64 or not name.isprintable() or not name.strip():
        raise CommandFailed(f"{escaped(name)!r} cannot be a subject: 1 to 64 characters that can be printed", code=2)
    return name


def _host(name: str) -> str:
    """Return *name* as it stands in a certificate: A-labels, lower case."""
    wildcard = "*." if name.startswith("*.") else ""
    try:
        host = wildcard + normalize_server_name(name.removeprefix("*."))
    except UsageError as error:
        raise CommandFailed(
            f"{escaped(name)!r} is no host name: {error.reason}",
            code=2,
            hints=("people and mail addresses are for client certificates: --client",),
        ) from error
    if "_" in host:
        raise CommandFailed(f"{host}: a certificate may not name a host with an underscore (RFC 5280)", code=2)
    return host


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Certificates, ready to be written. chain: DER, leaf first.

    own_ca_pem: the root to trust where it is not the development CA; b"" else.
    staple, crl: an OCSP response and a revocation list, DER; b"" for none.
    host:       whom a client must ask for to notice a fault.
    issued, root: for PKCS #12; None where the chain is not what was issued.
    """

    chain: tuple[bytes, ...]
    key_pem: bytes = field(repr=False)
    subject: str
    names: tuple[str, ...]
    host: str
    own_ca_pem: bytes = b""
    staple: bytes = b""
    crl: bytes = b""
    issued: Issued | None = None
    root: x509.Certificate | None = None

    @property
    def chain_pem(self) -> bytes:
        return b"".join(_pem(der) for der in self.chain)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the leaf, in hex."""
        return hashlib.sha256(self.chain[0]).hexdigest()


def _pem(der: bytes) -> bytes:
    text = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


def good(authority: DevelopmentCA, names: Names, options: dict[str, Any]) -> Made:
    """Return a certificate for *names* that nothing is wrong with."""
    now = datetime.datetime.fromtimestamp(PYCA.now(), datetime.UTC).replace(microsecond=0)
    ends = now + options["days"] * DAY
    root = authority.authority
    if ends > root.certificate.not_valid_after_utc:
        days = (root.certificate.not_valid_after_utc - now).days
        raise CommandFailed(f"--days {options['days']}: the CA itself is valid for {days} more days", code=2)
    issuer = root
    if options["intermediate"]:
        issuer = root.intermediate(
            "Pellucid development intermediate",
            path_length=0,
            usage=("key_cert_sign", "crl_sign"),
            not_before=now - datetime.timedelta(hours=1),
            not_after=ends,
            aia=None,
        )
    issued = issuer.issue(
        *names.alternatives,
        common_name=names.subject,
        key=ALGORITHMS[options["algorithm"]],
        purposes=("client",) if options["client"] else ("server",),
        not_after=ends,
    )
    return Made(
        chain=issued.chain_der,
        key_pem=issued.key_pem,
        subject=names.subject,
        names=names.alternatives,
        host=names.subject,
        issued=issued,
        root=root.certificate,
    )
