"""Records of other people's handshakes, opened and made again with the secrets of their key logs.

Every record of RFC 8448's five traces, of the two illustrated handshakes and of four captures: with TLS_AES_128_GCM,
TLS_AES_256_GCM, TLS_CHACHA20_POLY1305 and TLS_AES_128_CCM; one with X25519MLKEM768 shares.
"""

from __future__ import annotations

from typing import Any

import pytest

from pellucid.crypto.pyca import PYCA
from pellucid.errors import BadRecordMac
from pellucid.messages import extensions as x
from pellucid.messages.handshake import BODIES, HEADER_LENGTH, handshake_message
from pellucid.record.reader import RecordReader
from pellucid.record.writer import RecordWriter
from pellucid.registry import ContentType, NamedGroup
from pellucid.registry import HandshakeType as H
from pellucid.schedule import TrafficSecret
from pellucid.trace import Epoch
from tests.support.scripted import suite
from tests.support.vectors import load

TYPES = {
    "handshake": ContentType.HANDSHAKE,
    "application_data": ContentType.APPLICATION_DATA,
    "alert": ContentType.ALERT,
    "change_cipher_spec": ContentType.CHANGE_CIPHER_SPEC,
}
KEYLOG = {
    "client_handshake": "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    "server_handshake": "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    "client_application": "CLIENT_TRAFFIC_SECRET_0",
    "server_application": "SERVER_TRAFFIC_SECRET_0",
}
CAPTURES: dict[str, dict[str, Any]] = {
    capture["name"]: capture
    for capture in (
        *load("rfc8448.json")["traces"],
        *load("illustrated_tls13.json")["captures"],
        *load("captures_tls13.json")["captures"],
    )
}


def secrets_of(capture: dict[str, Any]) -> dict[str, TrafficSecret]:
    if "keylog" in capture:
        values = {name: capture["keylog"][label] for name, label in KEYLOG.items()}
    else:
        values = {name: keys["secret"] for name, keys in capture["traffic_keys"].items()}
    code = int(capture["cipher_suite_id"], 16)
    return {
        name: TrafficSecret(
            suite=suite(code),
            epoch=Epoch.APPLICATION if name.endswith("application") else Epoch.HANDSHAKE,
            value=bytes.fromhex(value),
        )
        for name, value in values.items()
    }


def records_under(capture: dict[str, Any]) -> dict[str, list[tuple[int, bytes, bytes]]]:
    """(content type, payload, record) by the key that protects them, in order."""
    found: dict[str, list[tuple[int, bytes, bytes]]] = {}
    for record in capture["records"]:
        if record["key"] is not None:
            under = found.setdefault(record["key"], [])
            assert record["seq"] == len(under)
            under.append(
                (TYPES[record["content_type"]], bytes.fromhex(record["payload"]), bytes.fromhex(record["record"]))
            )
    return found


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.rfc("9846 §5.2", "record protection: every record of the published handshakes")
@pytest.mark.rfc("9846 §5.3", "the nonce is the sequence number XOR the IV")
def test_every_record_opens(name: str) -> None:
    capture = CAPTURES[name]
    secrets = secrets_of(capture)
    for key, records in records_under(capture).items():
        reader = RecordReader(PYCA.tag_error, None)
        reader.install(secrets[key])
        stream = b"".join(raw for _, _, raw in records)
        offset = 0
        for content_type, payload, _ in records:
            found = reader.next_record(stream, offset)
            assert found is not None
            record, offset = found
            assert (record.content_type, record.content, record.protected) == (content_type, payload, True)
        assert offset == len(stream)


@pytest.mark.parametrize("name", CAPTURES)
def test_every_record_is_made_again(name: str) -> None:
    capture = CAPTURES[name]
    secrets = secrets_of(capture)
    for key, records in records_under(capture).items():
        writer = RecordWriter(None, None, b"\x03\x03")
        writer.install(secrets[key])
        for content_type, payload, raw in records:
            writer._record(content_type, payload)
            assert writer.take() == raw


@pytest.mark.parametrize("name", CAPTURES)
def test_plaintext_records_are_read_as_they_stand(name: str) -> None:
    reader = RecordReader(PYCA.tag_error, None)
    for record in CAPTURES[name]["records"]:
        if record["key"] is None:
            raw = bytes.fromhex(record["record"])
            found = reader.next_record(raw, 0)
            assert found is not None
            assert (*found[0], found[1]) == (
                TYPES[record["content_type"]],
                bytes.fromhex(record["payload"]),
                False,
                len(raw),
            )


@pytest.mark.parametrize("name", CAPTURES)
@pytest.mark.rfc("9846 §5.2", "a record whose tag does not match is bad_record_mac")
def test_record_of_another_number_or_with_a_wrong_bit_does_not_open(name: str) -> None:
    capture = CAPTURES[name]
    secrets = secrets_of(capture)
    for key, records in records_under(capture).items():
        _, _, raw = records[0]
        for wrong in (raw[:-1] + bytes((raw[-1] ^ 1,)), raw[:5] + bytes((raw[5] ^ 0x80,)) + raw[6:]):
            reader = RecordReader(PYCA.tag_error, None)
            reader.install(secrets[key])
            with pytest.raises(BadRecordMac):
                reader.next_record(wrong, 0)
        reader = RecordReader(PYCA.tag_error, None)
        reader.install(secrets[key])
        reader.next_record(raw, 0)
        with pytest.raises(BadRecordMac):
            reader.next_record(raw, 0)


@pytest.mark.parametrize("name", CAPTURES)
def test_every_handshake_message_decodes_and_encodes_to_itself(name: str) -> None:
    capture = CAPTURES[name]
    buffers: dict[str | None, bytes] = {}
    for record in capture["records"]:
        if record["content_type"] == "handshake":
            key = record["key"] or record["role"]
            buffers[key] = buffers.get(key, b"") + bytes.fromhex(record["payload"])
    kinds = set()
    for buffer in buffers.values():
        at = 0
        while at < len(buffer):
            stop = at + HEADER_LENGTH + int.from_bytes(buffer[at + 1 : at + 4], "big")
            raw = buffer[at:stop]
            body = BODIES[raw[0]].decode(raw[HEADER_LENGTH:])
            assert handshake_message(body) == raw
            kinds.add(raw[0])
            at = stop
        assert at == len(buffer)
    assert {H.CLIENT_HELLO, H.SERVER_HELLO, H.ENCRYPTED_EXTENSIONS, H.FINISHED} <= kinds


def test_x25519mlkem768_shares_have_their_lengths() -> None:
    capture = CAPTURES["aes128ccm_x25519mlkem768"]
    hello, answer = (bytes.fromhex(record["payload"])[HEADER_LENGTH:] for record in capture["records"][:2])
    offered = x.decode_extensions(x.M.CH, BODIES[H.CLIENT_HELLO].decode(hello).extensions).get(x.KEY_SHARES)
    extensions = BODIES[H.SERVER_HELLO].decode(answer).extensions
    requested = frozenset(extension.extension_type for extension in extensions)
    chosen = x.decode_extensions(x.M.SH, extensions, requested=requested).get(x.KEY_SHARE)
    group = next(group for group in PYCA.groups if group.code == NamedGroup.X25519MLKEM768)
    assert offered is not None and chosen is not None
    assert {code: len(share) for code, share in offered}[group.code] == group.client_length
    assert (chosen.group, len(chosen.key_exchange)) == (group.code, group.server_length)
