"""Records that must not be: attacks A4-A10, A14-A17, B14, B16-B18, D12-D18.

Message boundaries, key changes, change_cipher_spec, floods, sizes, padding, what is not TLS at all.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from pellucid import ApplicationData, Connection, KeyUpdated
from pellucid.errors import AlertReceived, PeerError, TruncatedStream
from pellucid.handshake.actions import InstallKeys, SendChangeCipherSpec, SendMessage
from pellucid.messages.handshake import KeyUpdate, handshake_message, message_type
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType
from pellucid.registry import HandshakeType as H
from tests.illegal.evil import (
    Evil,
    asking_server,
    before_message,
    client_with_certificate,
    connected,
    deliver,
    drain,
    evil_client,
    evil_server,
    exchange,
    good_client,
    good_server,
    latched,
    message,
    refused,
    replacing,
)

UM = A.UNEXPECTED_MESSAGE
CCS = ContentType.CHANGE_CIPHER_SPEC
DATA = ContentType.APPLICATION_DATA
HANDSHAKE = ContentType.HANDSHAKE
ALERT = ContentType.ALERT
Step = Callable[[Evil], None]


def without_compatibility(evil: Evil, actions: list[Any]) -> list[Any]:
    return [action for action in actions if not isinstance(action, SendChangeCipherSpec)]


def pair(victim: str, **hooks: Any) -> tuple[Connection, Evil]:
    """A good *victim* and an evil peer, with client authentication, so that both flights have all their messages."""
    if victim == "client":
        return good_client(client_with_certificate()), evil_server(asking_server(), **hooks)
    return good_server(asking_server()), evil_client(client_with_certificate(), **hooks)


def pair_connected(victim: str) -> tuple[Connection, Evil]:
    good, evil = pair(victim)
    connected(good, evil)
    return good, evil


FLIGHTS = {
    "client": (
        *(H.SERVER_HELLO, H.ENCRYPTED_EXTENSIONS, H.CERTIFICATE_REQUEST),
        *(H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED),
    ),
    "server": (H.CERTIFICATE, H.CERTIFICATE_VERIFY, H.FINISHED),
}
POSITIONS = [(victim, kind) for victim, kinds in FLIGHTS.items() for kind in kinds]
both = pytest.mark.parametrize("victim", ["client", "server"])
positions = pytest.mark.parametrize(("victim", "kind"), POSITIONS, ids=str)


# ---- A4, A5: change_cipher_spec --------------------------------------------------------------------------------------


def _ccs(count: int, content: bytes = b"\x01") -> Step:
    def step(evil: Evil) -> None:
        for _ in range(count):
            evil.plaintext(CCS, content)

    return step


def _with_ccs(victim: str, kind: int, count: int, content: bytes = b"\x01") -> tuple[Connection, Evil]:
    inject = before_message(kind, _ccs(count, content))
    return pair(victim, rewrite=lambda evil, actions: inject(evil, without_compatibility(evil, actions)))


@positions
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.rfc("9846 §5", "a change_cipher_spec of one byte 0x01 is dropped between ClientHello and Finished")
def test_a4_up_to_two_change_cipher_specs_are_dropped(victim: str, kind: int, count: int) -> None:
    connected(*_with_ccs(victim, kind, count))


@positions
@pytest.mark.parametrize("count", [3, 33])
def test_a4_more_change_cipher_specs_are_refused(victim: str, kind: int, count: int) -> None:
    refused(*_with_ccs(victim, kind, count), UM)


@positions
@pytest.mark.parametrize("content", [b"\x02", b"\x01\x01", b"\x00", b""], ids=["two", "twice", "zero", "empty"])
@pytest.mark.rfc("9846 §5", "any other change_cipher_spec is unexpected_message")
def test_a4_another_change_cipher_spec_is_refused(victim: str, kind: int, content: bytes) -> None:
    refused(*_with_ccs(victim, kind, 1, content), UM)


@pytest.mark.parametrize(("victim", "kind"), [p for p in POSITIONS if p[1] != H.SERVER_HELLO], ids=str)
@pytest.mark.rfc("9846 §5", "a protected change_cipher_spec is unexpected_message")
def test_a4_a_protected_change_cipher_spec_is_refused(victim: str, kind: int) -> None:
    rewrite = before_message(kind, lambda evil: evil.sealed(b"\x01\x14"))
    refused(*pair(victim, rewrite=rewrite), UM)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.rfc("9846 §5", "a change_cipher_spec before ClientHello or after Finished is unexpected_message")
def test_a5_change_cipher_spec_before_client_hello_is_refused(count: int) -> None:
    refused(good_server(), evil_client(rewrite=before_message(H.CLIENT_HELLO, _ccs(count))), UM)


@both
@pytest.mark.rfc("9846 §5", "a change_cipher_spec before ClientHello or after Finished is unexpected_message")
def test_a5_change_cipher_spec_after_finished_is_refused(victim: str) -> None:
    for step in (_ccs(1), lambda evil: evil.sealed(b"\x01\x14")):
        good, evil = pair_connected(victim)
        step(evil)
        refused(good, evil, UM)


# ---- A6: handshake data across a key change --------------------------------------------------------------------------


def _extended(kind: int, extra: bytes) -> Any:
    """Append *extra* to the message in its record; the transcript has it too, as it would have."""
    return replacing(kind, lambda raw: raw + extra)


WHOLE = {
    # (victim, last message before the key change): what comes too early, whole
    ("client", H.SERVER_HELLO): message(H.ENCRYPTED_EXTENSIONS, b"\0\0"),
    ("client", H.FINISHED): message(H.NEW_SESSION_TICKET, bytes(8) + b"\x01\0" + b"\0\x06ticket" + b"\0\0"),
    ("server", H.CLIENT_HELLO): message(H.FINISHED, bytes(32)),
    ("server", H.FINISHED): handshake_message(KeyUpdate(0)),
}


@pytest.mark.rfc("9846 §5.1", "handshake messages must not span key changes")
@pytest.mark.parametrize("how", ["whole", "1-byte", "1-byte-partial-header", "partial-body"])
@pytest.mark.parametrize(("victim", "kind"), list(WHOLE), ids=str)
def test_a6_handshake_data_across_a_key_change_is_refused(victim: str, kind: int, how: str) -> None:
    """A6: ServerHello, ClientHello and both Finished, with a whole message or a part of one in the same record."""
    whole = WHOLE[victim, kind]
    extra = {"whole": whole, "1-byte": b"\0", "1-byte-partial-header": whole[:1], "partial-body": whole[:-1]}[how]
    good, evil = pair(victim, edit=_extended(kind, extra))
    refused(good, evil, UM)
    assert not good.handshake_complete


@pytest.mark.rfc("9846 §5.1", "handshake messages must not span key changes")
@pytest.mark.parametrize("how", ["whole", "whole-ticket", "1-byte", "partial"])
@both
def test_a6_key_update_with_handshake_data_behind_it_is_refused(victim: str, how: str) -> None:
    """A6, the fifth boundary, both ways."""
    update = handshake_message(KeyUpdate(0))
    extra = {"whole": update, "whole-ticket": WHOLE["client", H.FINISHED], "1-byte": update[:1], "partial": update[:4]}
    good, evil = pair_connected(victim)
    evil.record(HANDSHAKE, update + extra[how])
    refused(good, evil, UM)


@both
def test_a6_a_message_begun_under_the_old_key_is_not_ended_under_the_new(victim: str) -> None:
    """A6: the KeyUpdate itself, cut in two, with the second half under the next key already."""
    good, evil = pair_connected(victim)
    update = handshake_message(KeyUpdate(0))
    evil.record(HANDSHAKE, update[:3])
    phase = evil._handshake.phase
    evil._writer.install(phase.sending.next())
    evil.record(HANDSHAKE, update[3:])
    refused(good, evil, A.BAD_RECORD_MAC)


def test_a6_server_hello_begun_in_one_record_and_ended_with_more_is_refused() -> None:
    """A6: the extra byte comes in the second of ServerHello's two records."""

    def split(evil: Evil, actions: list[Any]) -> list[Any]:
        if not isinstance(actions[0], SendMessage):
            return actions
        raw = actions[0].raw + b"\x08"
        return [lambda e: (e.plaintext(HANDSHAKE, raw[:20]), e.plaintext(HANDSHAKE, raw[20:])), *actions[1:]]

    refused(good_client(), evil_server(rewrite=split), UM)


