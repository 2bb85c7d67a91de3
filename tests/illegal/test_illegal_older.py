"""Older versions and what is left of them: versions, extensions, groups and signatures that TLS 1.3 has no use for."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pellucid import Connection
from pellucid.messages import extensions as x
from pellucid.messages.handshake import Extension, ServerHello
from pellucid.registry import AlertDescription as A
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.trace import Direction, MessageTraced
from pellucid.verify import dangerous_accept_any
from tests.illegal.evil import (
    NAME,
    asking_server,
    changing_body,
    changing_extensions,
    client_config,
    client_with_certificate,
    connected,
    credential,
    evil_client,
    evil_server,
    exchange,
    good_client,
    good_server,
    refused,
)

STATUS_REQUEST_V2, TRUNCATED_HMAC = 17, 4


# ---- versions --------------------------------------------------------------------------------------------------------


def _older(change: dict[str, Any]) -> Any:
    """A ServerHello without supported_versions, wrong in other ways too."""

    def edit(hello: ServerHello) -> ServerHello:
        kept = tuple(e for e in hello.extensions if e.extension_type != E.SUPPORTED_VERSIONS)
        return dataclasses.replace(hello, **{"extensions": kept} | change)

    return changing_body(H.SERVER_HELLO, edit)


WRONG: dict[str, dict[str, Any]] = {
    "nothing-else": {},
    "session-id": {"legacy_session_id_echo": b"another"},
    "suite": {"cipher_suite": 0xC02F},
    "compression": {"legacy_compression_method": 1},
    "no-extensions": {"extensions": ()},
    "unasked-extension": {"extensions": (Extension(0x1234, b""),)},
    "malformed-share": {"extensions": (Extension(E.KEY_SHARE, b"\0"),)},
    "tls-1.0": {"legacy_version": 0x0301},
    "ssl-3.0": {"legacy_version": 0x0300},
}


@pytest.mark.rfc("9846 §4.3.1", "a client looks for supported_versions before the rest of ServerHello")
@pytest.mark.rfc("9846 §E.1", "a version that the client does not support is protocol_version")
@pytest.mark.rfc("9846 §E.5", "SSL 2.0 to TLS 1.1 are not negotiated for any reason")
@pytest.mark.parametrize("what", WRONG)
def test_a_server_hello_of_an_older_version_is_protocol_version_whatever_else_is_wrong(what: str) -> None:
    error = refused(good_client(), evil_server(edit=_older(WRONG[what])), A.PROTOCOL_VERSION)
    assert "does not speak TLS 1.3" in str(error)


@pytest.mark.rfc("9846 §E.2", "without supported_versions a client is too old: protocol_version")
@pytest.mark.rfc("9846 §E.5", "SSL 2.0 to TLS 1.1 are not negotiated for any reason")
@pytest.mark.parametrize("version", [0x0200, 0x0300, 0x0301, 0x0302, 0x0303], ids=hex)
@pytest.mark.parametrize("extensions", [True, False], ids=["extensions", "no-extensions"])
def test_a_client_hello_of_an_older_version_is_protocol_version(version: int, extensions: bool) -> None:
    def edit(hello: Any) -> Any:
        kept = tuple(e for e in hello.extensions if extensions and e.extension_type != E.SUPPORTED_VERSIONS)
        return dataclasses.replace(hello, legacy_version=version, extensions=kept)

    refused(good_server(), evil_client(edit=changing_body(H.CLIENT_HELLO, edit)), A.PROTOCOL_VERSION)


@pytest.mark.rfc("9846 §E.5", "SSL 2.0 to TLS 1.1 are not negotiated for any reason")
@pytest.mark.parametrize("versions", [(0x0300,), (0x0301, 0x0300), (0x0302, 0x0301), (0x0303, 0x0302)], ids=str)
def test_older_versions_in_supported_versions_are_not_chosen(versions: tuple[int, ...]) -> None:
    def listing(*codes: int) -> Any:
        def change(present: list[Extension]) -> list[Extension]:
            kept = [e for e in present if e.extension_type != E.SUPPORTED_VERSIONS]
            return [x.SUPPORTED_VERSIONS.extension(codes), *kept]

        return changing_extensions(H.CLIENT_HELLO, change)

    refused(good_server(), evil_client(edit=listing(*versions)), A.PROTOCOL_VERSION)
    connected(good_server(), evil_client(edit=listing(*versions, 0x0304)))


SSL_2_HELLO = bytes.fromhex(
    "802e 01 0304 0015 0000 0010 001301 001302 001303 010080 020080 030080 04 0080".replace(" ", "")
)


@pytest.mark.rfc("9846 §E.5", "no SSL 2.0 CLIENT-HELLO leads to TLS 1.3")
@pytest.mark.parametrize("version", [b"\x00\x02", b"\x03\x01", b"\x03\x03", b"\x03\x04"], ids=bytes.hex)
def test_an_ssl_2_client_hello_is_refused_at_its_first_byte(version: bytes) -> None:
    """Whatever version it names, TLS 1.3 with its suites among them."""
    server = good_server()
    server.receive_data(SSL_2_HELLO[:3] + version + SSL_2_HELLO[5:])
    refused(server, None, A.UNEXPECTED_MESSAGE)
    server = good_server()
    server.receive_data(SSL_2_HELLO[:1])
    refused(server, None, A.UNEXPECTED_MESSAGE)


# ---- extensions ------------------------------------------------------------------------------------------------------

FLIGHT = {H.SERVER_HELLO, H.ENCRYPTED_EXTENSIONS, H.CERTIFICATE_REQUEST, H.CERTIFICATE}
LEFT_BEHIND = {
    "status_request_v2": Extension(STATUS_REQUEST_V2, b"\0\7\2\0\4\0\0\0\0"),
    "status_request_v2-malformed": Extension(STATUS_REQUEST_V2, b"\xff"),
    "truncated_hmac": Extension(TRUNCATED_HMAC, b""),
    "post_handshake_auth": Extension(E.POST_HANDSHAKE_AUTH, b""),
    "psk_key_exchange_modes": Extension(E.PSK_KEY_EXCHANGE_MODES, b"\1\1"),
}


@pytest.mark.rfc("9846 §4.5.1.1", "status_request_v2 in a ClientHello is read over, and never answered")
@pytest.mark.rfc("9846 §E.5", "truncated_hmac is neither offered nor answered")
@pytest.mark.rfc("9846 §4.3.6", "a server never sends post_handshake_auth")
@pytest.mark.rfc("9846 §4.3.9", "a server never sends psk_key_exchange_modes")
@pytest.mark.parametrize("what", LEFT_BEHIND)
def test_what_a_server_must_not_answer_changes_nothing_in_its_answer(what: str) -> None:
    def answer(*added: Extension) -> dict[int, list[int]]:
        """The types of the extensions in each of the server's messages."""
        found: dict[int, list[int]] = {}

        def note(event: object) -> None:
            if isinstance(event, MessageTraced) and event.direction is Direction.SENT and event.message_type in FLIGHT:
                body: Any = event.body
                entries = getattr(body, "certificate_list", (body,))
                found[event.message_type] = [
                    e.extension_type for entry in entries for e in getattr(entry, "extensions", ())
                ]

        edit = changing_extensions(H.CLIENT_HELLO, lambda present: [*present, *added])
        connected(
            evil_client(client_with_certificate(sessions=None), edit=edit),
            Connection.server(asking_server(), trace=note),
        )
        return found

    plain = answer()
    assert set(plain) == FLIGHT
    extension = LEFT_BEHIND[what]
    assert answer(extension) == plain
    assert all(extension.extension_type not in types for types in plain.values())


