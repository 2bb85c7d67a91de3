"""Record protection's plain pieces: nonce, header, inner plaintext; and the record layer's sizes at their limits."""

from __future__ import annotations

import pytest

from pellucid.crypto.pyca import PYCA
from pellucid.errors import BadRecordMac, InternalError, RecordOverflow, UnexpectedMessage, UsageError
from pellucid.limits import MAX_CIPHERTEXT, MAX_PLAINTEXT, MAX_SEQUENCE
from pellucid.record.protect import Keys, record_header, record_nonce, split_inner_plaintext
from pellucid.record.reader import RecordReader
from pellucid.record.writer import RecordWriter
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ContentType
from pellucid.trace import Epoch
from tests.support.scripted import traffic_secret

SECRET = traffic_secret(CS.TLS_AES_128_GCM_SHA256, bytes(32))
IV = bytes.fromhex("5bd3c71b836e0b76bb73265f")


def reader() -> RecordReader:
    made = RecordReader(PYCA.tag_error, None)
    made.install(SECRET)
    return made


def sealed(inner: bytes) -> bytes:
    keys = Keys(SECRET)
    header = record_header(len(inner) + keys.tag_length)
    return header + keys.aead.encrypt(keys.iv.to_bytes(12, "big"), inner, header)


@pytest.mark.rfc("9846 §5.3", "the nonce is the sequence number XOR the IV")
def test_nonce() -> None:
    assert record_nonce(IV, 0) == IV
    assert record_nonce(IV, 1) == IV[:-1] + b"\x5e"
    assert record_nonce(IV, 2**64 - 1) == IV[:4] + bytes(byte ^ 0xFF for byte in IV[4:])
    assert len({record_nonce(IV, n) for n in range(1000)}) == 1000


@pytest.mark.rfc("9846 §5.2", "a protected record is application_data of version 0x0303")
def test_header() -> None:
    assert record_header(0x1234) == b"\x17\x03\x03\x12\x34"
    writer = RecordWriter(None, None, b"\x03\x01")
    writer.install(SECRET)
    for content_type in (21, 22, 23):
        writer._record(content_type, b"x")
        assert writer.take()[:3] == b"\x17\x03\x03"


@pytest.mark.rfc("9846 §5.4", "the type is the last octet that is not zero")
def test_inner_plaintext() -> None:
    assert split_inner_plaintext(b"data\x17") == (23, b"data")
    assert split_inner_plaintext(b"data\0\0\x16\0\0\0") == (22, b"data\0\0")
    assert split_inner_plaintext(b"\x15") == (21, b"")


@pytest.mark.parametrize("inner", [b"", b"\0", bytes(500)])
@pytest.mark.rfc("9846 §5.4", "a record of zeros only is unexpected_message")
def test_inner_plaintext_of_zeros(inner: bytes) -> None:
    with pytest.raises(UnexpectedMessage):
        split_inner_plaintext(inner)


@pytest.mark.rfc("9846 §5.2", "a TLSInnerPlaintext of more than 2^14 + 1 bytes is record_overflow")
def test_largest_record_opens_and_one_byte_more_does_not() -> None:
    for inner in (bytes(MAX_PLAINTEXT) + b"\x17", b"x" * MAX_PLAINTEXT + b"\x17", b"x\x17" + bytes(MAX_PLAINTEXT - 1)):
        found = reader().next_record(sealed(inner), 0)
        assert found is not None and found[0].content_type == 23
    for inner in (bytes(MAX_PLAINTEXT + 1) + b"\x17", b"x\x17" + bytes(MAX_PLAINTEXT)):
        with pytest.raises(RecordOverflow):
            reader().next_record(sealed(inner), 0)


@pytest.mark.rfc("9846 §5.2", "a TLSCiphertext of more than 2^14 + 256 bytes is record_overflow")
@pytest.mark.rfc("9846 §5.1", "a TLSPlaintext of more than 2^14 bytes is record_overflow")
def test_length_is_refused_from_the_header() -> None:
    plain = RecordReader(PYCA.tag_error, None)
    for made, outer, limit in (
        (reader(), 23, MAX_CIPHERTEXT),
        (reader(), 21, MAX_PLAINTEXT),
        (plain, 22, MAX_PLAINTEXT),
    ):
        header = bytes((outer, 3, 3))
        assert made.next_record(header + limit.to_bytes(2, "big"), 0) is None
        with pytest.raises(RecordOverflow):
            made.next_record(header + (limit + 1).to_bytes(2, "big"), 0)
    with pytest.raises(BadRecordMac):
        reader().next_record(record_header(MAX_CIPHERTEXT) + bytes(MAX_CIPHERTEXT), 0)


@pytest.mark.parametrize("size", range(18))
def test_record_shorter_than_a_tag_is_bad_record_mac(size: int) -> None:
    with pytest.raises(BadRecordMac):
        reader().next_record(record_header(size) + bytes(size), 0)


def test_first_byte_decides() -> None:
    for byte in set(range(256)) - {20, 21, 22, 23}:
        with pytest.raises(UnexpectedMessage):
            reader().next_record(bytes((byte,)), 0)
    for byte in (20, 21, 22, 23):
        assert reader().next_record(bytes((byte,)), 0) is None
    with pytest.raises(UnexpectedMessage, match="plain HTTP"):
        reader().next_record(b"GET / HTTP/1.1", 0)


@pytest.mark.rfc("9846 §5.3", "a sequence number never wraps")
def test_sequence_number_is_never_used_up() -> None:
    writer = RecordWriter(None, None, b"\x03\x03")
    writer.install(SECRET)
    assert writer._keys is not None
    writer._keys.sequence = MAX_SEQUENCE - 1
    writer.alert(1, 0)
    with pytest.raises(UsageError, match="used up"):
        writer.alert(1, 0)
    assert writer._keys.sequence == MAX_SEQUENCE


@pytest.mark.rfc("9846 §5.1", "application data is never sent in the open")
def test_application_data_is_never_written_unprotected() -> None:
    writer = RecordWriter(None, None, b"\x03\x03")
    assert not writer.one_record(b"x")
    for write in (writer.application_data, lambda data: writer._record(ContentType.APPLICATION_DATA, data)):
        with pytest.raises(InternalError):
            write(b"x")
    assert writer.take() == b""


@pytest.mark.parametrize("wanted", [-1, MAX_PLAINTEXT])
def test_padding_policy_out_of_bounds_spends_no_nonce(wanted: int) -> None:
    writer = RecordWriter(lambda content_type, length: wanted, None, b"\x03\x03")
    writer.install(SECRET)
    with pytest.raises(UsageError, match="padding policy"):
        writer.application_data(b"x")
    assert writer._keys is not None
    assert (writer._keys.sequence, writer.take()) == (0, b"")


@pytest.mark.rfc("9846 §5.1", "the first ClientHello's record may say 0x0301, every other says 0x0303")
def test_first_record_version() -> None:
    writer = RecordWriter(None, None, b"\x03\x01")
    for version in (b"\x03\x01", b"\x03\x03", b"\x03\x03"):
        writer.handshake(b"hello")
        writer.flush()
        assert writer.take() == b"\x16" + version + b"\x00\x05hello"


def test_epochs_are_told() -> None:
    writer, bare = RecordWriter(None, None, b"\x03\x03"), RecordReader(PYCA.tag_error, None)
    assert writer.epoch is bare.epoch is Epoch.INITIAL
    writer.install(SECRET)
    assert writer.epoch is reader().epoch is Epoch.APPLICATION
