"""Paths from a leaf to a root, found for the explanation: which certificate was signed by which, within a budget.

The authoritative path is pyca/cryptography's; this one says what is missing when there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pellucid.crypto.certificates import PARSE_ERRORS
from pellucid.limits import MAX_CERTIFICATES, MAX_RSA_BITS
from pellucid.verify.names import shown
from pellucid.verify.trust import TrustStore

EMPTY_NAME: Final = b"\x30\x00"  # a DER name without a single attribute
_MAX_SIGNATURES: Final = 64  # checked for one explanation; 64 of the slowest kind take about 30 ms
_MAX_STEPS: Final = 500
_MAX_PATHS: Final = 8
_MAX_LENGTH: Final = MAX_CERTIFICATES + 1  # all that may be sent, and a root: that a path is too long is the verdict's
_CRYPTO_ERRORS: Final = (*PARSE_ERRORS, UnsupportedAlgorithm)


class Candidate:
    """One certificate that may stand in a path.

    index: 0 the leaf, n the n-th certificate sent after it, None a root of ours, or another in the *role* given.
    place: where an intermediate is from that was not sent; "" for all others.
    """

    def __init__(
        self,
        certificate: x509.Certificate,
        index: int | None,
        der: bytes | None = None,
        *,
        role: str = "the root",
        place: str = "",
    ) -> None:
        self.certificate = certificate
        self.index = index
        self.place = place
        self._role = f"the intermediate {place}" if place else role
        self.der = certificate.public_bytes(Encoding.DER) if der is None else der

    @cached_property
    def subject(self) -> bytes:
        return _name_bytes(self.certificate, "subject")

    @cached_property
    def issuer(self) -> bytes:
        return _name_bytes(self.certificate, "issuer")

    @cached_property
    def extensions(self) -> x509.Extensions | None:
        """The extensions, or None if they cannot be parsed."""
        try:
            return self.certificate.extensions
        except PARSE_ERRORS:
            return None

    @cached_property
    def label(self) -> str:
        """What people call it: which one it is, and its subject."""
        place = self._role if self.index is None else "the leaf" if self.index == 0 else f"certificate {self.index}"
        named = self.subject not in {b"", EMPTY_NAME}
        return f"{place} {display_name(self.certificate.subject)}" if named else place

    @property
    def self_issued(self) -> bool:
        return self.subject == self.issuer


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A path from the leaf upwards.

    anchored: whether its last certificate is a root of ours.
    """

    certificates: tuple[Candidate, ...]
    anchored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What the search found.

    paths:     those that end at a root; if none does, the longest that does not.
    bad_links: (child, issuer) where the names and key identifiers fit and the signature does not or cannot be checked.
    """

    paths: tuple[Path, ...]
    bad_links: tuple[tuple[Candidate, Candidate], ...]


def display_name(name: x509.Name) -> str:
    """Return *name* for people: its common name or all of it, in quotation marks, escaped and truncated."""
    common = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    value = common[0].value if common else name.rfc4514_string()
    return f"'{shown(value if isinstance(value, str) else value.hex())}'"


def find_paths(leaf: Candidate, presented: tuple[Candidate, ...], trust: TrustStore) -> Search:
    """Return the paths from *leaf* over *presented* to a root, tried in the order sent, within the budget."""
    return _Finder(presented, trust).run(leaf)


class _Finder:
    def __init__(self, presented: tuple[Candidate, ...], trust: TrustStore) -> None:
        self._trust = trust
        self._presented = presented
        self._signatures: dict[tuple[bytes, bytes], bool] = {}
        self._bad: list[tuple[Candidate, Candidate]] = []
        self._complete: list[Path] = []
        self._longest: tuple[Candidate, ...] = ()
        self._steps = 0

    def run(self, leaf: Candidate) -> Search:
        self._extend((leaf,))
        paths = self._complete or [Path(certificates=self._longest, anchored=False)]
        return Search(paths=tuple(paths), bad_links=tuple(self._bad))

    def _extend(self, path: tuple[Candidate, ...]) -> None:
        self._steps += 1
        if len(path) > len(self._longest):
            self._longest = path
        last = path[-1]
        if last.der in self._trust:
            self._complete.append(Path(certificates=path, anchored=True))
            return
        if len(path) >= _MAX_LENGTH:
            return
        for issuer in self._issuers(last):
            if self._steps >= _MAX_STEPS or len(self._complete) >= _MAX_PATHS:
                return
            if all(issuer.der != seen.der for seen in path) and self._signed(last, issuer):
                self._extend((*path, issuer))

    def _issuers(self, child: Candidate) -> Iterator[Candidate]:
        for root in self._trust.with_subject(child.issuer):
            yield Candidate(root, None)
        for candidate in self._presented:
            if candidate.subject == child.issuer:
                yield candidate

    def _signed(self, child: Candidate, issuer: Candidate) -> bool:
        key = (child.der, issuer.der)
        if key not in self._signatures:
            if len(self._signatures) >= _MAX_SIGNATURES:
                return False
            verified = verify_link(child.certificate, issuer.certificate)
            if not verified and not _other_key(child, issuer):
                self._bad.append((child, issuer))
            self._signatures[key] = bool(verified)
        return self._signatures[key]


def verify_link(child: x509.Certificate, issuer: x509.Certificate) -> bool | None:
    """Return whether *issuer*'s key made *child*'s signature; None if that cannot be found out."""
    try:
        key = issuer.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size > MAX_RSA_BITS:
            return None
        child.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except _CRYPTO_ERRORS:
        return None
    return True


def _other_key(child: Candidate, issuer: Candidate) -> bool:
    """Whether the key identifiers say that *issuer* is another CA of the same name (RFC 5280 §4.2.1.1)."""
    if child.extensions is None or issuer.extensions is None:
        return False
    try:
        wanted = child.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        there = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return False
    return wanted is not None and wanted != there


def _name_bytes(certificate: x509.Certificate, which: str) -> bytes:
    try:
        return (certificate.subject if which == "subject" else certificate.issuer).public_bytes()
    except PARSE_ERRORS:
        return b""  # An unreadable name fits no other.
