"""What a TLS process and the process that holds its keys say to each other over a Unix socket.

A frame is kind (1 byte), length (3 bytes), body. The TLS process asks, one thing at a time; each question has one
answer. The shape is that of ssh-agent's protocol, the notation that of RFC 9846 §3.
"""

from __future__ import annotations

import enum
from typing import Final

from pellucid.errors import DecodeError
from pellucid.wire import WireStruct, fixed, opaque, u16, uint_vector, vector, wire, wire_struct

__all__ = [
    "HEADER",
    "MAX_BODY",
    "Identities",
    "Identity",
    "Kind",
    "Refusal",
    "SignRequest",
    "Signed",
    "frame",
    "header",
]

HEADER: Final = 4
MAX_BODY: Final = 2**15
"""bytes of a body that either end looks at: some 400 keys, and far more than any signature"""


class Kind(enum.IntEnum):
    """What a frame is."""

    LIST = 1
    IDENTITIES = 2
    SIGN = 3
    SIGNED = 4
    REFUSED = 5


@wire_struct
class Identity(WireStruct):
    """A key that the agent signs with. key: SHA-256 of its SubjectPublicKeyInfo; schemes: preferred first."""

    key: bytes = wire(fixed(32))
    schemes: tuple[int, ...] = wire(uint_vector(2, 2, 254))


@wire_struct
class Identities(WireStruct):
    """All keys of the agent."""

    identities: tuple[Identity, ...] = wire(vector(Identity.codec, 0, MAX_BODY - 2))


@wire_struct
class SignRequest(WireStruct):
    """Sign *data* (not a digest): what a CertificateVerify signs, and nothing else (RFC 9846 §4.5.2)."""

    key: bytes = wire(fixed(32))
    scheme: int = wire(u16)
    data: bytes = wire(opaque(1, 255))


@wire_struct
class Signed(WireStruct):
    """The signature."""

    signature: bytes = wire(opaque(1, MAX_BODY - 2))


@wire_struct
class Refusal(WireStruct):
    """Why there is none, UTF-8."""

    reason: bytes = wire(opaque(0, 255))


def frame(kind: Kind, body: bytes = b"") -> bytes:
    """Return the frame."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def header(data: bytes) -> tuple[Kind, int]:
    """Return what follows: its kind, and bytes of body. data: HEADER bytes. Raises DecodeError."""
    length = int.from_bytes(data[1:HEADER], "big")
    if length > MAX_BODY:
        raise DecodeError(f"a frame of {length} bytes; {MAX_BODY} are allowed", rfc="9846 §3.4")
    try:
        return Kind(data[0]), length
    except ValueError:
        raise DecodeError(f"a frame of kind {data[0]}", rfc="9846 §3.4") from None
