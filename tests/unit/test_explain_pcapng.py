"""Capture files: what tshark makes of them, without being told anything but the file's name."""

from __future__ import annotations

import io
import ipaddress
import os
import stat
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pellucid import Connection
from pellucid.explain import PcapngWriter, Recorder, tee, write_pcapng
from pellucid.explain.tcpip import Endpoint, Flow
from pellucid.net.segments import parse_segment
from pellucid.registry import NamedGroup
from pellucid.trace import Direction, RecordTraced, Role, SecretDerived, TcpConnected, TcpPacket, TraceEvent
from tests.support.meetings import begin, client, meet, server
from tests.support.pair import Pair, client_config, deliver, events_of, server_config

REQUEST = b"GET /index.html HTTP/1.1\r\nHost: pair.test\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: text/plain\r\n\r\nhello\n"
HTTP = {"alpn": ("http/1.1",), "trace_records": True}


def connected(role: Role, here: str = "192.0.2.7", there: str = "198.51.100.9") -> TcpConnected:
    ports = (40000, 8443) if role is Role.CLIENT else (8443, 40000)
    return TcpConnected(
        role=role,
        local_address=here,
        local_port=ports[0],
        peer_address=there,
        peer_port=ports[1],
        seconds=0.002,
        info=None,
    )


