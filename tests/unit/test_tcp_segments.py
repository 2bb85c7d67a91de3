"""IP and TCP headers from hostile bytes, struct tcp_info of any age, and the kernel's packet filter."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.net.eyeballs import Address
from pellucid.net.kernel import parse_tcp_info
from pellucid.net.packets import Capture, socket_filter
from pellucid.net.segments import parse_segment
from pellucid.trace import Direction, TcpInfo

SYN_OPTIONS = bytes.fromhex("020405b4 0402 080a 00000001 00000000 01 030307".replace(" ", ""))


def ipv4(tcp: bytes, *, header: bytes = b"", fragment: int = 0, protocol: int = 6) -> bytes:
    size = 20 + len(header)
    start = bytes([0x40 | size // 4, 0]) + struct.pack(">HHH", size + len(tcp), 7, fragment)
    return start + bytes([64, protocol, 0, 0]) + bytes([192, 0, 2, 1, 192, 0, 2, 2]) + header + tcp


def ipv6(tcp: bytes, *, extensions: bytes = b"", following: int = 6) -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
    head = b"\x60\0\0\0" + struct.pack(">H", len(extensions) + len(tcp)) + bytes([following, 64])
    return head + addresses + extensions + tcp


def tcp(*, flags: int = 2, options: bytes = SYN_OPTIONS, payload: bytes = b"") -> bytes:
    options += bytes(-len(options) % 4)
    offset = (20 + len(options)) // 4 << 4
    return struct.pack(">HHIIBBHHH", 1234, 443, 111, 222, offset, flags, 65535, 0, 0) + options + payload


def test_parse_segment_ipv4_syn_names_flags_and_options() -> None:
    segment = parse_segment(ipv4(tcp()))
    assert segment is not None
    assert (segment.source, segment.source_port) == ("192.0.2.1", 1234)
    assert (segment.destination, segment.destination_port) == ("192.0.2.2", 443)
    assert segment.flags == ("SYN",)
    assert (segment.sequence, segment.acknowledgment, segment.window) == (111, 222, 65535)
    assert segment.options == (
        ("mss", "1460"),
        ("SACK permitted", ""),
        ("timestamps", "1 0"),
        ("no-operation", ""),
        ("window scale", "7"),
    )
    event = segment.as_event(Direction.SENT, source="AF_PACKET", seconds=0.5)
    assert (event.direction, event.seconds, event.source) == (Direction.SENT, 0.5, "AF_PACKET")


def test_parse_segment_flags_come_in_the_documented_order() -> None:
    segment = parse_segment(ipv4(tcp(flags=0xDF)))
    assert segment is not None
    assert segment.flags == ("SYN", "ACK", "FIN", "RST", "PSH", "ECE", "CWR")


def test_parse_segment_payload_is_counted_and_not_kept() -> None:
    segment = parse_segment(ipv4(tcp(payload=b"secret"), header=bytes(4)))
    assert segment is not None
    assert segment.payload_size == 6
    assert b"secret" not in segment.raw


def test_parse_segment_ipv6_extension_headers_are_passed_over() -> None:
    segment = parse_segment(ipv6(tcp(), extensions=bytes([60, 0]) + bytes(6) + bytes([6, 1]) + bytes(14), following=0))
    assert segment is not None
    assert (segment.source, segment.destination) == ("2001:db8::1", "2001:db8::2")
    assert segment.payload_size == 0


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        bytes(100),
        ipv4(tcp(), fragment=5),
        ipv4(tcp(), protocol=17),
        ipv4(tcp())[:39],
        b"\x41" + ipv4(tcp())[1:],
        ipv6(tcp(), following=17),
        ipv6(tcp())[:50],
        ipv6(b"", extensions=b"\0\xff" + bytes(6), following=0),
        ipv6(b"", extensions=(b"\0\0" + bytes(6)) * 9, following=0),
    ],
)
def test_parse_segment_what_is_no_tcp_header_gives_none(packet: bytes) -> None:
    assert parse_segment(packet) is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (b"\x02\x05\x04\x05", "malformed"),
        (b"\x08\x00\x00\x00", "malformed"),
        (b"\x02\x01\x00\x00", "malformed"),
        (b"\x00\xff\xff\xff", "end of options"),
        (b"\x05\x0a" + bytes(8), "SACK"),
        (b"\x22\x04\xab\xcd", "fast open cookie"),
        (b"\xfe\x04\xab\xcd", "option 254"),
        (b"\x02\x03\x05", "option 2"),
    ],
)
def test_parse_segment_odd_options_are_told_not_raised(options: bytes, expected: str) -> None:
    segment = parse_segment(ipv4(tcp(options=options)))
    assert segment is not None
    assert segment.options[0][0] == expected


@given(st.binary(max_size=200))
def test_parse_segment_any_bytes_never_raise(packet: bytes) -> None:
    parse_segment(packet)


@given(st.binary(max_size=40), st.binary(max_size=120), st.sampled_from([4, 6]))
def test_parse_segment_any_options_never_raise(options: bytes, cut: bytes, version: int) -> None:
    packet = ipv4(tcp(options=options[:40])) if version == 4 else ipv6(tcp(options=options[:40]))
    parse_segment(packet + cut)
    for end in range(0, len(packet), 7):
        parse_segment(packet[:end])


@given(st.binary(max_size=300))
def test_parse_tcp_info_any_bytes_give_facts_or_a_reason(raw: bytes) -> None:
    assert isinstance(parse_tcp_info(raw), TcpInfo if len(raw) >= 104 else str)


def test_parse_tcp_info_old_kernels_shorter_struct_still_tells() -> None:
    raw = bytearray(104)
    raw[5] = 1 | 2 | 4
    raw[6] = 0x97
    struct.pack_into("=I", raw, 16, 1448)
    struct.pack_into("=I", raw, 60, 1500)
    struct.pack_into("=I", raw, 68, 25_000)
    struct.pack_into("=I", raw, 96, 14_600)
    info = parse_tcp_info(bytes(raw))
    assert isinstance(info, TcpInfo)
    assert (info.send_mss, info.path_mtu, info.rtt_seconds, info.receive_window) == (1448, 1500, 0.025, 14_600)
    assert {info.send_window_shift, info.receive_window_shift} == {7, 9}
    assert (info.timestamps, info.sack, info.ecn, info.syn_data) == (True, True, False, False)


def test_parse_tcp_info_without_window_scaling_has_no_shifts() -> None:
    info = parse_tcp_info(bytes(104))
    assert isinstance(info, TcpInfo)
    assert info.send_window_shift is None
    assert info.receive_window_shift is None


def run_filter(program: bytes, packet: bytes) -> int:
    """Interpret the few instructions of classic BPF that are used; the kernel's verdict: bytes to pass."""
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = index = at = 0
    while True:
        code, true, false, operand = instructions[at]
        at += 1
        if code == 0x06:
            return int(operand)
        if code in {0x30, 0x28, 0x20, 0x48}:
            start, size = operand + (index if code == 0x48 else 0), {0x30: 1, 0x28: 2, 0x20: 4, 0x48: 2}[code]
            if start + size > len(packet):
                return 0
            accumulator = int.from_bytes(packet[start : start + size], "big")
        elif code == 0xB1:
            index = 4 * (packet[operand] & 15)
        elif code == 0x54:
            accumulator &= operand
        else:
            taken = accumulator == operand if code == 0x15 else bool(accumulator & operand)
            at += true if taken else false


