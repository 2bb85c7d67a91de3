"""Messages that do not decode, or must not: attacks B1-B13, B15, B19, C11, F15, F20."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pellucid import Connection
from pellucid.config import ClientAuthentication
from pellucid.errors import DecodeError, IllegalParameter, UnsupportedExtension
from pellucid.messages import extensions as x
from pellucid.messages.extensions import TABLE, M, decode_extensions
from pellucid.messages.handshake import (
    BODIES,
    HEADER_LENGTH,
    EncryptedExtensions,
    Extension,
    KeyUpdate,
    NewSessionTicket,
    handshake_message,
)
from pellucid.registry import GREASE_VALUES, ContentType, NamedGroup, extension_name
from pellucid.registry import AlertDescription as A
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.trace import MessageTraced
from tests.illegal.evil import (
    Evil,
    asking_server,
    changing_body,
    changing_extensions,
    client_config,
    client_with_certificate,
    connected,
    drain,
    evil_client,
    evil_server,
    exchange,
    good_client,
    good_server,
    message,
    refused,
    replacing,
)

DE, IP, UE, UM, ME = (
    A.DECODE_ERROR,
    A.ILLEGAL_PARAMETER,
    A.UNSUPPORTED_EXTENSION,
    A.UNEXPECTED_MESSAGE,
    A.MISSING_EXTENSION,
)
TICKET = handshake_message(NewSessionTicket(60, 0, b"\0", b"ticket", (x.MAX_EARLY_DATA_SIZE.extension(0),)))
RETRIED = {"groups": (NamedGroup.SECP256R1, NamedGroup.X25519), "key_shares": (NamedGroup.X25519,)}
ALL_CLIENT: dict[str, Any] = {"alpn": ("h2", "http/1.1"), **RETRIED}

# (victim, message): every handshake message that either side reads
MESSAGES = [
    ("server", H.CLIENT_HELLO),
    ("client", H.SERVER_HELLO),
    ("client", H.HELLO_RETRY_REQUEST),
    ("client", H.ENCRYPTED_EXTENSIONS),
    ("client", H.CERTIFICATE_REQUEST),
    ("client", H.CERTIFICATE),
    ("client", H.CERTIFICATE_VERIFY),
    ("client", H.FINISHED),
    ("client", H.NEW_SESSION_TICKET),
    ("client", H.KEY_UPDATE),
    ("server", H.CERTIFICATE),
    ("server", H.CERTIFICATE_VERIFY),
    ("server", H.FINISHED),
    ("server", H.KEY_UPDATE),
]


def pair(victim: str, edit: Any = None, **server: Any) -> tuple[Connection, Evil]:
    """Two ends that send every message: HelloRetryRequest, CertificateRequest, ALPN and a cookie are in it."""
    client = client_with_certificate(**ALL_CLIENT)
    config = asking_server(groups=(NamedGroup.SECP256R1,), alpn=("h2",), cookie_key=b"k" * 32, **server)
    if victim == "client":
        return good_client(client), evil_server(config, edit=edit)
    return good_server(config), evil_client(client, edit=edit)


def with_message(victim: str, kind: int, raw: bytes) -> tuple[Connection, Evil]:
    """A pair whose evil peer sends *raw* in the place of its first message of *kind*."""
    if kind in {H.NEW_SESSION_TICKET, H.KEY_UPDATE}:
        good, evil = pair(victim)
        connected(good, evil)
        evil.record(ContentType.HANDSHAKE, raw)
        return good, evil
    return pair(victim, replacing(kind, lambda _: raw))


@functools.cache
def samples(victim: str) -> dict[int, bytes]:
    """The messages that *victim* reads, from a handshake that has them all. ServerHello and ClientHello are of the
    first kind: no key depends on them where they are only cut."""
    found = {H.NEW_SESSION_TICKET: TICKET, H.KEY_UPDATE: handshake_message(KeyUpdate(0))}

    def note(event: object) -> None:
        if isinstance(event, MessageTraced) and event.direction.value == "received":
            found.setdefault(event.message_type, event.raw)

    client, config = client_with_certificate(**ALL_CLIENT), pair("server")[0]._context.config
    if victim == "client":
        connected(Connection.client(client, "evil.test", trace=note), good_server(config))
    else:
        connected(good_client(client), Connection.server(config, trace=note))
    return found


# ---- B1: trailing bytes ----------------------------------------------------------------------------------------------


def mutated(victim: str, kind: int, change: Any) -> tuple[Connection, Evil]:
    """A pair whose evil peer sends its first message of *kind* with the body changed."""
    if kind in {H.NEW_SESSION_TICKET, H.KEY_UPDATE}:
        return with_message(victim, kind, message(kind, change(samples(victim)[kind][HEADER_LENGTH:])))
    wire = H.SERVER_HELLO if kind == H.HELLO_RETRY_REQUEST else kind
    done = False

    def edit(this: int, raw: bytes) -> bytes:
        nonlocal done
        if this != kind or done:
            return raw
        done = True
        return message(wire, change(raw[HEADER_LENGTH:]))

    return pair(victim, edit)


@pytest.mark.rfc("9846 §6.2", "a message of the wrong length is decode_error")
@pytest.mark.parametrize(("victim", "kind"), MESSAGES, ids=str)
def test_b1_a_byte_behind_the_end_of_a_message_is_refused(victim: str, kind: int) -> None:
    refused(*mutated(victim, kind, lambda body: body + b"\0"), DE)


@pytest.mark.parametrize(("victim", "kind"), MESSAGES, ids=str)
def test_b1_a_message_without_its_last_byte_is_refused(victim: str, kind: int) -> None:
    refused(*mutated(victim, kind, lambda body: body[:-1]), DE)


@pytest.mark.parametrize(("victim", "kind"), [m for m in MESSAGES if m[1] != H.FINISHED], ids=str)
def test_b1_an_empty_message_is_refused(victim: str, kind: int) -> None:
    refused(*mutated(victim, kind, lambda body: b""), DE)


# ---- B2: trailing bytes in extensions --------------------------------------------------------------------------------

BODY_SAMPLES: dict[tuple[int, M], bytes] = {}
for _body, _value in (
    (x.SERVER_NAME, "evil.test"),
    (x.SERVER_NAME_ACK, True),
    (x.SUPPORTED_GROUPS, (29,)),
    (x.SIGNATURE_ALGORITHMS, (0x0403,)),
    (x.SIGNATURE_ALGORITHMS_CERT, (0x0403,)),
    (x.ALPN, (b"h2",)),
    (x.ALPN_SELECTED, b"h2"),
    (x.SUPPORTED_VERSIONS, (0x0304,)),
    (x.SELECTED_VERSION, 0x0304),
    (x.COOKIE, b"cookie"),
    (x.KEY_SHARES, (x.KeyShareEntry(29, bytes(32)),)),
    (x.KEY_SHARE, x.KeyShareEntry(29, bytes(32))),
    (x.SELECTED_GROUP, 29),
    (x.PSK_KEY_EXCHANGE_MODES, (1,)),
    (x.EARLY_DATA, True),
    (x.MAX_EARLY_DATA_SIZE, 1),
    (x.OFFERED_PSKS, x.OfferedPsks((x.PskIdentity(b"identity", 0),), (bytes(32),))),
    (x.SELECTED_IDENTITY, 0),
    (x.CERTIFICATE_AUTHORITIES, (b"0\x00",)),
    (x.POST_HANDSHAKE_AUTH, True),
    (x.TICKET_REQUEST, x.ClientTicketRequest(2, 1)),
    (x.EXPECTED_TICKETS, 2),
    (x.OID_FILTERS, (x.OIDFilter(b"\x06\x01\x2a", b""),)),
    (x.RECORD_SIZE_LIMIT, 100),
    (x.COMPRESS_CERTIFICATE, (1,)),
    (x.STATUS_REQUEST, x.ANY_OCSP_RESPONSE),
    (x.CLIENT_STATUS_REQUEST, True),
    (x.OCSP_RESPONSE, b"0\0"),
    (x.SCT_REQUEST, True),
    (x.SCTS, (b"sct",)),
    (x.CLIENT_CERTIFICATE_TYPES, (2, 0)),
    (x.CLIENT_CERTIFICATE_TYPE, 2),
    (x.SERVER_CERTIFICATE_TYPES, (2, 0)),
    (x.SERVER_CERTIFICATE_TYPE, 2),
):
    for _message in _body.messages:
        BODY_SAMPLES[_body.extension_type, _message] = _body.codec.encode(_value)  # type: ignore[arg-type]

ALL_TYPES = frozenset(range(2**16))


def test_b2_no_extension_that_is_looked_into_is_left_out() -> None:
    looked_into = {
        (code, m) for m, bodies in TABLE.items() for code, body in bodies.items() if body.codec.kind != "opaque[rest]"
    }
    assert looked_into == set(BODY_SAMPLES)


@pytest.mark.rfc("9846 §4.3", "data left over in an extension is decode_error")
@pytest.mark.parametrize(("code", "where"), list(BODY_SAMPLES), ids=lambda v: v.name if isinstance(v, M) else str(v))
def test_b2_bytes_behind_an_extension_are_refused(code: int, where: M) -> None:
    data = BODY_SAMPLES[code, where]
    decode_extensions(where, [Extension(code, data)], requested=ALL_TYPES)
    for extra in (b"\0", b"\xff\xff"):
        with pytest.raises(DecodeError):
            decode_extensions(where, [Extension(code, data + extra)], requested=ALL_TYPES)
    for cut in range(len(data)):
        with pytest.raises(DecodeError):
            decode_extensions(where, [Extension(code, data[:cut])], requested=ALL_TYPES)


@pytest.mark.parametrize("code", [code for code, where in BODY_SAMPLES if where is M.CH], ids=extension_name)
def test_b2_a_server_refuses_bytes_behind_each_extension_of_client_hello(code: int) -> None:
    bad = Extension(code, BODY_SAMPLES[code, M.CH] + b"\0")

    def change(extensions: list[Extension]) -> list[Extension]:
        return [e for e in extensions if e.extension_type != code] + [bad]

    refused(good_server(), evil_client(edit=changing_extensions(H.CLIENT_HELLO, change)), DE)


# ---- B3: every length field ------------------------------------------------------------------------------------------


def _lengths(kind: int, body: bytes) -> Iterator[tuple[str, int, int, int]]:
    """Yield (path, offset, width, value) of every length field in *body*, those inside known extensions too."""
    codec = BODIES[kind].codec
    decoded = BODIES[kind].decode(body)
    where = _WHERE[kind]
    for span in codec.spans(body):
        value = span.value
        if isinstance(value, Extension):
            yield f"{span.path}.length", span.start + 2, 2, len(value.extension_data)
            known = TABLE[where].get(value.extension_type) if where else None
            if known is not None:
                name = extension_name(value.extension_type)
                for inner in known.codec.spans(value.extension_data, path=name):
                    at = span.start + 4
                    if isinstance(inner.value, x.KeyShareEntry):
                        share = len(inner.value.key_exchange)
                        yield f"{inner.path}.key_exchange", at + inner.start + 2, 2, share
                    elif isinstance(inner.value, (bytes, tuple, str)) and not inner.path.endswith(".key_exchange"):
                        yield from _prefix(inner.path, value.extension_data, inner.start, inner.end, at)
        elif span.path.endswith(".extension_data"):
            continue  # the extension as a whole told of it
        elif isinstance(value, (bytes, tuple)) and span.path not in {"random", "verify_data"}:
            yield from _prefix(span.path, body, span.start, span.end, 0)
    assert decoded is not None


def _prefix(path: str, data: bytes, start: int, end: int, at: int) -> Iterator[tuple[str, int, int, int]]:
    for width in (1, 2, 3):
        if int.from_bytes(data[start : start + width], "big") == end - start - width and end - start >= width:
            yield path, at + start, width, end - start - width
            return


_WHERE = {
    H.CLIENT_HELLO: M.CH,
    H.SERVER_HELLO: M.SH,
    H.HELLO_RETRY_REQUEST: M.HRR,
    H.ENCRYPTED_EXTENSIONS: M.EE,
    H.CERTIFICATE_REQUEST: M.CR,
    H.CERTIFICATE: M.CT,
    H.NEW_SESSION_TICKET: M.NST,
    H.CERTIFICATE_VERIFY: None,
}


@pytest.mark.rfc("9846 §6.2", "a length out of range is decode_error")
@pytest.mark.parametrize(("victim", "kind"), [m for m in MESSAGES if m[1] in _WHERE], ids=str)
def test_b3_every_length_field_one_off_zero_or_largest_is_refused(victim: str, kind: int) -> None:
    """B3: found by the codec's own spans. A length one too small moves what follows: another alert may name that."""
    fields = list(_lengths(kind, samples(victim)[kind][HEADER_LENGTH:]))
    assert fields
    for path, *_ in fields:
        for how in ("less", "more", "zero", "largest"):

            def change(body: bytes, path: str = path, how: str = how) -> bytes:
                _, at, width, value = next(f for f in _lengths(kind, body) if f[0] == path)
                most = 256**width - 1
                new = {"less": value - 1, "more": value + 1, "zero": 0, "largest": most}[how]
                if not 0 <= new <= most or new == value:
                    new = most
                return body[:at] + new.to_bytes(width, "big") + body[at + width :]

            good, evil = mutated(victim, kind, change)
            others = () if how in {"more", "largest"} else (IP, UE, ME, A.BAD_CERTIFICATE, A.DECRYPT_ERROR)
            error = refused(good, evil, DE, *others)
            assert good.handshake_complete == (kind == H.NEW_SESSION_TICKET)
            assert error.rfc