# ---- A7, A8, A9: fragments -------------------------------------------------------------------------------------------


def _fragmented(kind: int, pieces: Callable[[bytes], list[tuple[int, bytes]]]) -> Any:
    """Send the message of *kind* as these records instead."""

    def rewrite(evil: Evil, actions: list[Any]) -> list[Any]:
        out: list[Any] = []
        for action in without_compatibility(evil, actions):
            if isinstance(action, SendMessage) and message_type(action.raw) == kind:
                raw = action.raw
                out.append(lambda e, raw=raw: [e.record(*piece) for piece in pieces(raw)])
            else:
                out.append(action)
        return out

    return rewrite


ALL_POSITIONS = [("server", H.CLIENT_HELLO), *POSITIONS]
INTERRUPTIONS = {"alert": (ALERT, b"\x01\x00"), "user_canceled": (ALERT, b"\x01\x5a"), "data": (DATA, b"x")}


@pytest.mark.rfc("9846 §5.1", "no other record type may stand between the fragments of a handshake message")
@pytest.mark.parametrize("what", [*INTERRUPTIONS, "ccs"])
@pytest.mark.parametrize(("victim", "kind"), ALL_POSITIONS, ids=str)
def test_a7_a_record_of_another_type_inside_a_message_is_refused(victim: str, kind: int, what: str) -> None:
    plain = kind in {H.CLIENT_HELLO, H.SERVER_HELLO}
    for cut in (1, 3, 4, 5, -1):

        def send(raw: bytes, cut: int = cut) -> list[tuple[int, bytes]]:
            return [(HANDSHAKE, raw[:cut]), INTERRUPTIONS.get(what, (0, b"")), (HANDSHAKE, raw[cut:])]

        def interrupt(evil: Evil, actions: list[Any], cut: int = cut) -> list[Any]:
            out: list[Any] = []
            for action in without_compatibility(evil, actions):
                if not isinstance(action, SendMessage) or message_type(action.raw) != kind:
                    out.append(action)
                    continue
                out.append(lambda e, raw=action.raw: e.record(HANDSHAKE, raw[:cut]))
                if what == "ccs" or (plain and what == "data"):
                    content_type, content = (CCS, b"\x01") if what == "ccs" else INTERRUPTIONS[what]
                    out.append(lambda e, t=content_type, c=content: e.plaintext(t, c))
                else:
                    out.append(lambda e: e.record(*INTERRUPTIONS[what]))
                out.append(lambda e, raw=action.raw: e.record(HANDSHAKE, raw[cut:]))
            return out

        refused(*pair(victim, rewrite=interrupt), UM)


