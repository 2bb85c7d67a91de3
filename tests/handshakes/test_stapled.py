"""OCSP responses and SCTs that come with a leaf (RFC 9846 §4.5.1.1, RFC 6066 §8, RFC 6962 §3.3), both ways."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest

from pellucid import Connection, Credential
from pellucid.config import ClientAuthentication
from pellucid.crypto.compression import ZLIB
from pellucid.crypto.pyca import PYCA
from pellucid.errors import InternalError, UsageError
from pellucid.explain.ladder import ladder
from pellucid.explain.recorder import Recorder
from pellucid.explain.text import plain
from pellucid.messages import extensions as x
from pellucid.messages.handshake import Certificate, CertificateRequest, ClientHello, Extension
from pellucid.registry import AlertDescription as A
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.trace import ChoiceMade, Direction, MessageTraced
from pellucid.verify.request import VerificationRequest
from pellucid.verify.webpki import WebPKIVerifier
from tests.illegal.evil import (
    asking_server,
    changing_body,
    client_with_certificate,
    evil_client,
    evil_server,
    good_client,
    good_server,
    refused,
)
from tests.illegal.evil import client_config as evil_client_config
from tests.support.pair import (
    Chunking,
    Pair,
    all_at_once,
    asking_server_config,
    authority,
    client_config,
    credential,
    events_of,
    issued,
    server_config,
)

STAPLE = authority().ocsp_response(issued("p256"))
UNAUTHORIZED = b"0\x03\n\x01\x06"  # a short OCSPResponse: its responder says "unauthorized"
CLIENT_STAPLE = authority().ocsp_response(issued("p384"))
SCTS = (b"first sct", b"second")
STAPLED = dataclasses.replace(credential(), ocsp_response=STAPLE, scts=SCTS)
ASKING: dict[str, Any] = {"request_ocsp": True, "request_scts": True}


class Watching:
    """The usual verifier, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[VerificationRequest] = []
        self._verifier = WebPKIVerifier(authority().trust)

    def verify(self, request: VerificationRequest) -> Any:
        self.asked.append(request)
        return self._verifier.verify(request)

    @property
    def authorities(self) -> Any:
        return self._verifier.authorities


def shaken(client: Any, server: Any, chunking: Chunking = all_at_once) -> tuple[Pair, Recorder, Recorder]:
    traces = Recorder(), Recorder()
    pair = Pair.of(client, server, chunking=chunking, client_trace=traces[0], server_trace=traces[1]).connect()
    return pair, *traces


def sent(recorder: Recorder, kind: int) -> Any:
    (body,) = (
        event.body
        for event in recorder.of(MessageTraced)
        if event.direction is Direction.SENT and event.message_type == kind
    )
    return body


def choices(recorder: Recorder) -> dict[str, tuple[str, str]]:
    return {event.what: (event.chosen, event.reason) for event in recorder.of(ChoiceMade)}


PLAIN: dict[str, Any] = {"certificate_compression": ()}


# ---- the server's ----------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.5.1.1", "the server's status_request is a CertificateStatus in the entry of its certificate")
@pytest.mark.rfc("9846 §4.5.1.1", "SCTs are in the entry of the certificate they are for")
def test_server_staples_to_its_leaf_what_the_client_asks_for(chunking: Chunking) -> None:
    watching = Watching()
    pair, client, server = shaken(
        client_config(verifier=watching), server_config(credentials=(STAPLED,), **PLAIN), chunking
    )
    body: Certificate = sent(server, H.CERTIFICATE)
    leaf, *others = body.certificate_list
    assert [extension.extension_type for extension in leaf.extensions] == [
        E.STATUS_REQUEST,
        E.SIGNED_CERTIFICATE_TIMESTAMP,
    ]
    assert leaf.extensions[0].extension_data == b"\1" + len(STAPLE).to_bytes(3, "big") + STAPLE
    assert leaf.extensions[1].extension_data == b"\0\x13\0\x09first sct\0\6second"
    assert others
    assert not any(entry.extensions for entry in others)
    (asked,) = watching.asked
    assert (asked.ocsp_response, asked.scts) == (STAPLE, SCTS)
    negotiated: Any = pair.client.negotiated
    assert (negotiated.peer_ocsp_response, negotiated.peer_scts) == (STAPLE, SCTS)
    size = f"{len(STAPLE)} bytes"
    assert choices(server)["ocsp_response"] == (size, "the peer asked for it, and it goes with our leaf")
    assert choices(server)["scts"][0] == "2"
    assert choices(client)["peer_ocsp_response"] == (size, "asked for, and it came with the peer's leaf")
    assert choices(client)["peer_scts"][0] == "2"


