"""What a CertID hashes, how an OCSP response was signed: parts of DER that pyca/cryptography has parsed first.

Nothing is judged. What is no DER raises ValueError, as upstream's parser does.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final, NamedTuple

from pellucid.crypto.der import BIT_STRING, SEQUENCE, SPKI, Element, certificate_fields, elements, inside

_OCTET_STRING: Final = 0x04
_EXPLICIT_0: Final = 0xA0
_EXPLICIT_1: Final = 0xA1
_CRITICAL: Final = b"\x01\x01\xff"


class IssuerIdentity(NamedTuple):
    """What a CertID hashes (RFC 6960 §4.1.1): the issuer's name as DER, and the bits of its key without their tag."""

    name: bytes
    key: bytes


def issuer_identity(child: bytes, issuer: bytes) -> IssuerIdentity:
    """Return how a CertID for *child* names *issuer*; both are certificates as DER."""
    return IssuerIdentity(certificate_fields(child)[2].encoding, key_bits(issuer))


def key_bits(certificate: bytes) -> bytes:
    """Return the bits of *certificate*'s public key, without tag, length and the count of unused bits."""
    bits = list(elements(certificate_fields(certificate)[SPKI].content))[1]
    if bits.tag != BIT_STRING:
        raise ValueError("a public key is not a BIT STRING")
    return bits.content[1:]


def response_algorithm(response: bytes) -> bytes:
    """Return the AlgorithmIdentifier, DER, that an OCSPResponse with a basic response is signed with (§4.2.1)."""
    wrapped = _first(inside(response), _EXPLICIT_0)
    octets = _first(inside(wrapped.content), _OCTET_STRING)
    return inside(octets.content)[1].encoding


def with_critical_extension(response_data: bytes, numbers: Container[int]) -> frozenset[int]:
    """Return which of the SingleResponses *numbers* of a ResponseData have a critical extension (RFC 6960 §4.4)."""
    responses = _first(inside(response_data), SEQUENCE)
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
