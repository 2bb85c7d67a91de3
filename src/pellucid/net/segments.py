"""IP and TCP headers, from bytes: hostile input, bounded work, None for what is not one."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from typing import Final

from pellucid.trace import Direction, TcpPacket

__all__ = ["Segment", "parse_segment"]

_TCP: Final = 6
# RFC 8200 §4: extension headers that may stand between IPv6 and TCP, all with (next header, length in 8 bytes - 1).
_EXTENSION_HEADERS: Final = frozenset((0, 43, 60, 135))
_MAX_EXTENSION_HEADERS: Final = 8
_FLAGS: Final = (
    ("SYN", 0x02),
    ("ACK", 0x10),
    ("FIN", 0x01),
    ("RST", 0x04),
    ("PSH", 0x08),
    ("ECE", 0x40),
    ("CWR", 0x80),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One TCP header with the addresses of the packet around it. tcp: the header's bytes, options included.

    payload_size: as the IP header says it, which may be more than was captured.
    """

    source: str
    source_port: int
    destination: str
    destination_port: int
    flags: tuple[str, ...]
    sequence: int
    acknowledgment: int
    window: int
    options: tuple[tuple[str, str], ...]
    payload_size: int
    tcp: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    def as_event(self, direction: Direction, *, source: str, seconds: float | None) -> TcpPacket:
        """Return the trace event. raw: the IP and TCP headers."""
        return TcpPacket(
            direction=direction,
            seconds=seconds,
            flags=self.flags,
            sequence=self.sequence,
            acknowledgment=self.acknowledgment,
            window=self.window,
            options=self.options,
            source=source,
            raw=self.raw,
        )


def parse_segment(packet: bytes) -> Segment | None:
    """Return the TCP segment in an IPv4 (RFC 791) or IPv6 (RFC 8200) packet, or None."""
    if not packet:
        return None
    version = packet[0] >> 4
    if version == 4:
        return _ipv4(packet)
    if version == 6:
        return _ipv6(packet)
    return None


def _ipv4(packet: bytes) -> Segment | None:
    header_size = (packet[0] & 15) * 4
    if len(packet) < 20 or header_size < 20 or packet[9] != _TCP:
        return None
    total, _identification, fragment = struct.unpack_from(">HHH", packet, 2)
    if fragment & 0x1FFF:  # not the first fragment: no TCP header in it
        return None
    source, destination = (socket.inet_ntop(socket.AF_INET, packet[at : at + 4]) for at in (12, 16))
    return _tcp(packet, header_size, total - header_size, source, destination)


def _ipv6(packet: bytes) -> Segment | None:
    if len(packet) < 40:
        return None
    (payload,) = struct.unpack_from(">H", packet, 4)
    following, at = packet[6], 40
    for _ in range(_MAX_EXTENSION_HEADERS):
        if following not in _EXTENSION_HEADERS:
            break
        if len(packet) < at + 2:
            return None
        following, at = packet[at], at + 8 + packet[at + 1] * 8
    if following != _TCP:
        return None
    source, destination = (socket.inet_ntop(socket.AF_INET6, packet[start : start + 16]) for start in (8, 24))
    return _tcp(packet, at, payload - (at - 40), source, destination)


def _tcp(packet: bytes, at: int, size: int, source: str, destination: str) -> Segment | None:
    """RFC 9293 §3.1. size: of header and payload, by the IP header."""
    if len(packet) < at + 20:
        return None
    ports_and_numbers = struct.unpack_from(">HHIIBBH", packet, at)
    source_port, destination_port, sequence, acknowledgment, offset, bits, window = ports_and_numbers
    header_size = (offset >> 4) * 4
    if header_size < 20 or len(packet) < at + header_size:
        return None
    return Segment(
        source=source,
        source_port=source_port,
        destination=destination,
        destination_port=destination_port,
        flags=tuple(name for name, bit in _FLAGS if bits & bit),
        sequence=sequence,
        acknowledgment=acknowledgment,
        window=window,
        options=_options(packet[at + 20 : at + header_size]),
        payload_size=max(0, size - header_size),
        tcp=packet[at : at + header_size],
        raw=packet[: at + header_size],
    )


def _options(raw: bytes) -> tuple[tuple[str, str], ...]:
    """Return the options by name (RFC 9293 §3.2, RFC 7323, RFC 2018, RFC 7413); a malformed rest is told as such."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(raw):
        kind = raw[at]
        if kind == 0:
            found.append(("end of options", ""))
            break
        if kind == 1:
            found.append(("no-operation", ""))
            at += 1
            continue
        size = raw[at + 1] if at + 1 < len(raw) else 0
        if size < 2 or at + size > len(raw):
            found.append(("malformed", raw[at:].hex()))
            break
        found.append(_option(kind, raw[at + 2 : at + size]))
        at += size
    return tuple(found)


def _option(kind: int, value: bytes) -> tuple[str, str]:
    size = len(value)
    if kind == 2 and size == 2:
        return "mss", str(int.from_bytes(value, "big"))
    if kind == 3 and size == 1:
        return "window scale", str(value[0])
    if kind == 4 and size == 0:
        return "SACK permitted", ""
    if kind == 5 and size % 8 == 0:
        edges = struct.unpack(f">{size // 4}I", value)
        return "SACK", " ".join(f"{left}-{right}" for left, right in zip(edges[::2], edges[1::2], strict=True))
    if kind == 8 and size == 8:
        return "timestamps", "{} {}".format(*struct.unpack(">II", value))
    if kind == 34:
        return "fast open cookie", value.hex()
    return f"option {kind}", value.hex()
