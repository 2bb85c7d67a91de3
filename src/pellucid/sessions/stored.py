"""How what is kept of a connection is written down: the codecs that client sessions and server sessions have in common.

Nothing here comes from a peer; still every bound is checked, since files get damaged.
"""

from __future__ import annotations

from typing import Final

from pellucid.errors import DecodeError, UsageError
from pellucid.limits import MAX_TICKET_LIFETIME_SECONDS
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


def require_values(*, psk: bytes, lifetime_seconds: int, age_add: int, max_early_data_size: int) -> None:
    """Raise UsageError if one of what both kinds of session have is out of its range."""
    if not 1 <= len(psk) <= MAX_PSK:
        raise UsageError(f"a PSK has 1 to {MAX_PSK} bytes, not {len(psk)}")
    # RFC 9846 §4.7.1: no value greater than 7 days; zero would tell the client to discard it.
    if not 0 < lifetime_seconds <= MAX_TICKET_LIFETIME_SECONDS:
        raise UsageError(f"a ticket lives 1 to {MAX_TICKET_LIFETIME_SECONDS} seconds, not {lifetime_seconds}")
    if not 0 <= age_add < 2**32 or not 0 <= max_early_data_size < 2**32:
        raise UsageError("age_add and max_early_data_size have 32 bits")
