"""Certificate revocation lists given in memory: parsed once, asked by issuer and serial number (RFC 5280 §5, §6.3).

What is done of §6.3.3: complete CRLs, direct, for all reasons, signed with the key that signed the certificate; a scope
of end-entity or CA certificates and a distribution point are honoured. Delta and indirect CRLs, those for some reasons
only, and whatever else cannot be processed, say nothing here, and the report says why.
"""

from __future__ import annotations

import binascii
import datetime
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pellucid.crypto.certificates import PARSE_ERRORS
from pellucid.errors import UsageError
from pellucid.verify.checks import extension, moment
from pellucid.verify.paths import Candidate, display_name
from pellucid.verify.status import Currency, Finding, Standing, ends_at, reason_name

_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----(?P<body>.*?)-----END X509 CRL-----", re.DOTALL)
_SEQUENCE: Final = b"\x30"
_TRUE: Final = b"\x01\x01\xff"
_BROKEN_HASHES: Final = ("md5", "sha1")
_MAX_KNOWN_ISSUERS: Final = 64
_KNOWN: Final = frozenset(
    kind.oid
    for kind in (
        x509.AuthorityKeyIdentifier,
        x509.IssuerAlternativeName,
        x509.CRLNumber,
        x509.IssuingDistributionPoint,
        x509.FreshestCRL,
        x509.AuthorityInformationAccess,
    )
)
"""Extensions that may be critical: they are processed, or change nothing here."""


class RevocationList:
    """One CRL, parsed, with an index of the serial numbers it lists.

    issuer:  the DER name.
    label:   what people call it.
    problem: why it says nothing, whoever is asked about; None if it may.
    """

    __slots__ = ("_distribution", "_serials", "_verified", "crl", "issuer", "label", "problem")

    def __init__(self, crl: x509.CertificateRevocationList) -> None:
        self.crl = crl
        self.issuer = crl.issuer.public_bytes()
        self.label = f"the CRL of {display_name(crl.issuer)}"
        self.problem, self._distribution = _profile(crl)
        # Upstream's lookup goes through the list: 5 ms of 100,000 entries for every certificate that is not on it.
        self._serials = frozenset(entry.serial_number for entry in crl)
        self._verified: dict[bytes, str | None] = {}

    def not_of(self, issuer: Candidate) -> str | None:
        """Return why it is not a CRL of *issuer* (RFC 5280 §6.3.3 f, g), or None.

        Found out once for each issuer: the signature over 100,000 entries takes 30 ms.
        """
        if issuer.der not in self._verified:
            if len(self._verified) >= _MAX_KNOWN_ISSUERS:
                self._verified.clear()
            self._verified[issuer.der] = self._problem_with(issuer)
        return self._verified[issuer.der]

    def _problem_with(self, issuer: Candidate) -> str | None:
        usage = extension(issuer, x509.KeyUsage)
        if usage is not None and not usage.crl_sign:
            return "does not count: its issuer's key usage has no cRLSign"
        try:
            right = self.crl.is_signature_valid(issuer.certificate.public_key())  # type: ignore[arg-type]  # issuers' sign
        except (*PARSE_ERRORS, UnsupportedAlgorithm):
            right = False
        return None if right else "was not signed with its issuer's key"

    def entry(self, serial: int) -> x509.RevokedCertificate | None:
        """Return what it lists for *serial*, if anything."""
        return self.crl.get_revoked_certificate_by_serial_number(serial) if serial in self._serials else None

    def out_of_scope(self, candidate: Candidate) -> str | None:
        """Return why it is not about certificates like *candidate* (RFC 5280 §6.3.3 b), or None."""
        point = self._distribution
        if point is None:
            return None
        constraints = extension(candidate, x509.BasicConstraints)
        is_ca = constraints is not None and constraints.ca
        if point.only_contains_user_certs and is_ca:
            return "is for end-entity certificates alone"
        if point.only_contains_ca_certs and not is_ca:
            return "is for CA certificates alone"
        if point.full_name is not None and not set(point.full_name) & _distribution_names(candidate):
            return "is of a distribution point that the certificate does not name"
        return None


