"""TLSBuffer: what PEP 748 asks of one, each end against the other and against `ssl`'s."""

from __future__ import annotations

import inspect
import ssl
from typing import Any

import pytest

import pellucid
from pellucid.config import ClientConfig, Credential, ServerConfig
from pellucid.crypto.provider import PENDING
from pellucid.errors import PeerError, TLSError, UsageError
from pellucid.integrations.tls_buffer import (
    ClientContext,
    RaggedEOF,
    ServerContext,
    TLSBuffer,
    TLSVersion,
    WantReadError,
    WantWriteError,
)
from pellucid.registry import CipherSuite
from pellucid.testing.ca import CA

AUTHORITY = CA("buffer root")
LEAF = AUTHORITY.issue("localhost")
CREDENTIAL = Credential.from_pem(LEAF.chain_pem, LEAF.key_pem)
CLIENT = ClientContext(ClientConfig(trust=AUTHORITY.trust, alpn=("h2",)))
SERVER = ServerContext(ServerConfig(credentials=(CREDENTIAL,), alpn=("h2",)))

PEP_748 = {
    "cipher": [],
    "context": None,
    "do_handshake": [],
    "getpeercert": [],
    "incoming_bytes_buffered": [],
    "negotiated_protocol": [],
    "negotiated_tls_version": None,
    "outgoing_bytes_buffered": [],
    "process_incoming": ["data_from_network"],
    "process_outgoing": ["amount_bytes_for_network"],
    "read": ["amt", "buffer"],
    "shutdown": [],
    "write": ["buf"],
}


@pytest.mark.parametrize("name", PEP_748)
def test_buffer_has_every_member_of_the_protocol(name: str) -> None:
    member = inspect.getattr_static(TLSBuffer, name)
    parameters = PEP_748[name]
    if parameters is None:
        assert isinstance(member, property)
    else:
        assert list(inspect.signature(member).parameters)[1:] == parameters


def carry(one: TLSBuffer, other: TLSBuffer, step: int = 10**6) -> bool:
    moved = False
    for source, target in ((one, other), (other, one)):
        while data := source.process_outgoing(step):
            target.process_incoming(data)
            moved = True
    return moved


def shaken(client: TLSBuffer, server: TLSBuffer, step: int = 10**6) -> None:
    while True:
        for end in (client, server):
            try:
                end.do_handshake()
            except WantReadError:
                continue
        if not carry(client, server, step):
            return


def pair() -> tuple[TLSBuffer, TLSBuffer]:
    client, server = CLIENT.create_buffer("localhost"), SERVER.create_buffer()
    shaken(client, server)
    return client, server


@pytest.mark.parametrize("step", [1, 1000, 10**6])
def test_buffer_shakes_hands_and_tells_what_was_agreed_on(step: int) -> None:
    client, server = CLIENT.create_buffer("localhost"), SERVER.create_buffer()
    assert client.cipher() is client.negotiated_protocol() is client.negotiated_tls_version is None
    assert client.getpeercert() is client.report is None
    shaken(client, server, step)
    for end in (client, server):
        assert end.cipher() == CipherSuite.TLS_AES_128_GCM_SHA256
        assert end.negotiated_protocol() == b"h2"
        assert end.negotiated_tls_version is TLSVersion.TLSv1_3
    assert client.getpeercert() == LEAF.der
    assert server.getpeercert() is None
    assert client.report is not None and client.report.accepted and client.peer is not None
    assert (client.context, server.context) == (CLIENT, SERVER)
    assert CLIENT.configuration.alpn == SERVER.configuration.alpn == ("h2",)


def test_buffer_reads_short_into_buffers_and_only_what_is_there() -> None:
    client, server = pair()
    with pytest.raises(WantReadError):
        server.read(10)
    assert client.write(b"hello") == 5
    assert client.write(memoryview(b" world!")) == 7
    assert server.incoming_bytes_buffered() == 0
    carry(client, server)
    assert server.incoming_bytes_buffered() > 12
    assert server.read(0) == b""
    assert server.read(4) == b"hell"
    target = bytearray(3)
    assert server.read(100, target) == 3
    assert target == b"o w"
    assert server.read(100) == b"orld!"
    with pytest.raises(WantReadError):
        server.read(1)
    with pytest.raises(ValueError, match="negative"):
        server.read(-1)


