"""JA4, a fingerprint of what a client offers: the same program offers the same, whoever uses it (FoxIO's JA4).

The ClientHello is read as it stands, without our rules: a hello that the handshake refuses has a fingerprint too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pellucid.messages.handshake import ClientHello
from pellucid.registry import ExtensionType, is_grease

__all__ = ["Ja4", "ja4"]

_VERSIONS: Final = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
    0xFEFF: "d1",
    0xFEFD: "d2",
    0xFEFC: "d3",
}
_COUNTED_IN_A: Final = frozenset({ExtensionType.SERVER_NAME, ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION})
_NOTHING: Final = "000000000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ja4:
    """The parts of a fingerprint. Lists are in the order sent, without GREASE (RFC 8701), as four hex digits each.

    a: transport, version, "d" if a server name was sent and "i" if not, both counts, ALPN: "t13d1516h2".
    """

    a: str
    suites: tuple[str, ...]
    extensions: tuple[str, ...]
    signature_schemes: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """JA4: suites and extensions sorted, so that a client that shuffles them stays the same."""
        return f"{self.a}_{_digest(self._sorted_suites)}_{_digest(self._sorted_rest)}"

    @property
    def raw(self) -> str:
        """JA4_r: what JA4 hashes, in full."""
        return f"{self.a}_{self._sorted_suites}_{self._sorted_rest}"

    @property
    def original(self) -> str:
        """JA4_o: hashed in the order sent, server_name and ALPN with the others."""
        return f"{self.a}_{_digest(','.join(self.suites))}_{_digest(self._original_rest)}"

    @property
    def original_raw(self) -> str:
        """JA4_ro: what JA4_o hashes, in full."""
        return f"{self.a}_{','.join(self.suites)}_{self._original_rest}"

    @property
    def _sorted_suites(self) -> str:
        return ",".join(sorted(self.suites))

    @property
    def _sorted_rest(self) -> str:
        counted = {f"{code:04x}" for code in _COUNTED_IN_A}
        return self._with_schemes(sorted(code for code in self.extensions if code not in counted))

    @property
    def _original_rest(self) -> str:
        return self._with_schemes(self.extensions)

    def _with_schemes(self, extensions: Iterable[str]) -> str:
        listed = ",".join(extensions)
        return f"{listed}_{','.join(self.signature_schemes)}" if self.signature_schemes else listed

    def to_dict(self) -> dict[str, object]:
        """Return the fingerprint for JSON, by the names that other programs use."""
        return {"ja4": self.fingerprint, "ja4_r": self.raw, "ja4_o": self.original, "ja4_ro": self.original_raw}


def ja4(hello: ClientHello, *, transport: str = "t") -> Ja4:
    """Return the fingerprint of *hello*; never raises. transport: "t" for TLS over TCP, "q" for QUIC, "d" for DTLS."""
    bodies = dict(reversed(hello.extensions))
    suites = _hex(hello.cipher_suites)
    extensions = _hex(code for code, _data in hello.extensions)
    versions = _known(_u16s(bodies.get(ExtensionType.SUPPORTED_VERSIONS, b"")[1:]))
    version = _VERSIONS.get(max(versions, default=hello.legacy_version), "00")
    name = "d" if ExtensionType.SERVER_NAME in bodies else "i"
    protocol = _ends(_first_protocol(bodies.get(ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, b"")))
    return Ja4(
        a=f"{transport}{version}{name}{_count(suites)}{_count(extensions)}{protocol}",
        suites=suites,
        extensions=extensions,
        signature_schemes=_hex(_u16s(bodies.get(ExtensionType.SIGNATURE_ALGORITHMS, b"")[2:])),
    )


def _known(codes: Iterable[int]) -> tuple[int, ...]:
    return tuple(code for code in codes if not is_grease(code))


def _hex(codes: Iterable[int]) -> tuple[str, ...]:
    return tuple(f"{code:04x}" for code in _known(codes))


def _u16s(data: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data) - 1, 2))


def _count(codes: tuple[str, ...]) -> str:
    return f"{min(len(codes), 99):02}"


def _first_protocol(data: bytes) -> bytes:
    return data[3 : 3 + data[2]] if len(data) > 2 else b""


def _ends(protocol: bytes) -> str:
    """Return the first and the last character; of the bytes in hex if either is not a letter or a digit."""
    if not protocol:
        return "00"
    ends = protocol[:1] + protocol[-1:]
    if ends.isalnum():  # of bytes: ASCII alone
        return ends.decode("ascii")
    digits = protocol.hex()
    return digits[0] + digits[-1]


def _digest(listed: str) -> str:
    return hashlib.sha256(listed.encode("ascii")).hexdigest()[:12] if listed else _NOTHING
