"""The parts of an X.509 certificate or a bare public key as they stand in its bytes (RFC 5280 §4.1), named and read.

Only for showing: nothing here is believed, and what is not as expected is an opaque part.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pellucid.crypto.der import SEQUENCE, elements
from pellucid.explain.text import escaped

__all__ = ["DerPart", "certificate_part"]

_BOOLEAN, _INTEGER, _BIT_STRING, _OCTET_STRING, _OID = 0x01, 0x02, 0x03, 0x04, 0x06
_UTC_TIME, _GENERALIZED_TIME, _BMP_STRING = 0x17, 0x18, 0x1E
_LONGEST_OID: Final = 128
_VERSION, _ISSUER_ID, _SUBJECT_ID, _EXTENSIONS = 0xA0, 0x81, 0x82, 0xA3


@dataclass(frozen=True, slots=True)
class DerPart:
    """One element. start, end: from the first byte of the certificate; its parts cover it without a gap."""

    name: str
    start: int
    end: int
    value: str
    meaning: str
    rfc: str
    parts: tuple[DerPart, ...] = ()


def certificate_part(der: bytes) -> DerPart | None:
    """Return what *der* holds, an X.509 certificate or a SubjectPublicKeyInfo; None if it is neither."""
    try:
        whole = _walk(der, 0, len(der))
        if len(whole) != 1 or whole[0].tag != SEQUENCE:
            return None
        inside = whole[0].inside(der)
        if [one.tag for one in inside] == [SEQUENCE, SEQUENCE, _BIT_STRING]:
            return _certificate(der, whole[0], inside)
        if [one.tag for one in inside] == [SEQUENCE, _BIT_STRING]:
            return _public_key(der, whole[0])
    except (ValueError, IndexError):
        return None
    return None


@dataclass(frozen=True, slots=True)
class _Tlv:
    tag: int
    start: int
    content: int
    end: int

    def inside(self, der: bytes) -> list[_Tlv]:
        return _walk(der, self.content, self.end)


def _walk(der: bytes, start: int, end: int) -> list[_Tlv]:
    """Return the elements in der[start:end] with their places. Raises ValueError where it is no DER."""
    found = []
    for element in elements(der[start:end]):
        after = start + len(element.encoding)
        found.append(_Tlv(element.tag, start, after - len(element.content), after))
        start = after
    return found


def _leaf(name: str, one: _Tlv, value: str, meaning: str, rfc: str) -> DerPart:
    return DerPart(name, one.start, one.end, value, meaning, rfc)


def _whole(name: str, one: _Tlv, value: str, meaning: str, rfc: str, parts: list[DerPart]) -> DerPart:
    """Return *one* with its parts; without, where they do not cover it: more stands there than is known here."""
    size = one.content - one.start
    head = DerPart(
        "header", one.start, one.content, f"{one.end - one.content} bytes follow", _HEADER.format(size), "5280 §4.1"
    )
    ends = [one.content, *(part.end for part in parts)]
    covered = ends == [*(part.start for part in parts), one.end]
    return DerPart(name, one.start, one.end, value, meaning, rfc, (head, *parts) if covered else ())


_HEADER: Final = "The element's DER tag and length, {} bytes."


def _certificate(der: bytes, whole: _Tlv, inside: list[_Tlv]) -> DerPart:
    tbs, algorithm, signature = inside
    parts = [
        _whole(
            "tbsCertificate",
            tbs,
            _size(tbs),
            "All that the issuer vouches for.",
            "5280 §4.1.2",
            _tbs(der, tbs.inside(der)),
        ),
        _leaf("signatureAlgorithm", algorithm, _algorithm(der, algorithm), "How the issuer signed.", "5280 §4.1.1.2"),
        _leaf("signatureValue", signature, _size(signature), "The issuer's signature over it.", "5280 §4.1.1.3"),
    ]
    return _whole("certificate", whole, _size(whole), "An X.509 certificate.", "5280 §4.1", parts)


def _tbs(der: bytes, fields: list[_Tlv]) -> list[DerPart]:
    parts = []
    if fields[0].tag == _VERSION:
        number = der[fields[0].end - 1] + 1
        parts.append(
            _leaf("version", fields.pop(0), f"v{number}", "The version of the certificate's format.", "5280 §4.1.2.1")
        )
    serial, algorithm, issuer, validity, subject, key = fields[:6]
    parts += [
        _leaf(
            "serialNumber",
            serial,
            der[serial.content : serial.end].hex(),
            "Tells the issuer's certificates apart: revocation goes by it.",
            "5280 §4.1.2.2",
        ),
        _leaf("signature", algorithm, _algorithm(der, algorithm), "How the issuer signed, once more.", "5280 §4.1.2.3"),
        _leaf("issuer", issuer, _name(der, issuer), "Who vouches for it.", "5280 §4.1.2.4"),
        _whole(
            "validity",
            validity,
            _size(validity),
            "From when until when it is good.",
            "5280 §4.1.2.5",
            [
                _leaf(name, one, _time(der, one), meaning, "5280 §4.1.2.5")
                for (name, meaning), one in zip(_DATES, validity.inside(der), strict=True)
            ],
        ),
        _leaf("subject", subject, _name(der, subject), "Whose it is; names of hosts count below.", "5280 §4.1.2.6"),
        _public_key(der, key),
    ]
    return parts + [_later(der, one) for one in fields[6:]]


_DATES: Final = (("notBefore", "Not good before this moment."), ("notAfter", "Not good after this moment."))


def _later(der: bytes, one: _Tlv) -> DerPart:
    if one.tag != _EXTENSIONS:
        name = {_ISSUER_ID: "issuerUniqueID", _SUBJECT_ID: "subjectUniqueID"}.get(one.tag, "unknown")
        return _leaf(name, one, _size(one), "A number of another time, which nobody uses.", "5280 §4.1.2.8")
    (listed,) = one.inside(der)
    extensions = [_extension(der, index, tlv) for index, tlv in enumerate(listed.inside(der))]
    head = DerPart(
        "header",
        one.start,
        listed.content,
        f"{listed.end - listed.content} bytes follow",
        _HEADER.format(listed.content - one.start),
        "5280 §4.1",
    )
    count = f"{len(extensions)} extensions"
    return DerPart(
        "extensions",
        one.start,
        one.end,
        count,
        "What the certificate may be used for, and for whom.",
        "5280 §4.2",
        (head, *extensions),
    )


def _public_key(der: bytes, one: _Tlv) -> DerPart:
    algorithm, bits = one.inside(der)
    return _whole(
        "subjectPublicKeyInfo",
        one,
        _algorithm(der, algorithm),
        "The public key that the certificate is about.",
        "5280 §4.1.2.7",
        [
            _leaf("algorithm", algorithm, _algorithm(der, algorithm), "The kind of key.", "5280 §4.1.2.7"),
            _leaf("subjectPublicKey", bits, _size(bits), "The key: CertificateVerify is checked with it.", "5280 §4.1"),
        ],
    )


def _extension(der: bytes, index: int, one: _Tlv) -> DerPart:
    inside = one.inside(der)
    oid = _oid(der, inside[0])
    name, meaning, rfc, show = _KNOWN.get(oid, (oid, "An extension that nothing here knows.", "5280 §4.2", None))
    value = inside[-1]
    parts = [_leaf("extnID", inside[0], name, "Which extension this is.", "5280 §4.1")]
    if len(inside) == 3:
        critical = "TRUE" if der[inside[1].end - 1] else "FALSE"
        parts.append(_leaf("critical", inside[1], critical, "Who does not know it must refuse.", "5280 §4.2"))
    told = _size(value)
    if show is not None:
        try:
            told = show(der, _walk(der, value.content, value.end)[0])
        except (ValueError, IndexError):
            told = f"{_size(value)} that are not well-formed"
    parts.append(_leaf("extnValue", value, told, meaning, rfc))
    return _whole(f"extensions[{index}]", one, name, meaning, rfc, parts)


# ---- values in words ----------------------------------------------------------------------------------------------


def _size(one: _Tlv) -> str:
    return f"{one.end - one.content} bytes"


def _oid(der: bytes, one: _Tlv) -> str:
    """Return an OBJECT IDENTIFIER with dots (X.690 §8.19)."""
    if one.tag != _OID:
        raise ValueError("not an OBJECT IDENTIFIER")
    if one.end - one.content > _LONGEST_OID:  # the numbers of a longer one would take time that grows with its square
        raise ValueError("an OBJECT IDENTIFIER that is too long")
    numbers, number = [], 0
    for byte in der[one.content : one.end]:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _algorithm(der: bytes, one: _Tlv) -> str:
    inside = one.inside(der)
    name = _oid(der, inside[0])
    told = _ALGORITHMS.get(name, name)
    if len(inside) == 2 and inside[1].tag == _OID:
        curve = _oid(der, inside[1])
        return f"{told}, {_ALGORITHMS.get(curve, curve)}"
    return told


def _string(der: bytes, one: _Tlv) -> str:
    data = der[one.content : one.end]
    encoding = "utf-16-be" if one.tag == _BMP_STRING else "utf-8"
    return escaped(data.decode(encoding, "backslashreplace"))


def _name(der: bytes, one: _Tlv) -> str:
    """Return a distinguished name in a line, as it stands: "C=DE, O=Example, CN=example.org"."""
    told = []
    for rdn in one.inside(der):
        for attribute in rdn.inside(der):
            kind, value = attribute.inside(der)
            oid = _oid(der, kind)
            told.append(f"{_ATTRIBUTES.get(oid, oid)}={_string(der, value)}")
    return ", ".join(told) or "empty"


def _time(der: bytes, one: _Tlv) -> str:
    told = _string(der, one)
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(one.tag)
    if form is None:
        return told
    moment = datetime.strptime(told, form)  # the Z at its end says UTC
    if one.tag == _UTC_TIME and moment.year >= 2050:  # RFC 5280 §4.1.2.5.1
        moment = moment.replace(year=moment.year - 100)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _general_names(der: bytes, one: _Tlv) -> str:
    return ", ".join(_general_name(der, name) for name in one.inside(der))


def _general_name(der: bytes, one: _Tlv) -> str:
    data = der[one.content : one.end]
    if one.tag == 0x87 and len(data) in {4, 16}:
        return f"IP {ipaddress.ip_address(data)}"
    kind = {0x81: "email", 0x82: "DNS", 0x86: "URI"}.get(one.tag)
    return f"another kind of name ({_size(one)})" if kind is None else f"{kind} {_string(der, one)}"


def _bits(names: tuple[str, ...]) -> Callable[[bytes, _Tlv], str]:
    def show(der: bytes, one: _Tlv) -> str:
        data = der[one.content + 1 : one.end]
        wanted = [name for i, name in enumerate(names) if i // 8 < len(data) and data[i // 8] & 0x80 >> i % 8]
        return ", ".join(wanted) or "nothing"

    return show


def _basic_constraints(der: bytes, one: _Tlv) -> str:
    inside = one.inside(der)
    if not inside or inside[0].tag != _BOOLEAN or not der[inside[0].content]:
        return "not a CA"
    if len(inside) == 2 and inside[1].tag == _INTEGER:
        return f"a CA, with at most {int.from_bytes(der[inside[1].content : inside[1].end], 'big')} CAs below it"
    return "a CA"


def _purposes(der: bytes, one: _Tlv) -> str:
    return ", ".join(_PURPOSES.get(oid, oid) for oid in (_oid(der, each) for each in one.inside(der)))


def _octets(der: bytes, one: _Tlv) -> str:
    return der[one.content : one.end].hex()


def _key_identifier(der: bytes, one: _Tlv) -> str:
    return next((_octets(der, each) for each in one.inside(der) if each.tag == 0x80), _size(one))


_USAGES: Final = (
    *("digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement"),
    *("keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"),
)
_PURPOSES: Final = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "2.5.29.37.0": "any",
}
_ATTRIBUTES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "street",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.97": "organizationIdentifier",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_ALGORITHMS: Final = {
    "1.2.840.113549.1.1.1": "RSA",
    "1.2.840.113549.1.1.5": "RSA with SHA-1",
    "1.2.840.113549.1.1.10": "RSASSA-PSS",
    "1.2.840.113549.1.1.11": "RSA with SHA-256",
    "1.2.840.113549.1.1.12": "RSA with SHA-384",
    "1.2.840.113549.1.1.13": "RSA with SHA-512",
    "1.2.840.10045.2.1": "EC",
    "1.2.840.10045.3.1.7": "secp256r1",
    "1.3.132.0.34": "secp384r1",
    "1.3.132.0.35": "secp521r1",
    "1.2.840.10045.4.3.2": "ECDSA with SHA-256",
    "1.2.840.10045.4.3.3": "ECDSA with SHA-384",
    "1.2.840.10045.4.3.4": "ECDSA with SHA-512",
    "1.3.101.112": "Ed25519",
    "1.3.101.113": "Ed448",
    "2.16.840.1.101.3.4.3.17": "ML-DSA-44",
    "2.16.840.1.101.3.4.3.18": "ML-DSA-65",
    "2.16.840.1.101.3.4.3.19": "ML-DSA-87",
}
_KNOWN: Final[dict[str, tuple[str, str, str, Callable[[bytes, _Tlv], str] | None]]] = {
    "2.5.29.14": ("subjectKeyIdentifier", "A short name of this key.", "5280 §4.2.1.2", _octets),
    "2.5.29.15": ("keyUsage", "What the key may do.", "5280 §4.2.1.3", _bits(_USAGES)),
    "2.5.29.17": (
        "subjectAltName",
        "The names it is for: one must be the name called.",
        "5280 §4.2.1.6",
        _general_names,
    ),
    "2.5.29.19": ("basicConstraints", "Whether it may issue certificates.", "5280 §4.2.1.9", _basic_constraints),
    "2.5.29.30": ("nameConstraints", "For which names it may issue.", "5280 §4.2.1.10", None),
    "2.5.29.31": ("cRLDistributionPoints", "Where the list of revoked ones is.", "5280 §4.2.1.13", None),
    "2.5.29.32": ("certificatePolicies", "Under which rules it was issued.", "5280 §4.2.1.4", None),
    "2.5.29.35": ("authorityKeyIdentifier", "A short name of the issuer's key.", "5280 §4.2.1.1", _key_identifier),
    "2.5.29.37": ("extKeyUsage", "For which purposes it may be used.", "5280 §4.2.1.12", _purposes),
    "1.3.6.1.5.5.7.1.1": ("authorityInfoAccess", "Where the issuer and its OCSP responder are.", "5280 §4.2.2.1", None),
    "1.3.6.1.5.5.7.1.24": ("tlsFeature", "What a server must send with it (must-staple).", "7633 §4.2.1", None),
    "1.3.6.1.4.1.11129.2.4.2": ("SCT list", "Proofs that it is publicly logged.", "6962 §3.3", None),
}
"""extension → its name, what it is for, its section, how its value is told"""