@pytest.mark.parametrize(
    ("address", "packet", "passes"),
    [
        (("192.0.2.2", 443), ipv4(tcp()), True),
        (("192.0.2.1", 1234), ipv4(tcp()), True),
        (("192.0.2.2", 443), ipv4(tcp(), header=bytes(8)), True),
        (("192.0.2.2", 444), ipv4(tcp()), False),
        (("192.0.2.3", 443), ipv4(tcp()), False),
        (("192.0.2.2", 443), ipv4(tcp(), protocol=17), False),
        (("192.0.2.2", 443), ipv4(tcp(), fragment=3), False),
        (("192.0.2.2", 443), ipv6(tcp()), False),
        (("2001:db8::2", 443), ipv6(tcp()), True),
        (("2001:db8::1", 1234), ipv6(tcp()), True),
        (("2001:db8::3", 443), ipv6(tcp()), False),
        (("2001:db8::2", 444), ipv6(tcp()), False),
        (("2001:db8::2", 443), ipv4(tcp()), False),
    ],
)
def test_socket_filter_passes_one_peers_headers(address: tuple[str, int], packet: bytes, passes: bool) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    assert bool(run_filter(socket_filter(Address(family, address)), packet)) is passes


def test_capture_without_the_capability_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pellucid.net.packets.sys.platform", "linux")
    monkeypatch.setattr("pellucid.net.packets.socket.socket", refuse)
    assert Capture.open(Address(socket.AF_INET, ("192.0.2.2", 443))) == "needs CAP_NET_RAW: Operation not permitted"


def test_capture_elsewhere_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pellucid.net.packets.sys.platform", "darwin")
    assert "darwin" in str(Capture.open(Address(socket.AF_INET, ("192.0.2.2", 443))))
