"""A certificate as the dictionary that `ssl.SSLSocket.getpeercert()` gives: for programs that read it there."""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING, Any, Literal

from pellucid.crypto.certificates import PARSE_ERRORS, X509Certificate

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["certificate_dict"]

# The names OpenSSL gives to attributes of distinguished names; others appear as dotted numbers.
_ATTRIBUTES = {
    "2.5.4.3": "commonName",
    "2.5.4.4": "surname",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "countryName",
    "2.5.4.7": "localityName",
    "2.5.4.8": "stateOrProvinceName",
    "2.5.4.9": "streetAddress",
    "2.5.4.10": "organizationName",
    "2.5.4.11": "organizationalUnitName",
    "2.5.4.12": "title",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.42": "givenName",
    "2.5.4.97": "organizationIdentifier",
    "0.9.2342.19200300.100.1.1": "userId",
    "0.9.2342.19200300.100.1.25": "domainComponent",
    "1.2.840.113549.1.9.1": "emailAddress",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionCountryName",
}
_OCSP = "1.3.6.1.5.5.7.48.1"
_CA_ISSUERS = "1.3.6.1.5.5.7.48.2"

DistinguishedName = tuple[tuple[tuple[str, str], ...], ...]


def certificate_dict(certificate: X509Certificate) -> dict[str, Any]:  # Any: typeshed's own shape of it is a union
    """Return subject, issuer, version, serialNumber, notBefore, notAfter, subjectAltName and where to ask further."""
    parsed = certificate.x509
    result: dict[str, Any] = {
        "subject": _readable_name(parsed, "subject"),
        "issuer": _readable_name(parsed, "issuer"),
        "version": parsed.version.value + 1,
        "serialNumber": _even(f"{parsed.serial_number:X}"),
        "notBefore": _date(parsed.not_valid_before_utc),
        "notAfter": _date(parsed.not_valid_after_utc),
    }
    try:
        extensions = list(parsed.extensions)
    except PARSE_ERRORS:  # an extension that cannot be read: the verifier has said so already, if it matters
        return result
    for extension in extensions:
        match extension.oid.dotted_string:
            case "2.5.29.17":
                result["subjectAltName"] = tuple(_general_name(name) for name in _items(extension.value))
            case "1.3.6.1.5.5.7.1.1":
                for key, method in (("OCSP", _OCSP), ("caIssuers", _CA_ISSUERS)):
                    places = tuple(
                        str(one.access_location.value)
                        for one in _items(extension.value)
                        if one.access_method.dotted_string == method
                    )
                    if places:
                        result[key] = places
            case "2.5.29.31":
                names = [name for point in _items(extension.value) for name in point.full_name or ()]
                result["crlDistributionPoints"] = tuple(str(name.value) for name in names)
    return result


def _items(value: object) -> list[Any]:  # Any: pyca's extensions are iterables of their own kinds
    return list(value)  # type: ignore[call-overload, no-any-return]  # the three kinds above are iterable


def _readable_name(parsed: x509.Certificate, which: Literal["subject", "issuer"]) -> DistinguishedName:
    """Return a certificate's name; () if it cannot be read, as some roots' cannot."""
    try:
        return _name(parsed.subject if which == "subject" else parsed.issuer)
    except PARSE_ERRORS:
        return ()


def _name(name: x509.Name) -> DistinguishedName:
    return tuple(
        tuple((_ATTRIBUTES.get(one.oid.dotted_string, one.oid.dotted_string), str(one.value)) for one in relative)
        for relative in name.rdns
    )


def _general_name(name: Any) -> tuple[str, Any]:  # Any: each kind of general name has its own value
    kind = type(name).__name__
    value = name.value
    match kind:
        case "DNSName":
            return "DNS", value
        case "RFC822Name":
            return "email", value
        case "UniformResourceIdentifier":
            return "URI", value
        case "RegisteredID":
            return "Registered ID", value.dotted_string
        case "DirectoryName":
            return "DirName", _name(value)
        case "IPAddress":
            return "IP Address", _address(value)
    return "othername", "<unsupported>"


def _address(value: object) -> str:
    """Return an address as OpenSSL writes it: IPv6 in eight groups of upper-case digits."""
    if isinstance(value, ipaddress.IPv6Address):
        return ":".join(f"{int(group, 16):X}" for group in value.exploded.split(":"))
    return str(value)


def _date(moment: datetime.datetime) -> str:
    """Return what `ssl.cert_time_to_seconds` reads: "Jan  5 09:34:43 2018 GMT", whatever the locale."""
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[moment.month - 1]
    return f"{month} {moment.day:2d} {moment:%H:%M:%S} {moment.year:04d} GMT"


def _even(digits: str) -> str:
    return digits if len(digits) % 2 == 0 else f"0{digits}"
