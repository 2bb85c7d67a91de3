"""The explainer's spans: every byte of every message is in exactly one leaf, whatever the message says."""

from __future__ import annotations

import re
import time
import unicodedata
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pellucid.errors import UsageError
from pellucid.explain.der import certificate_part
from pellucid.explain.meanings import ROOTS
from pellucid.explain.recorder import Recorder
from pellucid.explain.spans import FieldSpan, message_spans, record_spans
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    BODIES,
    Certificate,
    CertificateEntry,
    ClientHello,
    Extension,
    ServerHello,
    handshake_message,
    message_type,
)
from pellucid.registry import ContentType, NamedGroup, extension_name, handshake_type_name
from pellucid.registry import HandshakeType as H
from pellucid.trace import Direction, Epoch, MessageTraced, RecordTraced, Role
from tests.properties.recordings import record
from tests.properties.strategies import structures, values
from tests.support.pair import Pair, client_config, credential, issued, server_config
from tests.support.soak import examples

MESSAGES = {code: body for code, body in BODIES.items() if code != H.HELLO_RETRY_REQUEST}
CARRIERS: dict[x.M, int] = {
    x.M.CH: H.CLIENT_HELLO,
    x.M.SH: H.SERVER_HELLO,
    x.M.HRR: H.HELLO_RETRY_REQUEST,
    x.M.EE: H.ENCRYPTED_EXTENSIONS,
    x.M.CT: H.CERTIFICATE,
    x.M.CR: H.CERTIFICATE_REQUEST,
    x.M.NST: H.NEW_SESSION_TICKET,
}
PLACES = [(place, body) for body in x.BODIES for place in body.messages]


def tiles(spans: tuple[FieldSpan, ...], size: int) -> None:
    """Parents before children and around them; the leaves one after the other, from the first byte to the last."""
    at = 0
    parents: list[FieldSpan] = []
    for span in spans:
        del parents[span.depth :]
        assert len(parents) == span.depth
        assert span.length > 0
        assert span.name == span.path.rpartition(".")[2]
        assert span.meaning.endswith(".")
        assert re.fullmatch(r"\d{4}( §[\dA-E.]+)?", span.rfc), span
        assert not any(unicodedata.category(letter) == "Cc" for letter in span.value), span
        if parents:
            outer = parents[-1]
            assert outer.offset <= span.offset
            assert span.offset + span.length <= outer.offset + outer.length
            assert not outer.leaf
            assert span.path.startswith(outer.path)
        parents.append(span)
        if span.leaf:
            assert span.offset == at, span
            at += span.length
    assert at == size
    assert len({span.path for span in spans}) == len(spans)


def by_path(raw: bytes, kind: int) -> dict[str, FieldSpan]:
    return {span.path: span for span in message_spans(raw, kind)}


@pytest.mark.parametrize("code", MESSAGES, ids=handshake_type_name)
@given(data=st.data())
@settings(max_examples=examples(20), deadline=None)
def test_leaves_cover_every_byte_of_every_message(code: int, data: st.DataObject) -> None:
    try:
        raw = handshake_message(data.draw(structures(MESSAGES[code])))
    except UsageError:
        assume(False)
        raise
    spans = message_spans(raw, message_type(raw))
    tiles(spans, len(raw))
    assert "body" not in {span.path for span in spans}
    tiles(message_spans(raw, H.HELLO_RETRY_REQUEST), len(raw))


@pytest.mark.parametrize(("place", "body"), PLACES, ids=[f"{extension_name(b.extension_type)}-{p}" for p, b in PLACES])
@given(data=st.data())
@settings(max_examples=examples(6), deadline=None)
def test_extension_bodies_are_gone_through(place: x.M, body: x.Body[Any], data: st.DataObject) -> None:
    try:
        extension = Extension(body.extension_type, body.codec.encode(data.draw(values(body.codec))))
    except UsageError:
        assume(False)
        raise
    raw = _carrying(place, extension)
    spans = message_spans(raw, CARRIERS[place])
    tiles(spans, len(raw))
    inside = [span for span in spans if ".extension_data." in span.path]
    if extension.extension_data and (body in ROOTS or body.codec.kind not in {"empty", "opaque[rest]"}):
        assert any(not span.path.endswith((".length", ".content")) for span in inside), spans
    for span in inside:
        assert body.codec.kind == "opaque[rest]" or not span.meaning.startswith("Bytes that are shown"), span


