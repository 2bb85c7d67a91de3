"""Secrets let out of a connection: they open and seal its records, and the connection is over."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket
import struct
import sys
from typing import Any

import pytest

from pellucid import NEED_DATA, PENDING, ApplicationData, Connection, UsageError
from pellucid.extraction import DirectionSecrets, ExtractedSecrets
from pellucid.record.protect import record_header, record_nonce, split_inner_plaintext
from pellucid.registry import AlertDescription, ContentType
from pellucid.registry import CipherSuite as CS
from pellucid.sessions.client import MemorySessionStore
from pellucid.trace import ChoiceMade, KeysInstalled, TraceEvent
from tests.support.pair import (
    CHUNKINGS,
    NAME,
    Chunking,
    Pair,
    authority,
    client_config,
    credential,
    data_of,
    deliver,
    events_of,
    server_config,
)

SUITES = (CS.TLS_AES_128_GCM_SHA256, CS.TLS_AES_256_GCM_SHA384, CS.TLS_CHACHA20_POLY1305_SHA256)
three_ways = pytest.mark.parametrize("chunking", CHUNKINGS.values(), ids=CHUNKINGS)
both = pytest.mark.parametrize("role", ["client", "server"])


def ends(pair: Pair, role: str) -> tuple[Connection, Connection]:
    return (pair.client, pair.server) if role == "client" else (pair.server, pair.client)


class Elsewhere:
    """Whoever goes on with the records: by hand, with nothing but what was extracted."""

    def __init__(self, secrets: ExtractedSecrets) -> None:
        self.sending, self.receiving = secrets.sending, secrets.receiving
        self._sent, self._received = self.sending.sequence, self.receiving.sequence

    def seal(self, data: bytes, content_type: int = ContentType.APPLICATION_DATA) -> bytes:
        inner = data + bytes((content_type,))
        header = record_header(len(inner) + 16)
        nonce = record_nonce(self.sending.iv.reveal(), self._sent)
        self._sent += 1
        return header + self._aead(self.sending).encrypt(nonce, inner, header)

    def open(self, records: bytes) -> list[tuple[int, bytes]]:
        found = []
        while records:
            end = 5 + int.from_bytes(records[3:5], "big")
            nonce = record_nonce(self.receiving.iv.reveal(), self._received)
            self._received += 1
            found.append(split_inner_plaintext(self._aead(self.receiving).decrypt(nonce, records[5:end], records[:5])))
            records = records[end:]
        return found

    @staticmethod
    def _aead(direction: DirectionSecrets) -> Any:
        return client_config(suites=SUITES).suite_table[direction.cipher_suite].aead(direction.key.reveal())


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("updates", [0, 2])
@both
@three_ways
def test_extracted_secrets_go_on_with_the_records_of_both_directions(
    chunking: Chunking, role: str, updates: int, suite: int
) -> None:
    pair = Pair.of(client_config(suites=(suite,)), server_config(), chunking=chunking).connect()
    here, there = ends(pair, role)
    for number in range(3):
        pair.send(here, bytes(10 + number))
        pair.send(there, bytes(20_000))
    for _ in range(updates):
        here.send_key_update(request_peer=True)
        pair.pump()
        pair.send(here, b"x")
    events_of(here)
    events_of(there)
    secrets = here.dangerous_extract_secrets()
    assert (secrets.sending.generation, secrets.receiving.generation) == (updates, updates)
    assert secrets.sending.cipher_suite == secrets.receiving.cipher_suite == suite
    assert secrets.sending.fragment == secrets.receiving.fragment == 2**14
    assert secrets.receiving.sequence == (0 if updates else 6)
    elsewhere = Elsewhere(secrets)
    for number in range(3):
        deliver(elsewhere.seal(b"from elsewhere %d" % number), there, chunking)
        assert data_of(events_of(there)[0]) == b"from elsewhere %d" % number
        there.send_data(b"to elsewhere %d" % number)
        assert elsewhere.open(there.data_to_send()) == [(ContentType.APPLICATION_DATA, b"to elsewhere %d" % number)]
    there.close()
    assert elsewhere.open(there.data_to_send()) == [(ContentType.ALERT, b"\1\0")]
    deliver(elsewhere.seal(b"\1\0", ContentType.ALERT), there, chunking)
    assert there.peer_closed


@both
def test_connection_whose_secrets_are_out_is_over(role: str) -> None:
    pair = Pair.of().connect()
    here, there = ends(pair, role)
    there.send_data(b"late")
    late = there.data_to_send()
    here.dangerous_extract_secrets()
    calls = (
        here.dangerous_extract_secrets,
        lambda: here.send_data(b"x"),
        lambda: here.send_data(bytes(50_000)),
        lambda: here.receive_data(late),
        lambda: here.receive_data(b""),
        here.next_event,
        here.send_key_update,
        here.channel_binding,
        lambda: here.resume(None),
    )
    for call in calls:
        with pytest.raises(UsageError, match="extracted"):
            call()
        assert here.data_to_send() == b""
    here.close()
    here.fail(AlertDescription.INTERNAL_ERROR)
    assert here.closed and here.data_to_send() == b""
    assert here._reader.present is here._writer.present is here._handshake.phase is None


def test_sessions_with_the_server_stay() -> None:
    """It is no failure: what is kept of the server is as good as before."""
    store = MemorySessionStore()
    pair = Pair.of(client_config(sessions=store), server_config(tickets=2))
    pair.pump()
    events_of(pair.client)
    pair.client.dangerous_extract_secrets()
    assert len(store) == 2


def refused(connection: Connection, words: str) -> None:
    for _ in range(2):
        with pytest.raises(UsageError, match=words):
            connection.dangerous_extract_secrets()


def test_nothing_is_extracted_before_the_handshake_is_complete() -> None:
    pair = Pair.of()
    refused(pair.client, "not complete")
    refused(pair.server, "not complete")
    deliver(pair.client.data_to_send(), pair.server)
    refused(pair.server, "not complete")
    deliver(pair.server.data_to_send(), pair.client)
    refused(pair.client, "not all read")
    assert len(events_of(pair.client)[0]) == 1
    refused(pair.client, "not all taken")
    pair.pump()
    pair.client.dangerous_extract_secrets()


def test_nothing_is_extracted_while_early_data_is_under_way() -> None:
    client = client_config(early_data=True, sessions=MemorySessionStore())
    server = server_config(tickets=1, max_early_data=1000)
    Pair.of(client, server).pump()
    pair = Pair.of(client, server)
    pair.client.send_early_data(b"early")
    refused(pair.client, "not complete")
    deliver(pair.client.data_to_send(), pair.server)
    assert len(events_of(pair.server)[0]) == 2
    pair.server.send_data(b"half-RTT")
    pair.server.data_to_send()
    refused(pair.server, "not complete")


@both
def test_nothing_is_extracted_while_anything_waits(role: str) -> None:
    pair = Pair.of().connect()
    here, there = ends(pair, role)
    here.send_data(b"not taken")
    refused(here, "not all taken")
    deliver(here.data_to_send(), there)
    refused(there, "not all read")
    assert data_of(events_of(there)[0]) == b"not taken"
    there.send_data(b"cut in two")
    record = there.data_to_send()
    here.receive_data(record[:7])
    refused(here, "half a record")
    here.receive_data(record[7:])
    assert here.next_event() == ApplicationData(b"cut in two")
    there._writer._record(ContentType.HANDSHAKE, b"\x18\0\0")
    here.receive_data(there.data_to_send())
    assert here.next_event() is NEED_DATA
    refused(here, "half a record or message")
    there._writer._record(ContentType.HANDSHAKE, b"\1\1")  # the rest of a KeyUpdate that asks for one
    there._writer.install(there._writer.present[0].next())  # type: ignore[index]
    here.receive_data(there.data_to_send())
    assert len(events_of(here)[0]) == 1
    refused(here, "not all taken")
    assert here.data_to_send()
    here.dangerous_extract_secrets()


@both
def test_nothing_is_extracted_once_a_direction_is_closed(role: str) -> None:
    pair = Pair.of().connect()
    here, there = ends(pair, role)
    here.close()
    deliver(here.data_to_send(), there)
    events_of(there)
    refused(here, "closed")
    refused(there, "closed")


def test_nothing_is_extracted_while_a_certificate_is_asked_for() -> None:
    client = client_config(post_handshake_auth=True, credential_resolver=lambda _: PENDING)
    pair = Pair.of(client, server_config(client_trust=authority().trust)).connect()
    pair.server.request_client_certificate()
    pair.pump()
    events_of(pair.client)
    refused(pair.client, "certificate")
    refused(pair.server, "certificate")
    pair.client.resume(credential())
    pair.pump()
    events_of(pair.server)
    pair.client.dangerous_extract_secrets()
    pair.server.dangerous_extract_secrets()


def test_record_size_limits_are_told() -> None:
    pair = Pair.of(client_config(record_size_limit=1000), server_config(record_size_limit=2000)).connect()
    client, server = pair.client.dangerous_extract_secrets(), pair.server.dangerous_extract_secrets()
    assert (client.sending.fragment, client.receiving.fragment) == (1999, 999)
    assert (server.sending.fragment, server.receiving.fragment) == (999, 1999)


def test_both_ends_extract_the_same_and_repr_hides_it() -> None:
    seen: list[TraceEvent] = []
    pair = Pair.of(client_trace=seen.append).connect()
    client, server = pair.client.dangerous_extract_secrets(), pair.server.dangerous_extract_secrets()
    for one, other in ((client.sending, server.receiving), (client.receiving, server.sending)):
        assert [one.secret.reveal(), one.key.reveal(), one.iv.reveal()] == [
            other.secret.reveal(),
            other.key.reveal(),
            other.iv.reveal(),
        ]
        assert dataclasses.replace(one) == one
        assert one.key.reveal().hex() not in repr(one) and repr(one.key.reveal()) not in repr(client)
    installed = [event.key.reveal() for event in seen if isinstance(event, KeysInstalled)]
    assert {client.sending.key.reveal(), client.receiving.key.reveal()} <= set(installed)
    assert [e.chosen for e in seen if isinstance(e, ChoiceMade) and e.what == "secrets"] == ["extracted"]


# ---- the kernel's TLS ------------------------------------------------------------------------------------------------

TCP_ULP, SOL_TLS, TLS_TX, TLS_RX = 31, 282, 1, 2
AES_GCM = {CS.TLS_AES_128_GCM_SHA256: 51, CS.TLS_AES_256_GCM_SHA384: 52}  # linux/tls.h


def crypto_info(direction: DirectionSecrets) -> bytes:
    """Return struct tls12_crypto_info_aes_gcm_*: version, cipher, iv[8], key, salt[4], rec_seq[8]."""
    iv = direction.iv.reveal()
    head = struct.pack("=HH", 0x0304, AES_GCM[direction.cipher_suite])
    return head + iv[4:] + direction.key.reveal() + iv[:4] + direction.sequence.to_bytes(8, "big")


@pytest.mark.parametrize("suite", AES_GCM)
def test_kernel_goes_on_with_extracted_secrets(suite: int) -> None:
    if sys.platform != "linux":
        pytest.skip("the kernel's TLS is Linux's")
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(listener.getsockname(), timeout=10))
        offloaded = stack.enter_context(listener.accept()[0])
        offloaded.settimeout(10)
        try:
            offloaded.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOPROTOOPT}:
                pytest.skip("this kernel has no TLS (modprobe tls)")
            raise
        client = Connection.client(client_config(suites=(suite,)), NAME)
        server = Connection.server(server_config())
        while not (client.handshake_complete and server.handshake_complete):
            for sender, wire, receiver, other in (
                (client, plain, server, offloaded),
                (server, offloaded, client, plain),
            ):
                if data := sender.data_to_send():
                    wire.sendall(data)
                    came = b""
                    while len(came) < len(data):
                        came += other.recv(len(data) - len(came))
                    receiver.receive_data(came)
        events_of(client)
        events_of(server)
        secrets = server.dangerous_extract_secrets()
        offloaded.setsockopt(SOL_TLS, TLS_TX, crypto_info(secrets.sending))
        offloaded.setsockopt(SOL_TLS, TLS_RX, crypto_info(secrets.receiving))
        client.send_data(b"to the kernel")
        plain.sendall(client.data_to_send())
        assert offloaded.recv(100) == b"to the kernel"
        offloaded.sendall(b"from the kernel")
        while (event := client.next_event()) is NEED_DATA:
            client.receive_data(plain.recv(1000))
        assert event == ApplicationData(b"from the kernel")
