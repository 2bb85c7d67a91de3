"""Happy Eyeballs: order, pace, deadlines, the one error of many attempts, and what the trace is told."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from pellucid.net import async_tcp, eyeballs, tcp
from pellucid.net.eyeballs import (
    Address,
    ConnectFailed,
    ConnectRefused,
    ConnectTimedOut,
    NameNotResolved,
    Race,
    known_addresses,
    lookup_name,
)
from pellucid.net.kernel import saved_syn
from pellucid.net.packets import Capture
from pellucid.trace import (
    Direction,
    Role,
    TcpConnected,
    TcpConnectFailed,
    TcpConnecting,
    TcpPacket,
    TraceEvent,
)
from tests.support.ports import free_port

V6, V4 = socket.AF_INET6, socket.AF_INET
Connect = Callable[..., socket.socket]


def blocking(*arguments: Any, **options: Any) -> socket.socket:
    return tcp.connect_tcp(*arguments, **options)


def under(backend: str) -> Connect:
    def run(*arguments: Any, **options: Any) -> socket.socket:
        async def main() -> socket.socket:
            return await async_tcp.connect_tcp(*arguments, **options)

        return anyio.run(main, backend=backend)

    return run


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return blocking if request.param == "blocking" else under(request.param)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def full() -> Iterator[tuple[str, int]]:
    """An address that answers no SYN: its backlog is full."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(sock.getsockname())
            waiting.append(client)
        time.sleep(0.05)
        yield sock.getsockname()
        for client in waiting:
            client.close()


def v6(last: int) -> Address:
    return Address(V6, (f"2001:db8::{last}", 443, 0, 0))


def v4(last: int) -> Address:
    return Address(V4, (f"192.0.2.{last}", 443))


def order(race: Race) -> list[str]:
    found = []
    while race.next_start() is not None:
        found.append(race.start(0.0).host)
    return found


# ---- the race, without sockets -----------------------------------------------------------------------------------


def test_race_families_take_turns_and_the_resolvers_first_leads() -> None:
    race = Race(resolving=True)
    race.answered([v6(1), v6(2), v4(1), v6(3), v4(2)])
    assert order(race) == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"]
    assert race.exhausted
    race = Race(resolving=True)
    race.answered([v4(1), v4(2), v6(1)])
    assert order(race) == ["192.0.2.1", "2001:db8::1", "192.0.2.2"]


def test_race_next_attempt_comes_after_250_ms_or_a_failure() -> None:
    race = Race()
    race.answered([v6(1), v4(1), v6(2)])
    race.start(1.0)
    assert race.next_start() == 1.25
    race.failed(1.1)
    assert race.next_start() == 1.1
    race.start(1.1)
    assert race.next_start() == pytest.approx(1.35)


def test_race_is_not_exhausted_while_the_resolver_is_asked() -> None:
    race = Race(resolving=True)
    assert not race.exhausted
    assert race.next_start() is None
    race.answered([])
    assert race.exhausted


# ---- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["", "a\0b", "é" * 300, "\ud800", "a" * 300])
def test_lookup_name_what_cannot_be_a_name_is_not_resolved(host: str) -> None:
    with pytest.raises(NameNotResolved):
        lookup_name(host)


def test_lookup_name_unicode_becomes_a_labels() -> None:
    assert lookup_name("bücher.example") == b"xn--bcher-kva.example"


def test_known_addresses_literals_and_overrides_need_no_resolver() -> None:
    assert [a.host for a in known_addresses("::1", 443, None) or ()] == ["::1"]
    resolve = {"a.example": ["192.0.2.1", "2001:db8::1"], "b.example": "192.0.2.2"}
    assert [a.host for a in known_addresses("a.example", 443, resolve) or ()] == ["192.0.2.1", "2001:db8::1"]
    assert [a.host for a in known_addresses("b.example", 443, resolve) or ()] == ["192.0.2.2"]
    assert known_addresses("c.example", 443, resolve) is None


def test_known_addresses_tells_what_else_goes_wrong_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "getaddrinfo", exhausted)
    with pytest.raises(OSError, match="Too many open files") as raised:
        known_addresses("127.0.0.1", 443, None)
    assert raised.value.errno == errno.EMFILE


def test_known_addresses_override_with_a_name_is_refused() -> None:
    with pytest.raises(NameNotResolved, match="not an IP address"):
        known_addresses("a.example", 443, {"a.example": "b.example"})