def test_b3_the_fields_found_are_all_there_are() -> None:
    paths = {path for path, *_ in _lengths(H.CLIENT_HELLO, samples("server")[H.CLIENT_HELLO][HEADER_LENGTH:])}
    for expected in (
        *("legacy_session_id", "cipher_suites", "legacy_compression_methods", "extensions", "extensions[0].length"),
        *("supported_groups", "signature_algorithms", "key_share", "key_share[1].key_exchange", "supported_versions"),
        *("server_name", "application_layer_protocol_negotiation"),
    ):
        assert expected in paths
    paths = {path for path, *_ in _lengths(H.CERTIFICATE, samples("client")[H.CERTIFICATE][HEADER_LENGTH:])}
    assert paths >= {"certificate_request_context", "certificate_list", "certificate_list[0].cert_data"}


def test_b3_an_odd_list_of_two_byte_values_is_refused() -> None:
    for code in (E.SUPPORTED_GROUPS, E.SIGNATURE_ALGORITHMS):
        data = b"\0\3\0\x1d\0"

        def change(extensions: list[Extension], code: int = code, data: bytes = data) -> list[Extension]:
            return [Extension(code, data) if e.extension_type == code else e for e in extensions]

        refused(good_server(), evil_client(edit=changing_extensions(H.CLIENT_HELLO, change)), DE)