def test_server_staple_travels_compressed_too(chunking: Chunking) -> None:
    compressing = server_config(credentials=(STAPLED,), certificate_compression=(ZLIB,))
    pair, _, server = shaken(client_config(), compressing, chunking)
    assert sent(server, H.COMPRESSED_CERTIFICATE).algorithm == 1
    negotiated: Any = pair.client.negotiated
    assert (negotiated.peer_ocsp_response, negotiated.peer_scts) == (STAPLE, SCTS)


@pytest.mark.rfc("6066 §8", "a client asks with a CertificateStatusRequest of type ocsp")
@pytest.mark.rfc("6962 §3.3.1", "a client asks for SCTs with an empty extension")
def test_client_asks_for_both_by_default() -> None:
    _, client, _ = shaken(client_config(), server_config())
    hello: ClientHello = sent(client, H.CLIENT_HELLO)
    found = {extension.extension_type: extension.extension_data for extension in hello.extensions}
    assert found[E.STATUS_REQUEST] == b"\1\0\0\0\0"
    assert found[E.SIGNED_CERTIFICATE_TIMESTAMP] == b""
    assert choices(client)["peer_ocsp_response"] == ("none", "asked for, and the peer sent none")
    assert choices(client)["peer_scts"][0] == "none"


@pytest.mark.rfc("9846 §4.3", "an extension is sent only in response to the peer's")
@pytest.mark.parametrize("ocsp", [False, True])
@pytest.mark.parametrize("scts", [False, True])
def test_server_staples_nothing_that_the_client_did_not_ask_for(chunking: Chunking, ocsp: bool, scts: bool) -> None:
    pair, client, server = shaken(
        client_config(request_ocsp=ocsp, request_scts=scts), server_config(credentials=(STAPLED,)), chunking
    )
    negotiated: Any = pair.client.negotiated
    assert negotiated.peer_ocsp_response == (STAPLE if ocsp else None)
    assert negotiated.peer_scts == (SCTS if scts else ())
    if not ocsp:
        assert choices(server)["ocsp_response"] == ("none", "the peer did not ask for it")
        assert "peer_ocsp_response" not in choices(client)
    if not scts:
        assert choices(server)["scts"] == ("none", "the peer did not ask for it")
        assert "peer_scts" not in choices(client)


def test_server_without_a_staple_sends_none(chunking: Chunking) -> None:
    pair, _, server = shaken(client_config(), server_config(**PLAIN), chunking)
    assert not any(entry.extensions for entry in sent(server, H.CERTIFICATE).certificate_list)
    assert choices(server)["ocsp_response"] == ("none", "the credential has none")
    negotiated: Any = pair.client.negotiated
    assert (negotiated.peer_ocsp_response, negotiated.peer_scts) == (None, ())


def test_server_asks_a_function_for_the_present_response() -> None:
    now = datetime.datetime.now(datetime.UTC)
    staples = [authority().ocsp_response(issued("p256"), this_update=now - datetime.timedelta(hours=h)) for h in (2, 1)]
    assert staples[0] != staples[1]
    answers = iter((*staples, None))
    refreshed = dataclasses.replace(credential(), ocsp_response=lambda: next(answers))
    config = server_config(credentials=(refreshed,))
    found = []
    for _ in range(3):
        pair, _, server = shaken(client_config(), config)
        found.append(pair.client.negotiated.peer_ocsp_response)  # type: ignore[union-attr]
    assert found == [*staples, None]
    assert choices(server)["ocsp_response"] == ("none", "there is none at present")


def test_server_does_not_ask_the_function_for_a_client_that_does_not_want_it() -> None:
    def never() -> bytes:
        raise AssertionError("nobody wants it")

    config = server_config(credentials=(dataclasses.replace(credential(), ocsp_response=never),))
    shaken(client_config(request_ocsp=False), config)


