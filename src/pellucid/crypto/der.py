"""The little DER that pyca/cryptography does not give out, to find parts again of what it has parsed.

Nothing is judged. What is no DER raises ValueError, as upstream's parser does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

SEQUENCE: Final = 0x30
BIT_STRING: Final = 0x03
_EXPLICIT_0: Final = 0xA0
SPKI: Final = 5
"""subjectPublicKeyInfo among a certificate's fields"""


class Element(NamedTuple):
    """One DER element. encoding: all of it; content: without tag and length."""

    tag: int
    content: bytes
    encoding: bytes


def elements(data: bytes) -> Iterator[Element]:
    """Yield the elements that stand in *data* one after the other. Raises ValueError where it is no DER."""
    at, size = 0, len(data)
    while at < size:
        start = at + 2
        if start > size or data[at] & 0x1F == 0x1F:
            raise ValueError("not a DER element with a tag of one byte")
        length = data[at + 1]
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[start : start + count], "big")
            start += count
            if not 1 <= count <= 4 or length < 0x80:
                raise ValueError("not a DER length")
        after = start + length
        if after > size:
            raise ValueError("a DER element ends too early")
        yield Element(data[at], data[start:after], data[at:after])
        at = after


def inside(data: bytes) -> list[Element]:
    """Return the elements of the single constructed element that *data* is."""
    whole = list(elements(data))
    if len(whole) != 1:
        raise ValueError(f"{len(whole)} DER elements where one should be")
    return list(elements(whole[0].content))


def certificate_fields(certificate: bytes) -> list[Element]:
    """Return serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo (RFC 5280 §4.1)."""
    return _fields(inside(certificate)[0])


def tbs_fields(tbs_certificate: bytes) -> list[Element]:
    """Return the same of a TBSCertificate."""
    return _fields(next(elements(tbs_certificate)))


def _fields(tbs: Element) -> list[Element]:
    fields = list(elements(tbs.content))
    return fields[1:7] if fields[0].tag == _EXPLICIT_0 else fields[:6]
