"""In: bytes to records, opened (RFC 9846 §5.1, §5.2). What a record's content means is the connection's question."""

from __future__ import annotations

from typing import Final, NamedTuple

from pellucid.crypto.provider import Buffer
from pellucid.errors import BadRecordMac, PeerError, RecordOverflow, UnexpectedMessage
from pellucid.limits import (
    FULL_RECORD,
    MAX_CIPHERTEXT,
    MAX_EMPTY_RECORDS,
    MAX_INNER_PLAINTEXT,
    MAX_PLAINTEXT,
    RECORD_HEADER,
)
from pellucid.record.bulk import FULL_HEADER, FULL_TAG, Opener, lent_opener, return_opener
from pellucid.record.protect import HEADER_PREFIX, HEADERS, Keys, split_inner_plaintext
from pellucid.record.strangers import stranger
from pellucid.registry import ContentType, content_type_name
from pellucid.schedule import TrafficSecret
from pellucid.trace import Direction, Epoch, Observer, RecordTraced

_TYPES: Final = frozenset(
    {ContentType.CHANGE_CIPHER_SPEC, ContentType.ALERT, ContentType.HANDSHAKE, ContentType.APPLICATION_DATA}
)
_LIMITED: Final = frozenset({Epoch.HANDSHAKE, Epoch.APPLICATION})
"""What record_size_limit is about: records under keys of the handshake that negotiated it (RFC 8449 §4)."""
_NOTHING: Final = -1
"""is skipped: not to be taken for a limit of which no byte is left"""
_TYPE_AND_TAG: Final = 1 + 16
_SMALLEST: Final = RECORD_HEADER + 1 + 16  # with a tag of 16 bytes or less, a longer record has content or padding


class Record(NamedTuple):
    """One record's content. protected: it was opened with a key."""

    content_type: int
    content: bytes
    protected: bool