@dataclass(frozen=True, slots=True)
class RevocationLists:
    """All CRLs that were given, in the order given."""

    lists: tuple[RevocationList, ...]

    def ask(self, about: Candidate, issuer: Candidate, currency: Currency, *, expired_is_fine: bool) -> Finding:
        """Return what the CRLs say of *about*, which *issuer*'s key signed.

        Listed in one: REVOKED, whatever its dates. In the scope of a current one and listed in none: GOOD.
        """
        reasons: list[str] = []
        standing = Standing.UNKNOWN
        answers: list[tuple[datetime.datetime, str]] = []
        for one in self.lists:
            if one.issuer != about.issuer:
                continue
            problem = one.problem or one.not_of(issuer) or one.out_of_scope(about)
            if problem is not None:
                reasons.append(f"{one.label} {problem}")
                continue
            entry = one.entry(about.certificate.serial_number)
            if entry is not None:
                return Finding(Standing.REVOKED, _revoked(one, about, entry))
            stale = currency.problem(one.crl.last_update_utc, one.crl.next_update_utc)
            if stale is None or (stale.expired and expired_is_fine):
                note = "" if stale is None else f", which {stale.text} and is taken all the same"
                answers.append((one.crl.last_update_utc, f"{one.label} of {moment(one.crl.last_update_utc)}{note}"))
            else:
                reasons.append(f"{one.label} {stale.text}")
                standing = Standing.EXPIRED if stale.expired else standing
        if answers:
            return Finding(Standing.GOOD, f"{about.label} is not on {max(answers)[1]}")
        why = "; ".join(reasons) or f"none of the {len(self.lists)} CRLs given is of its issuer"
        return Finding(standing, f"no CRL answers for {about.label}: {why}")

    def ends(self, issuers: set[bytes], max_age_seconds: float) -> float:
        """Return when the first CRL of one of *issuers*, DER names, is out of date; infinity if there is none."""
        of_them = [one.crl for one in self.lists if one.issuer in issuers]
        return min(
            (ends_at(one.last_update_utc, one.next_update_utc, max_age_seconds) for one in of_them), default=math.inf
        )


def parse_crls(given: Iterable[bytes]) -> RevocationLists:
    """Return the CRLs that *given* holds: each DER, or PEM with one or several. Raises UsageError for anything else."""
    found: list[RevocationList] = []
    for number, data in enumerate(given, 1):
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise UsageError(f"CRL {number} is of the type {type(data).__name__}, not bytes")
        try:
            found += [RevocationList(x509.load_der_x509_crl(der)) for der in _encodings(bytes(data))]
        except (*PARSE_ERRORS, UnsupportedAlgorithm) as error:
            raise UsageError(f"CRL {number} cannot be parsed: {error}") from error
    return RevocationLists(tuple(found))


def _encodings(data: bytes) -> list[bytes]:
    if data.startswith(_SEQUENCE):
        return [data]
    blocks = [binascii.a2b_base64(b"".join(block["body"].split()), strict_mode=True) for block in _PEM.finditer(data)]
    if not blocks:
        raise ValueError("neither DER nor PEM")
    return blocks


def _profile(crl: x509.CertificateRevocationList) -> tuple[str | None, x509.IssuingDistributionPoint | None]:
    """Return why the CRL cannot be used, if so, and its issuing distribution point (RFC 5280 §5.1, §5.2)."""
    point = number = None
    problem = None
    for found in crl.extensions:
        match found.value:
            case x509.IssuingDistributionPoint():
                point = found.value
            case x509.CRLNumber():
                number = found
            case x509.DeltaCRLIndicator():
                problem = "is a delta CRL"
            case _ if found.critical and found.oid not in _KNOWN:
                problem = f"has the unknown critical extension {found.oid.dotted_string}"
    if problem is None and number is None:
        problem = "has no CRL number"
    elif problem is None and number is not None and number.critical:
        problem = "has a CRL number that is marked critical"
    return problem or _weakness(crl) or _partial(point) or _entry_problem(crl), point


def _weakness(crl: x509.CertificateRevocationList) -> str | None:
    try:
        algorithm = crl.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return f"is signed with the unknown algorithm {crl.signature_algorithm_oid.dotted_string}"
    if algorithm is not None and algorithm.name in _BROKEN_HASHES:
        return f"is signed with {algorithm.name.upper()}, which can be forged"
    return None


def _partial(point: x509.IssuingDistributionPoint | None) -> str | None:
    if point is None:
        return None
    if point.indirect_crl:
        return "is an indirect CRL"
    if point.only_some_reasons is not None:
        return "is for some reasons of revocation only"
    if point.only_contains_attribute_certs:
        return "is for attribute certificates alone"
    if point.relative_name is not None:
        return "is of a distribution point with a relative name"
    return None


def _entry_problem(crl: x509.CertificateRevocationList) -> str | None:
    """An entry's extension that is critical forbids to use the CRL (RFC 5280 §5.3): none is processed here.

    Upstream takes half a second for the extensions of 100,000 entries, so that it is asked only if there can be one.
    """
    marked = sum(found.critical for found in crl.extensions)
    if crl.tbs_certlist_bytes.count(_TRUE) <= marked:
        return None
    for entry in crl:
        for found in entry.extensions:
            if found.critical:
                return f"has an entry with the critical extension {found.oid.dotted_string}"
    return None


def _distribution_names(candidate: Candidate) -> set[x509.GeneralName]:
    """Return the names of the distribution points of *candidate*; without any, its issuer's name (RFC 5280 §6.3.3)."""
    points = extension(candidate, x509.CRLDistributionPoints)
    if points is None:
        return {x509.DirectoryName(candidate.certificate.issuer)}
    return {name for point in points for name in point.full_name or point.crl_issuer or ()}


def _revoked(one: RevocationList, about: Candidate, entry: x509.RevokedCertificate) -> str:
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except (x509.ExtensionNotFound, *PARSE_ERRORS):
        reason = None  # That it is listed is what counts.
    return f"{about.label} was revoked on {moment(entry.revocation_date_utc)}{reason_name(reason)}, says {one.label}"
