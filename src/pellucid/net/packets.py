"""The three packets that open a TCP connection, as they went over the wire: Linux's AF_PACKET, with CAP_NET_RAW.

Opened before the connect and only when somebody watches; a kernel filter passes nothing but the one peer's
headers, and what is read is bounded in packets, bytes and time. Without the capability: the reason why not.
"""

from __future__ import annotations

import ctypes
import errno
import select
import socket
import struct
import sys
import time
from typing import Final

from pellucid.net.eyeballs import Address
from pellucid.net.segments import Segment, parse_segment
from pellucid.trace import Direction, TcpPacket

__all__ = ["Capture", "socket_filter"]

_ETH_P_ALL: Final = 0x0003
_SO_ATTACH_FILTER: Final = 26
_SO_TIMESTAMPNS: Final = 35
_SNAP_LENGTH: Final = 256  # the largest IPv6 and TCP headers with room for extension headers
_MAX_READ: Final = 256
_MAX_KEPT: Final = 8
WAIT_SECONDS: Final = 0.1

# Classic BPF, linux/filter.h.
_LD_BYTE: Final = 0x30
_LD_HALF: Final = 0x28
_LD_WORD: Final = 0x20
_LD_HALF_AT_X: Final = 0x48
_LDX_IP_HEADER: Final = 0xB1  # X = 4 * (packet[k] & 15)
_AND: Final = 0x54
_JUMP_EQUAL: Final = 0x15
_JUMP_SET: Final = 0x45
_RETURN: Final = 0x06

_Instruction = tuple[int, int, str, str]
"""code, operand, and where to go if true and if false: a label, or "" for the next instruction"""


class Capture:
    """Watches for the opening of one connection to *address*. Close it."""

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self._socket = sock
        self._peer = (address.host.partition("%")[0], address.port)
        self._read = 0
        self._seen: list[tuple[int | None, Segment]] = []
        """with the kernel's time in nanoseconds since 1970"""

    @classmethod
    def open(cls, address: Address) -> Capture | str:
        """Start watching, before the connect. Returns the reason where it cannot be done."""
        if not sys.platform.startswith("linux"):
            return f"only Linux has AF_PACKET; this is {sys.platform}"
        try:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.htons(_ETH_P_ALL))
        except PermissionError as error:
            return f"needs CAP_NET_RAW: {error.strerror}"
        except OSError as error:
            return f"AF_PACKET: {error.strerror}"
        try:
            program = ctypes.create_string_buffer(socket_filter(address))
            fprog = struct.pack("@HP", (len(program) - 1) // 8, ctypes.addressof(program))
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
            if struct.calcsize("@l") == 8:
                sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        except OSError as error:
            sock.close()
            return f"AF_PACKET: {error.strerror}"
        capture = cls(sock, address)
        capture.poll(0)  # what slipped in before the filter was in place
        capture._read = 0
        return capture

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def wait(self, local_port: int, seconds: float = WAIT_SECONDS) -> bool:
        """Read until all three packets are there or *seconds* have gone by; return whether they are."""
        deadline = time.monotonic() + seconds
        while not self.poll(local_port):
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self._read >= _MAX_READ:
                return False
            waiting = select.poll()
            waiting.register(self._socket, select.POLLIN)
            waiting.poll(remaining * 1000)
        return True

    def poll(self, local_port: int) -> bool:
        """Read what waits, without waiting; return whether the ACK that ends the opening is there."""
        while not self._complete() and self._read < _MAX_READ:
            try:
                packet, ancillary, _flags, _sender = self._socket.recvmsg(_SNAP_LENGTH, 64)
            except OSError as error:
                if error.errno not in {errno.EAGAIN, errno.EINTR}:
                    self._read = _MAX_READ
                break
            self._read += 1
            segment = parse_segment(packet)
            if segment is not None and self._belongs(segment, local_port):
                self._seen.append((_timestamp(ancillary), segment))
        return self._complete()

    def events(self) -> tuple[TcpPacket, ...]:
        """Return what was seen, in order, with seconds since the first packet."""
        first = next((moment for moment, _segment in self._seen if moment is not None), None)
        return tuple(
            segment.as_event(
                self._direction(segment),
                source="AF_PACKET",
                seconds=None if moment is None or first is None else (moment - first) / 1e9,
            )
            for moment, segment in self._seen
        )

    def _complete(self) -> bool:
        if len(self._seen) >= _MAX_KEPT:
            return True
        return any(
            self._direction(segment) is Direction.SENT and "ACK" in segment.flags for _moment, segment in self._seen
        )

    def _direction(self, segment: Segment) -> Direction:
        to_peer = (segment.destination, segment.destination_port) == self._peer
        return Direction.SENT if to_peer else Direction.RECEIVED

    def _belongs(self, segment: Segment, local_port: int) -> bool:
        sent = (segment.destination, segment.destination_port, segment.source_port) == (*self._peer, local_port)
        received = (segment.source, segment.source_port, segment.destination_port) == (*self._peer, local_port)
        # On loopback, bridges and bonds the same packet passes the tap more than once.
        return (sent or received) and all(segment.raw != seen.raw for _moment, seen in self._seen)


def _timestamp(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) >= 16:
            seconds, nanoseconds = struct.unpack_from("@qq", value)
            return int(seconds) * 10**9 + int(nanoseconds)
    return None


def socket_filter(address: Address) -> bytes:
    """Return the kernel's filter: whole TCP headers from or to *address*, no payload beyond 256 bytes of packet."""
    if address.family == socket.AF_INET6:
        head, ports_are_at = _ipv6_filter(address.host.partition("%")[0]), (_LD_HALF, 40)
    else:
        head, ports_are_at = _ipv4_filter(address.host), (_LD_HALF_AT_X, 0)
    load, offset = ports_are_at
    program: list[tuple[str, _Instruction]] = [
        *head,
        ("ports", (load, offset, "", "")),
        ("", (_JUMP_EQUAL, address.port, "pass", "")),
        ("", (load, offset + 2, "", "")),
        ("", (_JUMP_EQUAL, address.port, "pass", "drop")),
        ("pass", (_RETURN, _SNAP_LENGTH, "", "")),
        ("drop", (_RETURN, 0, "", "")),
    ]
    labels = {label: index for index, (label, _instruction) in enumerate(program) if label}

    def distance(label: str, index: int) -> int:
        return labels[label] - index - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", code, distance(true, index), distance(false, index), operand)
        for index, (_label, (code, operand, true, false)) in enumerate(program)
    )


