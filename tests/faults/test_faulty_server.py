"""The life of a faulty server: many clients at a time, an end whatever they do, an answer to who notices nothing."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import pellucid
from pellucid.messages.handshake import HELLO_RETRY_REQUEST_RANDOM, ServerHello
from pellucid.registry import AlertDescription as A
from pellucid.registry import HandshakeType as H
from pellucid.testing.faults import FaultyServer
from pellucid.trace import Direction, KeysInstalled, MessageTraced, TraceEvent
from tests.faults.test_server_faults import REQUEST, meet


def threads_of(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"fault {name}"]


def test_server_takes_many_clients_at_a_time() -> None:
    with FaultyServer("expired") as server, ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(lambda _: meet(server), range(16)))
        assert {type(error) for error in errors} == {pellucid.CertificateRejected}
    assert server.alerts == (A.CERTIFICATE_EXPIRED,) * 16


def test_server_answers_who_notices_nothing() -> None:
    """Python's ssl asks for no staple: the certificate is good but for being revoked."""
    with FaultyServer("revoked-staple") as server:
        context = ssl.create_default_context(cadata=server.ca_pem.decode())
        sock = socket.create_connection((server.address, server.port), 5)
        with sock, context.wrap_socket(sock, server_hostname="localhost") as stream:
            stream.sendall(REQUEST)
            answer = b""
            while data := stream.recv(4096):
                answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body.startswith(b"revoked-staple: the stapled OCSP response says")
        assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize("name", ["silent", "silent-after-handshake", "slow", "ssh-banner", "expired", "unanswered"])
def test_server_ends_at_once_whoever_is_connected(name: str) -> None:
    server = FaultyServer(name).start()
    with socket.create_connection((server.address, server.port), 5) if name != "unanswered" else socket.socket():
        time.sleep(0.05)
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 2
        assert not threads_of(name)
        server.close()
    with pytest.raises(pellucid.UsageError, match="started once"):
        server.start()


def test_server_closes_connections_past_its_limit() -> None:
    with FaultyServer("silent", limit=2) as server:
        socks = [socket.create_connection((server.address, server.port), 5) for _ in range(4)]
        socks[3].settimeout(5)
        assert socks[3].recv(1) == b""
        assert len(threads_of("silent")) == 3  # two and the one that accepts
        for sock in socks:
            sock.close()


def test_connection_lasts_no_longer_than_was_said() -> None:
    server = FaultyServer("silent", seconds=0.2)
    with server, socket.create_connection((server.address, server.port), 5) as sock:
        began = time.monotonic()
        assert sock.recv(1) == b""
        assert time.monotonic() - began < 2


def test_server_listens_on_this_machine_alone_and_on_the_port_that_it_is_given() -> None:
    with FaultyServer("expired") as server:
        port = server.port
        assert server.url == f"https://localhost:{port}/"
    with FaultyServer("expired", port=port) as server:
        assert server.port == port
        assert server._socket.getsockname()[0] == "127.0.0.1"
        with pytest.raises(OSError):
            FaultyServer("expired", port=port)


# ---- the wire --------------------------------------------------------------------------------------------------------


def heard(name: str) -> list[TraceEvent]:
    """What our client sees of the fault."""
    events: list[TraceEvent] = []
    with FaultyServer(name) as server, pytest.raises(OSError):
        stream = pellucid.connect(server.host, server.port, server.client_config, trace=events.append)
        try:
            stream.settimeout(5)
            stream.sendall(REQUEST)
            stream.read_to_end()
        finally:
            stream.abort()
    return events


def received(name: str) -> list[MessageTraced]:
    return [e for e in heard(name) if isinstance(e, MessageTraced) and e.direction is Direction.RECEIVED]


def test_second_retry_is_on_the_wire() -> None:
    first, second = received("second-retry")
    assert first.raw == second.raw
    assert isinstance(first.body, ServerHello)
    assert first.body.random == HELLO_RETRY_REQUEST_RANDOM


def test_tls_1_2_is_on_the_wire() -> None:
    (hello,) = received("tls12-only")
    assert isinstance(hello.body, ServerHello)
    assert hello.body.cipher_suite == 0xC02F
    assert [extension.extension_type for extension in hello.body.extensions] == [0xFF01]


def test_key_update_flood_is_on_the_wire() -> None:
    events = heard("key-update-flood")
    updates = [e for e in events if isinstance(e, MessageTraced) and e.message_type == H.KEY_UPDATE]
    assert len(updates) == 33
    generations = [e.generation for e in events if isinstance(e, KeysInstalled) and e.direction is Direction.RECEIVED]
    assert generations[-1] >= 32


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("missing-certificate", [H.SERVER_HELLO, H.ENCRYPTED_EXTENSIONS]),
        ("bad-compression", [H.SERVER_HELLO, H.ENCRYPTED_EXTENSIONS, H.COMPRESSED_CERTIFICATE]),
        ("certificate-verify-other-key", [H.SERVER_HELLO, H.ENCRYPTED_EXTENSIONS, H.CERTIFICATE, H.CERTIFICATE_VERIFY]),
    ],
)
def test_messages_come_as_far_as_the_fault(name: str, kinds: list[int]) -> None:
    assert [one.message_type for one in received(name)] == kinds


def test_server_traces_what_it_sends_and_not_what_it_would_have_sent() -> None:
    events: list[TraceEvent] = []
    with FaultyServer("tls12-only", trace=lambda: events.append) as server:
        meet(server)
        sent = [e for e in events if isinstance(e, MessageTraced) and e.direction is Direction.SENT]
    assert isinstance(sent[0].body, ServerHello)
    assert sent[0].body.cipher_suite == 0xC02F
    events.clear()
    with FaultyServer("missing-certificate", trace=lambda: events.append) as server:
        meet(server)
        sent = [e for e in events if isinstance(e, MessageTraced) and e.direction is Direction.SENT]
    assert [one.message_type for one in sent] == [H.SERVER_HELLO, H.ENCRYPTED_EXTENSIONS, H.FINISHED]
