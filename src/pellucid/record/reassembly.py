"""From the contents of records to whole handshake messages (RFC 9846 §4, §5.1)."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from pellucid.errors import DecodeError, IllegalParameter, UnexpectedMessage
from pellucid.limits import MAX_HANDSHAKE_BODY, RECORD_HEADER
from pellucid.messages.handshake import HEADER_LENGTH
from pellucid.registry import HandshakeType, handshake_type_name

_FIXED_LENGTH: Final = frozenset({HandshakeType.FINISHED, HandshakeType.KEY_UPDATE, HandshakeType.END_OF_EARLY_DATA})
"""Messages that are too long are not large but wrong: decode_error (RFC 9846 §6.2)."""


def lacking(buffer: bytes | bytearray, start: int = 0) -> int:
    """Return how many bytes the record at *start* lacks: of its header, then of what follows; 0 if it is whole."""
    here = len(buffer) - start
    if here < RECORD_HEADER:
        return RECORD_HEADER - here
    return max(0, RECORD_HEADER + (buffer[start + 3] << 8 | buffer[start + 4]) - here)


def take_message(buffer: bytearray, expected: Container[int], state: str) -> bytes | None:
    """Take the first whole message, header included, out of *buffer*; None if there is none yet.

    expected: the types of the messages that may come now, in *state*.
    Raises UnexpectedMessage, IllegalParameter or DecodeError from the 4-byte header: of a message out of turn or too
    long, not a byte of the rest is waited for.
    """
    here = len(buffer)
    if here < HEADER_LENGTH:
        return None
    kind = buffer[0]
    length = buffer[1] << 16 | buffer[2] << 8 | buffer[3]
    if kind not in expected:
        raise UnexpectedMessage(f"{handshake_type_name(kind)} came in state {state}", rfc="9846 §A")
    if length > MAX_HANDSHAKE_BODY[kind]:
        refuse = DecodeError if kind in _FIXED_LENGTH else IllegalParameter
        raise refuse(
            f"{handshake_type_name(kind)} of {length} bytes, allowed are {MAX_HANDSHAKE_BODY[kind]}",
            rfc="9846 §4",
            code="TLS-MESSAGE-TOO-LARGE",
        )
    end = HEADER_LENGTH + length
    if here == end:  # the most usual: one copy less
        raw = bytes(buffer)
        buffer.clear()
        return raw
    if here < end:
        return None
    raw = bytes(buffer[:end])
    del buffer[:end]
    return raw
