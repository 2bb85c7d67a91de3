"""Blocking streams and listeners against honest peers, slow ones, and ones that break off."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pellucid.config import ClientAuthentication, ClientConfig, Credential, ServerConfig
from pellucid.connection import Connection
from pellucid.crypto.provider import PENDING, Pending
from pellucid.errors import AlertReceived, PeerError, TLSError, TruncatedStream, UsageError
from pellucid.events import SignatureNeeded
from pellucid.net.eyeballs import ConnectRefused
from pellucid.net.listener import Listener, listen
from pellucid.net.operations import Pause
from pellucid.net.sync import Stream, connect, wrap
from pellucid.registry import AlertDescription, CipherSuite
from pellucid.trace import HandshakeCompleted, MessageTraced, TcpConnected, TraceEvent
from tests.support.ports import free_port
from tests.unit.test_net_peers import (
    AUTHORITY,
    CLIENT,
    CREDENTIAL,
    SERVER,
    RawPeer,
    open_descriptors,
    raw_server,
    reset,
    soon,
)

Handler = Callable[[Stream], object]


def echo(stream: Stream) -> None:
    for data in stream:
        stream.sendall(data)


def echo_and_close(stream: Stream) -> None:
    with stream:
        echo(stream)


class Served:
    """A listener with its handler in threads, and what went wrong in them."""

    def __init__(self, handler: Handler, config: ServerConfig = SERVER, *, max_connections: int = 64) -> None:
        self.errors: list[Exception] = []
        self.listener = listen("127.0.0.1", 0, config, handshake_timeout=5)
        self.port = self.listener.address[1]
        self._thread = threading.Thread(
            target=self.listener.serve,
            args=(handler,),
            kwargs={"max_connections": max_connections, "on_error": lambda _stream, error: self.errors.append(error)},
            daemon=True,
        )

    def __enter__(self) -> Served:
        self._others = set(threading.enumerate())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def ended(self) -> list[Exception]:
        """Return what went wrong, once nobody who connected is served any more.

        A client sees the end of its connection before the thread that served it has told of its error.
        """
        for thread in threading.enumerate():
            if thread.name == "pellucid-connection" and thread not in self._others:
                thread.join(10)
                assert not thread.is_alive()
        return self.errors


@pytest.fixture
def echoing() -> Iterator[Served]:
    with Served(echo) as served:
        yield served


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listen("127.0.0.1", 0, SERVER, handshake_timeout=0.5) as found:
        yield found


def pair(
    client: ClientConfig = CLIENT, server: ServerConfig = SERVER, *, trace: Callable[[TraceEvent], None] | None = None
) -> tuple[Stream, Stream]:
    """Return both ends of a connection, past the handshake."""
    with listen("127.0.0.1", 0, server) as found:
        accepted: list[Stream] = []
        thread = threading.Thread(target=lambda: accepted.append(found.accept(handshake=True, timeout=10)))
        thread.start()
        local = connect("localhost", found.address[1], client, trace=trace)
        thread.join(10)
    return local, accepted[0]


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


# ---- honest peers ------------------------------------------------------------------------------------------------


def test_connect_and_listen_carry_data_both_ways(echoing: Served) -> None:
    with connect("localhost", echoing.port, CLIENT) as stream:
        stream.sendall(b"hello")
        assert stream.recv() == b"hello"
        assert stream.negotiated.cipher_suite == CipherSuite.TLS_AES_128_GCM_SHA256
        assert stream.peer is not None
        assert stream.peer_address == ("127.0.0.1", echoing.port)
        assert stream.fileno() >= 0
    assert stream.closed
    assert stream.fileno() == -1
    assert not echoing.errors


def test_connect_without_trust_takes_the_systems_roots(monkeypatch: pytest.MonkeyPatch, echoing: Served) -> None:
    monkeypatch.setattr("pellucid.net.setup.system_trust", lambda: AUTHORITY.trust)
    config = ClientConfig(alpn=())
    for _ in range(2):
        with connect("localhost", echoing.port, config) as stream:
            assert stream.peer is not None


def test_stream_reads_in_the_sizes_asked_for() -> None:
    local, peer = pair()
    with local, peer:
        local.sendall(b"0123456789")
        assert peer.recv(4) == b"0123"
        buffer = bytearray(3)
        assert peer.recv_into(buffer) == 3
        assert buffer == b"456"
        assert peer.recv() == b"789"
        with pytest.raises(UsageError):
            peer.recv(0)


def test_stream_both_ends_export_the_same_keying_material() -> None:
    local, peer = pair()
    with local, peer:
        assert local.channel_binding() == peer.channel_binding()
        assert len(local.channel_binding()) == 32
        assert local.export_keying_material(b"EXPERIMENTAL x", b"c", 40) == peer.export_keying_material(
            b"EXPERIMENTAL x", b"c", 40
        )


@pytest.mark.rfc("9846 §6.1", "close_notify is sent before the write side is closed")
def test_stream_half_close_ends_reading_at_the_peer_only() -> None:
    local, peer = pair()
    with local, peer:
        local.shutdown_write()
        assert peer.recv() == b""
        assert peer.recv() == b""
        thread, raised = in_thread(lambda: (peer.sendall(bytes(2**20)), peer.close()))
        assert len(local.read_to_end()) == 2**20
        with pytest.raises(UsageError):
            local.sendall(b"more")
        thread.join(10)
        assert not raised


def test_stream_read_to_end_is_bounded() -> None:
    local, peer = pair()
    with local, peer:
        thread, _ = in_thread(lambda: peer.sendall(bytes(2**18)))
        with pytest.raises(UsageError, match="more than 1000 bytes"):
            local.read_to_end(limit=1000)
        local.abort()
        thread.join(10)


def test_stream_key_update_changes_keys_in_both_directions(echoing: Served) -> None:
    with connect("localhost", echoing.port, CLIENT) as stream:
        for round_number in range(5):
            stream.key_update(request_peer=round_number % 2 == 0)
            stream.sendall(b"x" * 100_000)
            received = 0
            while received < 100_000:
                received += len(stream.recv())
    assert not echoing.errors


def test_trace_tells_of_tcp_and_tls_on_both_ends() -> None:
    seen: dict[str, list[TraceEvent]] = {"client": [], "server": []}
    with listen("127.0.0.1", 0, SERVER, trace=lambda: seen["server"].append) as found:
        thread, raised = in_thread(lambda: found.accept(handshake=True).close())
        connect("localhost", found.address[1], CLIENT, trace=seen["client"].append).close()
        thread.join(10)
    assert not raised
    for events in seen.values():
        kinds = [type(event) for event in events]
        assert kinds.index(TcpConnected) < kinds.index(MessageTraced) < kinds.index(HandshakeCompleted)


def test_config_trace_factory_is_asked_once_for_each_connection() -> None:
    asked: list[list[TraceEvent]] = []

    def factory() -> Callable[[TraceEvent], None]:
        asked.append([])
        return asked[-1].append

    local, peer = pair(replace(CLIENT, trace=factory), replace(SERVER, trace=factory))
    local.close()
    peer.close()
    assert len(asked) == 2
    assert all(any(isinstance(event, TcpConnected) for event in events) for events in asked)
    assert all(any(isinstance(event, HandshakeCompleted) for event in events) for events in asked)


def test_wrap_serves_any_stream_socket() -> None:
    here, there = socket.socketpair()
    thread, raised = in_thread(lambda: echo_and_close(wrap(there, SERVER)))
    with wrap(here, CLIENT, server_name="localhost") as stream:
        stream.sendall(b"over a socket pair")
        assert stream.recv() == b"over a socket pair"
        assert stream.peer_address == ("", 0)
    thread.join(10)
    assert not raised


def test_pending_signer_is_answered_by_the_callers_function() -> None:
    class Remote:
        schemes = CREDENTIAL.signer.schemes

        def sign(self, _scheme: int, _data: bytes) -> bytes | Pending:
            return PENDING

    def answer(pause: Pause) -> object:
        assert isinstance(pause, SignatureNeeded)
        return CREDENTIAL.signer.sign(pause.need.scheme, pause.need.data)

    config = ServerConfig(credentials=(Credential(chain=CREDENTIAL.chain, signer=Remote()),))
    with listen("127.0.0.1", 0, config, answer=answer) as found:
        thread, raised = in_thread(lambda: echo_and_close(found.accept()))
        with connect("localhost", found.address[1], CLIENT) as stream:
            stream.sendall(b"signed elsewhere")
            assert stream.recv() == b"signed elsewhere"
        thread.join(10)
    assert not raised
    with listen("127.0.0.1", 0, config) as found:
        thread, raised = in_thread(lambda: found.accept(handshake=True))
        with pytest.raises(AlertReceived, match="internal_error"):
            connect("localhost", found.address[1], CLIENT)
        thread.join(10)
    assert isinstance(raised[0], UsageError)


# ---- errors and alerts -------------------------------------------------------------------------------------------


def test_connect_refused_before_any_tls() -> None:
    port = free_port()
    with pytest.raises(ConnectRefused):
        connect("127.0.0.1", port, CLIENT)


def test_connect_wrong_name_tells_the_peer_why(echoing: Served) -> None:
    with pytest.raises(PeerError) as caught:
        connect("127.0.0.1", echoing.port, CLIENT, server_name="wrong.example")
    assert caught.value.alert == AlertDescription.BAD_CERTIFICATE
    assert soon(lambda: bool(echoing.errors))
    error = echoing.errors[0]
    assert isinstance(error, AlertReceived)
    assert error.description == AlertDescription.BAD_CERTIFICATE


def test_read_error_is_raised_after_the_data_before_it_and_again() -> None:
    def corrupt(peer: RawPeer) -> None:
        peer.connection.send_data(b"good")
        peer.socket.sendall(peer.connection.data_to_send() + b"\x17\x03\x03\0\x20" + bytes(32))
        assert isinstance(peer.drain()[-1], AlertReceived)

    with raw_server(corrupt) as port:
        stream = connect("localhost", port, CLIENT)
        assert stream.recv() == b"good"
        for _ in range(2):
            with pytest.raises(PeerError):
                stream.recv()
        with pytest.raises(PeerError):
            stream.sendall(b"too late")
        stream.close()


def test_alert_survives_data_that_nobody_reads() -> None:
    """Closing a socket with unread bytes resets it; the alert must have arrived before."""
    seen: list[object] = []

    def flood(peer: RawPeer) -> None:
        peer.socket.sendall(b"\x17\x03\x03\0\x20" + bytes(32) + bytes(200_000))
        time.sleep(0.1)
        seen.extend(peer.drain())

    with raw_server(flood) as port, pytest.raises(PeerError), connect("localhost", port, CLIENT) as stream:
        time.sleep(0.05)
        stream.recv()
    assert isinstance(seen[-1], AlertReceived)


def test_failed_write_shows_the_peers_alert_instead() -> None:
    go = threading.Event()

    def refuse(peer: RawPeer) -> None:
        peer.connection.send_data(b"before")
        peer.connection.fail(AlertDescription.ACCESS_DENIED)
        peer.flush()
        time.sleep(0.05)
        reset(peer.socket)
        go.set()

    with raw_server(refuse) as port:
        stream = connect("localhost", port, CLIENT)
        go.wait(10)
        with pytest.raises(AlertReceived, match="access_denied") as caught:
            for _ in range(100):
                stream.sendall(bytes(100_000))
                time.sleep(0.001)
        assert isinstance(caught.value.__cause__, OSError)
        assert stream.recv() == b"before"
        with pytest.raises(AlertReceived):
            stream.recv()
        with pytest.raises(AlertReceived):
            stream.sendall(b"again")
        stream.close()


def test_refused_client_certificate_is_known_when_reading() -> None:
    config = replace(SERVER, client_authentication=ClientAuthentication.REQUIRED, client_trust=AUTHORITY.trust)
    with Served(echo, config) as served:
        stream = connect("localhost", served.port, CLIENT)
        with pytest.raises(AlertReceived, match="certificate_required"):
            stream.recv()
        stream.close()


@pytest.mark.rfc("9846 §6.1", "a stream without close_notify is cut, not ended")
def test_truncated_stream_is_an_error_after_the_data() -> None:
    def cut(peer: RawPeer) -> None:
        peer.send(b"half of i")
        peer.socket.close()

    with raw_server(cut) as port, connect("localhost", port, CLIENT) as stream:
        received = []
        with pytest.raises(TruncatedStream):
            received.extend(stream)
        assert received == [b"half of i"]


def test_exception_in_the_with_block_cuts_the_stream() -> None:
    local, peer = pair()
    with pytest.raises(ValueError, match="mine"), local:
        local.sendall(b"incomplete")
        raise ValueError("mine")
    assert peer.recv() == b"incomplete"
    with pytest.raises((TruncatedStream, ConnectionResetError)):
        peer.recv()
    peer.close()


def test_plaintext_before_the_handshake_is_never_data(listener: Listener) -> None:
    with socket.create_connection(listener.address) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        stream = listener.accept()
        with pytest.raises(TLSError):
            stream.recv()
        with pytest.raises(TLSError):
            stream.recv()
        stream.close()


def test_wrap_client_refuses_what_was_sent_before_its_hello() -> None:
    here, there = socket.socketpair()
    with there:
        there.sendall(b"INJECTED")
        with pytest.raises(UsageError, match="plaintext"):
            wrap(here, CLIENT, server_name="localhost")
        assert here.fileno() == -1
    here, there = socket.socketpair()
    with there, pytest.raises(UsageError, match="plaintext"):
        wrap(here, CLIENT, server_name="localhost", received=b"INJECTED")


def test_wrap_server_takes_what_came_with_the_plaintext() -> None:
    here, there = socket.socketpair()
    client = RawPeer(there, Connection.client(CLIENT, "localhost"))
    hello = client.connection.data_to_send()
    there.sendall(b"PROXY TCP4 192.0.2.1\r\n" + hello)
    first = here.recv(65536)
    thread, raised = in_thread(lambda: echo_and_close(wrap(here, SERVER, received=first[22:])))
    client.shake_hands().send(b"after the header")
    assert client.read(16) == b"after the header"
    client.connection.close()
    client.flush()
    there.shutdown(socket.SHUT_WR)
    thread.join(10)
    there.close()
    assert not raised


def test_wrap_client_without_a_name_is_a_mistake() -> None:
    here, there = socket.socketpair()
    with there, pytest.raises(UsageError, match="server_name"):
        wrap(here, CLIENT)
    assert here.fileno() == -1


# ---- time --------------------------------------------------------------------------------------------------------


def test_handshake_deadline_is_total_and_not_for_each_byte(listener: Listener) -> None:
    """Slowloris: a byte now and then never resets the clock."""
    stop = threading.Event()
    with socket.create_connection(listener.address) as client:
        stream = listener.accept()
        hello = Connection.client(CLIENT, "localhost").data_to_send()

        def drip() -> None:
            for byte in hello:
                if stop.wait(0.05):
                    return
                client.sendall(bytes([byte]))

        thread, _ = in_thread(drip)
        started = time.monotonic()
        with pytest.raises(TimeoutError, match=r"the handshake took longer than 0\.5 s"):
            stream.recv()
        assert 0.4 < time.monotonic() - started < 2
        stop.set()
        thread.join(5)
        client.settimeout(5)
        assert client.recv(100).startswith(b"\x15\x03\x03"), "the peer is told that it is over"
        with pytest.raises(TimeoutError):
            stream.sendall(b"x")
        stream.close()


def test_connect_silent_server_meets_the_handshake_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            connect("localhost", silent.getsockname()[1], CLIENT, handshake_timeout=0.2)
        assert time.monotonic() - started < 3


def test_one_slow_client_keeps_nobody_waiting(echoing: Served) -> None:
    with socket.create_connection(("127.0.0.1", echoing.port)):
        started = time.monotonic()
        with connect("localhost", echoing.port, CLIENT) as stream:
            stream.sendall(b"quick")
            assert stream.recv() == b"quick"
        assert time.monotonic() - started < 2


def test_read_timeout_loses_nothing() -> None:
    local, peer = pair()
    with local, peer:
        local.settimeout(0.05)
        assert local.gettimeout() == 0.05
        for _ in range(3):
            with pytest.raises(TimeoutError):
                local.recv()
        peer.sendall(b"late")
        local.settimeout(5)
        assert local.recv() == b"late"


def test_peer_that_never_reads_ends_the_sending_but_not_the_reading() -> None:
    local, peer = pair()
    local.settimeout(0.2)
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        local.sendall(bytes(50_000_000))
    assert time.monotonic() - started < 5
    with pytest.raises(UsageError, match="cut short"):
        local.sendall(b"never after half a record")
    peer.sendall(b"still here")
    assert local.recv() == b"still here"
    started = time.monotonic()
    local.close()
    assert time.monotonic() - started < 3
    with pytest.raises((TruncatedStream, ConnectionResetError)):
        while peer.recv():
            pass
    peer.close()


# ---- breaking off ------------------------------------------------------------------------------------------------


def test_reset_at_any_byte_of_the_handshake_leaks_nothing(listener: Listener) -> None:
    hello = Connection.client(CLIENT, "localhost").data_to_send()
    before = open_descriptors()
    for length in [*range(12), *range(12, len(hello), 97), len(hello)]:
        client = socket.create_connection(listener.address)
        client.sendall(hello[:length])
        stream = listener.accept()
        reset(client)
        with pytest.raises(OSError):
            stream.do_handshake()
        stream.close()
    assert open_descriptors() == before


def test_reset_while_connecting_is_an_oserror() -> None:
    for received in (0, 10, 300):

        def break_off(peer: RawPeer, received: int = received) -> None:
            peer.socket.recv(max(received, 1))
            reset(peer.socket)

        with raw_server(break_off, handshake=False) as port, pytest.raises(OSError):
            connect("localhost", port, CLIENT)


def test_reset_while_reading_is_an_oserror_again_and_again() -> None:
    with raw_server(lambda peer: reset(peer.socket)) as port:
        stream = connect("localhost", port, CLIENT)
        for _ in range(3):
            with pytest.raises(OSError):
                stream.recv()
        stream.close()


def test_what_is_no_buffer_is_refused_and_the_stream_goes_on() -> None:
    client, server = pair()
    with client, server:
        with pytest.raises(TypeError):
            client.sendall("text")  # type: ignore[arg-type]
        client.sendall(memoryview(b"abc"))
        assert server.recv(10) == b"abc"
