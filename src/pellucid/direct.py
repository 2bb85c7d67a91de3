"""Application data without a detour: one record of the peer's without an event, bulk data sealed into lent memory."""

from __future__ import annotations

from typing import Final

from pellucid.crypto.provider import Buffer
from pellucid.early import EarlyCarrier
from pellucid.events import ApplicationData
from pellucid.limits import FULL_RECORD
from pellucid.record.bulk import Sealer

_BULK: Final = 8 * FULL_RECORD
"""opened at a time where each piece is delivered before the next is opened: the memory of both stays in the processor's
cache. All 16 that one read brings at once: 3 % more of a transfer on asyncio."""


class DirectCarrier(EarlyCarrier):
    """What of a connection saves who carries its bytes a detour. Use `Connection`."""

    @property
    def idle(self) -> bool:
        """Whether all that came was told, the handshake is complete, and more may come."""
        return self._receiving and not self._events

    @property
    def has_output(self) -> bool:
        """Whether `data_to_send` would return anything."""
        return bool(self._writer.out) or self._update_owed or self._start is not None

    @property
    def between_records(self) -> bool:
        """Whether no record and no message is cut in what came."""
        return not self._incoming and not self._message

    def next_data(self) -> bytes | None:
        """Return the application data that `next_event` would tell of now; None: nothing was done, it is not that."""
        events = self._events
        if not events:
            return None
        first = events[0]
        if type(first) is not ApplicationData:
            return None
        del events[0]
        return first.data

    def open_record(self, data: Buffer) -> bytes | None:
        """Return the application data of *data*, from the peer, if that is one whole record and nothing else waits.

        Equals `receive_data` and `next_event`, in two thirds of the time. None: nothing was done; give it to
        `receive_data`, which says whatever else it is.
        """
        if not self._receiving or self._incoming or self._message or self._events:
            return None
        plaintext = self._reader.whole_record(data)
        if plaintext is not None and self._patience.tried:
            self._patience.progress()
        return plaintext

    def open_bulk(self, buffer: bytearray, start: int, end: int) -> tuple[bytes, int]:
        """Return the application data that buffer[start:end], from the peer, begins with, a part of it, and where what
        is left begins: further calls open that, and once there is no data, `receive_from` takes it.

        Equals `receive_from` and `next_event` with the data in smaller pieces. As there, the beginning of a cut record
        that came before is put in front of *start*.
        """
        incoming = self._incoming
        if not self._receiving or self._message or self._events or len(incoming) > start:
            return b"", start
        if incoming:
            begin = start - len(incoming)
            buffer[begin:start] = incoming
            incoming.clear()
            start = begin
        # An error is not lost: whatever is bad is met again by `receive_from`.
        plaintext, start, _ = self._reader.application_data(buffer, start, min(end, start + _BULK))
        if plaintext and self._patience.tried:
            self._patience.progress()
        return plaintext, start

    def seal_record(self, data: Buffer) -> bytes | None:
        """Return the one record that *data* makes, to be sent; None: nothing was done, give it to `send_data`."""
        return self._writer.one_record(data) if self._sending and not self._writer.out else None

    def seal_into(self, data: Buffer, sealer: Sealer) -> int:
        """Seal *data*, bytes, into *sealer*; return how many bytes are to be sent, 0 if `send_data` must do it.

        Equals `send_data` and `data_to_send`; see `RecordWriter.seal_into`.
        """
        return self._writer.seal_into(data, sealer) if self._sending else 0
