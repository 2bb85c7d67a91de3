"""How much to take out of a socket: no more than one record, where not more is wanted.

Programs wait for a socket with select or poll, which see what the kernel holds. What was taken out of it ahead of time
they do not see, and would wait for what is there already. OpenSSL, which they were written for, takes one record at a
time.
"""

from __future__ import annotations

from typing import Final

__all__ = ["RecordBounds"]

_HEADER: Final = 5


class RecordBounds:
    """Where the records of a stream end, given its bytes piece by piece as they are taken."""

    def __init__(self) -> None:
        self._head = b""
        """what is there of a header that is not all there"""
        self._missing = 0
        """bytes of the present record that are still to come"""
        self.held = 0
        """bytes of the present record that were taken: what comes of them is still to be read"""

    def take(self, waiting: bytes, at: int = 0) -> int:
        """Take, of the bytes from *at*, which come next in the stream, those up to the end of a record, or all.

        Returns where that is in *waiting*. Bytes that are no records are taken too: it is not said here what they are.
        """
        start, missing = at, self._missing
        if not missing:
            head = self._head + waiting[at : at + _HEADER - len(self._head)]
            at += len(head) - len(self._head)
            if len(head) < _HEADER:
                self._head, self.held = head, len(head)
                return at
            missing = int.from_bytes(head[3:], "big")
            self._head = b""
        step = min(missing, len(waiting) - at)
        self._missing = missing - step
        self.held = self.held + at + step - start if self._missing else 0
        return at + step

    def take_all(self, data: bytes) -> None:
        """Take all of *data*, wherever it ends."""
        at = 0
        while at < len(data):
            at = self.take(data, at)