class RecordReader:
    """Finds records in a buffer that its caller owns, and opens them."""

    __slots__ = (
        "_begun",
        "_empty",
        "_keys",
        "_known",
        "_largest",
        "_limit",
        "_most",
        "_short",
        "_skip",
        "_tag_error",
        "_trace",
        "epoch",
        "handshake_bytes",
        "opened_any",
    )

    def __init__(self, tag_error: type[Exception], trace: Observer | None) -> None:
        self._keys: Keys | None = None
        self._known: tuple[int, bytes, bytes] | None = None
        """number and bytes of a record that a short way has opened, and what was in it, which was not for that way"""
        self.epoch = Epoch.INITIAL
        """of the keys that records are opened with"""
        self._tag_error = tag_error
        self._trace = trace
        self._begun = False  # whether there was a record: from then on the peer does speak TLS
        self._empty = 0
        self._skip = _NOTHING
        self._limit = self._most = MAX_INNER_PLAINTEXT  # negotiated; of TLSInnerPlaintext under the present keys
        self._short = 0  # the longest record that the short ways look at
        self._largest = 0
        self.handshake_bytes = 0
        """of the peer's, counted by the connection until the handshake is complete. It has no room for it: with more
        attributes than a class's instances can share the keys of, each access to any of them takes longer."""
        self.opened_any = False
        """whether a protected record was ever opened: from then on nothing comes in plaintext"""

    @property
    def present(self) -> tuple[TrafficSecret, int] | None:
        """The secret in use and the number of the next record; None before there are keys."""
        return None if self._keys is None else (self._keys.secret, self._keys.sequence)

    @property
    def fragment(self) -> int:
        """Bytes of content that a record may have under the present keys, padding included."""
        return self._most - 1

    @property
    def tracing(self) -> bool:
        return self._trace is not None

    def install(self, secret: TrafficSecret) -> None:
        """Open what follows with *secret*."""
        self._keys = Keys(secret)
        self._known = None
        self.epoch = secret.epoch
        self._skip = _NOTHING
        self._bound()

    def skip(self, limit: int) -> None:
        """Drop protected records that do not open, until one does, with *limit* bytes of data in them at most.

        RFC 9846 §4.3.10. What a record must have beside data is not counted, as a ticket's limit does not (§4.7.1): a
        client that keeps to it is not cut off for the size of its records. Padding cannot be told from data.
        """
        self._skip = limit

    def restrict(self, limit: int) -> None:
        """Refuse protected records with more than *limit* bytes inside: we said so, and the peer agreed (RFC 8449 §4).

        Early data is not meant: its sender cannot have known. Raises RecordOverflow if the record that the peer agreed
        in was too large itself.
        """
        self._limit = limit
        if self._largest > limit:
            raise _too_large(self._largest, limit)
        self._bound()

    def _bound(self) -> None:
        keys = self._keys
        limited = keys is not None and keys.secret.epoch in _LIMITED
        self._most = self._limit if limited else MAX_INNER_PLAINTEXT
        tag = 0 if keys is None else keys.tag_length
        self._short = 0 if self._trace is not None else min(FULL_RECORD, RECORD_HEADER + self._most + tag)

    def forget(self) -> None:
        """Let go of the keys: nothing more is opened."""
        self._keys = self._known = None
        self.epoch = Epoch.INITIAL

    def next_record(
        self, data: bytes | bytearray, offset: int, end: int | None = None
    ) -> tuple[Record | None, int] | None:
        """Return the record at *offset* and where it ends; None if it is not all there. Never looks further.

        A record of early data that is skipped is None, and where it ends. end: where the peer's bytes do; None: with
        *data*. Raises RecordOverflow, UnexpectedMessage, BadRecordMac.
        """
        end = len(data) if end is None else end
        available = end - offset
        if available < 1:
            return None
        outer = data[offset]
        if outer not in _TYPES:
            # Known from the first byte: nothing more is waited for (attack B17).
            raise self._not_a_record(outer, bytes(data[offset : min(end, offset + 64)]))
        if available < RECORD_HEADER:
            return None
        length = data[offset + 3] << 8 | data[offset + 4]
        protected = outer == ContentType.APPLICATION_DATA and (self._keys is not None or self._skip >= 0)
        if length > (MAX_CIPHERTEXT if protected else MAX_PLAINTEXT):
            raise RecordOverflow(f"a record of {length} bytes", rfc="9846 §5.2" if protected else "9846 §5.1")
        stop = offset + RECORD_HEADER + length
        if stop > end:
            return None
        header = bytes(data[offset : offset + RECORD_HEADER])
        body = bytes(data[offset + RECORD_HEADER : stop])
        if not protected:
            self._begun = True
            if self._trace is not None:
                self._tell(outer, header + body, length, 0, None)
            return Record(outer, body, False), stop
        return self._open(header, body), stop

    def _not_a_record(self, outer: int, first: bytes) -> UnexpectedMessage:
        """Return the error about a record of no known type: at the very beginning the peer may speak something else.

        Its words are those of the first byte alone, however much came with it; what else came goes beside them.
        """
        if self._begun:
            return UnexpectedMessage(_no_type(outer), rfc="9846 §5.1")
        header = outer < 0x20 and first[1:2] == b"\x03"
        error = UnexpectedMessage(_not_tls(outer), rfc="9846 §5.1", code="" if header else stranger(first).code)
        error.first_bytes = first
        return error

    def _skipped(self, size: int) -> None:
        self._skip -= max(1, size - _TYPE_AND_TAG)
        if self._skip < 0:
            raise UnexpectedMessage("more early data than anybody may send", rfc="9846 §4.3.10", code="TLS-EARLY-DATA")

    def _open(self, header: bytes, body: bytes) -> Record | None:
        """Return the record inside; None for early data that is skipped."""
        keys = self._keys
        if keys is None:
            self._tell_unopened(header, body)
            self._skipped(len(body))
            return None
        sequence = keys.sequence
        known, self._known = self._known, None
        try:
            if known is not None and known[0] == sequence and known[1] == header + body:
                inner = known[2]
            else:
                inner = keys.decrypt((keys.iv ^ sequence).to_bytes(12, "big"), body, header)
        except self._tag_error:
            self._tell_unopened(header, body)
            if self._skip >= 0:
                self._skipped(len(body))
                return None
            raise bad_record_mac(sequence) from None
        keys.sequence = sequence + 1
        self.opened_any = True
        self._skip = _NOTHING  # the client's second flight begins: everything opens from here on
        size = len(inner)
        self._largest = max(self._largest, size)
        if size > self._most:
            raise _too_large(size, self._most)
        content_type, content = split_inner_plaintext(inner)
        if self._trace is not None:
            self._tell(content_type, header + body, len(content), size - len(content) - 1, sequence)
        if content:
            self._empty = 0
        elif content_type == ContentType.APPLICATION_DATA:
            self._count_empty()
        return Record(content_type, content, True)

    def _count_empty(self) -> None:
        self._empty += 1
        if self._empty > MAX_EMPTY_RECORDS:
            raise UnexpectedMessage(
                f"more than {MAX_EMPTY_RECORDS} empty records in a row", rfc="9846 §5.1", code="TLS-EMPTY-RECORDS"
            )

    def application_data(
        self, data: bytes | bytearray, offset: int, end: int | None = None
    ) -> tuple[bytes, int, PeerError | None]:
        """Open the application data at *offset*, record after record, until something else comes or it is cut.

        Returns the plaintext (b"" if the next record is not application data, or not all there), where it ends, and
        the error of the record after it, if that one is bad: good data before a bad byte is delivered first. Equals
        `next_record` in a loop; this is the path that bulk data takes, about 1 µs of Python a record.
        """
        keys = self._keys
        if (
            keys is None
            or self._known is not None
            or keys.secret.epoch is not Epoch.APPLICATION
            or self._trace is not None
        ):
            return b"", offset, None
        end = len(data) if end is None else end
        available = end - offset
        if available < RECORD_HEADER or data[offset] != ContentType.APPLICATION_DATA:
            return b"", offset, None
        if available <= self._short:
            return self._one(keys, data, offset, end)
        return self._bulk(keys, data, offset, end)

    def whole_record(self, data: Buffer) -> bytes | None:
        """Return the application data of *data* if that is exactly one unpadded, good record; else None.

        Nothing is changed then, and `next_record` will say what it is. A round trip of small messages takes this path.
        """
        keys, size = self._keys, len(data)
        if keys is None or not _SMALLEST < size <= self._short or type(data) is not bytes:
            return None
        length = size - RECORD_HEADER
        header = HEADERS[length] if length < 1024 else HEADER_PREFIX + length.to_bytes(2, "big")
        if not data.startswith(header):
            return None
        sequence = keys.sequence
        try:
            inner = keys.decrypt((keys.iv ^ sequence).to_bytes(12, "big"), data[RECORD_HEADER:], header)
        except self._tag_error:
            return None
        if inner[-1] != 0x17:
            self._known = sequence, data, inner  # a ticket, mostly: it need not be opened three times
            return None
        keys.sequence = sequence + 1
        self._empty = 0
        return inner[:-1]

    def _one(self, keys: Keys, data: bytes | bytearray, offset: int, end: int) -> tuple[bytes, int, PeerError | None]:
        """One unpadded record, where no more is there. Anything else is left to `next_record`."""
        start = offset + RECORD_HEADER
        stop = start + (data[offset + 3] << 8 | data[offset + 4])
        if stop > end:
            return b"", offset, None
        try:
            inner = keys.aead.decrypt(
                (keys.iv ^ keys.sequence).to_bytes(12, "big"), data[start:stop], data[offset:start]
            )
        except self._tag_error:
            return b"", offset, bad_record_mac(keys.sequence)
        if inner[-1:] != b"\x17" or len(inner) == 1:
            # Padded, empty, or not application data. The key's number is not spent: it will be opened again.
            return b"", offset, None
        keys.sequence += 1
        self._empty = 0
        return inner[:-1], stop, None

    def _bulk(self, keys: Keys, data: bytes | bytearray, offset: int, end: int) -> tuple[bytes, int, PeerError | None]:
        opener = lent_opener()
        try:
            full = self._most == MAX_INNER_PLAINTEXT and keys.tag_length == FULL_TAG
            if full and data.startswith(FULL_HEADER, offset):
                return self._full(keys, opener, data, offset, end)
            return self._limited(keys, opener.plain, data, offset, end)
        finally:
            return_opener(opener)

    def _full(
        self, keys: Keys, opener: Opener, data: bytes | bytearray, offset: int, end: int
    ) -> tuple[bytes, int, PeerError | None]:
        """Full records, and the short one that they often end in."""
        contents, bad = opener.open(keys, data, offset, end, self._tag_error)
        count = len(contents)
        keys.sequence += count
        offset += count * FULL_RECORD
        if count:
            self._empty = 0
        if bad:
            return b"".join(contents), offset, bad_record_mac(keys.sequence)
        if count and RECORD_HEADER <= end - offset < FULL_RECORD and data[offset] == ContentType.APPLICATION_DATA:
            rest, offset, error = self._one(keys, data, offset, end)
            return b"".join((*contents, rest)), offset, error
        return b"".join(contents), offset, None

    def _limited(
        self, keys: Keys, plain: bytearray, data: bytes | bytearray, offset: int, end: int
    ) -> tuple[bytes, int, PeerError | None]:
        """Records of any size: a peer that was asked for smaller ones, or likes them."""
        decrypt_into, iv, sequence, tag = keys.aead.decrypt_into, keys.iv, keys.sequence, keys.tag_length
        most = self._most
        at = 0
        error: PeerError | None = None
        with memoryview(data) as source, memoryview(plain) as target:
            while end - offset >= RECORD_HEADER and data[offset] == ContentType.APPLICATION_DATA:
                start = offset + RECORD_HEADER
                header = data[offset:start]
                size = (header[3] << 8 | header[4]) - tag
                stop = start + size + tag
                # A record too long, too short or cut, and one that does not fit here any more: not for this path.
                if stop > end or not 1 < size <= most or at + size > len(plain):
                    break
                try:
                    decrypt_into(
                        (iv ^ sequence).to_bytes(12, "big"), source[start:stop], header, target[at : at + size]
                    )
                except self._tag_error:
                    error = bad_record_mac(sequence)
                    break
                # The next record's plaintext overwrites this one's content type: content stands without gaps.
                if plain[at + size - 1] != ContentType.APPLICATION_DATA:
                    break
                at += size - 1
                sequence += 1
                offset = stop
            opened = bytes(target[:at])
        keys.sequence = sequence
        if at:
            self._empty = 0
        return opened, offset, error

    def _tell_unopened(self, header: bytes, body: bytes) -> None:
        if self._trace is not None:
            self._tell(ContentType.APPLICATION_DATA, header + body, len(body), 0, None, opened=False)

    def _tell(
        self,
        content_type: int,
        raw: bytes,
        content_size: int,
        padding: int,
        sequence: int | None,
        *,
        opened: bool = True,
    ) -> None:
        if self._trace is not None:
            self._trace(
                RecordTraced(
                    direction=Direction.RECEIVED,
                    epoch=Epoch.INITIAL if sequence is None and opened else self.epoch,
                    content_type=content_type,
                    size=len(raw),
                    content_size=content_size,
                    padding_size=padding,
                    sequence=sequence,
                    raw=raw,
                    opened=opened,
                )
            )


def _too_large(size: int, most: int) -> RecordOverflow:
    rfc = "9846 §5.4" if most == MAX_INNER_PLAINTEXT else "8449 §4"
    return RecordOverflow(f"a record with {size} bytes inside, allowed are {most}", rfc=rfc)


def bad_record_mac(sequence: int) -> BadRecordMac:
    return BadRecordMac(f"record {sequence} under the present key does not open", rfc="9846 §5.2")


def _not_tls(byte: int) -> str:
    if 0x20 <= byte < 0x7F:
        who = stranger(bytes([byte]))
        name = "plain HTTP" if who.code == "PEER-PLAIN-HTTP" else who.name
        guess = f" ({name}?)" if name else ""
        return f"the first byte of a record is {chr(byte)!r}: the peer does not speak TLS{guess}"
    return _no_type(byte)


def _no_type(byte: int) -> str:
    return f"a record of type {content_type_name(byte)}, which TLS 1.3 does not have"
