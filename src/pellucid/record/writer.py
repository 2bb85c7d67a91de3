"""Out: messages to records to bytes (RFC 9846 §5.1, §5.2). One owner, no lock: the connection is its only caller."""

from __future__ import annotations

from typing import Final

from pellucid.config import PaddingPolicy
from pellucid.crypto.provider import Buffer
from pellucid.errors import InternalError, UsageError
from pellucid.limits import MAX_PLAINTEXT, MAX_SEQUENCE, RECORD_HEADER
from pellucid.record.protect import HEADER_PREFIX, Keys
from pellucid.registry import ContentType
from pellucid.schedule import TrafficSecret
from pellucid.trace import Direction, Epoch, Observer, RecordTraced

_CHANGE_CIPHER_SPEC: Final = b"\x14\x03\x03\x00\x01\x01"
_SMALL: Final = 4096  # below it two allocations beat any bookkeeping


class RecordWriter:
    """Fragments, pads, protects. `take` gives what is ready to be sent."""

    __slots__ = ("_change_cipher_spec", "_handshake", "_keys", "_out", "_padding", "_trace", "_version")

    def __init__(self, padding: PaddingPolicy | None, trace: Observer | None, first_version: bytes) -> None:
        self._out: list[bytes] = []
        self._handshake = bytearray()
        self._keys: Keys | None = None
        self._padding = padding
        self._trace = trace
        self._version = first_version
        self._change_cipher_spec = False

    @property
    def epoch(self) -> Epoch:
        return Epoch.INITIAL if self._keys is None else self._keys.secret.epoch

    @property
    def sequence(self) -> int:
        """Records protected with the present key."""
        return 0 if self._keys is None else self._keys.sequence

    def install(self, secret: TrafficSecret) -> None:
        """Protect what follows with *secret*; what was written before goes out under the old key."""
        self.flush()
        self._keys = Keys(secret)

    def change_cipher_spec(self) -> None:
        """Let the next record be preceded by the dummy change_cipher_spec (RFC 9846 §E.4)."""
        self.flush()
        self._change_cipher_spec = True

    def handshake(self, raw: bytes) -> None:
        """Append a handshake message; messages of one flight share records until `flush`."""
        self._handshake += raw

    def flush(self) -> None:
        """Put the handshake messages that wait into records (RFC 9846 §5.1)."""
        if self._handshake:
            content = bytes(self._handshake)
            self._handshake.clear()
            for start in range(0, len(content), MAX_PLAINTEXT):
                self._record(ContentType.HANDSHAKE, content[start : start + MAX_PLAINTEXT])

    def alert(self, level: int, description: int) -> None:
        """Write an alert under the present keys (RFC 9846 §6)."""
        self.flush()
        self._record(ContentType.ALERT, bytes((level, description)))

    def application_data(self, data: Buffer) -> None:
        """Protect application data, fragmenting it (RFC 9846 §5.1). The caller has seen to the key's limit."""
        if len(data) <= _SMALL and self._padding is None and self._trace is None:
            self._small(data)
        elif self._padding is None and self._trace is None:
            self._bulk(data)
        else:
            with memoryview(data) as view:
                for start in range(0, len(data), MAX_PLAINTEXT):
                    self._record(ContentType.APPLICATION_DATA, bytes(view[start : start + MAX_PLAINTEXT]))

    def pending(self) -> bool:
        return bool(self._out)

    def take(self) -> bytes:
        """Return all records written since the last call; b"" if there are none."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    # ---- the ways to make a record ---------------------------------------------------------------------------------

    def _record(self, content_type: int, content: bytes) -> None:
        """The plain way: one record of any type, padded by the policy."""
        if self._change_cipher_spec:
            self._change_cipher_spec = False
            self._out.append(_CHANGE_CIPHER_SPEC)
        keys = self._keys
        if keys is None:
            if content_type == ContentType.APPLICATION_DATA:
                raise InternalError("application data is never written unprotected")
            header = bytes((content_type,)) + self._version + len(content).to_bytes(2, "big")
            self._version = b"\x03\x03"
            self._out.append(header + content)
            self._tell(content_type, header + content, len(content), 0, None)
            return
        padding = 0 if self._padding is None else self._padding(content_type, len(content))
        if not 0 <= padding <= MAX_PLAINTEXT - len(content):
            raise UsageError(f"the padding policy asks for {padding} bytes after {len(content)}")
        inner = content + bytes((content_type,)) + bytes(padding)
        header = HEADER_PREFIX + (len(inner) + keys.tag_length).to_bytes(2, "big")
        raw = header + keys.aead.encrypt(self._nonce(keys), inner, header)
        self._out.append(raw)
        self._tell(content_type, raw, len(content), padding, keys.sequence - 1)

    def _nonce(self, keys: Keys) -> bytes:
        """Return the next record's nonce; the number it is made of is spent, whatever becomes of the record."""
        sequence = keys.sequence
        if sequence >= MAX_SEQUENCE:
            raise UsageError("the sequence number is used up; the key should have been updated long ago")
        keys.sequence = sequence + 1
        return (keys.iv ^ sequence).to_bytes(12, "big")

    def _small(self, data: Buffer) -> None:
        """One unpadded record of application data, without a detour: what ping-pong traffic is made of."""
        keys = self._keys
        if keys is None:
            raise InternalError("application data is never written unprotected")
        header = HEADER_PREFIX + (len(data) + 1 + keys.tag_length).to_bytes(2, "big")
        inner = bytes(data) + b"\x17"
        self._out.append(header + keys.aead.encrypt(self._nonce(keys), inner, header))

    def _bulk(self, data: Buffer) -> None:
        """Many full records in one pass over one buffer: about 1 µs of Python a record beside the AEAD."""
        keys = self._keys
        if keys is None:
            raise InternalError("application data is never written unprotected")
        tag, encrypt_into, iv, sequence = keys.tag_length, keys.aead.encrypt_into, keys.iv, keys.sequence
        total = len(data)
        full, last = divmod(total, MAX_PLAINTEXT)
        count = full + (last > 0)
        if sequence + count >= MAX_SEQUENCE:
            raise UsageError("the sequence number is used up; the key should have been updated long ago")
        keys.sequence = sequence + count
        out = bytearray(total + count * (RECORD_HEADER + 1 + tag))
        scratch = bytearray(MAX_PLAINTEXT + 1)
        scratch[MAX_PLAINTEXT] = ContentType.APPLICATION_DATA
        header = HEADER_PREFIX + (MAX_PLAINTEXT + 1 + tag).to_bytes(2, "big")
        sealed = MAX_PLAINTEXT + 1 + tag
        at = 0
        with memoryview(data) as source, memoryview(out) as view, memoryview(scratch) as inner:
            content = inner[:MAX_PLAINTEXT]
            for start in range(0, full * MAX_PLAINTEXT, MAX_PLAINTEXT):
                content[:] = source[start : start + MAX_PLAINTEXT]
                view[at : at + 5] = header
                at += 5
                encrypt_into((iv ^ sequence).to_bytes(12, "big"), inner, header, view[at : at + sealed])
                sequence += 1
                at += sealed
            if last:
                rest = bytes(source[total - last :]) + b"\x17"
                header = HEADER_PREFIX + (last + 1 + tag).to_bytes(2, "big")
                view[at : at + 5] = header
                encrypt_into((iv ^ sequence).to_bytes(12, "big"), rest, header, view[at + 5 :])
        self._out.append(bytes(out))

    def _tell(self, content_type: int, raw: bytes, content_size: int, padding: int, sequence: int | None) -> None:
        if self._trace is not None:
            self._trace(
                RecordTraced(
                    direction=Direction.SENT,
                    epoch=self.epoch,
                    content_type=content_type,
                    size=len(raw),
                    content_size=content_size,
                    padding_size=padding,
                    sequence=sequence,
                    raw=raw,
                )
            )