# ---- B4, B5: twice, and not last -------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.3", "there must not be two extensions of one type in a block")
@pytest.mark.parametrize(
    ("victim", "kind"),
    [m for m in MESSAGES if m[1] in _WHERE and m[1] not in {H.CERTIFICATE, H.CERTIFICATE_VERIFY}],
    ids=str,
)
def test_b4_every_extension_twice_is_refused(victim: str, kind: int) -> None:
    count = len(BODIES[kind].decode(samples(victim)[kind][HEADER_LENGTH:]).extensions)  # type: ignore[attr-defined]
    assert count
    for which in range(count):

        def change(body: bytes, which: int = which) -> bytes:
            value: Any = BODIES[kind].decode(body)
            twice = (*value.extensions, value.extensions[which])
            return type(value)(*(getattr(value, n) for n in value.__slots__ if n != "extensions"), twice).encode()

        refused(*mutated(victim, kind, change), DE)


def test_b4_every_block_refuses_a_duplicate() -> None:
    """B4: Certificate entries and unknown types too."""
    for where in M:
        for code in (0x1234, E.STATUS_REQUEST if where is M.CT else 0x0A0A):
            one = Extension(code, BODY_SAMPLES.get((code, where), b""))
            with pytest.raises(DecodeError, match="two"):
                decode_extensions(where, [one, one], requested=ALL_TYPES)


def test_b4_a_duplicate_that_nobody_asked_for_is_a_duplicate() -> None:
    """B4: the form of a block is looked at before what stands in it."""
    unasked = [Extension(0x1234, b"")] * 2
    refused(*mutated("client", H.ENCRYPTED_EXTENSIONS, lambda _: EncryptedExtensions(tuple(unasked)).encode()), DE)


