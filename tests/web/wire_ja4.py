"""JA4 of a ClientHello from a captured TCP stream, by nothing of ours: the records are read here, with struct alone.

As https://github.com/FoxIO-LLC/ja4 describes it: `t13d1516h2_8daaf6152771_02713d6af862`.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple


class Hello(NamedTuple):
    """message: with its header; extensions: (type, data) in the order of the wire."""

    message: bytes
    random: bytes
    suites: tuple[int, ...]
    extensions: tuple[tuple[int, bytes], ...]

    def extension(self, number: int) -> bytes | None:
        return next((data for kind, data in self.extensions if kind == number), None)


def client_hello(stream: bytes) -> Hello:
    """Return the first handshake message of *stream*, which is plaintext records."""
    handshake = b""
    at = 0
    while len(handshake) < 4 or len(handshake) < 4 + int.from_bytes(handshake[1:4], "big"):
        kind, _version, size = struct.unpack_from(">BHH", stream, at)
        assert kind == 22
        handshake += stream[at + 5 : at + 5 + size]
        at += 5 + size
    message = handshake[: 4 + int.from_bytes(handshake[1:4], "big")]
    assert message[0] == 1
    at = 4 + 2 + 32
    at += 1 + message[at]
    (size,) = struct.unpack_from(">H", message, at)
    suites = struct.unpack_from(f">{size // 2}H", message, at + 2)
    at += 2 + size
    at += 1 + message[at]
    (size,) = struct.unpack_from(">H", message, at)
    at += 2
    end = at + size
    assert end == len(message)
    extensions = []
    while at < end:
        kind, size = struct.unpack_from(">HH", message, at)
        extensions.append((kind, message[at + 4 : at + 4 + size]))
        at += 4 + size
    return Hello(message, message[6:38], suites, tuple(extensions))


def is_grease(number: int) -> bool:
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def ja4(hello: Hello) -> str:
    suites = [one for one in hello.suites if not is_grease(one)]
    kinds = [kind for kind, _ in hello.extensions if not is_grease(kind)]
    versions = hello.extension(43) or b"\0"
    known = [one for one in struct.unpack(f">{versions[0] // 2}H", versions[1:]) if not is_grease(one)]
    version = {0x0304: "13", 0x0303: "12"}[max(known)]
    protocols = hello.extension(16)
    first = b"" if protocols is None else protocols[3 : 3 + protocols[2]]
    alpn = "00" if not first else f"{chr(first[0])}{chr(first[-1])}"
    name = "d" if 0 in kinds else "i"
    schemes = hello.extension(13) or b"\0\0"
    listed = [one for one in struct.unpack(f">{(len(schemes) - 2) // 2}H", schemes[2:]) if not is_grease(one)]
    sorted_kinds = sorted(kind for kind in kinds if kind not in (0, 16))
    rest = _hexes(sorted_kinds) + ("_" + ",".join(f"{one:04x}" for one in listed) if listed else "")
    head = f"t{version}{name}{min(len(suites), 99):02}{min(len(kinds), 99):02}{alpn}"
    return f"{head}_{_hash(_hexes(sorted(suites)))}_{_hash(rest)}"


def _hexes(numbers: list[int]) -> str:
    return ",".join(f"{one:04x}" for one in numbers)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