def _carrying(place: x.M, extension: Extension) -> bytes:
    """A message of the kind *place*, with one extension."""
    kind = CARRIERS[place]
    if kind == H.CERTIFICATE:
        entry = CertificateEntry(b"\x30\x00", (extension,))
        return handshake_message(Certificate(b"", (entry,)))
    changes = {"extensions": (extension,)}
    struct = BODIES[kind]
    blank: dict[str, Any] = {
        "legacy_version": 0x0303,
        "random": bytes(32),
        "legacy_session_id": b"",
        "legacy_session_id_echo": b"",
        "cipher_suites": (0x1301,),
        "cipher_suite": 0x1301,
        "legacy_compression_methods": b"\0",
        "legacy_compression_method": 0,
        "certificate_request_context": b"",
        "ticket_lifetime": 1,
        "ticket_age_add": 2,
        "ticket_nonce": b"",
        "ticket": b"t",
    }
    made: Any = struct
    return handshake_message(made(**{k: v for k, v in blank.items() if k in made.__slots__}, **changes))


@given(raw=st.binary(max_size=200), kind=st.sampled_from([*BODIES, 99]))
@settings(max_examples=examples(150), deadline=None)
def test_any_bytes_are_tiled_too(raw: bytes, kind: int) -> None:
    tiles(message_spans(raw, kind), len(raw))


@pytest.mark.parametrize("resumed", ["", "early"])
@pytest.mark.parametrize("role", Role)
@given(data=st.data())
@settings(max_examples=examples(25), deadline=None)
def test_recorded_messages_with_bytes_changed_are_tiled(role: Role, resumed: str, data: st.DataObject) -> None:
    event = data.draw(st.sampled_from(_messages(role, resumed)))
    changed = bytearray(event.raw)
    tiles(message_spans(event.raw, event.message_type), len(event.raw))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    tiles(message_spans(bytes(changed), event.message_type), len(changed))


_RECORDED: dict[tuple[Role, str], list[MessageTraced]] = {}


def _messages(role: Role, resumed: str) -> list[MessageTraced]:
    """What crosses in a handshake with client certificates and a retry, or in a resumption."""
    if (role, resumed) not in _RECORDED:
        recorder = Recorder()
        full = not resumed
        recording = record(role, mutual=full, retry=full, resumed=resumed)
        recording.play(observer=recorder)
        _RECORDED[role, resumed] = list(recorder.of(MessageTraced))
    return _RECORDED[role, resumed]


def test_recorded_handshake_names_its_fields() -> None:
    hello = by_path(_messages(Role.SERVER, "")[0].raw, H.CLIENT_HELLO)
    share = next(path for path in hello if path.endswith("client_shares[1].group"))
    assert hello[share].value == "x25519 (0x001d)"
    assert hello[share].rfc == "9846 §4.3.8"
    host = next(path for path in hello if path.endswith("host_name"))
    assert hello[host].value == "“pair.test”"
    certificate = next(e for e in _messages(Role.CLIENT, "") if e.message_type == H.CERTIFICATE)
    fields = by_path(certificate.raw, H.CERTIFICATE)
    der = "certificate_list[0].cert_data.certificate"
    leaf = credential("ed25519").leaf.x509
    assert (
        fields[f"{der}.tbsCertificate.validity.notAfter"].value == f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
    )
    assert fields[f"{der}.tbsCertificate.subject"].value == "CN=pair.test"
    assert fields[f"{der}.tbsCertificate.subjectPublicKeyInfo.algorithm"].value == "Ed25519"
    san = next(span for span in fields.values() if span.value == "DNS pair.test")
    assert san.name == "extnValue"
    whole = fields[der]
    assert certificate.raw[whole.offset : whole.offset + whole.length] == credential("ed25519").chain[0]


def test_grease_is_named_and_explained() -> None:
    hello = ClientHello(
        0x0303,
        bytes(32),
        b"",
        (0x1A1A, 0x1301),
        b"\0",
        (
            Extension(0x2A2A, b""),
            x.SUPPORTED_VERSIONS.extension((0x3A3A, 0x0304)),
            x.KEY_SHARES.extension((x.KeyShareEntry(0x4A4A, b"\0"),)),
        ),
    )
    fields = by_path(handshake_message(hello), H.CLIENT_HELLO)
    for path in (
        "cipher_suites[0]",
        "extensions[0]",
        "extensions[0].extension_type",
        "extensions[1].extension_data.versions[0]",
        "extensions[2].extension_data.client_shares[0].group",
    ):
        assert fields[path].value.startswith("GREASE (0x"), path
        assert fields[path].rfc == "8701 §3"
    assert fields["cipher_suites[1]"].value == "TLS_AES_128_GCM_SHA256 (0x1301)"


def test_host_name_with_control_characters_is_escaped() -> None:
    name = x.Extension(0, bytes.fromhex("0009 00 0006 61 1b5b324a 62".replace(" ", "")))
    hello = ClientHello(0x0303, bytes(32), b"", (0x1301,), b"\0", (name,))
    tiles(message_spans(handshake_message(hello), H.CLIENT_HELLO), len(handshake_message(hello)))