@pytest.mark.rfc("9846 §5.1", "zero-length fragments of handshake types are not allowed")
@pytest.mark.parametrize("padding", [0, 1, 1000])
@pytest.mark.parametrize(("victim", "kind"), ALL_POSITIONS, ids=str)
def test_a8_an_empty_handshake_fragment_is_refused(victim: str, kind: int, padding: int) -> None:
    """A8: before each message; padded where there is a key to pad under."""

    def empty(evil: Evil) -> None:
        if evil._writer._keys is None:
            evil.plaintext(HANDSHAKE, b"")
        else:
            evil.sealed(b"\x16" + bytes(padding))

    refused(*pair(victim, rewrite=before_message(kind, empty)), UM)


@pytest.mark.parametrize(("victim", "kind"), ALL_POSITIONS, ids=str)
@pytest.mark.rfc("9846 §5.4", "a handshake or alert record without content is unexpected_message")
def test_a8_an_empty_alert_is_refused(victim: str, kind: int) -> None:
    def empty(evil: Evil) -> None:
        if evil._writer._keys is None:
            evil.plaintext(ALERT, b"")
        else:
            evil.sealed(b"\x15" + bytes(7))

    refused(*pair(victim, rewrite=before_message(kind, empty)), UM)


@both
@pytest.mark.rfc("9846 §5.4", "a handshake or alert record without content is unexpected_message")
@pytest.mark.parametrize("content_type", [HANDSHAKE, ALERT])
def test_a8_empty_fragments_after_finished_are_refused(victim: str, content_type: int) -> None:
    for padding in (0, 100):
        good, evil = pair_connected(victim)
        evil.sealed(bytes((content_type,)) + bytes(padding))
        refused(good, evil, UM)


