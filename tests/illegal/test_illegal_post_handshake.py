"""Post-handshake authentication by peers that cheat: unasked, interrupted, replayed, without end (RFC 9846 §4.7.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from pellucid import (
    ApplicationData,
    CertificateRequested,
    Connection,
    CredentialNeeded,
    HandshakeComplete,
    PeerAuthenticated,
)
from pellucid.config import ClientConfig
from pellucid.crypto.provider import PENDING
from pellucid.handshake.actions import SendMessage
from pellucid.limits import MAX_CERTIFICATE_REQUESTS, MAX_OPEN_CERTIFICATE_REQUESTS
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    Extension,
    Finished,
    KeyUpdate,
    handshake_message,
    message_type,
)
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType
from pellucid.registry import HandshakeType as H
from tests.illegal.evil import (
    Evil,
    asking_server,
    changing_body,
    changing_extensions,
    client_config,
    client_with_certificate,
    connected,
    credential,
    deliver,
    drain,
    evil_client,
    evil_server,
    exchange,
    good_client,
    good_server,
    later_server,
    message,
    refused,
    replacing,
    server_config,
)

UM = A.UNEXPECTED_MESSAGE
SECTION = "9846 §4.7.2"
chunks = pytest.mark.parametrize("chunk", [None, 1], ids=["at-once", "1-byte"])


def willing(**changes: Any) -> ClientConfig:
    return client_config(**{"post_handshake_auth": True, "credentials": (credential(),)} | changes)


def asked(evil: Evil, server: Connection | None = None, **more: Any) -> Connection:
    """A server that has shaken hands with *evil* and asked it for its certificate."""
    server = server or good_server(later_server())
    connected(server, evil)
    server.request_client_certificate(**more)
    return server


def asking() -> tuple[Connection, Evil]:
    """A client that may be asked, and a server that says what it likes."""
    client, evil = good_client(willing()), evil_server(later_server())
    connected(client, evil)
    return client, evil


def request(name: bytes = b"name", *, schemes: tuple[int, ...] | None = (0x0403,), extra: Any = ()) -> bytes:
    extensions = () if schemes is None else (x.SIGNATURE_ALGORITHMS.extension(schemes),)
    return handshake_message(CertificateRequest(name, (*extensions, *extra)))


# ---- the client's side -----------------------------------------------------------------------------------------------


@pytest.mark.rfc(SECTION, "a CertificateRequest to a client that did not offer it is unexpected_message")
@chunks
def test_client_that_did_not_offer_refuses_a_request(chunk: int | None) -> None:
    client, evil = good_client(client_with_certificate()), evil_server(later_server())
    connected(client, evil)
    evil.record(ContentType.HANDSHAKE, request())
    refused(client, evil, UM, chunk=chunk)


def test_client_refuses_a_request_from_its_header_where_none_may_come() -> None:
    client, evil = good_client(client_with_certificate()), evil_server(later_server())
    connected(client, evil)
    evil.record(ContentType.HANDSHAKE, bytes((H.CERTIFICATE_REQUEST, 0, 0x7F, 0xFF)))
    refused(client, evil, UM)


@pytest.mark.rfc("9846 §4.4.2", "a CertificateRequest without signature_algorithms is refused")
@chunks
def test_request_without_signature_algorithms_is_refused(chunk: int | None) -> None:
    client, evil = asking()
    evil.record(ContentType.HANDSHAKE, request(schemes=None))
    refused(client, evil, A.MISSING_EXTENSION, chunk=chunk)


def test_request_with_an_extension_that_may_not_stand_there_is_refused() -> None:
    client, evil = asking()
    evil.record(ContentType.HANDSHAKE, request(extra=(x.POST_HANDSHAKE_AUTH.extension(True),)))
    refused(client, evil, A.ILLEGAL_PARAMETER)


@pytest.mark.rfc("9846 §4.4.2", "certificate_request_context is unique within the connection")
def test_context_that_is_open_already_is_illegal_parameter() -> None:
    client, evil = good_client(willing(credential_resolver=lambda _: PENDING)), evil_server(later_server())
    connected(client, evil)
    for _ in range(2):
        evil.record(ContentType.HANDSHAKE, request(b"the same"))
    refused(client, evil, A.ILLEGAL_PARAMETER)


@chunks
def test_requests_without_end_are_refused(chunk: int | None) -> None:
    """Each costs a signature: so many in a row, and no more; data in between shows that there is a purpose."""
    client, evil = asking()
    for round_ in range(2):
        for number in range(MAX_CERTIFICATE_REQUESTS):
            evil.record(ContentType.HANDSHAKE, request(bytes((round_, number))))
        evil.send_data(b"progress")
    evil.record(ContentType.HANDSHAKE, request(b"x"))
    deliver(evil.data_to_send(), client, chunk)
    seen, error = drain(client)
    assert error is None and seen.count(ApplicationData(b"progress")) == 2
    assert len(seen) == 2 + 2 * MAX_CERTIFICATE_REQUESTS + 1
    client.data_to_send()
    for number in range(MAX_CERTIFICATE_REQUESTS):
        evil.record(ContentType.HANDSHAKE, request(bytes((3, number))))
    deliver(evil.data_to_send(), client, chunk)
    refused(client, None, UM)


def test_requests_that_stay_open_without_end_are_refused() -> None:
    """Data in between does not help: what is waited for is kept."""
    client, evil = good_client(willing(credential_resolver=lambda _: PENDING)), evil_server(later_server())
    connected(client, evil)
    for number in range(MAX_OPEN_CERTIFICATE_REQUESTS):
        evil.record(ContentType.HANDSHAKE, request(bytes((number,))))
        evil.send_data(b"progress")
    exchange(client, evil)
    seen, error = drain(client)
    assert error is None and len(seen) == 3 * MAX_OPEN_CERTIFICATE_REQUESTS
    evil.record(ContentType.HANDSHAKE, request(b"one more"))
    refused(client, evil, UM)


def test_empty_context_and_the_longest_one_are_answered() -> None:
    """§4.4.2: opaque certificate_request_context<0..2^8-1>."""
    for name in (b"", b"c" * 255):
        client, evil = asking()
        evil.record(ContentType.HANDSHAKE, request(name))
        deliver(evil.data_to_send(), client)
        seen, error = drain(client)
        assert error is None and [type(event) for event in seen] == [CertificateRequested]
        assert client.data_to_send()
    client, evil = asking()
    evil.record(ContentType.HANDSHAKE, message(H.CERTIFICATE_REQUEST, b"\xff" + b"c" * 200 + b"\0\0"))
    refused(client, evil, A.DECODE_ERROR)


# ---- the server's side -----------------------------------------------------------------------------------------------


@pytest.mark.rfc(SECTION, "an unsolicited post-handshake message is unexpected_message")
@pytest.mark.parametrize("kind", [H.CERTIFICATE, H.COMPRESSED_CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED])
@chunks
def test_server_that_did_not_ask_refuses_an_answer(kind: int, chunk: int | None) -> None:
    server, evil = good_server(later_server()), evil_client(willing())
    connected(server, evil)
    evil.record(ContentType.HANDSHAKE, message(kind, bytes(8)))
    refused(server, evil, UM, chunk=chunk)


@pytest.mark.rfc("9846 §4.5.1", "Certificate has the context of the CertificateRequest")
@pytest.mark.parametrize("context", [lambda c: b"", lambda c: c[:-1], lambda c: c + b"\0", lambda c: b"x" + c[1:]])
@chunks
def test_answer_with_a_context_that_is_not_open_is_illegal_parameter(
    context: Callable[[bytes], bytes], chunk: int | None
) -> None:
    def change(body: Certificate) -> Certificate:
        return dataclasses.replace(body, certificate_request_context=context(body.certificate_request_context))

    evil = evil_client(willing(), edit=changing_body(H.CERTIFICATE, change))
    refused(asked(evil), evil, A.ILLEGAL_PARAMETER, chunk=chunk)


@pytest.mark.rfc("9846 §4.4.2", "certificate_request_context is unique: an answer is not replayed")
@pytest.mark.parametrize("open_request", [False, True])
def test_answer_that_comes_twice_is_refused(open_request: bool) -> None:
    evil = evil_client(willing())
    server = asked(evil)
    exchange(server, evil)
    seen, error = drain(server)
    assert error is None and isinstance(seen[0], PeerAuthenticated)
    answer = b"".join(evil.sent[-3:])
    if open_request:
        server.request_client_certificate()
        deliver(server.data_to_send(), evil)
        evil.data_to_send()
        server._reader._keys.sequence = evil.writing_keys.sequence  # type: ignore[union-attr]
    evil.record(ContentType.HANDSHAKE, answer)
    refused(server, evil, A.ILLEGAL_PARAMETER if open_request else UM)


def test_answer_of_another_connection_is_refused() -> None:
    """Its context is put right; its transcript is the other connection's."""
    other = evil_client(willing())
    exchange(asked(other), other)
    stolen = {message_type(raw): raw for raw in other.sent[-3:]}

    def replay(evil: Evil, actions: list[Any]) -> list[Any]:
        return [
            SendMessage(action.epoch, stolen[message_type(action.raw)])
            if isinstance(action, SendMessage) and message_type(action.raw) == H.CERTIFICATE_VERIFY
            else action
            for action in actions
        ]

    evil = evil_client(willing(), rewrite=replay)
    refused(asked(evil), evil, A.DECRYPT_ERROR)


