"""Out: messages to records to bytes (RFC 9846 §5.1, §5.2). One owner, no lock: the connection is its only caller."""

from __future__ import annotations

from typing import Final

from pellucid.config import PaddingPolicy
from pellucid.crypto.provider import Buffer
from pellucid.errors import InternalError, UsageError
from pellucid.limits import BULK_STEP, MAX_PLAINTEXT, MAX_SEQUENCE
from pellucid.record.bulk import FULL_TAG, RECORDS, Sealer, lent_sealer, return_sealer
from pellucid.record.protect import HEADER_PREFIX, HEADERS, Keys
from pellucid.registry import ContentType
from pellucid.schedule import TrafficSecret
from pellucid.trace import Direction, Epoch, Observer, RecordTraced

_TYPES: Final = tuple(bytes((content_type,)) for content_type in range(256))
_CHANGE_CIPHER_SPEC: Final = b"\x14\x03\x03\x00\x01\x01"


class RecordWriter:
    """Fragments, pads, protects. `take` gives what is ready to be sent."""

    __slots__ = (
        "_change_cipher_spec",
        "_full",
        "_handshake",
        "_keys",
        "_padding",
        "_plain",
        "_short",
        "_trace",
        "_version",
        "fragment",
        "limit",
        "out",
        "step",
    )

    def __init__(self, padding: PaddingPolicy | None, trace: Observer | None, first_version: bytes) -> None:
        self.out: list[bytes] = []
        """what is ready to be sent, in order"""
        self._handshake = bytearray()
        self._keys: Keys | None = None
        self._padding = padding
        self._trace = trace
        self._plain = self._full = padding is None and trace is None
        self._version = first_version
        self._change_cipher_spec = False
        self._short = MAX_PLAINTEXT if self._plain else 0  # the most that `one_record` takes
        self.fragment = MAX_PLAINTEXT
        """bytes of content that one protected record may have, padding included"""
        self.step = BULK_STEP
        """bytes of application data, a multiple of *fragment*, to give to `application_data` at once"""
        self.limit = MAX_SEQUENCE
        """records of application data that one key may protect; the connection sets its suite's"""

    @property
    def epoch(self) -> Epoch:
        return Epoch.INITIAL if self._keys is None else self._keys.secret.epoch

    @property
    def present(self) -> tuple[TrafficSecret, int] | None:
        """The secret in use and the number of the next record; None before there are keys."""
        return None if self._keys is None else (self._keys.secret, self._keys.sequence)

    def records_left(self) -> int:
        """Return how many records of application data the present key may still protect (RFC 9846 §5.5)."""
        return 0 if self._keys is None else max(0, self.limit - self._keys.sequence)

    def install(self, secret: TrafficSecret) -> None:
        """Protect what follows with *secret*; what was written before goes out under the old key."""
        if self._handshake:
            self.flush()
        self._keys = Keys(secret)

    def restrict(self, limit: int) -> None:
        """Write no protected record with more than *limit* bytes inside: the peer's record_size_limit (RFC 8449 §4)."""
        self.fragment = min(MAX_PLAINTEXT, limit - 1)  # one byte is the content type
        self.step = BULK_STEP - BULK_STEP % self.fragment
        self._short = min(self._short, self.fragment)
        self._full = self._plain and self.fragment == MAX_PLAINTEXT

    def forget(self) -> None:
        """Let go of the keys: nothing more is written; what waits to be taken stays."""
        self._keys = None

    def change_cipher_spec(self, *, at_once: bool) -> None:
        """Write the dummy change_cipher_spec: now, or before the next record (RFC 9846 §E.4)."""
        self.flush()
        if at_once:
            self._dummy()
        else:
            self._change_cipher_spec = True

    def handshake(self, raw: bytes) -> None:
        """Append a handshake message; messages of one flight share records until `flush`."""
        self._handshake += raw

    def flush(self) -> None:
        """Put the handshake messages that wait into records (RFC 9846 §5.1)."""
        if self._handshake:
            content = bytes(self._handshake)
            self._handshake.clear()
            step = MAX_PLAINTEXT if self._keys is None else self.fragment
            if len(content) <= step:
                self._record(ContentType.HANDSHAKE, content)
                return
            for start in range(0, len(content), step):
                self._record(ContentType.HANDSHAKE, content[start : start + step])

    def alert(self, level: int, description: int) -> None:
        """Write an alert under the present keys (RFC 9846 §6)."""
        self.flush()
        self._record(ContentType.ALERT, bytes((level, description)))

    def application_data(self, data: Buffer) -> None:
        """Protect application data, fragmenting it (RFC 9846 §5.1): as many records as `records_left` at most."""
        keys = self._keys
        if keys is None:
            raise InternalError("application data is never written unprotected")
        if self._plain:
            self._bulk(keys, data)
            return
        with memoryview(data) as view:
            for start in range(0, len(data), self.fragment):
                self._record(ContentType.APPLICATION_DATA, bytes(view[start : start + self.fragment]))

    def one_record(self, data: Buffer) -> bytes | None:
        """Return the one unpadded record that *data* makes, to be sent next; None if it does not, or not this way.

        What round trips of small messages are made of, without a detour: two allocations beat any bookkeeping here.
        """
        keys, size = self._keys, len(data)
        if keys is None or not 0 < size <= self._short or keys.sequence >= self.limit:
            return None
        if type(data) is not bytes:
            data = bytes(data)
            if len(data) != size:
                return None  # a buffer of larger items than bytes
        length = size + 1 + keys.tag_length
        header = HEADERS[length] if length < 1024 else HEADER_PREFIX + length.to_bytes(2, "big")
        sequence = keys.sequence
        keys.sequence = sequence + 1
        return header + keys.encrypt((keys.iv ^ sequence).to_bytes(12, "big"), data + b"\x17", header)

    def seal_into(self, data: Buffer, sealer: Sealer) -> int:
        """Seal all of *data* into *sealer*; return how many bytes of its view that made, 0 if it cannot be done.

        Equals `application_data` and `take`, without a copy. Not while anything else waits to be taken, nor where
        *sealer* or the key does not suffice for all of it.
        """
        keys, size = self._keys, len(data)
        if keys is None or not self._full or self.out or self._handshake or not 0 < size <= RECORDS * MAX_PLAINTEXT:
            return 0
        count = -(-size // MAX_PLAINTEXT)
        if keys.tag_length != FULL_TAG or count > self.limit - keys.sequence:
            return 0
        return sealer.seal(keys, self._spend(keys, count), data)

    def take(self) -> bytes:
        """Return all records written since the last call; b"" if there are none."""
        out = self.out
        if len(out) == 1:
            return out.pop()
        data = b"".join(out)
        out.clear()
        return data

    # ---- the ways to make a record ---------------------------------------------------------------------------------

    def _record(self, content_type: int, content: bytes) -> None:
        """The plain way: one record of any type, padded by the policy."""
        if self._change_cipher_spec:
            self._change_cipher_spec = False
            self._dummy()
        keys = self._keys
        if keys is None:
            if content_type == ContentType.APPLICATION_DATA:
                raise InternalError("application data is never written unprotected")
            header = _TYPES[content_type] + self._version + len(content).to_bytes(2, "big")
            self._version = b"\x03\x03"
            self.out.append(header + content)
            if self._trace is not None:
                self._tell(content_type, header + content, len(content), 0, None)
            return
        inner, padding = content + _TYPES[content_type], 0
        if self._padding is not None:
            padding = self._padding(content_type, len(content))
            if not 0 <= padding <= MAX_PLAINTEXT - len(content):
                raise UsageError(f"the padding policy asks for {padding} bytes after {len(content)}")
            padding = min(padding, self.fragment - len(content))  # the peer's limit is not the policy's concern
            inner += bytes(padding)
        header = HEADER_PREFIX + (len(inner) + keys.tag_length).to_bytes(2, "big")
        sequence = self._spend(keys, 1)
        raw = header + keys.encrypt((keys.iv ^ sequence).to_bytes(12, "big"), inner, header)
        self.out.append(raw)
        if self._trace is not None:
            self._tell(content_type, raw, len(content), padding, sequence)

    def _dummy(self) -> None:
        self.out.append(_CHANGE_CIPHER_SPEC)
        if self._trace is not None:
            self._tell(ContentType.CHANGE_CIPHER_SPEC, _CHANGE_CIPHER_SPEC, 1, 0, None)

    def _spend(self, keys: Keys, count: int) -> int:
        """Return the next record's number; it and those after it are spent, whatever becomes of the records (§5.3)."""
        sequence = keys.sequence
        if sequence + count > MAX_SEQUENCE:
            raise UsageError("the sequence number is used up; the key should have been updated long ago")
        keys.sequence = sequence + count
        return sequence

    def _bulk(self, keys: Keys, data: Buffer) -> None:
        """Unpadded records of application data in one pass: full ones, where the peer and the suite allow these."""
        if not self._full or keys.tag_length != FULL_TAG:
            self._limited(keys, data)
            return
        sealer = lent_sealer()
        try:
            with memoryview(data) as source:
                for start in range(0, len(data), RECORDS * MAX_PLAINTEXT):
                    piece = source[start : start + RECORDS * MAX_PLAINTEXT]
                    made = sealer.seal(keys, self._spend(keys, -(-len(piece) // MAX_PLAINTEXT)), piece)
                    self.out.append(bytes(sealer.view[:made]))
        finally:
            return_sealer(sealer)

    def _limited(self, keys: Keys, data: Buffer) -> None:
        """The same with records of a size that the peer set, and with tags that are shorter."""
        fragment, encrypt, iv, tag = self.fragment, keys.encrypt, keys.iv, keys.tag_length
        total = len(data)
        sequence = self._spend(keys, -(-total // fragment))
        with memoryview(data) as source:
            for start in range(0, total, fragment):
                inner = bytes(source[start : start + fragment]) + b"\x17"
                header = HEADER_PREFIX + (len(inner) + tag).to_bytes(2, "big")
                self.out.append(header + encrypt((iv ^ sequence).to_bytes(12, "big"), inner, header))
                sequence += 1

    def _tell(self, content_type: int, raw: bytes, content_size: int, padding: int, sequence: int | None) -> None:
        if self._trace is not None:
            self._trace(
                RecordTraced(
                    direction=Direction.SENT,
                    epoch=Epoch.INITIAL if sequence is None else self.epoch,
                    content_type=content_type,
                    size=len(raw),
                    content_size=content_size,
                    padding_size=padding,
                    sequence=sequence,
                    raw=raw,
                )
            )