@pytest.mark.parametrize(("victim", "kind"), ALL_POSITIONS, ids=str)
@pytest.mark.rfc("9846 §5.1", "a handshake message may be fragmented over several records")
def test_a9_every_message_in_one_byte_records_is_accepted(victim: str, kind: int) -> None:
    """A9: RUSTSEC-2024-0399's trigger, for every message of both flights."""
    one_by_one = _fragmented(kind, lambda raw: [(HANDSHAKE, raw[i : i + 1]) for i in range(len(raw))])
    connected(*pair(victim, rewrite=one_by_one))


@pytest.mark.parametrize(("victim", "kind"), ALL_POSITIONS, ids=str)
def test_a9_every_message_cut_in_two_records_at_every_point_is_accepted(victim: str, kind: int) -> None:
    cuts = range(1, 40) if kind != H.CLIENT_HELLO else range(1, 240, 3)
    for cut in cuts:
        in_two = _fragmented(kind, lambda raw, cut=cut: [(HANDSHAKE, part) for part in (raw[:cut], raw[cut:]) if part])
        connected(*pair(victim, rewrite=in_two))


# ---- A10: application data too early ---------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"early", b""], ids=["data", "empty"])
@pytest.mark.rfc("9846 §5", "application data before the handshake is unexpected_message")
def test_a10_application_data_as_first_record_is_refused(content: bytes) -> None:
    evil = evil_client(rewrite=before_message(H.CLIENT_HELLO, lambda e: e.plaintext(DATA, content)))
    refused(good_server(), evil, UM)
    evil = evil_server(rewrite=before_message(H.SERVER_HELLO, lambda e: e.plaintext(DATA, content)))
    refused(good_client(), evil, UM)


@pytest.mark.parametrize(("victim", "kind"), [p for p in POSITIONS if p[1] != H.SERVER_HELLO], ids=str)
@pytest.mark.parametrize("content", [b"early", b""], ids=["data", "empty"])
def test_a10_application_data_under_handshake_keys_is_refused(victim: str, kind: int, content: bytes) -> None:
    good, evil = pair(victim, rewrite=before_message(kind, lambda e: e.record(DATA, content)))
    exchange(good, evil)
    seen, error = drain(good)
    assert not seen
    assert isinstance(error, PeerError)
    assert error.alert == UM
    good, evil = pair(victim, rewrite=before_message(kind, lambda e: e.record(DATA, content)))
    refused(good, evil, UM)


def test_a10_application_data_under_application_keys_before_finished_does_not_open() -> None:
    """A10: the client's own keys, but no Finished yet: the server still reads with handshake keys."""

    def too_soon(evil: Evil, actions: list[Any]) -> list[Any]:
        if not any(isinstance(a, SendMessage) and message_type(a.raw) == H.FINISHED for a in actions):
            return actions
        install = next(a for a in actions if isinstance(a, InstallKeys) and a.direction.value == "sent")
        received = [a for a in actions if isinstance(a, InstallKeys) and a is not install]
        return [install, lambda e: e.record(DATA, b"early"), *received]

    good, evil = good_server(), evil_client(rewrite=too_soon)
    refused(good, evil, A.BAD_RECORD_MAC)
    assert not good.handshake_complete


# ---- A14, A17, G10: alerts during the handshake ----------------------------------------------------------------------


@pytest.mark.parametrize("description", [A.CLOSE_NOTIFY, A.HANDSHAKE_FAILURE, 255], ids=["close", "fatal", "unknown"])
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize(("victim", "kind"), ALL_POSITIONS, ids=str)
@pytest.mark.rfc("9846 §6.2", "after a fatal alert the connection is closed and nothing more is sent")
def test_a14_a17_g10_an_alert_in_the_handshake_ends_it(victim: str, kind: int, level: int, description: int) -> None:
    """A14, A17, G10: close_notify too is an error before Finished, never a clean end of data. No answer is sent."""
    alert = bytes((level, description))
    good, evil = pair(victim, rewrite=before_message(kind, lambda e: e.record(ALERT, alert)))
    exchange(good, evil)
    seen, error = drain(good)
    assert not seen
    assert isinstance(error, AlertReceived)
    assert error.description == description
    latched(good, error)