# ---- connecting --------------------------------------------------------------------------------------------------


def test_connect_sets_nodelay(connect: Connect, listener: socket.socket) -> None:
    with connect("127.0.0.1", listener.getsockname()[1]) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_connect_localhost_is_resolved(connect: Connect, listener: socket.socket) -> None:
    with connect("localhost", listener.getsockname()[1]) as sock:
        assert sock.getpeername()[0] == "127.0.0.1"


def test_connect_refused_is_a_connection_refused_error(connect: Connect) -> None:
    port = free_port()
    with pytest.raises(ConnectRefused, match=f"127.0.0.1:{port}: Connection refused") as caught:
        connect("127.0.0.1", port)
    assert isinstance(caught.value, ConnectionRefusedError)
    assert [attempt.address.port for attempt in caught.value.attempts] == [port]


def test_connect_falls_over_to_the_next_address(
    connect: Connect, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eyeballs, "CONNECTION_ATTEMPT_DELAY_SECONDS", 10.0)  # a busy machine cannot be taken for it
    port = listener.getsockname()[1]
    events: list[TraceEvent] = []
    started = time.monotonic()
    with connect("a.example", port, resolve={"a.example": ["127.0.0.2", "127.0.0.1"]}, trace=events.append) as sock:
        assert sock.getpeername() == ("127.0.0.1", port)
    assert time.monotonic() - started < 5.0, "a refusal need not be waited for"
    told = [(type(event), getattr(event, "address", "")) for event in events if not isinstance(event, TcpPacket)]
    assert told == [
        (TcpConnecting, "127.0.0.2"),
        (TcpConnectFailed, "127.0.0.2"),
        (TcpConnecting, "127.0.0.1"),
        (TcpConnected, ""),
    ]


def test_connect_silent_address_is_overtaken_after_250_ms(
    connect: Connect, full: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.3", full[1]))
        other.listen()
        started = time.monotonic()
        with connect("a.example", full[1], resolve={"a.example": ["127.0.0.1", "127.0.0.3"]}) as sock:
            assert sock.getpeername()[0] == "127.0.0.3"
        assert 0.24 < time.monotonic() - started < 1.0


def test_connect_deadline_covers_everything(connect: Connect, full: tuple[str, int]) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectTimedOut, match=r"within 0\.3 s") as caught:
        connect("a.example", full[1], resolve={"a.example": ["127.0.0.1"]}, timeout=0.3)
    assert time.monotonic() - started < 1.0
    assert isinstance(caught.value, TimeoutError)
    assert [attempt.reason for attempt in caught.value.attempts] == ["Connection timed out"]


def test_connect_slow_resolver_meets_the_deadline(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object, **__: object) -> list[object]:
        time.sleep(1.5)
        return []

    async def slow_async(*_: object, **__: object) -> list[object]:
        await anyio.sleep(30)
        return []

    monkeypatch.setattr(tcp.socket, "getaddrinfo", slow)
    monkeypatch.setattr(async_tcp.anyio, "getaddrinfo", slow_async)
    started = time.monotonic()
    with pytest.raises(ConnectTimedOut, match="still being resolved"):
        connect("slow.example", 443, timeout=0.2)
    assert time.monotonic() - started < 1.0