@pytest.mark.parametrize("kind", [H.CERTIFICATE_VERIFY, H.FINISHED])
@chunks
def test_wrong_proof_is_decrypt_error(kind: int, chunk: int | None) -> None:
    evil = evil_client(willing())
    server = asked(evil)
    evil.edit = replacing(kind, lambda raw: raw[:-1] + bytes((raw[-1] ^ 1,)))
    refused(server, evil, A.DECRYPT_ERROR, chunk=chunk)


@pytest.mark.rfc("9846 §4.5", "the base key of Finished is the application traffic secret it is sent under")
@pytest.mark.parametrize("update", [False, True])
def test_finished_under_the_secret_of_the_handshake_or_of_before_is_decrypt_error(update: bool) -> None:
    """The one before the KeyUpdate, and the server's own: each is a wrong base key."""
    evil = evil_client(willing())
    server = asked(evil)
    phase: Any = evil._handshake.phase
    wrong = phase.sending if update else phase.receiving
    if update:
        evil.send_key_update()

    def sign_otherwise(this: Evil, actions: list[Any]) -> list[Any]:
        return [
            SendMessage(action.epoch, handshake_message(Finished(wrong.verify_data(_answer_hash(this, server)))))
            if isinstance(action, SendMessage) and message_type(action.raw) == H.FINISHED
            else action
            for action in actions
        ]

    evil.rewrite = sign_otherwise
    refused(server, evil, A.DECRYPT_ERROR)