@pytest.mark.parametrize("answer", [b"", "text", 5], ids=repr)
def test_server_function_that_gives_no_bytes_is_an_internal_error(answer: Any) -> None:
    broken = dataclasses.replace(credential(), ocsp_response=lambda: answer)
    pair = Pair.of(client_config(), server_config(credentials=(broken,)))
    pair.pump()
    _, error = events_of(pair.server)
    assert isinstance(error, InternalError)


@pytest.mark.rfc("9846 §4.5.1.1", "status_request_v2 is not acted upon, and may stand in ClientHello")
def test_server_ignores_status_request_v2_and_unknown_kinds_of_status(chunking: Chunking) -> None:
    """RFC 6066 §8: a type that is not known may have any request behind it."""
    hello_edit = changing_body(
        H.CLIENT_HELLO,
        lambda hello: dataclasses.replace(
            hello,
            extensions=(
                *(e for e in hello.extensions if e.extension_type != E.STATUS_REQUEST),
                Extension(E.STATUS_REQUEST, b"\2whatever"),
                Extension(17, b"\0\7\2\0\4\0\0\0\0"),
            ),
        ),
    )
    client = evil_client(evil_client_config(trust=authority().trust), edit=hello_edit, name="pair.test")
    trace = Recorder()
    server = Connection.server(server_config(credentials=(STAPLED,)), trace=trace)
    Pair(client, server, chunking).connect()
    assert choices(trace)["ocsp_response"] == ("none", "the peer did not ask for it")


# ---- the client's ----------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.5.1.1", "a server asks for a client's OCSP response with an empty status_request")
@pytest.mark.rfc("9846 §4.5.1.1", "a client's status_request is a CertificateStatus too")
def test_client_staples_what_the_server_asks_for(chunking: Chunking) -> None:
    watching = Watching()
    own = dataclasses.replace(credential("p384"), ocsp_response=CLIENT_STAPLE, scts=SCTS)
    server_side = asking_server_config(verifier=watching, **ASKING)
    pair, client, server = shaken(client_config(credentials=(own,)), server_side, chunking)
    request: CertificateRequest = sent(server, H.CERTIFICATE_REQUEST)
    asked = {e.extension_type: e.extension_data for e in request.extensions}
    assert (asked[E.STATUS_REQUEST], asked[E.SIGNED_CERTIFICATE_TIMESTAMP]) == (b"", b"")
    assert (watching.asked[0].ocsp_response, watching.asked[0].scts) == (CLIENT_STAPLE, SCTS)
    negotiated: Any = pair.server.negotiated
    assert (negotiated.peer_ocsp_response, negotiated.peer_scts) == (CLIENT_STAPLE, SCTS)
    assert choices(client)["ocsp_response"][0] == f"{len(CLIENT_STAPLE)} bytes"
    assert choices(server)["peer_scts"][0] == "2"


def test_client_staples_nothing_to_a_server_that_does_not_ask(chunking: Chunking) -> None:
    own = dataclasses.replace(credential("p384"), ocsp_response=CLIENT_STAPLE, scts=SCTS)
    pair, client, server = shaken(client_config(credentials=(own,)), asking_server_config(), chunking)
    asked = {e.extension_type for e in sent(server, H.CERTIFICATE_REQUEST).extensions}
    assert not asked & {E.STATUS_REQUEST, E.SIGNED_CERTIFICATE_TIMESTAMP}
    assert choices(client)["ocsp_response"] == ("none", "the peer did not ask for it")
    negotiated: Any = pair.server.negotiated
    assert (negotiated.peer_ocsp_response, negotiated.peer_scts) == (None, ())


def test_client_without_a_certificate_staples_nothing() -> None:
    optional = asking_server_config(client_authentication=ClientAuthentication.OPTIONAL, **ASKING)
    pair = shaken(client_config(), optional)[0]
    negotiated: Any = pair.server.negotiated
    assert (negotiated.peer, negotiated.peer_ocsp_response, negotiated.peer_scts) == (None, None, ())


# ---- what is refused, and what is not looked at ----------------------------------------------------------------------

