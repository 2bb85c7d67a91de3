"""What the kernel tells of a TCP connection: Linux's TCP_INFO and the SYN it saved. Elsewhere: the reason why not."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

from pellucid.net.segments import parse_segment
from pellucid.trace import Direction, TcpInfo, TcpPacket

if sys.platform != "win32":
    import fcntl

__all__ = ["parse_tcp_info", "save_syn", "saved_syn", "tcp_info", "unacknowledged"]

_TCP_INFO: Final = 11
_TCP_SAVE_SYN: Final = 27
_TCP_SAVED_SYN: Final = 28
_SIOCOUTQ: Final = 0x5411
_LINUX: Final = sys.platform.startswith("linux")
_NOT_LINUX: Final = f"only Linux tells; this is {sys.platform}"

# struct tcp_info, include/uapi/linux/tcp.h: the fields have kept their places since 2.6; newer kernels add at the end.
_OPTIONS_AT: Final = 5
_SHIFTS_AT: Final = 6
_SEND_MSS_AT: Final = 16
_RECEIVE_MSS_AT: Final = 20
_PATH_MTU_AT: Final = 60
_RTT_AT: Final = 68
_RTT_VARIANCE_AT: Final = 72
_CONGESTION_WINDOW_AT: Final = 80
_RECEIVE_SPACE_AT: Final = 96
_RECEIVE_WINDOW_AT: Final = 232  # since Linux 6.2
_SHORTEST: Final = 104

_TIMESTAMPS: Final = 1
_SACK: Final = 2
_WINDOW_SCALE: Final = 4
_ECN: Final = 8
_SYN_DATA: Final = 32


def tcp_info(sock: socket.socket) -> TcpInfo | str:
    """Return what the kernel knows of the connection, or the reason why it cannot be had."""
    if not _LINUX:
        return _NOT_LINUX
    try:
        return parse_tcp_info(sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 512))
    except OSError as error:
        return f"TCP_INFO: {error.strerror or error}"


def parse_tcp_info(raw: bytes) -> TcpInfo | str:
    """Return struct tcp_info's fields by offset; older kernels' shorter structs will do, down to 104 bytes."""
    if len(raw) < _SHORTEST:
        return f"TCP_INFO has {len(raw)} bytes, too few to hold the round-trip time and windows"

    def number(offset: int) -> int:
        return int(struct.unpack_from("=I", raw, offset)[0])

    options = raw[_OPTIONS_AT]
    # A C bit field: the first one named takes the low bits on little-endian machines, the high ones on big-endian.
    low, high = raw[_SHIFTS_AT] & 15, raw[_SHIFTS_AT] >> 4
    send_shift, receive_shift = (low, high) if sys.byteorder == "little" else (high, low)
    scaled = bool(options & _WINDOW_SCALE)
    return TcpInfo(
        rtt_seconds=number(_RTT_AT) / 1e6,
        rtt_variance_seconds=number(_RTT_VARIANCE_AT) / 1e6,
        send_mss=number(_SEND_MSS_AT),
        receive_mss=number(_RECEIVE_MSS_AT),
        path_mtu=number(_PATH_MTU_AT),
        congestion_window=number(_CONGESTION_WINDOW_AT),
        receive_window=number(_RECEIVE_WINDOW_AT if len(raw) >= _RECEIVE_WINDOW_AT + 4 else _RECEIVE_SPACE_AT),
        send_window_shift=send_shift if scaled else None,
        receive_window_shift=receive_shift if scaled else None,
        sack=bool(options & _SACK),
        timestamps=bool(options & _TIMESTAMPS),
        ecn=bool(options & _ECN),
        syn_data=bool(options & _SYN_DATA),
    )


def unacknowledged(sock: socket.socket) -> int | None:
    """Return how many bytes the peer's TCP has not acknowledged, our end of stream included; None if nobody tells."""
    if sys.platform == "win32" or not _LINUX:
        return None
    try:
        return int(struct.unpack("=i", fcntl.ioctl(sock, _SIOCOUTQ, bytes(4)))[0])
    except OSError:
        return None


def save_syn(listener: socket.socket) -> str | None:
    """Ask the kernel to keep each client's SYN; before `listen`. Returns None, or the reason why it cannot."""
    if not _LINUX:
        return _NOT_LINUX
    try:
        listener.setsockopt(socket.IPPROTO_TCP, _TCP_SAVE_SYN, 1)
    except OSError as error:
        return f"TCP_SAVE_SYN: {error.strerror or error}"
    return None


def saved_syn(sock: socket.socket) -> TcpPacket | str:
    """Return the client's SYN of an accepted socket, or the reason why it cannot be had. The kernel tells it once."""
    if not _LINUX:
        return _NOT_LINUX
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, _TCP_SAVED_SYN, 512)
    except OSError as error:
        return f"TCP_SAVED_SYN: {error.strerror or error}"
    if not raw:
        return "the kernel kept no SYN: it was not asked to before listening, or has told it already"
    segment = parse_segment(raw)
    if segment is None:
        return "the kernel's copy of the SYN cannot be read"
    return segment.as_event(Direction.RECEIVED, source="TCP_SAVED_SYN", seconds=None)
