"""JA3 and JA3S, older fingerprints of hellos, which OpenTelemetry's conventions name. JA4 tells clients apart better.

A client that permutes its extensions, as browsers and Pellucid do, has another JA3 each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pellucid.messages.handshake import ClientHello, ServerHello
from pellucid.registry import ExtensionType, is_grease

__all__ = ["ja3", "ja3s"]

_POINT_FORMATS = 11


def ja3(hello: ClientHello) -> str:
    """Return the JA3 of *hello*, 32 hex digits; never raises."""
    bodies = dict(reversed(hello.extensions))
    groups = bodies.get(ExtensionType.SUPPORTED_GROUPS, b"")[2:]
    listed = (
        str(hello.legacy_version),
        _numbers(hello.cipher_suites),
        _numbers(code for code, _ in hello.extensions),
        _numbers(int.from_bytes(groups[at : at + 2], "big") for at in range(0, len(groups) - 1, 2)),
        _numbers(bodies.get(_POINT_FORMATS, b"")[1:]),
    )
    return _digest(",".join(listed))


def ja3s(hello: ServerHello) -> str:
    """Return the JA3S of *hello*, 32 hex digits; never raises."""
    extensions = _numbers(code for code, _ in hello.extensions)
    return _digest(f"{hello.legacy_version},{hello.cipher_suite},{extensions}")


def _numbers(codes: Iterable[int]) -> str:
    return "-".join(str(code) for code in codes if not is_grease(code))


def _digest(text: str) -> str:
    return hashlib.md5(text.encode("ascii"), usedforsecurity=False).hexdigest()
