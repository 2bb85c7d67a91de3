"""One TCP connection as packets (RFC 791, RFC 8200, RFC 9293), made up around the bytes that really went over it.

Addresses, ports, first sequence numbers and opening packets are the true ones where they were seen. The rest is made:
each record is a segment of its own, none is lost, none comes twice, and each acknowledges all that came before it.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import Final, NamedTuple

from pellucid.trace import TcpInfo, TcpPacket

__all__ = ["Endpoint", "Flow"]

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
_TCP: Final = 6
_HOPS: Final = 64
_WINDOW: Final = 0xFFFF
_SCALE: Final = 7
_MODULUS: Final = 2**32
_MAX_SEGMENT: Final = 0xFFFF - 40 - 60
_DEFAULT_MSS: Final = {4: 1460, 6: 1440}


class Endpoint(NamedTuple):
    address: str
    port: int


class Flow:
    """Both directions of one connection. Sequence numbers count from 0 where the true ones were not seen."""

    def __init__(self, client: Endpoint, server: Endpoint, *, info: TcpInfo | None = None) -> None:
        addresses = _address(client.address), _address(server.address)
        if addresses[0].version != addresses[1].version:  # an IPv4 peer of an IPv6 socket
            addresses = ipaddress.ip_address(_mapped(addresses[0])), ipaddress.ip_address(_mapped(addresses[1]))
        self._version = addresses[0].version
        self._addresses = addresses[0].packed, addresses[1].packed
        self._ports = client.port, server.port
        self._info = info
        self._next = [0, 0]
        self._numbers = 0

    def opening(self, packets: tuple[tuple[bool, TcpPacket], ...]) -> list[bytes]:
        """Return SYN, SYN-ACK and ACK: as seen where they were, else made. packets: (from the client, packet)."""
        seen = {(to_server, packet.flags): packet for to_server, packet in packets}
        syn = seen.get((True, ("SYN",)))
        syn_ack = seen.get((False, ("SYN", "ACK")))
        ack = seen.get((True, ("ACK",)))
        if syn is not None:
            self._next[0] = syn.sequence
        if syn_ack is not None:
            self._next[0] = (syn_ack.acknowledgment - 1) % _MODULUS
            self._next[1] = syn_ack.sequence
        made = []
        for to_server, packet, flags in ((True, syn, SYN), (False, syn_ack, SYN | ACK), (True, ack, ACK)):
            options = b"" if flags == ACK else self._options()
            made.append(
                self._packet(b"", flags, to_server=to_server, options=options) if packet is None else packet.raw
            )
            if flags & SYN:
                side = 0 if to_server else 1
                self._next[side] = (self._next[side] + 1) % _MODULUS
        return made

    def data(self, payload: bytes, *, to_server: bool) -> list[bytes]:
        """Return the segments of *payload*: one, unless it is too long for a packet."""
        made = []
        for start in range(0, len(payload), _MAX_SEGMENT):
            piece = payload[start : start + _MAX_SEGMENT]
            made.append(self._packet(piece, PSH | ACK, to_server=to_server))
            self._advance(len(piece), to_server=to_server)
        return made

    def end(self, *, to_server: bool, reset: bool = False) -> bytes:
        """Return the FIN of one direction, or its RST."""
        made = self._packet(b"", (RST if reset else FIN) | ACK, to_server=to_server)
        self._advance(1, to_server=to_server)
        return made

    def _advance(self, count: int, *, to_server: bool) -> None:
        side = 0 if to_server else 1
        self._next[side] = (self._next[side] + count) % _MODULUS

    def _options(self) -> bytes:
        """Return what a SYN offers: the segment size, SACK, and how windows are scaled (RFC 9293, 2018, 7323)."""
        size = _DEFAULT_MSS[self._version] if self._info is None else self._info.send_mss
        return struct.pack(">BBH", 2, 4, size & 0xFFFF) + b"\x04\x02" + bytes((1, 1, 1, 3, 3, _SCALE))

    def _packet(self, payload: bytes, flags: int, *, to_server: bool, options: bytes = b"") -> bytes:
        here, there = (0, 1) if to_server else (1, 0)
        acknowledged = self._next[there] if flags & ACK else 0
        size = 20 + len(options)
        header = struct.pack(
            ">HHIIBBHHH",
            self._ports[here],
            self._ports[there],
            self._next[here],
            acknowledged,
            size // 4 << 4,
            flags,
            _WINDOW,
            0,
            0,
        )
        source, destination = self._addresses[here], self._addresses[there]
        whole = header + options + payload
        pseudo = source + destination + struct.pack(">II" if self._version == 6 else ">HH", *self._length(len(whole)))
        whole = whole[:16] + _checksum(pseudo + whole).to_bytes(2, "big") + whole[18:]
        return self._internet_header(len(whole), source, destination) + whole

    def _length(self, size: int) -> tuple[int, int]:
        return (size, _TCP) if self._version == 6 else (_TCP, size)

    def _internet_header(self, size: int, source: bytes, destination: bytes) -> bytes:
        if self._version == 6:
            return struct.pack(">IHBB", 6 << 28, size, _TCP, _HOPS) + source + destination
        self._numbers = (self._numbers + 1) & 0xFFFF
        header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, self._numbers, 0x4000, _HOPS, _TCP, 0)
        header += source + destination
        return header[:10] + _checksum(header).to_bytes(2, "big") + header[12:]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address; an IPv4 one that an IPv6 socket calls by a longer name as IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def _mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return f"::ffff:{address}" if address.version == 4 else str(address)


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    # The sum of all 16-bit words, carries added: what is left modulo 2^16 - 1, but 0 only for nothing but zeros.
    total = int.from_bytes(data, "big") % 0xFFFF
    return 0xFFFF ^ (total or (0xFFFF if any(data) else 0))
