"""The runner's own certificate compression: three algorithms that compress nothing, and can be wrong in their ways."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from pellucid.crypto.compression import CertificateCompression
from tests.conformance.flags import Flags


@dataclass(frozen=True)
class Shrinking:
    """Leaves out the two zeros that a Certificate begins with: its empty context, and its length's first byte."""

    code: int = 0xFF01
    name: str = "shrinking"

    def compress(self, data: bytes) -> bytes | None:
        return data.removeprefix(b"\0\0")

    def decompress(self, data: bytes, length: int) -> bytes:
        return b"\0\0" + data


@dataclass(frozen=True)
class Expanding:
    """Puts four bytes before it."""

    code: int = 0xFF02
    name: str = "expanding"

    def compress(self, data: bytes) -> bytes | None:
        return b"\x01\x02\x03\x04" + data

    def decompress(self, data: bytes, length: int) -> bytes:
        if not data.startswith(b"\x01\x02\x03\x04"):
            raise ValueError("it does not begin with 1, 2, 3, 4")
        return data[4:]


@dataclass(frozen=True)
class Random:
    """Puts a random byte before it."""

    code: int = 0xFF03
    name: str = "random"

    def compress(self, data: bytes) -> bytes | None:
        return secrets.token_bytes(1) + data

    def decompress(self, data: bytes, length: int) -> bytes:
        return data[1:]


ALGORITHMS: Final[tuple[CertificateCompression, ...]] = (Expanding(), Shrinking(), Random())
"""in the shim's order of preference"""


def compressions(flags: Flags) -> tuple[CertificateCompression, ...]:
    """Return the algorithms that the flags install."""
    if flags.install_cert_compression_algs:
        return ALGORITHMS
    return tuple(one for one in ALGORITHMS if one.code == flags.install_one_cert_compression_alg)
