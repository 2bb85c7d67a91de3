"""What a public page does not show of its own machine: the address that it has where it stands.

Who comes through a translator of addresses came to another one, and the inner one is nobody's business.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pellucid.explain.recorder import Recorder
from pellucid.trace import Direction, TcpConnected, TcpPacket, TraceEvent

__all__ = ["without_own_address"]

_ADDRESSES: Final = {4: (12, 4), 6: (8, 16)}
"""IP version → where the source address is in the header (RFC 791 §3.1, RFC 8200 §3), and how long; the destination
follows it"""


def without_own_address(recorder: Recorder) -> Recorder:
    """Return what was recorded up to now without the address of the end that recorded it."""
    return recorder.mapped(_masked)


def _masked(event: TraceEvent) -> TraceEvent:
    if isinstance(event, TcpConnected):
        return replace(event, local_address="")
    if isinstance(event, TcpPacket):
        return replace(event, raw=_masked_packet(event.raw, sent=event.direction is Direction.SENT))
    return event


def _masked_packet(raw: bytes, *, sent: bool) -> bytes:
    """Return an IP packet with zeros for one address; all zeros for what is none."""
    found = _ADDRESSES.get(raw[0] >> 4) if raw else None
    if found is None:
        return bytes(len(raw))
    source, size = found
    start = source if sent else source + size
    return (raw[:start] + bytes(size) + raw[start + size :])[: len(raw)]
