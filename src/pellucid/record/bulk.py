"""Full records of bulk data, in memory prepared once: the loops over them do nothing but copy and seal, or open.

A full record has MAX_PLAINTEXT bytes of application data, no padding, and a tag of 16 bytes: what all suites but
TLS_AES_128_CCM_8_SHA256 make of bulk data. `writer` and `reader` have the ways for everything else, which these equal.
Memory that is used again is in the processor's cache, and slices of it need not be made for each record: 0.5 µs of some
3.1 for sealing one and 0.9 of some 3.7 for opening it. It is lent, and no connection holds any of it between two calls.
"""

from __future__ import annotations

from typing import Final

from pellucid.crypto.provider import Buffer
from pellucid.limits import FULL_RECORD, MAX_INNER_PLAINTEXT, MAX_PLAINTEXT, RECORD_HEADER
from pellucid.record.protect import HEADER_PREFIX, Keys
from pellucid.registry import ContentType

__all__ = [
    "FULL_HEADER",
    "FULL_TAG",
    "RECORDS",
    "Opener",
    "Sealer",
    "lent_opener",
    "lent_sealer",
    "return_opener",
    "return_sealer",
]

RECORDS: Final = 16
"""full records that are sealed, or opened, at a time"""
FULL_TAG: Final = FULL_RECORD - MAX_INNER_PLAINTEXT - RECORD_HEADER
FULL_HEADER: Final = HEADER_PREFIX + (MAX_INNER_PLAINTEXT + FULL_TAG).to_bytes(2, "big")
_PIECES: Final = tuple(slice(at, at + MAX_PLAINTEXT) for at in range(0, RECORDS * MAX_PLAINTEXT, MAX_PLAINTEXT))
_MAX_KEPT: Final = 4  # of each kind: as many as work at the same moment, in threads


class Sealer:
    """Room for RECORDS sealed records. room, and view of it: all of it.

    Not for two at once; what `seal` wrote stands until it is called again.
    """

    __slots__ = ("_content", "_cut", "_inner", "_records", "room", "view")

    def __init__(self) -> None:
        self.room = room = bytearray(RECORDS * FULL_RECORD)
        starts = range(0, len(room), FULL_RECORD)
        for start in starts:
            room[start : start + RECORD_HEADER] = FULL_HEADER
        self.view = memoryview(room)
        self._records = tuple(self.view[start + RECORD_HEADER : start + FULL_RECORD] for start in starts)
        self._inner = memoryview(bytearray(MAX_PLAINTEXT) + bytes((ContentType.APPLICATION_DATA,)))
        self._content = self._inner[:MAX_PLAINTEXT]
        self._cut = 0  # where the last record stands that was not a full one

    def seal(self, keys: Keys, sequence: int, data: Buffer) -> int:
        """Write the records of *data*, RECORDS * MAX_PLAINTEXT bytes at most; return how many bytes they have.

        sequence: the first record's, spent already. keys: with a tag of FULL_TAG bytes.
        """
        view, inner, content, cut = self.view, self._inner, self._content, self._cut
        view[cut : cut + RECORD_HEADER] = FULL_HEADER
        encrypt_into, iv = keys.aead.encrypt_into, keys.iv
        full, last = divmod(len(data), MAX_PLAINTEXT)
        with memoryview(data) as source:
            for piece, record in zip(_PIECES[:full], self._records, strict=False):
                content[:] = source[piece]
                encrypt_into((iv ^ sequence).to_bytes(12, "big"), inner, FULL_HEADER, record)
                sequence += 1
            made = full * FULL_RECORD
            if last:
                self._cut = made
                header = HEADER_PREFIX + (last + 1 + FULL_TAG).to_bytes(2, "big")
                start = made + RECORD_HEADER
                view[made:start] = header
                made = start + last + 1 + FULL_TAG
                rest = bytes(source[full * MAX_PLAINTEXT :]) + b"\x17"
                encrypt_into((iv ^ sequence).to_bytes(12, "big"), rest, header, view[start:made])
        return made


class Opener:
    """Room for the plaintext of RECORDS records. plain: all of it, for whoever opens records that are not full too."""

    __slots__ = ("_contents", "_records", "plain")

    def __init__(self) -> None:
        self.plain = bytearray(RECORDS * MAX_INNER_PLAINTEXT)
        view = memoryview(self.plain)
        starts = range(0, len(view), MAX_INNER_PLAINTEXT)
        self._records = tuple(view[start : start + MAX_INNER_PLAINTEXT] for start in starts)
        self._contents = tuple(record[:MAX_PLAINTEXT] for record in self._records)

    def open(
        self, keys: Keys, data: bytes | bytearray, offset: int, end: int, tag_error: type[Exception]
    ) -> tuple[tuple[memoryview, ...], bool]:
        """Open the full records from *offset* on, RECORDS at most, until something else comes or data[:end] does.

        Returns the content of those that are application data without padding, and whether the record after them is a
        full one that does not open. The contents stand until the next call; keys.sequence is the caller's to raise.
        """
        decrypt_into, iv, sequence = keys.aead.decrypt_into, keys.iv, keys.sequence
        count, bad = 0, False
        with memoryview(data) as source:
            for record in self._records[: (end - offset) // FULL_RECORD]:
                if not data.startswith(FULL_HEADER, offset):
                    break
                stop = offset + FULL_RECORD
                try:
                    decrypt_into(
                        (iv ^ (sequence + count)).to_bytes(12, "big"),
                        source[offset + RECORD_HEADER : stop],
                        FULL_HEADER,
                        record,
                    )
                except tag_error:
                    bad = True
                    break
                count += 1
                offset = stop
        types = self.plain[MAX_PLAINTEXT : count * MAX_INNER_PLAINTEXT : MAX_INNER_PLAINTEXT]
        good = len(types) - len(types.lstrip(b"\x17"))
        return self._contents[:good], bad and good == count


_sealers: Final[list[Sealer]] = []
_openers: Final[list[Opener]] = []
"""Not lent at the moment. list.pop and append are atomic: no two ever have the same one."""


def lent_sealer() -> Sealer:
    try:
        return _sealers.pop()
    except IndexError:
        return Sealer()


def lent_opener() -> Opener:
    try:
        return _openers.pop()
    except IndexError:
        _have_blocks_kept()
        return Opener()


def _have_blocks_kept() -> None:
    """Have the C library keep blocks as large as a step's data for the next step, once for the process.

    glibc maps fresh pages for every block of 128 KiB or more, at three times the price of decrypting into them, until
    a larger one has been freed: that teaches it (mallopt(3), M_MMAP_THRESHOLD). A socket's bulk: 25 to 15 µs a record.
    """
    bytes(4 * RECORDS * MAX_PLAINTEXT)


def return_sealer(sealer: Sealer) -> None:
    """Take back what was lent: at once, or when all that stands in it has been sent."""
    if len(_sealers) < _MAX_KEPT:
        _sealers.append(sealer)


def return_opener(opener: Opener) -> None:
    if len(_openers) < _MAX_KEPT:
        _openers.append(opener)
