"""Signed certificate timestamps (RFC 6962 §3.2, §3.3): read and shown, not verified, for no list of logs is kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pellucid.errors import DecodeError
from pellucid.wire import WireStruct, fixed, mapped, opaque, u8, vector, wire, wire_struct

_V1: Final = 0
_U64: Final = mapped(
    fixed(8), lambda data: int.from_bytes(data, "big"), lambda value: value.to_bytes(8, "big"), "uint64"
)


@wire_struct
class SignedCertificateTimestamp(WireStruct):
    """A log's promise to publish a certificate (RFC 6962 §3.2).

    version:   0, which is v1.
    log_id:    32 bytes, SHA-256 of the log's key.
    timestamp: milliseconds since 1970, UTC.
    hash_algorithm, signature_algorithm: of TLS 1.2 (RFC 5246 §7.4.1.4.1): 4 is SHA-256, 3 ECDSA, 1 RSA.
    """

    version: int = wire(u8)
    log_id: bytes = wire(fixed(32))
    timestamp: int = wire(_U64)
    extensions: bytes = wire(opaque(0, 2**16 - 1))
    hash_algorithm: int = wire(u8)
    signature_algorithm: int = wire(u8)
    signature: bytes = wire(opaque(0, 2**16 - 1))

    def to_dict(self) -> dict[str, object]:
        """Return what tells one from another, for JSON."""
        return {"log_id": self.log_id.hex(), "timestamp": self.timestamp}


_LIST: Final = vector(opaque(1, 2**16 - 1), 1, 2**16 - 1)


def parse_sct_list(data: bytes) -> tuple[bytes, ...]:
    """Return the SerializedSCTs of a SignedCertificateTimestampList (RFC 6962 §3.3); raises DecodeError."""
    return _LIST.decode_all(data, "SignedCertificateTimestampList")


def parse_sct(data: bytes) -> SignedCertificateTimestamp:
    """Return the SCT that one SerializedSCT holds. Raises DecodeError, also for a version other than v1."""
    if data and data[0] != _V1:
        raise DecodeError(f"SignedCertificateTimestamp: version {data[0] + 1}, only v1 is known", rfc="6962 §3.2")
    return SignedCertificateTimestamp.decode(data)


def readable_scts(serialized: Iterable[bytes]) -> tuple[SignedCertificateTimestamp, ...]:
    """Return those that can be read: others are of versions to come, which nobody has to know (RFC 6962 §3.3)."""
    found: list[SignedCertificateTimestamp] = []
    for data in serialized:
        try:
            found.append(parse_sct(data))
        except DecodeError:
            continue
    return tuple(found)
