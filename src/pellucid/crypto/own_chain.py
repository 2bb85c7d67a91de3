"""Whether a chain of our own is fit to be shown: dates, order, issuers, and the OCSP response that is stapled to it.

A peer's chain is judged by `verify`; here nobody is trusted, and what a server is started with is looked at.
"""

from __future__ import annotations

import datetime
import enum
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from pellucid.crypto.certificates import PARSE_ERRORS
from pellucid.crypto.credentials import (
    allows_signatures,
    certificates_from_pem,
    parse_own_certificate,
    private_key_from_pem,
    signer_for,
)
from pellucid.errors import UsageError

__all__ = [
    "ChainFault",
    "Finding",
    "Lifetime",
    "Staple",
    "examine",
    "lifetime",
    "owner_of",
    "read_staple",
    "serial_of",
    "unfit",
]


class ChainFault(enum.Enum):
    """What keeps a credential from being shown."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    ORDER = "order"
    """the certificates are there, and do not follow one another"""
    INTERMEDIATE = "intermediate"
    """one of the others has issued nothing in the chain, or is no CA"""
    KEY_USAGE = "key-usage"
    """the leaf's key may not sign"""


class Finding(NamedTuple):
    fault: ChainFault
    why: str


class Lifetime(NamedTuple):
    """Seconds since 1970. begins: when the leaf does; ends: when the first certificate of the chain does.

    A root at the chain's end does not count: peers have theirs.
    """

    begins: float
    ends: float


class Staple(NamedTuple):
    """An OCSP response, for which certificate it is, and how long: seconds since 1970, None: it does not say."""

    response: bytes
    serial: int
    good: bool
    until: float | None


def lifetime(chain: Sequence[bytes]) -> Lifetime:
    """Return when *chain*, DER, begins and ends to be valid."""
    looked_at = _without_root([parse_own_certificate(der).x509 for der in chain])
    ends = min(one.not_valid_after_utc.timestamp() for one in looked_at)
    return Lifetime(looked_at[0].not_valid_before_utc.timestamp(), ends)


def serial_of(chain: Sequence[bytes]) -> int:
    """Return the serial number of the first certificate in *chain*."""
    return parse_own_certificate(chain[0]).x509.serial_number


def examine(chain: Sequence[bytes], now: float) -> Finding | None:
    """Return why *chain*, DER, must not be shown at *now*; None if it may be.

    now: seconds since 1970. The chain is leaf first, each issued by the next; the root may be there or not. That no
    intermediate is missing cannot be seen here: see `unfit`.
    """
    leaf = parse_own_certificate(chain[0])
    certificates = [parse_own_certificate(der).x509 for der in chain]
    if not allows_signatures(leaf):
        return Finding(ChainFault.KEY_USAGE, "the key usage of the certificate does not allow signatures")
    if (found := _order(certificates)) is not None:
        return found
    for position, one in enumerate(_without_root(certificates)):
        whose = "the certificate" if position == 0 else f"certificate {position + 1} of the chain ({_name(one)})"
        if now > one.not_valid_after_utc.timestamp():
            return Finding(ChainFault.EXPIRED, f"{whose} expired on {_moment(one.not_valid_after_utc)}")
        if now < one.not_valid_before_utc.timestamp():
            return Finding(ChainFault.NOT_YET_VALID, f"{whose} is not valid before {_moment(one.not_valid_before_utc)}")
    return None


def unfit(chain: Sequence[bytes]) -> str:
    """Return what is strange about *chain* without forbidding it; "" for nothing.

    A certificate alone that says where its issuer's is to be fetched was issued by an intermediate, most likely, and
    most clients fetch nothing.
    """
    leaf = parse_own_certificate(chain[0]).x509
    if len(chain) > 1 or leaf.issuer == leaf.subject:
        return ""
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, *PARSE_ERRORS):
        return ""
    if any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in access):
        return f"the chain has no intermediate: clients that do not know {_issuer(leaf)} by themselves will refuse it"
    return ""


def owner_of(certificates: bytes, private_key: bytes, password: bytes | None) -> int | None:
    """Return which of the PEM *certificates*, counted from 0, has this key; None if none has."""
    key = private_key_from_pem(private_key, password)
    for position, der in enumerate(certificates_from_pem(certificates)):
        try:
            signer_for(parse_own_certificate(der), key)
        except UsageError:
            continue
        return position
    return None


def read_staple(response: bytes) -> Staple:
    """Return what the OCSP response *response*, DER, is for. Raises UsageError if it is none for one certificate."""
    try:
        read = ocsp.load_der_ocsp_response(response)
        if read.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise UsageError(f"the OCSP responder answered {read.response_status.name}")
        until = read.next_update_utc
        good = read.certificate_status is ocsp.OCSPCertStatus.GOOD
        return Staple(response, read.serial_number, good, None if until is None else until.timestamp())
    except (*PARSE_ERRORS, UnsupportedAlgorithm) as error:
        raise UsageError(f"it is no OCSP response: {error}") from error


def _order(certificates: list[x509.Certificate]) -> Finding | None:
    for position, (one, issuer) in enumerate(itertools.pairwise(certificates)):
        if _issued(one, issuer):
            if not _is_ca(issuer):
                return Finding(ChainFault.INTERMEDIATE, f"{_name(issuer)} in the chain is not a CA's certificate")
            continue
        where = f"certificate {position + 2} of the chain ({_name(issuer)})"
        others = [other for other in certificates if other is not one and _issued(one, other)]
        if others or any(_issued(issuer, other) for other in certificates if other is not issuer):
            wanted = f": {_name(others[0])} has, and belongs there" if others else ""
            return Finding(ChainFault.ORDER, f"{where} did not issue the one before it{wanted}")
        why = f"{where} did not issue the one before it, which is by {_issuer(one)}"
        return Finding(ChainFault.INTERMEDIATE, why)
    return None


def _issued(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (*PARSE_ERRORS, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *PARSE_ERRORS):
        return certificate.version is x509.Version.v1  # an old root has no extensions


def _without_root(certificates: list[x509.Certificate]) -> list[x509.Certificate]:
    """Peers have the root, and use theirs."""
    last = certificates[-1]
    return certificates[:-1] if len(certificates) > 1 and last.issuer == last.subject else certificates


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "without a name"


def _issuer(certificate: x509.Certificate) -> str:
    return certificate.issuer.rfc4514_string() or "an issuer without a name"


def _moment(when: datetime.datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