@pytest.mark.rfc("9846 §4.3.11", "pre_shared_key must be the last extension of ClientHello")
def test_b5_pre_shared_key_not_last_is_refused() -> None:
    offered = Extension(E.PRE_SHARED_KEY, BODY_SAMPLES[E.PRE_SHARED_KEY, M.CH])
    edit = changing_extensions(H.CLIENT_HELLO, lambda extensions: [offered, *extensions])
    refused(good_server(), evil_client(edit=edit), IP)


# ---- B6: unknown values ----------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §9.3", "a server must ignore values it does not know in ClientHello")
@pytest.mark.parametrize("value", [*GREASE_VALUES, 0x1234, 0xFFFF], ids=hex)
def test_b6_unknown_values_everywhere_in_client_hello_are_ignored(value: int) -> None:
    def change(hello: Any) -> Any:
        import dataclasses

        def greased(e: Extension) -> Extension:
            for body in (x.SUPPORTED_GROUPS, x.SIGNATURE_ALGORITHMS, x.SUPPORTED_VERSIONS):
                if e.extension_type == body.extension_type:
                    return body.extension((value, *body.codec.decode_all(e.extension_data, ""), value))
            if e.extension_type == E.KEY_SHARE:
                shares = x.KEY_SHARES.codec.decode_all(e.extension_data, "")
                return x.KEY_SHARES.extension((x.KeyShareEntry(value, b"?"), *shares))
            return e

        return dataclasses.replace(
            hello,
            cipher_suites=(value, *hello.cipher_suites, value),
            extensions=(Extension(value, b"anything"), *map(greased, hello.extensions)),
        )

    config = client_config(grease=False)
    connected(good_server(), evil_client(config, edit=changing_body(H.CLIENT_HELLO, change)))


@pytest.mark.rfc("9846 §4.4.2", "a client must ignore unrecognized extensions in CertificateRequest")
@pytest.mark.parametrize("value", [0x0A0A, 0xFAFA, 0x1234], ids=hex)
def test_b6_unknown_values_in_certificate_request_and_ticket_are_ignored(value: int) -> None:
    def change(extensions: list[Extension]) -> list[Extension]:
        body = x.SIGNATURE_ALGORITHMS
        greased = [
            body.extension((value, *body.codec.decode_all(e.extension_data, "")))
            if e.extension_type == body.extension_type
            else e
            for e in extensions
        ]
        return [Extension(value, b"?"), *greased]

    good = good_client(client_with_certificate())
    evil = evil_server(asking_server(), edit=changing_extensions(H.CERTIFICATE_REQUEST, change))
    connected(good, evil)
    ticket = NewSessionTicket(60, 0, b"\0", b"ticket", (Extension(value, b"?"),))
    evil.record(ContentType.HANDSHAKE, handshake_message(ticket))
    exchange(good, evil)
    seen, error = drain(good)
    assert [event.ticket for event in seen] == [ticket]
    assert error is None


# ---- B7, B8, F15: extensions in the wrong place ----------------------------------------------------------------------

# The table of RFC 9846 §4.3, copied from it and not from our code.
RFC_TABLE = {
    E.SERVER_NAME: "CH EE CR",
    E.STATUS_REQUEST: "CH CR CT",
    E.SUPPORTED_GROUPS: "CH EE",
    E.SIGNATURE_ALGORITHMS: "CH CR",
    E.USE_SRTP: "CH EE",
    E.HEARTBEAT: "CH EE",
    E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION: "CH EE",
    E.CLIENT_CERTIFICATE_TYPE: "CH EE",
    E.SERVER_CERTIFICATE_TYPE: "CH EE",
    E.PADDING: "CH",
    E.COMPRESS_CERTIFICATE: "CH CR",
    E.RECORD_SIZE_LIMIT: "CH EE",
    E.DELEGATED_CREDENTIAL: "CH CR CT",
    E.SUPPORTED_EKT_CIPHERS: "CH EE",
    E.PRE_SHARED_KEY: "CH SH",
    E.EARLY_DATA: "CH EE NST",
    E.SUPPORTED_VERSIONS: "CH SH HRR",
    E.COOKIE: "CH HRR",
    E.PSK_KEY_EXCHANGE_MODES: "CH",
    E.CERTIFICATE_AUTHORITIES: "CH CR",
    E.OID_FILTERS: "CR",
    E.POST_HANDSHAKE_AUTH: "CH",
    E.SIGNATURE_ALGORITHMS_CERT: "CH CR",
    E.KEY_SHARE: "CH SH HRR",
    E.TRANSPARENCY_INFO: "CH CR CT",
    E.EXTERNAL_ID_HASH: "CH EE",
    E.EXTERNAL_SESSION_ID: "CH EE",
    E.QUIC_TRANSPORT_PARAMETERS: "CH EE",
    E.TICKET_REQUEST: "CH EE",
    E.ECH_OUTER_EXTENSIONS: "CH",
    E.ENCRYPTED_CLIENT_HELLO: "CH HRR EE",
}
CELLS = [pytest.param(code, where, id=f"{extension_name(code)}-{where.name}") for code in RFC_TABLE for where in M]


@pytest.mark.rfc("9846 §4.3", "a known extension in a message it is not specified for is illegal_parameter")
@pytest.mark.parametrize(("code", "where"), CELLS)
def test_b7_every_cell_of_the_rfcs_table(code: int, where: M) -> None:
    """B7: 31 x 7 cells: where the table says no, illegal_parameter; where it says yes, no objection to the place."""
    assert len(RFC_TABLE) == 31
    extension = Extension(code, BODY_SAMPLES.get((code, where), b""))
    if where.name in RFC_TABLE[code].split():
        assert code in decode_extensions(where, [extension], requested=ALL_TYPES)
    else:
        expected = UnsupportedExtension if (code, where) == (E.KEY_SHARE, M.EE) else IllegalParameter
        with pytest.raises(expected):
            decode_extensions(where, [extension], requested=ALL_TYPES)