def test_hello_retry_request_has_its_own_meaning_of_random() -> None:
    share = x.SELECTED_GROUP.extension(0x001D)
    raw = handshake_message(ServerHello(0x0303, bytes(32), b"", 0x1301, 0, (share,)))
    retry, hello = by_path(raw, H.HELLO_RETRY_REQUEST), by_path(raw, H.SERVER_HELLO)
    assert "try again" in retry["random"].meaning
    assert "try again" not in hello["random"].meaning
    assert retry["extensions[0].extension_data.selected_group"].value == "x25519 (0x001d)"
    assert hello["extensions[0].extension_data.content"].leaf


# ---- DER and records -------------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=examples(80), deadline=None)
def test_changed_certificates_never_raise(data: st.DataObject) -> None:
    der = bytearray(credential(data.draw(st.sampled_from(["p256", "rsa2048", "ed25519"]))).chain[0])
    for _ in range(data.draw(st.integers(0, 3))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    certificate_part(bytes(der[: data.draw(st.integers(0, len(der)))]))
    raw = handshake_message(Certificate(b"", (CertificateEntry(bytes(der), ()),)))
    tiles(message_spans(raw, H.CERTIFICATE), len(raw))


def test_record_spans_cover_recorded_records() -> None:
    recorder = Recorder()
    record(Role.SERVER, [lambda end: end.send_data(b"hello")]).play(observer=recorder, trace_records=True)
    records = recorder.of(RecordTraced)
    assert {one.sequence is None for one in records} == {True, False}
    for one in records:
        tiles(record_spans(one), one.size)
    hello = {span.name: span for span in record_spans(records[-1])}
    assert hello["type"].value == "application_data (23), encrypted"
    assert hello["content"].length == 5
    assert hello["tag"].length == 16


@given(
    raw=st.binary(max_size=40), sizes=st.tuples(st.integers(0, 50), st.integers(0, 50)), sequence=st.none() | st.just(3)
)
@settings(max_examples=examples(60), deadline=None)
def test_records_of_any_bytes_are_tiled(raw: bytes, sizes: tuple[int, int], sequence: int | None) -> None:
    event = RecordTraced(
        direction=Direction.SENT,
        epoch=Epoch.APPLICATION,
        content_type=ContentType.ALERT,
        size=len(raw),
        content_size=sizes[0],
        padding_size=sizes[1],
        sequence=sequence,
        raw=raw,
    )
    tiles(record_spans(event), len(raw))


def test_certificate_with_an_issuer_that_cannot_be_parsed_has_a_name_all_the_same() -> None:
    good = credential("p256").chain[0]
    bad = good.replace(b"\x0c\x16Pair test intermediate", b"\x00\x16Pair test intermediate")
    assert bad != good
    raw = handshake_message(Certificate(b"", (CertificateEntry(bad, ()),)))
    assert "cannot be read" in by_path(raw, H.CERTIFICATE)["certificate_list[0]"].value


def test_hybrid_shares_are_shown_as_their_two_halves() -> None:
    recorder = Recorder()
    groups = (NamedGroup.X25519MLKEM768,)
    Pair.of(
        client_config(groups=groups, key_shares=groups), server_config(groups=groups), client_trace=recorder
    ).connect()
    hello, answer = recorder.of(MessageTraced)[:2]
    for event, size in ((hello, 1184), (answer, 1088)):
        spans = message_spans(event.raw, event.message_type)
        tiles(spans, len(event.raw))
        halves = [(span.name, span.length) for span in spans if span.name in {"ML-KEM-768", "x25519"}]
        assert halves == [("ML-KEM-768", size), ("x25519", 32)]


def _der(tag: int, content: bytes) -> bytes:
    size = len(content).to_bytes(4, "big")
    return bytes((tag,)) + (bytes((len(content),)) if len(content) < 0x80 else b"\x84" + size) + content


def test_extension_with_one_element_too_many_leaves_no_gap() -> None:
    der = issued().der
    usage = der.index(bytes.fromhex("0603551d0f0101ff0404")) + 8  # extnID, critical; then extnValue, of 4 bytes
    changed = bytearray(der)
    changed[usage : usage + 6] = b"\x04\x02\x03\x02\x05\x00"  # of 2, and a NULL
    raw = handshake_message(Certificate(b"", (CertificateEntry(bytes(changed), ()),)))
    spans = message_spans(raw, H.CERTIFICATE)
    tiles(spans, len(raw))
    assert [span.leaf for span in spans if span.value == "keyUsage" and span.name.startswith("extensions")] == [True]


def test_object_identifier_without_end_costs_no_time() -> None:
    key = _der(0x30, _der(0x30, _der(0x06, b"\xff" * 60_000 + b"\x01")) + _der(0x03, b"\0\1"))
    raw = handshake_message(Certificate(b"", (CertificateEntry(key, ()),)))
    start = time.process_time()
    tiles(message_spans(raw, H.CERTIFICATE), len(raw))
    assert time.process_time() - start < 0.1
