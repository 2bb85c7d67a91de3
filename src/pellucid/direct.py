"""Application data without a detour: one record of the peer's without an event, bulk data sealed into lent memory."""

from __future__ import annotations

from pellucid.crypto.provider import Buffer
from pellucid.early import EarlyCarrier
from pellucid.events import ApplicationData
from pellucid.record.bulk import Sealer


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

    def seal_record(self, data: Buffer) -> bytes | None:
        """Return the one record that *data* makes, to be sent; None: nothing was done, give it to `send_data`."""
        return self._writer.one_record(data) if self._sending and not self._writer.out else None

    def seal_into(self, data: Buffer, sealer: Sealer) -> int:
        """Seal *data*, bytes, into *sealer*; return how many bytes are to be sent, 0 if `send_data` must do it.

        Equals `send_data` and `data_to_send`; see `RecordWriter.seal_into`.
        """
        return self._writer.seal_into(data, sealer) if self._sending else 0