def _answer_hash(evil: Evil, server: Connection) -> bytes:
    """The hash up to the answer's Finished, as the server will see it."""
    transcript = evil._context.transcript.fork()
    transcript.add(evil.received)
    for raw in evil.sent[-2:]:
        transcript.add(raw)
    return transcript.digest()


# what stands between the answer's messages → how it is put there
INTERRUPTIONS: dict[str, Callable[[Evil], None]] = {
    "data": lambda evil: evil.record(ContentType.APPLICATION_DATA, b"now"),
    "empty data": lambda evil: evil.record(ContentType.APPLICATION_DATA, b""),
    "much data": lambda evil: evil.record(ContentType.APPLICATION_DATA, bytes(2**14)),
    "KeyUpdate": lambda evil: evil.record(ContentType.HANDSHAKE, handshake_message(KeyUpdate(0))),
    "another Certificate": lambda evil: evil.record(ContentType.HANDSHAKE, handshake_message(Certificate(b"", ()))),
    "change_cipher_spec": lambda evil: evil.plaintext(ContentType.CHANGE_CIPHER_SPEC, b"\1"),
}


@pytest.mark.rfc(SECTION, "nothing comes between the messages of an answer")
@pytest.mark.parametrize("what", INTERRUPTIONS)
@pytest.mark.parametrize("before", [H.CERTIFICATE_VERIFY, H.FINISHED])
@chunks
def test_nothing_may_come_between_the_messages_of_an_answer(what: str, before: int, chunk: int | None) -> None:
    def interrupt(evil: Evil, actions: list[Any]) -> list[Any]:
        changed: list[Any] = []
        for action in actions:
            if isinstance(action, SendMessage) and message_type(action.raw) == before:
                changed.append(INTERRUPTIONS[what])
            changed.append(action)
        return changed

    evil = evil_client(willing())
    server = asked(evil)
    evil.rewrite = interrupt
    refused(server, evil, UM, chunk=chunk)
    assert server.peer is None


def test_message_of_another_answer_in_between_is_refused() -> None:
    """Two requests, and the messages of the two answers shuffled."""
    evil = evil_client(willing(credential_resolver=lambda _: PENDING))
    server = asked(evil)
    server.request_client_certificate()
    held: list[Any] = []

    def shuffle(this: Evil, actions: list[Any]) -> list[Any]:
        mine = [action for action in actions if isinstance(action, SendMessage)]
        if len(mine) != 3:
            return actions
        held.append(mine)
        return [] if len(held) == 1 else [m for two in zip(held[0], held[1], strict=True) for m in two]

    evil.rewrite = shuffle
    deliver(server.data_to_send(), evil)
    pauses = [event for event in drain(evil)[0] if isinstance(event, CredentialNeeded)]
    assert len(pauses) == 2
    for pause in pauses:
        evil.resume(credential(), pause.need)
    refused(server, evil, UM)