@both
def test_a17_after_a_fatal_alert_nothing_more_is_sent_and_no_secret_is_given(victim: str) -> None:
    good, evil = pair_connected(victim)
    evil.send_data(b"last words")
    evil.record(ALERT, bytes((2, A.INTERNAL_ERROR)))
    evil.send_data(b"after the end")
    exchange(good, evil)
    seen, error = drain(good)
    assert seen == [ApplicationData(b"last words")]
    assert isinstance(error, AlertReceived)
    assert good._exporter_secret is None
    latched(good, error)


# ---- A16: whatever the bytes -----------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("seed", range(40))
def test_a16_no_bytes_raise_anything_but_our_errors(victim: str, seed: int) -> None:
    """A16: one bit of the peer's bytes flipped, somewhere; or random records. Only PeerError, AlertReceived and
    TruncatedStream may come of it, never an InternalError (which would wrap a raw exception)."""
    chance = random.Random(seed)
    for _ in range(10):
        good, evil = pair(victim)
        for _ in range(6):
            data = bytearray(evil.data_to_send())
            if data and chance.random() < 0.6:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            if chance.random() < 0.1:
                content = chance.randbytes(chance.randrange(60))
                data += (
                    bytes((chance.choice((20, 21, 22, 23, 24, 0)), 3, 3)) + len(content).to_bytes(2, "big") + content
                )
            deliver(bytes(data), good, chance.choice((None, 1, 7)))
            deliver(good.data_to_send(), evil)
        if good._error is None:
            good.receive_data(b"")
        _, error = drain(good)
        assert isinstance(error, (PeerError, AlertReceived, TruncatedStream)), repr(error)
        latched(good, error)


# ---- B14, B16, B17, B18 ----------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §5.1", "legacy_record_version is ignored for all purposes")
@pytest.mark.parametrize("version", [b"\x03\x01", b"\x03\x03", b"\x00\x00", b"\x03\x04", b"\xff\xff"], ids=bytes.hex)
def test_b14_the_record_layers_version_is_ignored(version: bytes) -> None:
    def rewrite(evil: Evil, actions: list[Any]) -> list[Any]:
        return [
            (lambda e, raw=a.raw: e.plaintext(HANDSHAKE, raw, version))
            if isinstance(a, SendMessage) and message_type(a.raw) in {H.CLIENT_HELLO, H.SERVER_HELLO}
            else a
            for a in actions
        ]

    connected(good_client(), evil_server(rewrite=rewrite))
    connected(good_server(), evil_client(rewrite=rewrite))


OVERSIZED = [
    ("client", H.SERVER_HELLO),
    ("client", H.ENCRYPTED_EXTENSIONS),
    ("client", H.CERTIFICATE_REQUEST),
    ("client", H.CERTIFICATE),
    ("client", H.CERTIFICATE_VERIFY),
    ("client", H.FINISHED),
    ("server", H.CLIENT_HELLO),
    ("server", H.CERTIFICATE),
    ("server", H.CERTIFICATE_VERIFY),
    ("server", H.FINISHED),
]


@pytest.mark.parametrize(("victim", "kind"), OVERSIZED, ids=str)
def test_b16_sixteen_megabytes_are_refused_from_the_header(victim: str, kind: int) -> None:
    """B16: the 4 bytes of the header, then silence; nothing is set aside for what they claim."""
    claim = bytes((kind,)) + b"\xff\xff\xff"
    good, evil = pair(victim, edit=replacing(kind, lambda raw: claim))
    tracemalloc.start()
    try:
        refused(good, evil, A.ILLEGAL_PARAMETER, A.DECODE_ERROR)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**21


@pytest.mark.parametrize(
    ("victim", "kind", "limit"),
    [
        ("client", H.SERVER_HELLO, 16_384),
        ("client", H.ENCRYPTED_EXTENSIONS, 16_384),
        ("client", H.CERTIFICATE_REQUEST, 32_768),
        ("client", H.CERTIFICATE, 65_536),
        ("client", H.CERTIFICATE_VERIFY, 16_384),
        ("client", H.FINISHED, 64),
        ("server", H.CLIENT_HELLO, 65_535),
        ("server", H.CERTIFICATE, 65_536),
        ("server", H.CERTIFICATE_VERIFY, 16_384),
        ("server", H.FINISHED, 64),
    ],
    ids=str,
)
def test_b16_each_messages_limit_is_exact(victim: str, kind: int, limit: int) -> None:
    """B16: a header that claims the limit is waited for; one more is refused at once."""
    at_limit = bytes((kind,)) + limit.to_bytes(3, "big")
    good, evil = pair(victim, edit=replacing(kind, lambda raw: at_limit), rewrite=_up_to(kind))
    exchange(good, evil)
    assert drain(good) == ([], None)
    past = bytes((kind,)) + (limit + 1).to_bytes(3, "big")
    refused(*pair(victim, edit=replacing(kind, lambda raw: past)), A.ILLEGAL_PARAMETER, A.DECODE_ERROR)