# ---- groups and signatures -------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §B.3.1.4", "obsolete groups are neither offered nor negotiated")
@pytest.mark.parametrize("group", [0x0001, 0x0013, 0x0015, 0x0016, 0x001A, 0x001C, 0xFF01, 0xFF02], ids=hex)
def test_obsolete_groups_are_nothing_in_common(group: int) -> None:
    def only(extensions: list[Extension]) -> list[Extension]:
        kept = [e for e in extensions if e.extension_type not in {E.SUPPORTED_GROUPS, E.KEY_SHARE}]
        shares = x.KEY_SHARES.extension((x.KeyShareEntry(group, b"\4" + bytes(64)),))
        return [*kept, x.SUPPORTED_GROUPS.extension((group,)), shares]

    refused(good_server(), evil_client(edit=changing_extensions(H.CLIENT_HELLO, only)), A.HANDSHAKE_FAILURE)


OBSOLETE_SCHEMES = {"md5": 0x0101, "md5-ecdsa": 0x0103, "sha224": 0x0301, "sha224-ecdsa": 0x0303, "dsa": 0x0402}


@pytest.mark.rfc("9846 §4.3.3", "obsolete signature algorithms, MD5, SHA-224 and DSA are neither offered nor used")
@pytest.mark.parametrize("what", OBSOLETE_SCHEMES)
def test_obsolete_signature_schemes_are_nothing_in_common(what: str) -> None:
    scheme = x.SIGNATURE_ALGORITHMS.extension((OBSOLETE_SCHEMES[what],))

    def only(extensions: list[Extension]) -> list[Extension]:
        return [scheme if e.extension_type == E.SIGNATURE_ALGORITHMS else e for e in extensions]

    refused(good_server(), evil_client(edit=changing_extensions(H.CLIENT_HELLO, only)), A.HANDSHAKE_FAILURE)
    client = evil_client(client_with_certificate())
    server = evil_server(asking_server(), edit=changing_extensions(H.CERTIFICATE_REQUEST, only))
    exchange(client, server)
    assert b"\x0b\0\0\4\0\0\0\0" in client.sent  # an empty Certificate: no key of ours signs so
    assert client.negotiated is not None
    assert client.negotiated.local_certificates == ()