def test_close_between_the_messages_of_an_answer_leaves_the_client_unknown() -> None:
    def close(evil: Evil, actions: list[Any]) -> list[Any]:
        if any(isinstance(a, SendMessage) and message_type(a.raw) == H.FINISHED for a in actions):
            return [*actions[:-1], Evil.close]
        return actions

    evil = evil_client(willing())
    server = asked(evil)
    evil.rewrite = close
    exchange(server, evil)
    seen, error = drain(server)
    assert error is None and not [event for event in seen if isinstance(event, PeerAuthenticated)]
    assert server.peer is None and server.peer_closed


def test_answer_that_does_not_say_who_is_no_authentication() -> None:
    """A CertificateVerify and a Finished without a Certificate; a Certificate and a Finished without the proof."""
    for missing in (H.CERTIFICATE, H.CERTIFICATE_VERIFY):
        evil = evil_client(willing())
        server = asked(evil)
        evil.edit = replacing(missing, lambda raw: b"")
        refused(server, evil, UM)


@chunks
def test_declining_where_a_certificate_is_required_is_certificate_required(chunk: int | None) -> None:
    evil = evil_client(willing(credentials=()))
    refused(asked(evil, required=True), evil, A.CERTIFICATE_REQUIRED, chunk=chunk)


def test_certificate_verify_of_an_algorithm_not_offered_is_illegal_parameter() -> None:
    evil = evil_client(willing())
    server = asked(evil, good_server(later_server(signature_schemes=(0x0403, 0x0807))))
    evil.edit = changing_body(H.CERTIFICATE_VERIFY, lambda body: CertificateVerify(0x0503, body.signature))
    refused(server, evil, A.ILLEGAL_PARAMETER)


def test_extension_in_the_certificate_that_was_not_asked_for_is_refused() -> None:
    def staple(body: Certificate) -> Certificate:
        first = dataclasses.replace(body.certificate_list[0], extensions=(x.OCSP_RESPONSE.extension(b"x"),))
        return dataclasses.replace(body, certificate_list=(first, *body.certificate_list[1:]))

    evil = evil_client(willing(), edit=changing_body(H.CERTIFICATE, staple))
    refused(asked(evil), evil, A.UNSUPPORTED_EXTENSION)


@pytest.mark.rfc("9846 §4.3.6", "a server never sends post_handshake_auth")
def test_server_that_answers_the_extension_is_refused() -> None:
    extension = x.POST_HANDSHAKE_AUTH.extension(True)
    for kind in (H.SERVER_HELLO, H.ENCRYPTED_EXTENSIONS, H.CERTIFICATE_REQUEST):
        edit = changing_body(kind, lambda body: dataclasses.replace(body, extensions=(*body.extensions, extension)))
        evil = evil_server(asking_server() if kind == H.CERTIFICATE_REQUEST else later_server(), edit=edit)
        refused(good_client(willing()), evil, A.ILLEGAL_PARAMETER, A.UNSUPPORTED_EXTENSION)


def test_body_in_the_extension_is_decode_error() -> None:
    def fill(extensions: list[Extension]) -> list[Extension]:
        return [Extension(49, b"\0") if one.extension_type == 49 else one for one in extensions]

    edit = changing_extensions(H.CLIENT_HELLO, fill)
    evil = evil_client(willing(), edit=edit)
    refused(good_server(server_config()), evil, A.DECODE_ERROR)


def test_half_an_answer_and_silence_is_a_connection_like_another() -> None:
    """Nothing is concluded from what has not come; our direction stays open."""
    evil = evil_client(willing())
    server = asked(evil)
    evil.rewrite = lambda this, actions: actions[:2]  # CertificateAsked, Certificate
    exchange(server, evil)
    assert drain(server) == ([], None)
    assert server.state == "WAIT_PHA_CV"
    server.send_data(b"hello?")
    server.send_key_update()
    server.request_client_certificate()
    exchange(server, evil)
    assert ApplicationData(b"hello?") in drain(evil)[0]
    assert server.peer is None
    assert not [event for event in drain(server)[0] if isinstance(event, HandshakeComplete)]
