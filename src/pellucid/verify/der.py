"""The little DER that pyca/cryptography does not give out: what a CertID hashes, how an OCSP response was signed.

Certificates and responses are parsed by pyca/cryptography first; here only parts of them are found again. Nothing is
judged. What is no DER raises ValueError, as upstream's parser does.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final, NamedTuple

_SEQUENCE: Final = 0x30
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_EXPLICIT_0: Final = 0xA0
_EXPLICIT_1: Final = 0xA1
_CRITICAL: Final = b"\x01\x01\xff"


class Element(NamedTuple):
    """One DER element. encoding: all of it; content: without tag and length."""

    tag: int
    content: bytes
    encoding: bytes


class IssuerIdentity(NamedTuple):
    """What a CertID hashes (RFC 6960 §4.1.1): the issuer's name as DER, and the bits of its key without their tag."""

    name: bytes
    key: bytes


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


def issuer_identity(child: bytes, issuer: bytes) -> IssuerIdentity:
    """Return how a CertID for *child* names *issuer*; both are certificates as DER."""
    return IssuerIdentity(_fields(child)[2].encoding, key_bits(issuer))


def key_bits(certificate: bytes) -> bytes:
    """Return the bits of *certificate*'s public key, without tag, length and the count of unused bits."""
    bits = list(elements(_fields(certificate)[5].content))[1]
    if bits.tag != _BIT_STRING:
        raise ValueError("a public key is not a BIT STRING")
    return bits.content[1:]


def response_algorithm(response: bytes) -> bytes:
    """Return the AlgorithmIdentifier, DER, that an OCSPResponse with a basic response is signed with (§4.2.1)."""
    wrapped = _first(inside(response), _EXPLICIT_0)
    octets = _first(inside(wrapped.content), _OCTET_STRING)
    return inside(octets.content)[1].encoding


def with_critical_extension(response_data: bytes, numbers: Container[int]) -> frozenset[int]:
    """Return which of the SingleResponses *numbers* of a ResponseData have a critical extension (RFC 6960 §4.4)."""
    responses = _first(inside(response_data), _SEQUENCE)
    return frozenset(
        number
        for number, single in enumerate(elements(responses.content))
        if number in numbers
        # certID, certStatus, thisUpdate; then [0] nextUpdate and [1] singleExtensions, if there are any.
        for part in list(elements(single.content))[3:]
        if part.tag == _EXPLICIT_1 and any(map(_is_critical, inside(part.content)))
    )


def _first(parts: list[Element], tag: int) -> Element:
    for part in parts:
        if part.tag == tag:
            return part
    raise ValueError(f"no element with the tag {tag:#04x}")


def _is_critical(extension: Element) -> bool:
    return any(part.encoding == _CRITICAL for part in elements(extension.content))


def _fields(certificate: bytes) -> list[Element]:
    """Return serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo (RFC 5280 §4.1)."""
    fields = inside(inside(certificate)[0].encoding)
    return fields[1:7] if fields[0].tag == _EXPLICIT_0 else fields[:6]
