"""oid_filters: which extensions, with which values, a server wants in the client's certificate (RFC 9846 §4.3.5).

Key Usage and Extended Key Usage have rules; every other extension is not recognized, and passed over as told there.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pellucid.config import Credential
from pellucid.errors import DecodeError, IllegalParameter
from pellucid.messages.extensions import OIDFilter

# DER, with tag and length
KEY_USAGE: Final = bytes.fromhex("0603551d0f")
EXTENDED_KEY_USAGE: Final = bytes.fromhex("0603551d25")
ANY_EXTENDED_KEY_USAGE: Final = bytes.fromhex("0604551d2500")
_BIT_STRING: Final = 0x03
_OBJECT_IDENTIFIER: Final = 0x06
_SEQUENCE: Final = 0x30


class Wanted(NamedTuple):
    """What the filters ask for. key_usage: bits, the first one highest, as in DER; purposes: OIDs in DER."""

    key_usage: bytes | None
    purposes: frozenset[bytes] | None


def read_filters(filters: tuple[OIDFilter, ...]) -> Wanted:
    """Return what is wanted of the extensions that are recognized (RFC 9846 §4.3.5).

    Raises IllegalParameter for an OID that is there twice, and for anyExtendedKeyUsage; DecodeError for values that are
    not what their extension holds.
    """
    found: dict[bytes, bytes] = {}
    for one in filters:
        if one.certificate_extension_oid in found:
            raise IllegalParameter("oid_filters has an OID twice", rfc="9846 §4.3.5")
        found[one.certificate_extension_oid] = one.certificate_extension_values
    usage, purposes = found.get(KEY_USAGE), found.get(EXTENDED_KEY_USAGE)
    wanted = Wanted(
        None if usage is None else key_usage_bits(usage), None if purposes is None else key_purposes(purposes)
    )
    if wanted.purposes is not None and ANY_EXTENDED_KEY_USAGE in wanted.purposes:
        raise IllegalParameter("oid_filters asks for anyExtendedKeyUsage", rfc="9846 §4.3.5")
    return wanted


def satisfies(credential: Credential, filters: tuple[OIDFilter, ...]) -> bool:
    """Return whether the end-entity certificate has all that is wanted; it may have more. Raises as `read_filters`."""
    if not filters:
        return True
    usage, purposes = read_filters(filters)
    if usage is not None:
        has = credential.extension("2.5.29.15")
        if has is None or not _all_bits(usage, key_usage_bits(has)):
            return False
    if purposes is not None:
        listed = credential.extension("2.5.29.37")
        if listed is None or not purposes <= key_purposes(listed):
            return False
    return True


def _all_bits(wanted: bytes, has: bytes) -> bool:
    has = has.ljust(len(wanted), b"\0")
    return all(want & have == want for want, have in zip(wanted, has, strict=False))


def key_usage_bits(der: bytes) -> bytes:
    """Return the bits of a KeyUsage in DER, the first one highest, without those that are unused."""
    tag, content, rest = _element(der)
    if tag != _BIT_STRING or rest or not content or content[0] > 7 or (content[0] and len(content) == 1):
        raise DecodeError("not a KeyUsage", rfc="9846 §4.3.5")
    bits = bytearray(content[1:])
    if bits:
        bits[-1] &= 0xFF << content[0] & 0xFF
    return bytes(bits)


def key_purposes(der: bytes) -> frozenset[bytes]:
    """Return the OIDs of an ExtendedKeyUsage in DER, each in DER."""
    tag, content, rest = _element(der)
    if tag != _SEQUENCE or rest:
        raise DecodeError("not an ExtendedKeyUsage", rfc="9846 §4.3.5")
    found: set[bytes] = set()
    while content:
        tag, _, rest = _element(content)
        if tag != _OBJECT_IDENTIFIER:
            raise DecodeError("an ExtendedKeyUsage of other things than OIDs", rfc="9846 §4.3.5")
        found.add(content[: len(content) - len(rest)])
        content = rest
    return frozenset(found)


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Return tag and content of the first DER element, and what follows it."""
    if len(der) < 2:
        raise DecodeError("DER is cut short", rfc="9846 §4.3.5")
    length, start = der[1], 2
    if length >= 0x80:
        size = length & 0x7F
        start = 2 + size
        length = int.from_bytes(der[2:start], "big")
        if not 1 <= size <= 2 or len(der) < start or length < 0x80 or (size == 2 and length < 0x100):
            raise DecodeError("a DER length that is not the shortest, or too long", rfc="9846 §4.3.5")
    if len(der) < start + length:
        raise DecodeError("DER is cut short", rfc="9846 §4.3.5")
    return der[0], der[start : start + length], der[start + length :]