def _ipv4_filter(host: str) -> list[tuple[str, _Instruction]]:
    word = int.from_bytes(socket.inet_pton(socket.AF_INET, host), "big")
    return [
        ("", (_LD_BYTE, 0, "", "")),
        ("", (_AND, 0xF0, "", "")),
        ("", (_JUMP_EQUAL, 0x40, "", "drop")),
        ("", (_LD_BYTE, 9, "", "")),
        ("", (_JUMP_EQUAL, socket.IPPROTO_TCP, "", "drop")),
        ("", (_LD_HALF, 6, "", "")),
        ("", (_JUMP_SET, 0x1FFF, "drop", "")),
        ("", (_LDX_IP_HEADER, 0, "", "")),
        ("", (_LD_WORD, 12, "", "")),
        ("", (_JUMP_EQUAL, word, "ports", "")),
        ("", (_LD_WORD, 16, "", "")),
        ("", (_JUMP_EQUAL, word, "ports", "drop")),
    ]


def _ipv6_filter(host: str) -> list[tuple[str, _Instruction]]:
    words = struct.unpack(">4I", socket.inet_pton(socket.AF_INET6, host))
    program: list[tuple[str, _Instruction]] = [
        ("", (_LD_BYTE, 0, "", "")),
        ("", (_AND, 0xF0, "", "")),
        ("", (_JUMP_EQUAL, 0x60, "", "drop")),
        ("", (_LD_BYTE, 6, "", "")),
        ("", (_JUMP_EQUAL, socket.IPPROTO_TCP, "", "drop")),
    ]
    for start, otherwise, label in ((8, "destination", ""), (24, "drop", "destination")):
        for index, word in enumerate(words):
            program.append((label if index == 0 else "", (_LD_WORD, start + 4 * index, "", "")))
            program.append(("", (_JUMP_EQUAL, word, "ports" if index == 3 else "", otherwise)))
    return program