MALFORMED = {
    "status-empty": (E.STATUS_REQUEST, b""),
    "status-type-only": (E.STATUS_REQUEST, b"\1"),
    "ocsp-response-empty": (E.STATUS_REQUEST, b"\1\0\0\0"),
    "ocsp-response-cut": (E.STATUS_REQUEST, b"\1\0\0\5" + UNAUTHORIZED[:4]),
    "ocsp-response-and-more": (E.STATUS_REQUEST, b"\1\0\0\5" + UNAUTHORIZED + b"\0"),
    "another-status-type": (E.STATUS_REQUEST, b"\2\0\0\5" + UNAUTHORIZED),
    "scts-empty": (E.SIGNED_CERTIFICATE_TIMESTAMP, b""),
    "sct-list-empty": (E.SIGNED_CERTIFICATE_TIMESTAMP, b"\0\0"),
    "sct-empty": (E.SIGNED_CERTIFICATE_TIMESTAMP, b"\0\6\0\2\1\2\0\0"),
    "sct-cut": (E.SIGNED_CERTIFICATE_TIMESTAMP, b"\0\4\0\3\1\2"),
    "sct-list-and-more": (E.SIGNED_CERTIFICATE_TIMESTAMP, b"\0\4\0\2\1\2\0"),
}


def on_entry(index: int, *extensions: Extension) -> Any:
    def change(certificate: Certificate) -> Certificate:
        entries = list(certificate.certificate_list)
        entries[index] = dataclasses.replace(entries[index], extensions=extensions)
        return dataclasses.replace(certificate, certificate_list=tuple(entries))

    return changing_body(H.CERTIFICATE, change)


@pytest.mark.rfc("9846 §4.5.1.1", "what comes with a certificate is a CertificateStatus or a list of SCTs, whole")
@pytest.mark.parametrize("chunk", [None, 1], ids=["whole", "1-byte"])
@pytest.mark.parametrize("victim", ["client", "server"])
@pytest.mark.parametrize(("code", "data"), MALFORMED.values(), ids=list(MALFORMED))
def test_malformed_staple_is_decode_error(victim: str, code: int, data: bytes, chunk: int | None) -> None:
    edit = on_entry(0, Extension(code, data))
    if victim == "client":
        refused(good_client(), evil_server(edit=edit), A.DECODE_ERROR, chunk=chunk)
    else:
        server = good_server(asking_server(**ASKING))
        refused(server, evil_client(client_with_certificate(), edit=edit), A.DECODE_ERROR, chunk=chunk)


@pytest.mark.rfc("9846 §4.3", "an unrequested extension of a certificate is unsupported_extension")
@pytest.mark.parametrize("index", [0, 1], ids=["leaf", "issuer"])
@pytest.mark.parametrize("victim", ["client", "server"])
@pytest.mark.parametrize("extension", [x.OCSP_RESPONSE.extension(STAPLE), x.SCTS.extension(SCTS)], ids=["ocsp", "scts"])
def test_f15_a_staple_that_nobody_asked_for_is_refused(victim: str, extension: Extension, index: int) -> None:
    edit = on_entry(index, extension)
    chained = (credential(),)
    if victim == "client":
        incurious = client_config(request_ocsp=False, request_scts=False)
        evil = evil_server(server_config(credentials=chained, **PLAIN), edit=edit)
        refused(Connection.client(incurious, "pair.test"), evil, A.UNSUPPORTED_EXTENSION)
    else:
        evil = evil_client(client_config(credentials=chained), edit=edit, name="pair.test")
        refused(Connection.server(asking_server_config()), evil, A.UNSUPPORTED_EXTENSION)


def test_a_staple_of_an_issuer_is_decoded_and_not_taken_for_the_leafs() -> None:
    chained = server_config(credentials=(STAPLED,), **PLAIN)

    def change(certificate: Certificate) -> Certificate:
        leaf, issuer = certificate.certificate_list
        other = (x.OCSP_RESPONSE.extension(b"0\0"), x.SCTS.extension((b"other",)))
        return dataclasses.replace(certificate, certificate_list=(leaf, dataclasses.replace(issuer, extensions=other)))

    client = Connection.client(client_config(), "pair.test")
    Pair(client, evil_server(chained, edit=changing_body(H.CERTIFICATE, change))).connect()
    negotiated: Any = client.negotiated
    assert (negotiated.peer_ocsp_response, negotiated.peer_scts) == (STAPLE, SCTS)