def tshark(path: Path, *arguments: str) -> list[str]:
    done = subprocess.run(
        ["tshark", "-r", str(path), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def http(path: Path) -> list[tuple[str, str, str]]:
    """(source port, request's method, response's status) of each HTTP message.

    And nothing lost, twice or malformed; the checksums of all data right (captured SYNs may have none yet): to start
    tshark is what takes time, so one asks for both.
    """
    checks = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    wrong = "(tcp.len > 0 and (tcp.checksum.status == 0 or ip.checksum.status == 0))"
    bad = f"tcp.analysis.flags or _ws.malformed or {wrong}"
    fields = (
        *("tcp.srcport", "http.request.method", "http.response.code"),
        *("tcp.analysis.flags", "frame.protocols", "tcp.checksum.status", "ip.checksum.status"),
    )
    shown = ("-T", "fields", *(part for name in fields for part in ("-e", name)))
    found = []
    for line in tshark(path, *checks, "-Y", f"http or {bad}", *shown):
        port, method, status, flags, protocols, *checksums = line.split("\t")
        assert method or status, f"bad, and no HTTP: {line}"
        assert not flags and "_ws.malformed" not in protocols and "0" not in checksums, line
        found.append((port, method, status))
    return found


def exchange(pair: Pair, *, update: bool = False) -> None:
    pair.connect()
    for _ in range(2):
        assert pair.send(pair.client, REQUEST)[1] is None
        assert pair.send(pair.server, RESPONSE)[1] is None
        if update:
            pair.client.send_key_update(request_peer=True)
            pair.pump()


def recorded(role: Role, client_changes: dict[str, object], *, update: bool = False) -> Recorder:
    """One end's record of two requests."""
    recorder = Recorder()
    recorder(connected(role))
    ends: dict[str, object] = {"client_trace" if role is Role.CLIENT else "server_trace": recorder}
    pair = Pair.of(client_config(**(HTTP | client_changes)), server_config(**HTTP), **ends)  # type: ignore[arg-type]
    exchange(pair, update=update)
    for end, other in ((pair.client, pair.server), (pair.server, pair.client)):
        end.close()
        deliver(end.data_to_send(), other)
        events_of(other)
    return recorder


TWO_REQUESTS = [("40000", "GET", ""), ("8443", "", "200")] * 2


@pytest.mark.program("tshark")
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("kind", ["plain", "key update", "retry"])
def test_tshark_reads_request_and_response(role: Role, kind: str, tmp_path: Path) -> None:
    changes: dict[str, object] = {}
    if kind == "retry":
        changes = {"groups": (NamedGroup.SECP256R1, NamedGroup.X25519), "key_shares": (NamedGroup.SECP256R1,)}
    if kind == "retry":
        retrying = server_config(**HTTP, groups=(NamedGroup.X25519,))
        recorder = Recorder()
        recorder(connected(role))
        ends = {"client_trace" if role is Role.CLIENT else "server_trace": recorder}
        exchange(Pair.of(client_config(**(HTTP | changes)), retrying, **ends))
    else:
        recorder = recorded(role, changes, update=kind == "key update")
    path = tmp_path / "out.pcapng"
    write_pcapng(recorder, path)
    assert http(path) == TWO_REQUESTS
    if kind == "retry":
        assert len(tshark(path, "-Y", "tls.handshake.type == 1")) == 2
    else:
        assert len(tshark(path, "-Y", "tcp.flags.fin == 1")) == 2


@pytest.mark.program("tshark")
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("taken", [True, False])
def test_tshark_reads_early_data(role: Role, taken: bool, tmp_path: Path) -> None:
    ours = client(**HTTP, early_data=True)
    theirs = server(**HTTP, max_early_data=16_384 if taken else 0)
    if not taken:
        meet(ours, server(**HTTP, max_early_data=16_384))
    else:
        meet(ours, theirs)
    recorder = Recorder()
    ends = {"client_trace" if role is Role.CLIENT else "server_trace": tee(connecting(role, recorder), recorder)}
    meeting = meet(ours, theirs, early=REQUEST, **ends)
    path = tmp_path / "early.pcapng"
    if taken:
        assert meeting.early == REQUEST
        meeting.server.send_data(RESPONSE)
        meeting.pump()
    write_pcapng(recorder, path)
    read = http(path)
    if taken or role is Role.CLIENT:  # a server that declined has no key for it
        assert read[0] == ("40000", "GET", "")
    if taken:
        assert read[1] == ("8443", "", "200")


def connecting(role: Role, recorder: Recorder) -> Callable[[TraceEvent], None]:
    recorder(connected(role))
    return lambda _: None


@pytest.mark.program("tshark")
@pytest.mark.parametrize("addresses", [("2001:db8::1", "2001:db8::2"), ("::ffff:192.0.2.1", "192.0.2.9"), ("", "")])
def test_addresses_of_each_family_are_written(addresses: tuple[str, str], tmp_path: Path) -> None:
    recorder = Recorder()
    if addresses[0]:
        recorder(connected(Role.CLIENT, *addresses))
    exchange(Pair.of(client_config(**HTTP), server_config(**HTTP), client_trace=recorder))
    path = tmp_path / "out.pcapng"
    write_pcapng(recorder, path)
    assert [status for _, _, status in http(path)] == ["", "200"] * 2
    told = tshark(path, "-T", "fields", "-e", "ip.src", "-e", "ipv6.src", "-e", "frame.comment")
    if addresses[0].startswith("2001"):
        assert told[0] == "\t2001:db8::1\t"
    elif addresses[0]:
        assert told[0] == "192.0.2.1\t\t"
    else:
        assert told[0].endswith("its addresses are made up")


@pytest.mark.program("tshark")
def test_opening_packets_that_were_captured_are_written_as_they_are(tmp_path: Path) -> None:
    """Sequence numbers go on from theirs, over the end of the numbers too."""
    flow = Flow(Endpoint("192.0.2.7", 40000), Endpoint("198.51.100.9", 8443))
    flow._next = [2**32 - 100, 77_000]
    packets = []
    for to_server, raw in zip((True, False, True), flow.opening(()), strict=True):
        segment = parse_segment(raw)
        assert segment is not None
        direction = Direction.SENT if to_server else Direction.RECEIVED
        packets.append(segment.as_event(direction, source="AF_PACKET", seconds=0.001 * len(packets)))
    recorder = Recorder()
    for packet in packets:
        recorder(packet)
    recorder(connected(Role.CLIENT))
    exchange(Pair.of(client_config(**HTTP), server_config(**HTTP), client_trace=recorder))
    path = tmp_path / "out.pcapng"
    write_pcapng(recorder, path)
    numbers = tshark(path, "-T", "fields", "-e", "tcp.seq_raw")
    assert [int(number) for number in numbers[:4]] == [2**32 - 100, 77_000, 2**32 - 99, 2**32 - 99]
    assert http(path) == TWO_REQUESTS


def test_opening_that_was_seen_in_part_is_completed() -> None:
    flow = Flow(Endpoint("192.0.2.7", 40000), Endpoint("198.51.100.9", 8443))
    syn = parse_segment(flow.opening(())[0])
    assert syn is not None
    seen = TcpPacket(
        direction=Direction.RECEIVED,
        seconds=None,
        flags=("SYN",),
        sequence=4242,
        acknowledgment=0,
        window=1,
        options=(),
        source="TCP_SAVED_SYN",
        raw=syn.raw,
    )
    made = Flow(Endpoint("192.0.2.7", 40000), Endpoint("198.51.100.9", 8443)).opening(((True, seen),))
    answer = parse_segment(made[1])
    assert answer is not None
    assert answer.acknowledgment == 4243
    assert answer.flags == ("SYN", "ACK")
    assert dict(answer.options)["mss"] == "1460"


# ---- many connections, one file --------------------------------------------------------------------------------------


@pytest.mark.program("tshark")
def test_connections_of_many_threads_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "all.pcapng"

    def one(writer: PcapngWriter, port: int) -> None:
        observer = writer.observer()
        opened = connected(Role.CLIENT)
        observer(TcpConnected(**{name: getattr(opened, name) for name in opened.__slots__} | {"local_port": port}))
        exchange(Pair.of(client_config(**HTTP), server_config(**HTTP), client_trace=observer))

    with PcapngWriter(path) as writer:
        threads = [threading.Thread(target=one, args=(writer, 41000 + i)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(http(path)) == 6 * 4


def test_file_is_private_even_where_one_was_and_without_secrets_holds_none(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    path.write_bytes(b"something else")
    path.chmod(0o644)
    recorder = recorded(Role.CLIENT, {})
    write_pcapng(recorder, path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    secrets = [event.secret.reveal().hex().encode() for event in recorder.of(SecretDerived) if event.keylog]
    data = path.read_bytes()
    assert secrets
    assert all(secret in data for secret in secrets)
    plain = io.BytesIO()
    write_pcapng(recorder, plain, secrets=False)
    assert not any(secret in plain.getvalue() for secret in secrets)
    assert 10 not in [kind for kind, _ in blocks(plain.getvalue())]


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert size % 4 == 0
        assert struct.unpack_from("<I", data, at + size - 4) == (size,)
        found.append((kind, data[at + 8 : at + size - 4]))
        at += size
    return found


def test_writer_holds_no_more_than_a_bounded_part_of_a_handshake_without_end() -> None:
    """A peer that sends records and never completes fills the file, not the memory."""
    file = io.BytesIO()
    with PcapngWriter(file) as writer:
        observer = writer.observer()
        observer(connected(Role.SERVER))
        record = RecordTraced(
            direction=Direction.RECEIVED,
            epoch=0,  # type: ignore[arg-type]  # it does not matter
            content_type=22,
            size=16_000,
            content_size=15_995,
            padding_size=0,
            sequence=None,
            raw=bytes(16_000),
        )
        for _ in range(100):
            observer(record)
        assert observer._size <= 2**18 + 16_000  # type: ignore[attr-defined]
        assert len(file.getvalue()) > 1_000_000
    assert sum(kind == 6 for kind, _ in blocks(file.getvalue())) == 103


class Full(io.BytesIO):
    """A disk with room for the head of the file."""

    def write(self, data: object) -> int:
        if self.tell():
            raise OSError(28, "No space left on device")
        return super().write(data)  # type: ignore[arg-type]  # as there


def test_full_disk_breaks_no_connection() -> None:
    with PcapngWriter(Full()) as writer:
        exchange(Pair.of(client_config(**HTTP), server_config(**HTTP), client_trace=writer.observer()))
    assert isinstance(writer.problem, OSError)
    with pytest.raises(FileNotFoundError):
        PcapngWriter("/nowhere/at all")


def test_too_many_connections_that_never_complete_are_written_early() -> None:
    file = io.BytesIO()
    with PcapngWriter(file) as writer:
        observers = [writer.observer() for _ in range(300)]
        for observer in observers:
            end = Connection.client(client_config(**HTTP), "pair.test", trace=observer)
            end.data_to_send()
        assert sum(kind == 6 for kind, _ in blocks(file.getvalue())) == 4 * (300 - 256)


def test_refused_connection_is_written_with_its_alert(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder(connected(Role.CLIENT))
    meeting = begin(client_config(**HTTP), server_config(**HTTP), name="other.test", client_trace=recorder)
    meeting.pump()
    assert meeting.errors[Role.CLIENT] is not None
    file = io.BytesIO()
    write_pcapng(recorder, file)
    packets = [body for kind, body in blocks(file.getvalue()) if kind == 6]
    sent = [parse_segment(body[20:]) for body in packets]
    assert sent[-1] is not None
    assert "FIN" in sent[-1].flags
    addresses = {ipaddress.ip_address(one.source) for one in sent if one is not None}
    assert addresses == {ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("198.51.100.9")}


def test_records_of_a_connection_are_all_there() -> None:
    """Both directions byte for byte, dummy change_cipher_spec records and early data that was skipped included."""
    ours = client(**HTTP, early_data=True)
    for role in Role:
        meet(ours, server(**HTTP, max_early_data=16_384))
        recorder = Recorder()
        first = Connection.client(ours, "pair.test", trace=recorder if role is Role.CLIENT else None)
        second = Connection.server(server(**HTTP), trace=recorder if role is Role.SERVER else None)
        first.send_early_data(REQUEST)
        streams = {Role.CLIENT: b"", Role.SERVER: b""}
        for _ in range(4):
            for end, other in ((first, second), (second, first)):
                data = end.data_to_send()
                streams[end.role] += data
                deliver(data, other)
        sent = {
            way: b"".join(one.raw for one in recorder.of(RecordTraced) if one.direction is way) for way in Direction
        }
        assert sent[Direction.SENT] == streams[role]
        assert sent[Direction.RECEIVED] == streams[role.peer]
        assert recorder.of(RecordTraced)[0].opened
        assert all(one.opened for one in recorder.of(RecordTraced)) is (role is Role.CLIENT)
