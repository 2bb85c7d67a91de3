"""Record protection's plain pieces (RFC 9846 §5.2-§5.4), which the hot loops in reader and writer equal."""

from __future__ import annotations

from typing import Final

from pellucid.errors import UnexpectedMessage
from pellucid.schedule import TrafficSecret

HEADER_PREFIX: Final = b"\x17\x03\x03"
"""opaque_type and legacy_record_version of every protected record"""
HEADERS: Final = tuple(HEADER_PREFIX + length.to_bytes(2, "big") for length in range(1024))
"""length → the header of a protected record that long: looked up for a tenth of what making it takes"""


def record_nonce(iv: bytes, sequence: int) -> bytes:
    """Return the per-record nonce: *iv* XOR *sequence* (RFC 9846 §5.3).

    iv:        12 bytes, from HKDF-Expand-Label(secret, "iv", "", 12).
    sequence:  records already protected with this key; 0 <= sequence < 2**64.
    returns:   12 bytes, unique for this key.
    """
    return (int.from_bytes(iv, "big") ^ sequence).to_bytes(12, "big")


def record_header(length: int) -> bytes:
    """Return the 5-byte header, and additional data, of a protected record of *length* bytes (RFC 9846 §5.2)."""
    return HEADER_PREFIX + length.to_bytes(2, "big")


def split_inner_plaintext(inner: bytes) -> tuple[int, bytes]:
    """Return content type and content of a TLSInnerPlaintext (RFC 9846 §5.4). UnexpectedMessage if it is all zeros."""
    content = inner.rstrip(b"\0")
    if not content:
        raise UnexpectedMessage("a record without a content type", rfc="9846 §5.4")
    return content[-1], content[:-1]


class Keys:
    """What one direction protects records with: the AEAD, the IV as a number, and how many records it has done.

    encrypt, decrypt: the AEAD's, looked up once.
    """

    __slots__ = ("aead", "decrypt", "encrypt", "iv", "secret", "sequence", "tag_length")

    def __init__(self, secret: TrafficSecret) -> None:
        suite = secret.suite
        key, iv = secret.key_and_iv()
        self.secret = secret
        self.aead = aead = suite.aead(key)
        self.encrypt = aead.encrypt
        self.decrypt = aead.decrypt
        self.iv = int.from_bytes(iv, "big")
        self.sequence = 0
        self.tag_length = suite.tag_length