def test_a_malformed_staple_of_an_issuer_is_decode_error() -> None:
    evil = evil_server(
        server_config(credentials=(STAPLED,), **PLAIN), edit=on_entry(1, Extension(E.STATUS_REQUEST, b"\1"))
    )
    refused(Connection.client(client_config(), "pair.test"), evil, A.DECODE_ERROR)


def test_a_staple_twice_is_decode_error() -> None:
    twice = x.OCSP_RESPONSE.extension(STAPLE)
    refused(good_client(), evil_server(edit=on_entry(0, twice, twice)), A.DECODE_ERROR)


@pytest.mark.rfc("6066 §8", "a CertificateStatusRequest of type ocsp is an OCSPStatusRequest")
@pytest.mark.parametrize(
    "data", [b"", b"\1", b"\1\0\0", b"\1\0\0\0\0\0", b"\1\0\2\0\0\0\0", b"\1\0\1\0\0\0"], ids=bytes.hex
)
def test_malformed_status_request_of_a_client_is_decode_error(data: bytes) -> None:
    def change(hello: ClientHello) -> ClientHello:
        kept = tuple(e for e in hello.extensions if e.extension_type != E.STATUS_REQUEST)
        return dataclasses.replace(hello, extensions=(*kept, Extension(E.STATUS_REQUEST, data)))

    refused(good_server(), evil_client(edit=changing_body(H.CLIENT_HELLO, change)), A.DECODE_ERROR)


@pytest.mark.parametrize("code", [E.STATUS_REQUEST, E.SIGNED_CERTIFICATE_TIMESTAMP], ids=["ocsp", "scts"])
def test_request_of_a_server_that_is_not_empty_is_decode_error(code: int) -> None:
    def change(request: CertificateRequest) -> CertificateRequest:
        return dataclasses.replace(request, extensions=(*request.extensions, Extension(code, b"\1\0\0\0\0")))

    evil = evil_server(asking_server(), edit=changing_body(H.CERTIFICATE_REQUEST, change))
    refused(good_client(client_with_certificate()), evil, A.DECODE_ERROR)


@pytest.mark.parametrize("code", [E.STATUS_REQUEST, E.SIGNED_CERTIFICATE_TIMESTAMP], ids=["ocsp", "scts"])
def test_an_answer_in_encrypted_extensions_has_no_place_there(code: int) -> None:
    """RFC 9846 §4.5.1.1: where TLS 1.2 answered in the hello, TLS 1.3 does not."""
    edit = changing_body(
        H.ENCRYPTED_EXTENSIONS,
        lambda body: dataclasses.replace(body, extensions=(*body.extensions, Extension(code, b""))),
    )
    refused(good_client(), evil_server(edit=edit), A.ILLEGAL_PARAMETER)


# ---- configuration, and in words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"ocsp_response": b""}, {"scts": (b"",)}, {"scts": (bytes(2**16),)}, {"scts": (bytes(40_000), bytes(40_000))}],
    ids=["no-response", "empty-sct", "long-sct", "long-list"],
)
def test_credential_refuses_what_cannot_be_sent(changes: Any) -> None:
    with pytest.raises(UsageError, match="bytes"):
        dataclasses.replace(credential(), **changes)


def test_credential_shows_neither_staple_nor_scts_in_its_repr() -> None:
    assert isinstance(STAPLED, Credential)
    assert "sct" not in repr(STAPLED)
    assert repr(STAPLED) == repr(credential())


def test_the_ladder_says_what_came_with_the_leaf() -> None:
    _, client, _ = shaken(client_config(provider=PYCA), server_config(credentials=(STAPLED,), **PLAIN))
    text = "\n".join(plain(one) for one in ladder(client.events, width=100))
    assert "asks for     an OCSP response, SCTs" in text
    assert f"ocsp         {len(STAPLE)} bytes" in text
    assert "scts         2 in 15 bytes" in text