def _up_to(kind: int) -> Any:
    def rewrite(evil: Evil, actions: list[Any]) -> list[Any]:
        for i, action in enumerate(actions):
            if isinstance(action, SendMessage) and message_type(action.raw) == kind:
                return actions[: i + 1]
        return actions

    return rewrite


NOT_TLS = {
    "GET": b"GET / HTTP/1.1\r\n",
    "POST": b"POST / HTTP/1.1\r\n",
    "HEAD": b"HEAD / HTTP/1.0\r\n",
    "PUT": b"PUT /x HTTP/1.1\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n",
    "SSLv2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10",
    "zeros": bytes(16),
    "heartbeat": b"\x18\x03\x03\x00\x03\x01\x40\x00",
    "type-99": b"\x63\x03\x03\x00\x01\x00",
    "long-record": b"\x16\x03\x01\xff\xff",
}


@pytest.mark.rfc("9846 §5", "a record of an unexpected type is unexpected_message")
@pytest.mark.parametrize("what", NOT_TLS)
def test_b17_what_is_not_tls_is_refused_within_five_bytes(what: str) -> None:
    server = good_server()
    deliver(NOT_TLS[what][:5], server, 1)
    refused(server, None, UM, A.RECORD_OVERFLOW)
    if NOT_TLS[what][:1].isalpha() and what != "type-99":
        good = good_client()
        good.data_to_send()
        deliver(b"HTTP/1.1 400 Bad Request\r\n\r\n", good)
        error = refused(good, None, UM)
        assert "HTTP" in str(error)


@pytest.mark.parametrize("seed", range(20))
def test_b17_random_bytes_never_make_us_wait_for_long(seed: int) -> None:
    """B17: 16 random bytes are refused, or are the header of a record that may come and is at most 16 KB."""
    data = random.Random(seed).randbytes(16)
    server = good_server()
    deliver(data, server)
    _, error = drain(server)
    assert error is not None or int.from_bytes(data[3:5], "big") <= 2**14


