"""How what is kept of a connection is written down: the codecs that client sessions and server sessions have in common.

Nothing here comes from a peer; still every bound is checked, since files get damaged.
"""

from __future__ import annotations

from typing import Final

from pellucid.errors import DecodeError, UsageError
from pellucid.wire import fixed, mapped, opaque, vector

_MICROSECONDS: Final = 1_000_000


def _load_time(raw: bytes) -> float:
    return int.from_bytes(raw, "big") / _MICROSECONDS


def _dump_time(seconds: float) -> bytes:
    try:
        return round(seconds * _MICROSECONDS).to_bytes(8, "big")
    except (OverflowError, ValueError):
        raise UsageError(f"{seconds} is no time after 1970") from None


timestamp: Final = mapped(fixed(8), _load_time, _dump_time, "timestamp")
"""Seconds since 1970, kept to the microsecond: what was decoded encodes to the same bytes, however often."""


def _load_text(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8") or None
    except UnicodeDecodeError:
        raise DecodeError("a name that is not UTF-8") from None


def _dump_text(text: str | None) -> bytes:
    try:
        return (text or "").encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is not UTF-8") from None


name: Final = mapped(opaque(0, 255), _load_text, _dump_text, "name")
"""A server name or ALPN protocol; nothing: there was none."""

certificates: Final = vector(opaque(1, 2**24 - 1), 0, 2**24 - 1)
"""DER certificates, or one SubjectPublicKeyInfo."""

MAX_PSK: Final = 255
psk: Final = opaque(1, MAX_PSK)


def require_version(data: bytes, version: int, what: str) -> None:
    """Raise DecodeError if *data* does not begin with the byte *version*."""
    if data[:1] != bytes((version,)):
        raise DecodeError(f"{what}: not of format version {version}")