@pytest.mark.rfc("9846 §E.5", "no RC4, and no cipher of less than 112 bits, is offered or chosen")
@pytest.mark.parametrize("suite", [0x0004, 0x0005, 0xC011, 0x0003, 0x0009, 0x0062, 0x0001], ids=hex)
def test_weak_suites_are_nothing_in_common_and_are_not_taken(suite: int) -> None:
    """RC4 with MD5 and SHA, with ECDHE, EXPORT, DES, EXPORT1024 and NULL."""
    edit = changing_body(H.CLIENT_HELLO, lambda hello: dataclasses.replace(hello, cipher_suites=(suite,)))
    refused(good_server(), evil_client(edit=edit), A.HANDSHAKE_FAILURE)
    edit = changing_body(H.CLIENT_HELLO, lambda hello: dataclasses.replace(hello, cipher_suites=(suite, 0x1301)))
    server = good_server()
    connected(server, evil_client(edit=edit))
    assert server.negotiated is not None
    assert server.negotiated.cipher_suite == CS.TLS_AES_128_GCM_SHA256
    chosen = changing_body(H.SERVER_HELLO, lambda hello: dataclasses.replace(hello, cipher_suite=suite))
    refused(good_client(name=NAME), evil_server(edit=chosen), A.ILLEGAL_PARAMETER)


# ---- certificate types -----------------------------------------------------------------------------------------------

OPENPGP = 1
TYPES = {"server": E.SERVER_CERTIFICATE_TYPE, "client": E.CLIENT_CERTIFICATE_TYPE}


def _saying(code: int, body: bytes) -> Any:
    return lambda present: [Extension(code, body), *(one for one in present if one.extension_type != code)]


@pytest.mark.rfc("9846 §4.5.1", "OpenPGP certificates are neither offered, chosen nor taken")
@pytest.mark.parametrize("whose", TYPES)
def test_openpgp_certificates_are_nothing_in_common(whose: str) -> None:
    edit = changing_extensions(H.CLIENT_HELLO, _saying(TYPES[whose], bytes((1, OPENPGP))))
    refused(good_server(asking_server()), evil_client(client_with_certificate(), edit=edit), A.UNSUPPORTED_CERTIFICATE)


@pytest.mark.rfc("9846 §4.5.1", "OpenPGP certificates are neither offered, chosen nor taken")
@pytest.mark.parametrize("whose", TYPES)
def test_openpgp_certificates_are_passed_over_for_x509(whose: str) -> None:
    """The client prefers OpenPGP: each of the server's answers is X.509."""
    answers: list[dict[int, bytes]] = []

    def note(event: object) -> None:
        if isinstance(event, MessageTraced) and event.message_type == H.ENCRYPTED_EXTENSIONS:
            body: Any = event.body
            answers.append({e.extension_type: bytes(e.extension_data) for e in body.extensions})

    edit = changing_extensions(H.CLIENT_HELLO, _saying(TYPES[whose], bytes((2, OPENPGP, 0))))
    server = Connection.server(asking_server(), trace=note)
    exchange(server, evil_client(client_with_certificate(), edit=edit))
    (answer,) = answers
    assert answer[TYPES[whose]] == b"\0"


@pytest.mark.rfc("9846 §4.5.1", "OpenPGP certificates are neither offered, chosen nor taken")
@pytest.mark.parametrize("whose", TYPES)
@pytest.mark.parametrize("asked", [False, True])
def test_openpgp_certificates_are_not_taken_from_a_server_that_chooses_them(whose: str, asked: bool) -> None:
    """asked: whether the client speaks of types at all; it takes raw public keys then."""
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, _saying(TYPES[whose], bytes((OPENPGP,))))
    key = credential().as_raw_public_key()
    both = {"server_certificate_types": (2, 0), "verifier": dangerous_accept_any(), "trust": None}
    client = client_config(credentials=(key,), **both) if asked else client_with_certificate()
    refused(good_client(client), evil_server(edit=edit), A.ILLEGAL_PARAMETER if asked else A.UNSUPPORTED_EXTENSION)