@pytest.mark.rfc("9846 §5.1", "an alert record holds exactly one alert")
@pytest.mark.parametrize(
    ("content", "alerts"),
    [
        (b"\x00\x00", (A.ILLEGAL_PARAMETER,)),
        (b"\x03\x00", (A.ILLEGAL_PARAMETER,)),
        (b"\xff\x28", (A.ILLEGAL_PARAMETER,)),
        (b"\x01", (A.DECODE_ERROR, UM)),
        (b"\x02\x28\x00", (A.DECODE_ERROR, UM)),
        (b"\x01\x5a\x01\x5a", (A.DECODE_ERROR, UM)),
        (b"\x02\x28\x02\x28", (A.DECODE_ERROR, UM)),
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else "",
)
@both
def test_b18_malformed_fragmented_and_coalesced_alerts_are_refused(victim: str, content: bytes, alerts: Any) -> None:
    good, evil = pair_connected(victim)
    evil.record(ALERT, content)
    refused(good, evil, *alerts)
    plain_kind = H.SERVER_HELLO if victim == "client" else H.CLIENT_HELLO
    good, evil = pair(victim, rewrite=before_message(plain_kind, lambda e: e.record(ALERT, content)))
    refused(good, evil, *alerts)


@both
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("description", [10, 41, 80, 100, 200, 255])
@pytest.mark.rfc(
    "9846 §6", "every alert but close_notify and user_canceled is an error, unknown ones too, whatever its level"
)
def test_b18_every_alert_but_close_and_user_canceled_is_an_error(victim: str, level: int, description: int) -> None:
    """B18, G6: a warning level changes nothing."""
    good, evil = pair_connected(victim)
    evil.record(ALERT, bytes((level, description)))
    exchange(good, evil)
    seen, error = drain(good)
    assert not seen
    assert isinstance(error, AlertReceived)
    assert error.description == description
    latched(good, error)


# ---- D12-D17: protected records --------------------------------------------------------------------------------------


@both
@pytest.mark.rfc("9846 §5.4", "a record with no content type is unexpected_message")
def test_d12_an_all_zero_inner_plaintext_is_refused(victim: str) -> None:
    for size in (1, 16, 2**14 + 1):
        good, evil = pair_connected(victim)
        evil.sealed(bytes(size))
        begin = time.perf_counter()
        refused(good, evil, UM)
        assert time.perf_counter() - begin < 5


@both
def test_d12_no_inner_plaintext_at_all_is_refused(victim: str) -> None:
    good, evil = pair_connected(victim)
    evil.sealed(b"")
    refused(good, evil, UM)


@both
@pytest.mark.rfc("9846 §5.4", "TLSInnerPlaintext is at most 2^14 + 1 bytes")
@pytest.mark.parametrize(("content", "padding"), [(2**14, 0), (2**14 - 1, 1), (8192, 8192), (1, 2**14 - 1), (0, 2**14)])
def test_d13_a_record_exactly_at_the_limit_is_accepted(victim: str, content: int, padding: int) -> None:
    good, evil = pair_connected(victim)
    evil.sealed(b"x" * content + b"\x17" + bytes(padding))
    exchange(good, evil)
    seen, error = drain(good)
    assert error is None
    assert b"".join(event.data for event in seen) == b"x" * content


@both
@pytest.mark.rfc("9846 §5.2", "a record too large after decryption is record_overflow")
@pytest.mark.parametrize(
    ("content", "padding"), [(2**14 + 1, 0), (2**14, 1), (8193, 8192), (1, 2**14), (0, 2**14 + 1), (2**14, 200)]
)
def test_d13_a_record_one_past_the_limit_is_refused(victim: str, content: int, padding: int) -> None:
    good, evil = pair_connected(victim)
    evil.sealed(b"x" * content + b"\x17" + bytes(padding))
    refused(good, evil, A.RECORD_OVERFLOW)


def test_d13_the_limit_holds_for_handshake_records_too() -> None:
    for size, fits in ((2**14, True), (2**14 + 1, False)):
        good, evil = pair_connected("client")
        ticket = message(H.NEW_SESSION_TICKET, bytes(9) + (size - 17).to_bytes(2, "big") + bytes(size - 17) + b"\0\0")
        assert len(ticket) == size
        evil.sealed(ticket + b"\x16")
        if fits:
            exchange(good, evil)
            assert drain(good)[1] is None
        else:
            refused(good, evil, A.RECORD_OVERFLOW)


@both
@pytest.mark.parametrize("inner", [0x14, 0x18, 0x19, 0x01, 0x63, 0xFF])
@pytest.mark.rfc("9846 §5", "an unexpected inner content type is unexpected_message")
def test_d14_an_unknown_inner_type_is_refused(victim: str, inner: int) -> None:
    good, evil = pair_connected(victim)
    evil.sealed(b"\x01" + bytes((inner,)))
    refused(good, evil, UM)


@both
@pytest.mark.parametrize("outer", [0x14, 0x15, 0x16, 0x18, 0x00, 0xFF])
@pytest.mark.rfc("9846 §5.2", "the outer type of a protected record is application_data")
def test_d14_another_outer_type_is_refused(victim: str, outer: int) -> None:
    good, evil = pair_connected(victim)
    evil.sealed(b"data\x17", outer)
    refused(good, evil, UM)


@both
@pytest.mark.rfc("9846 §5.2", "a record that does not open is bad_record_mac")
def test_d15_every_byte_of_a_record_flipped_is_bad_record_mac(victim: str) -> None:
    """D15: one alert whatever the byte; nothing of the record, all of the one before it, is delivered."""
    for at in range(3, 5 + 8 + 1 + 16):
        good, evil = pair_connected(victim)
        evil.send_data(b"before")
        exchange(good, evil)
        evil.send_data(b"8 bytes!")
        data = bytearray(evil.data_to_send())
        if at in {3, 4}:
            data[at] ^= 0x01 if at == 4 else 0x80
            if at == 4:
                data += b"\0"
        else:
            data[at] ^= 0x80
        good.receive_data(bytes(data))
        assert good.next_event() == ApplicationData(b"before")
        refused(good, None, A.RECORD_OVERFLOW if at == 3 else A.BAD_RECORD_MAC)


@both
def test_d15_every_record_of_a_flight_flipped_is_bad_record_mac(victim: str) -> None:
    """D15: the protected records of the handshake, each with its last byte flipped; in bulk data, the third record."""
    good, evil = pair_connected(victim)
    evil.send_data(b"x" * 100_000)
    data = bytearray(evil.data_to_send())
    data[2 * (5 + 2**14 + 17) + 100] ^= 1
    good.receive_data(bytes(data))
    seen, error = drain(good)
    assert b"".join(event.data for event in seen) == b"x" * 2**15
    assert isinstance(error, PeerError)
    assert error.alert == A.BAD_RECORD_MAC
    fresh, other = pair(victim)
    exchange_until_protected(fresh, other)


def exchange_until_protected(good: Connection, evil: Evil) -> None:
    for _ in range(4):
        deliver(good.data_to_send(), evil)
        data = bytearray(evil.data_to_send())
        if b"\x17\x03\x03" in data:
            data[-1] ^= 1
            deliver(bytes(data), good)
            refused(good, None, A.BAD_RECORD_MAC)
            return
        deliver(bytes(data), good)
    raise AssertionError("nothing was protected")


@both
@pytest.mark.rfc("9846 §5.2", "a record longer than 2^14 + 256 is record_overflow")
def test_d16_a_longer_record_is_refused_from_its_header(victim: str) -> None:
    good, evil = pair_connected(victim)
    evil.wire(b"\x17\x03\x03" + (2**14 + 256).to_bytes(2, "big"))
    exchange(good, evil)
    assert drain(good) == ([], None)
    good, evil = pair_connected(victim)
    evil.wire(b"\x17\x03\x03" + (2**14 + 257).to_bytes(2, "big"))
    refused(good, evil, A.RECORD_OVERFLOW)


@pytest.mark.rfc("9846 §5.1", "a plaintext record is at most 2^14 bytes")
def test_d16_a_plaintext_record_has_its_own_limit() -> None:
    server = good_server()
    deliver(b"\x16\x03\x01" + (2**14).to_bytes(2, "big"), server)
    assert drain(server) == ([], None)
    server = good_server()
    deliver(b"\x16\x03\x01" + (2**14 + 1).to_bytes(2, "big"), server)
    refused(server, None, A.RECORD_OVERFLOW)


@pytest.mark.parametrize(("victim", "kind"), [p for p in POSITIONS if p[1] != H.SERVER_HELLO], ids=str)
@pytest.mark.rfc("9846 §5.2", "an unprotected handshake record after the key change is unexpected_message")
def test_d17_an_unprotected_message_under_keys_is_refused(victim: str, kind: int) -> None:
    def rewrite(evil: Evil, actions: list[Any]) -> list[Any]:
        return [
            (lambda e, raw=a.raw: e.plaintext(HANDSHAKE, raw))
            if isinstance(a, SendMessage) and message_type(a.raw) == kind
            else a
            for a in actions
        ]

    refused(*pair(victim, rewrite=rewrite), UM)


@both
@pytest.mark.parametrize("content", [b"\x01\x00", b"\x02\x28"], ids=["close", "fatal"])
def test_d17_g11_an_unprotected_alert_after_the_handshake_is_refused(victim: str, content: bytes) -> None:
    """D17: an attacker on the path cannot end the stream."""
    good, evil = pair_connected(victim)
    evil.plaintext(ALERT, content)
    refused(good, evil, UM)


def test_d17_an_unprotected_alert_is_believed_only_until_the_first_protected_record() -> None:
    """A server that could not read our ServerHello answer has no keys to say so: before it was heard, it may."""
    good, evil = (
        good_client(),
        evil_server(rewrite=before_message(H.CERTIFICATE, lambda e: e.plaintext(ALERT, b"\x02\x28"))),
    )
    refused(good, evil, UM)


@both
def test_key_updates_and_data_still_flow_after_all_this(victim: str) -> None:
    """The evil peer without tricks is an ordinary one: what the tests above refuse is refused for its tricks."""
    good, evil = pair_connected(victim)
    evil.send_key_update()
    evil.send_data(b"fine")
    exchange(good, evil)
    assert drain(good) == ([KeyUpdated(1), ApplicationData(b"fine")], None)