CARRIERS = {
    M.CH: ("server", H.CLIENT_HELLO),
    M.SH: ("client", H.SERVER_HELLO),
    M.HRR: ("client", H.HELLO_RETRY_REQUEST),
    M.EE: ("client", H.ENCRYPTED_EXTENSIONS),
    M.CR: ("client", H.CERTIFICATE_REQUEST),
    M.NST: ("client", H.NEW_SESSION_TICKET),
}
REQUESTED = {
    *(E.SUPPORTED_VERSIONS, E.SUPPORTED_GROUPS, E.SIGNATURE_ALGORITHMS, E.KEY_SHARE, E.SERVER_NAME),
    *(E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, E.PSK_KEY_EXCHANGE_MODES),
    *(E.COMPRESS_CERTIFICATE, E.STATUS_REQUEST, E.SIGNED_CERTIFICATE_TIMESTAMP),
}


def _adding(where: M, extension: Extension) -> tuple[Connection, Evil]:
    victim, kind = CARRIERS[where]

    def change(body: bytes) -> bytes:
        import dataclasses

        value: Any = BODIES[kind].decode(body)
        kept = [e for e in value.extensions if e.extension_type != extension.extension_type]
        return dataclasses.replace(value, extensions=(*kept, extension)).encode()

    return mutated(victim, kind, change)


@pytest.mark.parametrize("where", CARRIERS, ids=lambda where: where.name)
@pytest.mark.rfc("9846 §4.3", "a known extension in a message it is not specified for is illegal_parameter")
def test_b7_misplaced_extensions_are_refused_on_the_wire(where: M) -> None:
    """B7 end to end; in a response, one that nobody asked for is unsupported_extension first (B8)."""
    for code, messages in RFC_TABLE.items():
        if where.name in messages.split():
            continue
        responds = where in {M.SH, M.HRR, M.EE}
        asked = code in REQUESTED and (code, where) != (E.KEY_SHARE, M.EE)
        refused(*_adding(where, Extension(code, b"")), UE if responds and not asked else IP)


@pytest.mark.rfc("9846 §4.3", "an extension response without a request is unsupported_extension")
@pytest.mark.parametrize("where", [M.SH, M.HRR, M.EE], ids=lambda where: where.name)
@pytest.mark.parametrize("code", [E.HEARTBEAT, E.PRE_SHARED_KEY, E.EARLY_DATA, 0x1234, 0x0A0A, 0xFF01], ids=hex)
def test_b8_an_extension_that_was_not_requested_is_refused(where: M, code: int) -> None:
    refused(*_adding(where, Extension(code, b"\0\0")), UE)


def test_b8_a_server_name_acknowledged_but_never_sent_is_refused() -> None:
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, lambda e: [*e, x.SERVER_NAME_ACK.extension(True)])
    refused(good_client(client_config(send_server_name=False)), evil_server(edit=edit), UE)


def test_b8_an_alpn_answer_without_a_question_is_refused() -> None:
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, lambda e: [*e, x.ALPN_SELECTED.extension(b"h2")])
    refused(good_client(), evil_server(edit=edit), UE)


def test_b8_a_grease_value_of_ours_is_no_request() -> None:
    """RFC 8701 §3.1: an answer with the very GREASE value that the client sent."""
    client = good_client()
    greased = [e for e in _hello_of(client).extensions if e.extension_type in GREASE_VALUES]
    assert len(greased) == 2
    edit = changing_extensions(H.ENCRYPTED_EXTENSIONS, lambda e: [*e, greased[0]])
    refused(client, evil_server(edit=edit), UE)


def _hello_of(client: Connection) -> Any:
    client.start()
    phase: Any = client._handshake.phase
    return phase.offer.hello


@pytest.mark.rfc("9846 §4.3", "an unrequested extension of a certificate is unsupported_extension")
@pytest.mark.parametrize("victim", ["client", "server"])
@pytest.mark.parametrize("code", [E.STATUS_REQUEST, E.SIGNED_CERTIFICATE_TIMESTAMP, 0x1234], ids=extension_name)
def test_b8_f15_an_unsolicited_staple_or_timestamp_on_a_certificate_is_refused(victim: str, code: int) -> None:
    def change(certificate: Any) -> Any:
        import dataclasses

        entry = dataclasses.replace(certificate.certificate_list[0], extensions=(Extension(code, b"\1\0\0\0"),))
        return dataclasses.replace(certificate, certificate_list=(entry,))

    evil = pair(victim, changing_body(H.CERTIFICATE, change))[1]
    incurious = client_with_certificate(**ALL_CLIENT, request_ocsp=False, request_scts=False)
    refused(good_client(incurious) if victim == "client" else pair(victim)[0], evil, UE)


# ---- B9: vectors that must not be empty ------------------------------------------------------------------------------


def _client_hello_with(code: int, data: bytes) -> Any:
    def change(extensions: list[Extension]) -> list[Extension]:
        kept = [e for e in extensions if e.extension_type != code]
        return [*kept, Extension(code, data)]

    return changing_extensions(H.CLIENT_HELLO, change)