def test_connect_unknown_name_is_a_gaierror(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def unknown_async(*_: object, **__: object) -> list[object]:
        return unknown()

    monkeypatch.setattr(tcp.socket, "getaddrinfo", unknown)
    monkeypatch.setattr(async_tcp.anyio, "getaddrinfo", unknown_async)
    with pytest.raises(NameNotResolved, match=r"cannot resolve no\.example") as caught:
        connect("no.example", 443)
    assert isinstance(caught.value, socket.gaierror)


def test_connect_mixed_reasons_are_all_told(connect: Connect) -> None:
    port = free_port()
    with pytest.raises(ConnectFailed) as caught:
        connect("a.example", port, resolve={"a.example": ["127.0.0.1", "255.255.255.255"]}, timeout=2)
    assert not isinstance(caught.value, ConnectRefused)
    assert len(caught.value.attempts) == 2
    assert "127.0.0.1" in str(caught.value)
    assert "255.255.255.255" in str(caught.value)


def test_connect_local_address_is_used(connect: Connect, listener: socket.socket) -> None:
    with connect("127.0.0.1", listener.getsockname()[1], local_address=("127.0.0.9", 0)) as sock:
        assert sock.getsockname()[0] == "127.0.0.9"


def test_connect_watched_tells_of_the_connection(connect: Connect, listener: socket.socket) -> None:
    events: list[TraceEvent] = []
    with connect("127.0.0.1", listener.getsockname()[1], trace=events.append) as sock:
        connected = events[-1]
        assert isinstance(connected, TcpConnected)
        assert connected.role is Role.CLIENT
        assert (connected.local_address, connected.local_port) == sock.getsockname()
        assert (connected.peer_address, connected.peer_port) == sock.getpeername()
        assert connected.seconds is not None
        assert connected.seconds < 5
        missing = dict(connected.unavailable)
        assert (connected.info is None) == ("TCP_INFO" in missing)
        packets = [event for event in events if isinstance(event, TcpPacket)]
        assert bool(packets) != ("packets" in missing)


def test_connect_with_cap_net_raw_shows_the_three_packets(connect: Connect, listener: socket.socket) -> None:
    probe = Capture.open(Address(V4, ("127.0.0.1", 1)))
    if isinstance(probe, str):
        pytest.skip(probe)
    probe.close()
    events: list[TraceEvent] = []
    connect("127.0.0.1", listener.getsockname()[1], trace=events.append).close()
    packets = [event for event in events if isinstance(event, TcpPacket)]
    assert [(packet.direction, packet.flags) for packet in packets] == [
        (Direction.SENT, ("SYN",)),
        (Direction.RECEIVED, ("SYN", "ACK")),
        (Direction.SENT, ("ACK",)),
    ]
    syn, syn_ack, ack = packets
    assert syn_ack.acknowledgment == syn.sequence + 1
    assert ack.acknowledgment == syn_ack.sequence + 1
    assert syn.seconds == 0.0
    assert syn_ack.seconds is not None
    assert 0 <= syn_ack.seconds < 1
    assert "mss" in dict(syn.options)


def test_connect_unwatched_opens_no_capture(
    connect: Connect, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> str:
        raise AssertionError("nobody watches")

    monkeypatch.setattr(Capture, "open", forbidden)
    connect("127.0.0.1", listener.getsockname()[1]).close()


# ---- listening ---------------------------------------------------------------------------------------------------


def test_bind_listener_keeps_the_syn_for_a_trace() -> None:
    listener, unavailable = tcp.bind_listener("127.0.0.1", 0, backlog=4, keep_syn=True)
    events: list[TraceEvent] = []
    with listener, socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        with accepted:
            tcp.trace_accepted(accepted, events.append, unavailable)
            told_again = saved_syn(accepted)
    connected = events[-1]
    assert isinstance(connected, TcpConnected)
    assert connected.role is Role.SERVER
    assert connected.seconds is None
    if "client SYN" in dict(connected.unavailable):
        pytest.skip(dict(connected.unavailable)["client SYN"])
    syn = events[0]
    assert isinstance(syn, TcpPacket)
    assert (syn.direction, syn.flags, syn.source) == (Direction.RECEIVED, ("SYN",), "TCP_SAVED_SYN")
    assert isinstance(told_again, str)
    del client


def test_bind_listener_unwatched_says_why_there_is_no_syn() -> None:
    listener, _ = tcp.bind_listener("127.0.0.1", 0, backlog=4, keep_syn=False)
    with listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert isinstance(saved_syn(accepted), str)


def test_bind_listener_asyncio_sends_at_once_on_what_it_accepts() -> None:
    async def main() -> int:
        listener, _ = tcp.bind_listener("127.0.0.1", 0, backlog=4, keep_syn=False)
        listener.setblocking(False)
        accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        async with await asyncio.start_server(lambda _, writer: accepted.put_nowait(writer), sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            server = await asyncio.wait_for(accepted.get(), 10)
            option: int = server.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for end in (writer, server):
                end.close()
            return option

    assert asyncio.run(main())


def test_bind_listener_without_a_host_takes_both_families() -> None:
    listener, _ = tcp.bind_listener(None, 0, backlog=4, keep_syn=False)
    with listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        if listener.family == V6:
            socket.create_connection(("::1", port)).close()