def test_buffer_bounds_what_it_keeps_in_both_directions() -> None:
    client, server = pair()
    data = bytes(2**20)
    assert client.write(data) == 2**17
    with pytest.raises(WantWriteError):
        while True:
            client.write(data)
    assert 2**20 <= client.outgoing_bytes_buffered() < 2**21
    sent = received = 0
    with pytest.raises(WantReadError, match="no room"):
        while piece := client.process_outgoing(2**15):
            sent += len(piece)
            server.process_incoming(piece)
    assert server.incoming_bytes_buffered() == sent - len(piece) <= 2**18
    while piece:
        try:
            server.process_incoming(piece)
        except WantReadError:
            received += len(server.read(2**20))
        else:
            piece = client.process_outgoing(2**15)
    while True:
        try:
            received += len(server.read(2**20))
        except WantReadError:
            break
    assert received == 2**20
    assert client.write(b"again") == 5


def test_buffer_shutdown_ends_reading_with_nothing_for_ever() -> None:
    client, server = pair()
    client.write(b"last")
    client.shutdown()
    client.shutdown()
    with pytest.raises(UsageError):
        client.write(b"more")
    with pytest.raises(WantReadError):  # the mistake was the caller's: the connection goes on
        client.read(1)
    carry(client, server)
    assert [server.read(10) for _ in range(3)] == [b"last", b"", b""]
    assert server.write(b"half open") == 9
    carry(client, server)
    assert client.read(20) == b"half open"


def test_buffer_stream_without_an_end_is_a_ragged_eof_after_the_data() -> None:
    client, server = pair()
    client.write(b"cut")
    carry(client, server)
    server.process_incoming(b"")
    assert server.read(10) == b"cut"
    for _ in range(2):
        with pytest.raises(RaggedEOF):
            server.read(10)
    unshaken = CLIENT.create_buffer("localhost")
    unshaken.process_incoming(b"")
    with pytest.raises(RaggedEOF):
        unshaken.do_handshake()


def test_buffer_peer_that_is_not_trusted_is_refused_and_told() -> None:
    stranger = ClientContext(ClientConfig(trust=CA("another").trust)).create_buffer("localhost")
    server = SERVER.create_buffer()
    with pytest.raises(pellucid.CertificateRejected):
        shaken(stranger, server)
    carry(stranger, server)
    with pytest.raises(TLSError, match="unknown_ca"):
        server.do_handshake()
    for _ in range(2):
        with pytest.raises(PeerError):
            stranger.read(1)


def test_buffer_pauses_are_answered_or_refused() -> None:
    class Slow:
        schemes = CREDENTIAL.signer.schemes

        def sign(self, scheme: int, data: bytes) -> Any:
            return PENDING

    config = ServerConfig(credentials=(Credential(chain=CREDENTIAL.chain, signer=Slow()),))
    fresh = ClientContext(ClientConfig(trust=AUTHORITY.trust, sessions=None))

    def answer(pause: Any) -> Any:
        return CREDENTIAL.signer.sign(pause.need.scheme, pause.need.data)

    shaken(fresh.create_buffer("localhost"), ServerContext(config, answer=answer).create_buffer())
    with pytest.raises(UsageError, match="nobody answers"):
        shaken(fresh.create_buffer("localhost"), ServerContext(config).create_buffer())

    def fail(_: Any) -> Any:
        raise RuntimeError

    with pytest.raises(TLSError, match="RuntimeError"):
        shaken(fresh.create_buffer("localhost"), ServerContext(config, answer=fail).create_buffer())


def test_buffer_trusts_the_system_where_nothing_else_is_said() -> None:
    buffer = ClientContext(ClientConfig()).create_buffer("localhost")
    with pytest.raises(WantReadError):
        buffer.do_handshake()
    context = buffer.context
    assert isinstance(context, ClientContext) and context.configuration.trust
    with pytest.raises(UsageError):
        ServerContext("nothing")  # type: ignore[arg-type]


def test_buffer_speaks_with_the_standard_library() -> None:
    context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    ours = SERVER.create_buffer()
    for _ in range(5):
        for end in (theirs, ours):
            try:
                end.do_handshake()
            except (ssl.SSLWantReadError, WantReadError):
                continue
        if outgoing.pending:
            ours.process_incoming(outgoing.read())
        incoming.write(ours.process_outgoing(10**6))
    assert theirs.version() == "TLSv1.3"
    ours.write(b"hello")
    incoming.write(ours.process_outgoing(10**6))
    assert theirs.read() == b"hello"


def test_buffer_awaitable_answer_is_refused_with_who_awaits() -> None:
    async def resolve(_: object) -> Credential:
        raise AssertionError

    config = ServerConfig(credentials=(CREDENTIAL,), credential_resolver=resolve)
    fresh = ClientContext(ClientConfig(trust=AUTHORITY.trust, sessions=None)).create_buffer("localhost")
    with pytest.raises(UsageError, match="await"):
        shaken(fresh, ServerContext(config).create_buffer())