EMPTY_IN_CLIENT_HELLO = {
    "supported_groups": (E.SUPPORTED_GROUPS, b"\0\0"),
    "signature_algorithms": (E.SIGNATURE_ALGORITHMS, b"\0\0"),
    "signature_algorithms_cert": (E.SIGNATURE_ALGORITHMS_CERT, b"\0\0"),
    "supported_versions": (E.SUPPORTED_VERSIONS, b"\0"),
    "alpn-list": (E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, b"\0\0"),
    "alpn-name": (E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, b"\0\1\0"),
    "alpn-second-name": (E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, b"\0\4\2h2\0"),
    "cookie": (E.COOKIE, b"\0\0"),
    "key_exchange": (E.KEY_SHARE, b"\0\4\0\x1d\0\0"),
    "psk-identities": (E.PRE_SHARED_KEY, b"\0\0\0\x21\x20" + bytes(32)),
    "psk-identity": (E.PRE_SHARED_KEY, b"\0\6\0\0" + bytes(4) + b"\0\x21\x20" + bytes(32)),
    "psk-binders": (E.PRE_SHARED_KEY, b"\0\7\0\1x" + bytes(4) + b"\0\0"),
    "psk-modes": (E.PSK_KEY_EXCHANGE_MODES, b"\0"),
    "server_name": (E.SERVER_NAME, b""),
    "server_name-list": (E.SERVER_NAME, b"\0\0"),
    "server_name-name": (E.SERVER_NAME, b"\0\3\0\0\0"),
    "certificate_authorities": (E.CERTIFICATE_AUTHORITIES, b"\0\0"),
    "certificate_authorities-name": (E.CERTIFICATE_AUTHORITIES, b"\0\2\0\0"),
}


@pytest.mark.rfc("9846 §3.4", "a vector shorter than its floor is decode_error")
@pytest.mark.parametrize("what", EMPTY_IN_CLIENT_HELLO)
def test_b9_an_empty_vector_in_client_hello_is_refused(what: str) -> None:
    refused(good_server(), evil_client(edit=_client_hello_with(*EMPTY_IN_CLIENT_HELLO[what])), DE)


def test_b9_no_cipher_suites_and_no_compression_methods_are_refused() -> None:
    raw = samples("server")[H.CLIENT_HELLO]
    body = raw[HEADER_LENGTH:]
    session_end = 35 + body[34]
    count = int.from_bytes(body[session_end : session_end + 2], "big")
    no_suites = body[:session_end] + b"\0\0" + body[session_end + 2 + count :]
    refused(good_server(), evil_client(edit=replacing(H.CLIENT_HELLO, lambda _: message(1, no_suites))), DE)
    at = session_end + 2 + count
    no_compression = body[:at] + b"\0" + body[at + 2 :]
    refused(good_server(), evil_client(edit=replacing(H.CLIENT_HELLO, lambda _: message(1, no_compression))), DE)


EMPTY_ELSEWHERE = {
    "retry-cookie": (M.HRR, Extension(E.COOKIE, b"\0\0")),
    "alpn-answer": (M.EE, Extension(E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, b"\0\0")),
    "alpn-answer-name": (M.EE, Extension(E.APPLICATION_LAYER_PROTOCOL_NEGOTIATION, b"\0\1\0")),
    "groups-answer": (M.EE, Extension(E.SUPPORTED_GROUPS, b"\0\0")),
    "request-schemes": (M.CR, Extension(E.SIGNATURE_ALGORITHMS, b"\0\0")),
    "request-authorities": (M.CR, Extension(E.CERTIFICATE_AUTHORITIES, b"\0\0")),
    "request-authority": (M.CR, Extension(E.CERTIFICATE_AUTHORITIES, b"\0\2\0\0")),
    "server-share": (M.SH, Extension(E.KEY_SHARE, b"\0\x17\0\0")),
}


@pytest.mark.parametrize("what", EMPTY_ELSEWHERE)
def test_b9_an_empty_vector_from_a_server_is_refused(what: str) -> None:
    refused(*_adding(*EMPTY_ELSEWHERE[what]), DE)


def test_b9_an_empty_ticket_is_refused() -> None:
    raw = message(H.NEW_SESSION_TICKET, bytes(8) + b"\0" + b"\0\0" + b"\0\0")
    refused(*with_message("client", H.NEW_SESSION_TICKET, raw), DE)


@pytest.mark.rfc("9846 §4.5.1.3", "a server's empty Certificate is decode_error")
def test_b9_a_servers_empty_certificate_list_is_refused() -> None:
    refused(*pair("client", replacing(H.CERTIFICATE, lambda _: message(H.CERTIFICATE, bytes(4)))), DE)


@pytest.mark.parametrize("victim", ["client", "server"])
def test_b9_an_empty_certificate_in_the_list_is_refused(victim: str) -> None:
    body = b"\0" + b"\0\0\5" + b"\0\0\0" + b"\0\0"
    refused(*pair(victim, replacing(H.CERTIFICATE, lambda _: message(H.CERTIFICATE, body))), DE)


# ---- B10: server names -----------------------------------------------------------------------------------------------


def _name_list(*names: tuple[int, bytes]) -> bytes:
    body = b"".join(bytes((kind,)) + len(name).to_bytes(2, "big") + name for kind, name in names)
    return len(body).to_bytes(2, "big") + body


