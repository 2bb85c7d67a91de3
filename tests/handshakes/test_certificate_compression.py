"""Certificate compression (RFC 8879) in whole handshakes, both ways; and what a receiver refuses (attacks F1, F2)."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from pellucid import ClientConfig, Connection, PeerError, ServerConfig
from pellucid.config import ClientAuthentication
from pellucid.crypto.compression import ZLIB, CertificateCompression
from pellucid.errors import UsageError
from pellucid.explain.ladder import ladder
from pellucid.explain.recorder import Recorder
from pellucid.explain.text import plain
from pellucid.handshake import certificates
from pellucid.limits import MAX_HANDSHAKE_BODY
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    HEADER_LENGTH,
    Certificate,
    CertificateRequest,
    ClientHello,
    CompressedCertificate,
    Extension,
    handshake_message,
)
from pellucid.registry import AlertDescription as A
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.trace import CertificateDecompressed, ChoiceMade, Direction, MessageTraced
from tests.illegal.evil import asking_server as evil_asking_server
from tests.illegal.evil import changing_body, evil_client, evil_server, good_client, good_server, refused, replacing
from tests.illegal.evil import client_with_certificate as evil_client_config
from tests.illegal.evil import server_config as evil_server_config
from tests.support.pair import (
    NAME,
    Chunking,
    Pair,
    all_at_once,
    asking_server_config,
    client_config,
    credential,
)
from tests.support.pair import server_config as plain_server_config


def server_config(**changes: Any) -> ServerConfig:
    """One that compresses, as a server does by default."""
    assert ServerConfig(credentials=(credential(),)).certificate_compression == (ZLIB,)
    return plain_server_config(**{"certificate_compression": (ZLIB,)} | changes)


@dataclasses.dataclass(frozen=True)
class Prefixed:
    """A toy: puts *prefix* before the message. It never gains anything, and is used all the same."""

    code: int
    prefix: bytes = b"\1\2\3\4"
    calls: list[str] = dataclasses.field(default_factory=list, compare=False)

    @property
    def name(self) -> str:
        return f"toy {self.code:x}"

    def compress(self, data: bytes) -> bytes | None:
        self.calls.append("compress")
        return self.prefix + data

    def decompress(self, data: bytes, length: int) -> bytes:
        self.calls.append("decompress")
        if not data.startswith(self.prefix):
            raise ValueError("it lacks its prefix")
        return data[len(self.prefix) :]


def messages(recorder: Recorder, direction: Direction) -> dict[int, MessageTraced]:
    return {event.message_type: event for event in recorder.of(MessageTraced) if event.direction is direction}


def choice(recorder: Recorder, what: str = "certificate_compression") -> tuple[str, str]:
    found = [(event.chosen, event.reason) for event in recorder.of(ChoiceMade) if event.what == what]
    assert len(found) == 1, found
    return found[0]


def shaken(
    client: ClientConfig, server: ServerConfig, chunking: Chunking = all_at_once
) -> tuple[Pair, Recorder, Recorder]:
    traces = Recorder(), Recorder()
    pair = Pair.of(client, server, chunking=chunking, client_trace=traces[0], server_trace=traces[1]).connect()
    return pair, *traces


# ---- the server's ----------------------------------------------------------------------------------------------------


@pytest.mark.rfc("8879 §4", "CompressedCertificate takes the place of Certificate where the peer accepts it")
@pytest.mark.rfc("8879 §4", "the transcript has CompressedCertificate as it was sent")
def test_server_certificate_is_compressed_with_zlib_by_default(chunking: Chunking) -> None:
    pair, client, server = shaken(client_config(), server_config(), chunking)
    sent = messages(server, Direction.SENT)
    assert H.CERTIFICATE not in sent
    body: Any = sent[H.COMPRESSED_CERTIFICATE].body
    assert body.algorithm == 1
    plain_body = zlib.decompress(body.compressed_certificate_message)
    assert len(plain_body) == body.uncompressed_length
    assert [entry.cert_data for entry in Certificate.decode(plain_body).certificate_list] == list(credential().chain)
    assert len(sent[H.COMPRESSED_CERTIFICATE].raw) < len(plain_body)
    assert pair.client.channel_binding() == pair.server.channel_binding()
    assert choice(server)[0] == choice(client)[0] == "zlib"
    assert "the first of ours that the peer accepts" in choice(server)[1]
    assert "the peer's choice of those offered" in choice(client)[1]
    (told,) = client.of(CertificateDecompressed)
    assert told.body == Certificate.decode(plain_body)
    assert (told.size, told.compressed_size) == (len(plain_body), len(body.compressed_certificate_message))


@pytest.mark.rfc("8879 §3", "the client lists its algorithms in compress_certificate")
@pytest.mark.parametrize(
    ("client", "server", "reason"),
    [((), (ZLIB,), "the peer accepts none"), ((ZLIB,), (), "none is configured here"),
     ((Prefixed(0xFF02),), (ZLIB,), "the peer accepts none of ours")],
    ids=["client-off", "server-off", "none-in-common"],
)  # fmt: skip
def test_server_certificate_travels_plain_without_a_common_algorithm(
    chunking: Chunking, client: Any, server: Any, reason: str
) -> None:
    traces = shaken(
        client_config(certificate_compression=client), server_config(certificate_compression=server), chunking
    )[1:]
    assert H.CERTIFICATE in messages(traces[0], Direction.RECEIVED)
    hello: Any = messages(traces[0], Direction.SENT)[H.CLIENT_HELLO].body
    offered = x.decode_extensions(x.M.CH, hello.extensions).get(x.COMPRESS_CERTIFICATE)
    assert offered == (tuple(one.code for one in client) or None)
    assert choice(traces[1]) == ("none", reason)
    if client:
        assert choice(traces[0]) == ("none", "the peer sent its certificate as it is")
    else:
        assert not [event for event in traces[0].of(ChoiceMade) if event.what == "certificate_compression"]


def test_server_uses_its_own_first_choice_however_large_its_result(chunking: Chunking) -> None:
    toys = (Prefixed(0xFF02), ZLIB)
    client = client_config(certificate_compression=(ZLIB, Prefixed(0xFF02)))
    pair, client_trace, _ = shaken(client, server_config(certificate_compression=toys), chunking)
    body: Any = messages(client_trace, Direction.RECEIVED)[H.COMPRESSED_CERTIFICATE].body
    assert body.algorithm == 0xFF02
    assert body.compressed_certificate_message[:4] == b"\1\2\3\4"
    assert pair.client.negotiated is not None


def test_server_certificate_that_would_not_shrink_travels_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(ZLIB), "compress", lambda self, data: None)
    certificates._compressed_message.cache_clear()
    _, client, server = shaken(client_config(), server_config())
    certificates._compressed_message.cache_clear()
    assert H.CERTIFICATE in messages(client, Direction.RECEIVED)
    assert choice(server) == ("none", "zlib would not make it smaller")


def test_server_compresses_a_chain_once() -> None:
    toy = Prefixed(0xFF07)
    for _ in range(3):
        shaken(client_config(certificate_compression=(toy,)), server_config(certificate_compression=(toy,)))
    assert toy.calls.count("compress") == 1
    assert toy.calls.count("decompress") == 3
    assert certificates._compressed_message.cache_info().maxsize == 64


def test_server_ignores_algorithms_it_does_not_know(chunking: Chunking) -> None:
    """RFC 9846 §9.3; one that only a draft knows, and a GREASE value."""
    unknown = (Prefixed(0x0A0A), Prefixed(0x4567), ZLIB)
    client = shaken(client_config(certificate_compression=unknown), server_config(), chunking)[1]
    assert choice(client)[0] == "zlib"


def test_after_a_retry_the_certificate_is_compressed_too(chunking: Chunking) -> None:
    server = server_config(cookie_key=b"k" * 32, always_retry=True)
    client = shaken(client_config(), server, chunking)[1]
    assert H.COMPRESSED_CERTIFICATE in messages(client, Direction.RECEIVED)


# ---- the client's ----------------------------------------------------------------------------------------------------


@pytest.mark.rfc("8879 §3", "a server asks for compression in CertificateRequest")
def test_client_certificate_is_compressed_where_the_server_asks(chunking: Chunking) -> None:
    server = asking_server_config(certificate_compression=(ZLIB,), client_certificate_compression=(ZLIB,))
    pair, client, server_trace = shaken(client_config(credentials=(credential("p384"),)), server, chunking)
    assert H.COMPRESSED_CERTIFICATE in messages(client, Direction.SENT)
    request: Any = messages(client, Direction.RECEIVED)[H.CERTIFICATE_REQUEST].body
    assert x.decode_extensions(x.M.CR, request.extensions).get(x.COMPRESS_CERTIFICATE) == (1,)
    assert pair.server.negotiated is not None
    assert pair.server.negotiated.peer is not None
    assert [event.chosen for event in server_trace.of(ChoiceMade) if event.what == "certificate_compression"] == [
        "zlib",
        "zlib",
    ]


def test_client_certificate_travels_plain_where_the_server_does_not_ask(chunking: Chunking) -> None:
    client = shaken(client_config(credentials=(credential("p384"),)), asking_server_config(), chunking)[1]
    sent = messages(client, Direction.SENT)
    assert H.CERTIFICATE in sent
    request: Any = messages(client, Direction.RECEIVED)[H.CERTIFICATE_REQUEST].body
    assert isinstance(request, CertificateRequest)
    assert E.COMPRESS_CERTIFICATE not in {extension.extension_type for extension in request.extensions}


def test_client_without_a_certificate_says_so_in_plain(chunking: Chunking) -> None:
    server = asking_server_config(
        client_certificate_compression=(ZLIB,), client_authentication=ClientAuthentication.OPTIONAL
    )
    client = shaken(client_config(), server, chunking)[1]
    body: Any = messages(client, Direction.SENT)[H.CERTIFICATE].body
    assert body.certificate_list == ()


def test_client_may_compress_an_empty_certificate_too() -> None:
    """RFC 8879 §5: it is processed as if it had not been compressed."""
    server = good_server(
        evil_asking_server(client_certificate_compression=(ZLIB,), client_authentication=ClientAuthentication.OPTIONAL)
    )
    empty = compressed_certificate(b"\0\0\0\0")
    client = evil_client(edit=lambda kind, raw: empty if kind == H.CERTIFICATE else raw)
    Pair(client, server).connect()
    assert server.negotiated is not None
    assert server.negotiated.peer is None


# ---- F1, F2: what is refused -----------------------------------------------------------------------------------------


def compressed_certificate(
    body: bytes, *, algorithm: int = 1, length: int | None = None, data: bytes | None = None
) -> bytes:
    compressed = zlib.compress(body) if data is None else data
    return handshake_message(CompressedCertificate(algorithm, len(body) if length is None else length, compressed))


Make = Callable[[bytes], bytes]
"""The body of the Certificate that would have been sent → the message sent instead."""

BAD: dict[str, tuple[Make, int]] = {
    "one-less-declared": (lambda body: compressed_certificate(body, length=len(body) - 1), A.BAD_CERTIFICATE),
    "one-more-declared": (lambda body: compressed_certificate(body, length=len(body) + 1), A.BAD_CERTIFICATE),
    "nothing-declared": (lambda body: compressed_certificate(body, length=0), A.BAD_CERTIFICATE),
    "bytes-after-the-end": (
        lambda body: compressed_certificate(body, data=zlib.compress(body) + b"\0"),
        A.BAD_CERTIFICATE,
    ),
    "cut-off": (lambda body: compressed_certificate(body, data=zlib.compress(body)[:-1]), A.BAD_CERTIFICATE),
    "checksum-wrong": (
        lambda body: compressed_certificate(body, data=zlib.compress(body)[:-1] + b"?"),
        A.BAD_CERTIFICATE,
    ),
    "no-zlib": (lambda body: compressed_certificate(body, data=body), A.BAD_CERTIFICATE),
    "bomb": (
        lambda body: compressed_certificate(body, data=zlib.compress(bytes(16 * 2**20))),
        A.BAD_CERTIFICATE,
    ),
    "bomb-declared": (
        lambda body: compressed_certificate(body, length=2**24 - 1, data=zlib.compress(bytes(2**24 - 1))),
        A.BAD_CERTIFICATE,
    ),
    "one-past-the-limit": (
        lambda body: compressed_certificate(bytes(MAX_HANDSHAKE_BODY[H.CERTIFICATE] + 1)),
        A.BAD_CERTIFICATE,
    ),
    "at-the-limit-but-malformed": (
        lambda body: compressed_certificate(b"\1" * MAX_HANDSHAKE_BODY[H.CERTIFICATE]),
        A.DECODE_ERROR,
    ),
    "malformed-inside": (lambda body: compressed_certificate(body + b"\0"), A.DECODE_ERROR),
    "context-inside": (lambda body: compressed_certificate(b"\1c" + body[1:]), A.ILLEGAL_PARAMETER),
    "not-offered": (lambda body: compressed_certificate(body, algorithm=2), A.ILLEGAL_PARAMETER),
    "unknown": (lambda body: compressed_certificate(body, algorithm=1234), A.ILLEGAL_PARAMETER),
    "reserved": (lambda body: compressed_certificate(body, algorithm=0), A.ILLEGAL_PARAMETER),
    "empty": (
        lambda body: bytes((H.COMPRESSED_CERTIFICATE,)) + b"\0\0\x08" + b"\0\1\0\0\4\0\0\0",
        A.DECODE_ERROR,
    ),
    "bytes-after-the-message": (
        lambda body: _longer(compressed_certificate(body)),
        A.DECODE_ERROR,
    ),
}


def _longer(raw: bytes) -> bytes:
    return raw[:1] + (len(raw) - HEADER_LENGTH + 1).to_bytes(3, "big") + raw[HEADER_LENGTH:] + b"\0"


@pytest.mark.rfc("8879 §4", "the algorithm must be one of those offered")
@pytest.mark.rfc("8879 §4", "a length that does not match, or data that cannot be decompressed, is bad_certificate")
@pytest.mark.rfc("8879 §5", "the result is processed, and limited, as if it had not been compressed")
@pytest.mark.parametrize("chunk", [None, 1], ids=["whole", "1-byte"])
@pytest.mark.parametrize("victim", ["client", "server"])
@pytest.mark.parametrize(("make", "alert"), BAD.values(), ids=list(BAD))
def test_f1_f2_a_bad_compressed_certificate_is_refused(victim: str, make: Make, alert: int, chunk: int | None) -> None:
    def edit(kind: int, raw: bytes) -> bytes:
        return make(raw[HEADER_LENGTH:]) if kind == H.CERTIFICATE else raw

    if victim == "client":
        refused(good_client(), evil_server(edit=edit), alert, chunk=chunk)
    else:
        server = good_server(evil_asking_server(client_certificate_compression=(ZLIB,)))
        refused(server, evil_client(evil_client_config(certificate_compression=()), edit=edit), alert, chunk=chunk)


@pytest.mark.parametrize("victim", ["client", "server"])
def test_f2_a_compressed_certificate_where_none_was_offered_is_unexpected(victim: str) -> None:
    def edit(kind: int, raw: bytes) -> bytes:
        return compressed_certificate(raw[HEADER_LENGTH:]) if kind == H.CERTIFICATE else raw

    if victim == "client":
        client = Connection.client(dataclasses.replace(evil_client_config(), certificate_compression=()), "evil.test")
        refused(client, evil_server(edit=edit), A.UNEXPECTED_MESSAGE)
    else:
        refused(good_server(evil_asking_server()), evil_client(evil_client_config(), edit=edit), A.UNEXPECTED_MESSAGE)


def test_f1_an_algorithm_that_gives_another_length_is_not_believed() -> None:
    """A plugged-in algorithm that does not check what the peer declared."""
    toy = (Prefixed(0xFF02),)

    def shorten(body: CompressedCertificate) -> CompressedCertificate:
        return dataclasses.replace(body, uncompressed_length=body.uncompressed_length - 2)

    evil = evil_server(
        evil_server_config(certificate_compression=toy), edit=changing_body(H.COMPRESSED_CERTIFICATE, shorten)
    )
    client = Connection.client(dataclasses.replace(evil_client_config(), certificate_compression=toy), "evil.test")
    assert "declared are" in refused(client, evil, A.BAD_CERTIFICATE).reason


def test_a_compressed_certificate_twice_is_unexpected() -> None:
    compressing = evil_server_config(certificate_compression=(ZLIB,))
    evil = evil_server(compressing, edit=replacing(H.COMPRESSED_CERTIFICATE, lambda raw: raw + raw))
    refused(good_client(), evil, A.UNEXPECTED_MESSAGE)


@pytest.mark.rfc("8879 §3", "compress_certificate has 1 to 127 different algorithms")
@pytest.mark.parametrize("data", [b"\2\0\1\0\1"[:1] + b"\0", b"\4\0\1\0\1", b"\0", b"\1\1", b"\3\0\1\0"], ids=bytes.hex)
@pytest.mark.parametrize("configured", [(), (ZLIB,)], ids=["off", "on"])
def test_compress_certificate_malformed_or_with_duplicates_is_decode_error(
    data: bytes, configured: tuple[CertificateCompression, ...]
) -> None:
    """Even where nothing is configured: what is known is decoded."""

    def change(hello: ClientHello) -> ClientHello:
        kept = tuple(e for e in hello.extensions if e.extension_type != E.COMPRESS_CERTIFICATE)
        return dataclasses.replace(hello, extensions=(*kept, Extension(E.COMPRESS_CERTIFICATE, data)))

    server = good_server(evil_server_config(certificate_compression=configured))
    error = refused(server, evil_client(edit=changing_body(H.CLIENT_HELLO, change)), A.DECODE_ERROR)
    assert isinstance(error, PeerError)
    assert "compress_certificate" in error.reason


@pytest.mark.parametrize("algorithms", [(ZLIB, ZLIB), (Prefixed(-1),), (Prefixed(2**16),)], ids=["twice", "-1", "2^16"])
def test_config_refuses_algorithms_that_cannot_be_offered(algorithms: Any) -> None:
    with pytest.raises(UsageError, match="different code points"):
        client_config(certificate_compression=algorithms)
    with pytest.raises(UsageError, match="different code points"):
        server_config(client_certificate_compression=algorithms)


# ---- in words --------------------------------------------------------------------------------------------------------


def test_the_ladder_says_what_travelled_and_for_whom() -> None:
    _, client, _ = shaken(client_config(), server_config())
    text = "\n".join(plain(one) for one in ladder(client.events, width=100))
    assert "CompressedCertificate" in text
    assert "algorithm    zlib" in text
    assert f"leaf         {NAME} (EC secp256r1), issued by Pair test intermediate" in text
    assert "was compressed with zlib" in text
