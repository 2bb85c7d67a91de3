"""Names: what the caller meant (the reference identity) against what a certificate says (RFC 9525).

Only subjectAltName counts, never the common name (§2). No certificate is judged here but for its names.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import idna
from cryptography import x509

from pellucid.errors import UsageError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_CERTIFIED_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME: Final = 253  # characters, without the trailing dot (RFC 1035 §3.1)
_MAX_INPUT: Final = 4 * _MAX_NAME  # idna takes quadratic time on long nonsense
_SHOWN_NAMES: Final = 8
_SHOWN_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class ReferenceName:
    """The peer that the caller meant.

    text:    an A-label host name in lower case without trailing dot, or an IP address in canonical form.
    address: the IP address, if it is one.
    subject: the same as pyca/cryptography takes it; None for a host with an underscore, which it refuses.
    wide_wildcard: "*.tld", in ASCII, where that would stand for the host by upstream's rule and not by ours; else None.
    """

    text: str
    address: IPAddress | None = None
    subject: x509.DNSName | x509.IPAddress | None = field(init=False, repr=False, compare=False)
    wide_wildcard: bytes | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        subject: x509.DNSName | x509.IPAddress | None
        wide = None
        if self.address is not None:
            subject = x509.IPAddress(self.address)
        else:
            subject = None if "_" in self.text else x509.DNSName(self.text)
            base = self.text.partition(".")[2]
            wide = None if "." in base else f"*.{base}".encode()
        object.__setattr__(self, "subject", subject)
        object.__setattr__(self, "wide_wildcard", wide)

    @property
    def kind(self) -> str:
        return "host name" if self.address is None else "IP address"


def is_ip(text: str) -> bool:
    """Return whether *text* is an IPv4 or IPv6 address, in brackets or not. A zone id makes it none."""
    try:
        return reference_name(text).address is not None
    except UsageError:
        return False


def normalize_server_name(text: str) -> str:
    """Return *text* as it is compared and sent in server_name: A-labels, lower case, no trailing dot; or an IP address.

    Raises UsageError for what cannot be the name of a server: empty, NUL, a zone id, a label that is empty, longer than
    63 or with other characters than letters, digits, hyphens and underscores, a last label that is a number ("127.1").

    Underscores are kept: the DNS has such hosts (container networks, storage buckets) and wildcards cover them,
    although no certificate may name one itself (RFC 5280 §4.2.1.6 through RFC 1123 §2.1).
    """
    return reference_name(text).text


@functools.lru_cache(maxsize=1024)  # asked for several times in one handshake, and again in the next to that host
def reference_name(text: str) -> ReferenceName:
    """Return the reference identity *text* means (RFC 9525 §6.1.2). Raises UsageError as normalize_server_name does."""
    address = _address(text)
    if address is not None:
        return ReferenceName(str(address), address)
    if not text or len(text) > _MAX_INPUT:
        raise UsageError(f"the server name is {len(text)} characters long; 1 to {_MAX_NAME} are allowed")
    host = _to_ascii(text).lower().removesuffix(".")
    if len(host) > _MAX_NAME:
        raise UsageError(f"the server name is {len(host)} characters long; 1 to {_MAX_NAME} are allowed")
    labels = host.split(".")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise UsageError(f"{shown(text)} is not a server name: {_label_fault(label)}")
    if _NUMBER.fullmatch(labels[-1]):
        raise UsageError(f"{shown(text)} is not a server name: it ends in a number; write an IP address in full")
    return ReferenceName(host)


def dns_name_matches(presented: str, host: str) -> bool:
    """Return whether the DNS-ID *presented* names *host*, a normalised host name (RFC 9525 §6.3).

    A wildcard is the whole left-most label, stands for exactly one label, and has two labels or more to its right.
    """
    pattern = presented.lower()
    if not pattern.isascii() or len(pattern) > _MAX_NAME:
        return False
    wildcard = pattern.startswith("*.")
    base = pattern[2:] if wildcard else pattern
    if not all(_CERTIFIED_LABEL.fullmatch(label) for label in base.split(".")):
        return False
    if not wildcard:
        return base == host
    first, _, rest = host.partition(".")
    return bool(first) and "." in base and rest == base


def matching_name(reference: ReferenceName, names: Iterable[x509.GeneralName]) -> str | None:
    """Return the one of *names* that names *reference*, as written in the certificate, or None.

    IP addresses are equal byte for byte or not at all: an IPv4-mapped IPv6 address is no IPv4 address, and neither
    is ever compared with a DNS-ID (RFC 9525 §6.2).
    """
    for name in names:
        match name:
            case x509.DNSName(value=value) if reference.address is None and dns_name_matches(value, reference.text):
                return value
            case x509.IPAddress(value=value) if reference.address is not None and value == reference.address:
                return str(value)
            case _:
                continue
    return None


def wildcard_stand_in(reference: ReferenceName, matched: str) -> str | None:
    """Return a host that *matched* names exactly if it names *reference*, without underscores; None if there is none.

    pyca/cryptography refuses underscores in the host it is asked about; under a wildcard, the left-most label of the
    host says nothing about the certificate, and another one gives the same answer.
    """
    base = matched.lower().removeprefix("*.")
    return f"x.{base}" if matched.startswith("*.") and reference.text.endswith(f".{base}") else None


def presented_names(names: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    """Return *names* for people: DNS names and IP addresses bare, others with their kind; escaped, truncated."""
    return tuple(_present(name) for name in names)


def listing(names: tuple[str, ...]) -> str:
    """Return *names* as one short line."""
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def shown(text: str) -> str:
    """Return *text*, which may come from a peer, escaped and truncated: safe on a terminal, in one line."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


def _present(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName(value=value):
            return f"DNS:{shown(value)}" if is_ip(value) else shown(value)
        case x509.IPAddress(value=value):
            return shown(str(value))
        case x509.RFC822Name(value=value):
            return f"email:{shown(value)}"
        case x509.UniformResourceIdentifier(value=value):
            return f"URI:{shown(value)}"
        case _:
            return type(name).__name__


def _address(text: str) -> IPAddress | None:
    if "%" in text:
        return None
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        address = ipaddress.ip_address(text[1:-1] if bracketed else text)
    except ValueError:
        return None
    return None if bracketed and address.version == 4 else address


def _to_ascii(text: str) -> str:
    if text.isascii():
        return text
    try:
        return idna.encode(text, uts46=True, std3_rules=False).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise UsageError(f"{shown(text)} is not a server name: {error}") from error


def _label_fault(label: str) -> str:
    if not label:
        return "a label is empty"
    if len(label) > 63:
        return "a label is longer than 63 characters"
    if "%" in label:
        return "zone ids do not exist in certificates"
    return f"the label {shown(label)!r} has characters that host names have not"