SERVER_NAMES: dict[str, tuple[bytes, Any]] = {
    # the extension → an alert, or the name that the server then knows
    "plain": (_name_list((0, b"evil.test")), "evil.test"),
    "upper-case": (_name_list((0, b"EVIL.Test")), "evil.test"),
    "one-label": (_name_list((0, b"localhost")), "localhost"),
    "underscore": (_name_list((0, b"a_b.evil.test")), "a_b.evil.test"),
    "a-label": (_name_list((0, b"xn--bcher-kva.test")), "xn--bcher-kva.test"),
    "63-byte-label": (_name_list((0, b"a" * 63 + b".test")), "a" * 63 + ".test"),
    "another-type": (_name_list((7, b"\xff\x00")), None),
    "ipv4": (_name_list((0, b"192.0.2.1")), None),
    "two-names": (_name_list((0, b"evil.test"), (0, b"other.test")), IP),
    "empty-name": (_name_list((0, b"")), DE),
    "nul": (_name_list((0, b"evil.test\0.good.test")), IP),
    "newline": (_name_list((0, b"evil.test\r\nX: y")), IP),
    "escape": (_name_list((0, b"\x1b[2Jevil.test")), IP),
    "not-ascii": (_name_list((0, "b\u00fccher.test".encode())), IP),
    "space": (_name_list((0, b"evil test")), IP),
    "254-bytes": (_name_list((0, b"a." * 125 + b"test")), IP),
    "65000-bytes": (_name_list((0, b"a" * 60_000)), IP),
    "64-byte-label": (_name_list((0, b"a" * 64 + b".test")), IP),
    "empty-label": (_name_list((0, b"evil..test")), IP),
    "leading-dot": (_name_list((0, b".evil.test")), IP),
    "trailing-dot": (_name_list((0, b"evil.test.")), IP),
    "ipv6": (_name_list((0, b"2001:db8::1")), IP),
    "truncated": (_name_list((0, b"evil.test"))[:-1], DE),
}


@pytest.mark.rfc("6066 §3", "a server name is one host name in ASCII, without a trailing dot")
@pytest.mark.parametrize("what", SERVER_NAMES)
def test_b10_server_names(what: str) -> None:
    data, expected = SERVER_NAMES[what]
    server, evil = good_server(), evil_client(edit=_client_hello_with(E.SERVER_NAME, data))
    if isinstance(expected, int):
        error = refused(server, evil, expected)
        assert not set(str(error)) & {"\0", "\n", "\x1b"}
    else:
        connected(server, evil)
        assert server.negotiated is not None
        assert server.negotiated.server_name == expected


# ---- B11, B12, B13 ---------------------------------------------------------------------------------------------------


def _hello(**changes: Any) -> Any:
    import dataclasses

    return lambda hello: dataclasses.replace(hello, **changes)


def test_b11_a_session_id_longer_than_32_bytes_is_refused() -> None:
    def longer(body: bytes) -> bytes:
        return body[:34] + b"\x21" + bytes(33) + body[35 + body[34] :]

    refused(*mutated("server", H.CLIENT_HELLO, longer), DE)
    refused(*mutated("client", H.SERVER_HELLO, longer), DE)


@pytest.mark.parametrize("size", [0, 1, 31, 32])
def test_b11_any_session_id_up_to_32_bytes_is_echoed(size: int) -> None:
    evil = evil_client(edit=changing_body(H.CLIENT_HELLO, _hello(legacy_session_id=b"s" * size)))
    server = good_server()
    server.receive_data(evil.data_to_send())
    answer = server.data_to_send()
    assert answer[5 + 4 + 34 : 5 + 4 + 35 + size] == bytes((size,)) + b"s" * size


@pytest.mark.rfc("9846 §4.2.3", "a session id that is not the one sent is illegal_parameter")
@pytest.mark.parametrize("echo", [b"", b"x" * 32, b"x"], ids=len)
@pytest.mark.parametrize("kind", [H.SERVER_HELLO, H.HELLO_RETRY_REQUEST])
def test_b11_another_session_id_echoed_is_refused(kind: int, echo: bytes) -> None:
    refused(*pair("client", changing_body(kind, _hello(legacy_session_id_echo=echo))), IP)


def test_b11_an_echo_where_none_was_sent_is_refused() -> None:
    client = good_client(client_config(middlebox_compatibility=False))
    evil = evil_server(edit=changing_body(H.SERVER_HELLO, _hello(legacy_session_id_echo=b"x" * 32)))
    refused(client, evil, IP)


@pytest.mark.rfc("9846 §4.2.2", "legacy_compression_methods other than {0} is illegal_parameter")
@pytest.mark.parametrize("methods", [b"\x01", b"\0\x01", b"\x01\0", b"\0\0", bytes(range(255))], ids=len)
@pytest.mark.parametrize("chunk", [None, 1], ids=["whole", "1-byte"])
def test_b12_other_compression_methods_are_refused(methods: bytes, chunk: int | None) -> None:
    edit = changing_body(H.CLIENT_HELLO, _hello(legacy_compression_methods=methods))
    refused(good_server(), evil_client(edit=edit), IP, chunk=chunk)


@pytest.mark.parametrize("kind", [H.SERVER_HELLO, H.HELLO_RETRY_REQUEST])
@pytest.mark.rfc("9846 §4.2.3", "legacy_compression_method other than 0 is illegal_parameter")
def test_b12_a_compression_method_from_the_server_is_refused(kind: int) -> None:
    refused(*pair("client", changing_body(kind, _hello(legacy_compression_method=1))), IP)


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302, 0x0304, 0x0305, 0xFEFD, 0, 0xFFFF], ids=hex)
@pytest.mark.rfc("9846 §4.2.2", "legacy_version other than 0x0303 is protocol_version")
def test_b13_another_legacy_version_is_refused(version: int) -> None:
    changed = _hello(legacy_version=version)
    refused(good_server(), evil_client(edit=changing_body(H.CLIENT_HELLO, changed)), A.PROTOCOL_VERSION)
    for kind in (H.SERVER_HELLO, H.HELLO_RETRY_REQUEST):
        refused(*pair("client", changing_body(kind, changed)), A.PROTOCOL_VERSION)


# ---- B15: size and time ----------------------------------------------------------------------------------------------


def _hello_of_size(total: int, *, empties: bool) -> bytes:
    """A ClientHello of *total* bytes: with as many distinct empty extensions as fit, or one long list of groups."""
    body = samples("server")[H.CLIENT_HELLO][HEADER_LENGTH:]
    hello: Any = BODIES[H.CLIENT_HELLO].decode(body)
    room = total - len(body)
    taken = {e.extension_type for e in hello.extensions} | set(RFC_TABLE)
    if empties:
        extra = [Extension(code, b"") for code in range(2**16) if code not in taken][: room // 4]
    else:
        extra = [Extension(0x1234, bytes(room - 4))]
    import dataclasses

    return handshake_message(dataclasses.replace(hello, extensions=(*extra, *hello.extensions)))


def _seconds(raw: bytes) -> float:
    """The best of five: how long a server takes from the ClientHello to its answer."""
    best = 9.0
    for _ in range(5):
        server = good_server(asking_server(groups=(NamedGroup.SECP256R1,)))
        evil = evil_client(edit=replacing(H.CLIENT_HELLO, lambda _: raw))
        data = evil.data_to_send()
        begin = time.perf_counter()
        server.receive_data(data)
        best = min(best, time.perf_counter() - begin)
        assert drain(server) == ([], None)
        assert server.data_to_send()
    return best


@pytest.mark.parametrize("empties", [True, False], ids=["16000-empty-extensions", "one-long-extension"])
def test_b15_the_largest_client_hello_is_read_in_linear_time(empties: bool) -> None:
    """B15: twice the bytes, at most about twice the time; and not more than a fraction of a second in all."""
    half, whole = _hello_of_size(32_000, empties=empties), _hello_of_size(65_500, empties=empties)
    assert len(whole) <= 65_535 + HEADER_LENGTH
    slow = _seconds(whole)
    assert slow < 1
    assert slow < 5 * _seconds(half) + 0.02  # quadratic would be 4 times that of half, and half a second


def test_b15_the_largest_client_hello_in_one_byte_deliveries_is_bounded() -> None:
    raw = _hello_of_size(65_500, empties=False)
    evil = evil_client(edit=replacing(H.CLIENT_HELLO, lambda _: raw))
    server = good_server(asking_server(groups=(NamedGroup.SECP256R1,)))
    begin = time.perf_counter()
    data = evil.data_to_send()
    for at in range(len(data)):
        server.receive_data(data[at : at + 1])
    assert time.perf_counter() - begin < 20  # quadratic would take minutes
    assert drain(server) == ([], None)
    assert server.data_to_send()


# ---- B19, C11, F20 ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.4.2", "certificate_request_context is empty in the handshake")
def test_b19_a_context_in_the_handshakes_certificate_request_is_refused() -> None:
    import dataclasses

    changed = changing_body(
        H.CERTIFICATE_REQUEST, lambda m: dataclasses.replace(m, certificate_request_context=b"context")
    )
    refused(*pair("client", changed), IP, DE)


@pytest.mark.parametrize("victim", ["client", "server"])
@pytest.mark.rfc("9846 §4.5.1", "a context in the handshake's Certificate is refused")
def test_b19_a_context_in_the_handshakes_certificate_is_refused(victim: str) -> None:
    import dataclasses

    changed = changing_body(H.CERTIFICATE, lambda m: dataclasses.replace(m, certificate_request_context=b"c"))
    refused(*pair(victim, changed), IP, DE)


@pytest.mark.rfc("9846 §9.2", "a ClientHello without a mandatory extension is missing_extension")
@pytest.mark.parametrize("code", [E.SIGNATURE_ALGORITHMS, E.SUPPORTED_GROUPS, E.KEY_SHARE], ids=extension_name)
def test_c11_a_client_hello_without_a_mandatory_extension_is_refused(code: int) -> None:
    edit = changing_extensions(H.CLIENT_HELLO, lambda ext: [e for e in ext if e.extension_type != code])
    refused(good_server(), evil_client(edit=edit), ME)


@pytest.mark.rfc("9846 §4.4.2", "a CertificateRequest without signature_algorithms is refused")
def test_c11_a_certificate_request_without_signature_algorithms_is_refused() -> None:
    edit = changing_extensions(H.CERTIFICATE_REQUEST, lambda ext: [])
    refused(*pair("client", edit), ME)


def test_f20_a_flood_of_certificate_authorities_is_refused() -> None:
    """F20: 20,000 bytes of names are read, one more is not."""
    for size, fits in ((20_000, True), (20_001, False)):
        names = (*((b"n" * 1000,) * 19), b"n" * (size - 19_000))
        extension = x.CERTIFICATE_AUTHORITIES.codec
        data = b"".join(len(n).to_bytes(2, "big") + n for n in names)
        raw = Extension(E.CERTIFICATE_AUTHORITIES, len(data).to_bytes(2, "big") + data)
        good, evil = _adding(M.CR, raw)
        assert extension.kind == "DistinguishedName<3..2^16-1>"
        if fits:
            exchange(good, evil)
            assert good.handshake_complete
        else:
            refused(good, evil, IP, DE)


def test_a_server_without_demands_is_content_with_all_of_this_left_alone() -> None:
    """The pair that these tests damage connects when nothing is damaged."""
    for victim in ("client", "server"):
        connected(*pair(victim))
    connected(*pair("server", client_authentication=ClientAuthentication.OPTIONAL))
