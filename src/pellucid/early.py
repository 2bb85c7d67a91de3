"""Data before the handshake is complete: a client's 0-RTT data, and what a server answers at once (RFC 9846 §2.3)."""

from __future__ import annotations

from pellucid import schedule
from pellucid.carrier import Carrier
from pellucid.crypto.provider import Buffer, Suite
from pellucid.errors import UnexpectedMessage, UsageError
from pellucid.events import EarlyData, EarlyDataAccepted
from pellucid.handshake.actions import AcceptEarlyData, AnswerEarly, EndEarlySending, OfferEarlyData, SkipEarlyData
from pellucid.limits import MAX_PLAINTEXT, MAX_SEQUENCE
from pellucid.trace import Direction, EarlyDataTraced, Epoch, Role

__all__ = ["EarlyCarrier"]


class EarlyCarrier(Carrier):
    """What a connection does before its handshake is complete. Use `Connection`."""

    def start(self) -> None:
        """Client: produce the ClientHello. `data_to_send` does it too; a second call does nothing."""
        if self._start is not None:
            start, self._start = self._start, None
            self._guarded(start)

    @property
    def early_data_left(self) -> int:
        """Client: how many bytes `send_early_data` still takes; 0 where no early data may be sent."""
        # §5.5: there is no KeyUpdate for early data; it ends before the key is used up, however small its pieces.
        return min(self._early_left, MAX_PLAINTEXT * self._writer.records_left()) if self.role is Role.CLIENT else 0

    @property
    def early_data_protocol(self) -> str | None:
        """Client: the application protocol that early data is in, the session's; None for none, or no early data."""
        return self._early_protocol

    def send_early_data(self, data: Buffer) -> None:
        """Client: send 0-RTT data before the server has answered (RFC 9846 §4.3.10).

        It may be replayed by others, and the server may reject it: then nothing is sent again by itself, and
        `negotiated.early_data` says so once the handshake is complete. UsageError for more than `early_data_left`.
        """
        self.start()
        self._check_usable()
        data = bytes(data)  # of a buffer of larger items, the length is not that of its bytes
        if len(data) > self.early_data_left:
            raise UsageError(f"{len(data)} bytes of early data, {self.early_data_left} may be sent")
        if data:
            self._early_left -= len(data)
            self._writer.application_data(data)
            if self._trace is not None:
                self._trace(EarlyDataTraced(direction=Direction.SENT, size=len(data)))

    def export_early_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """Return TLS-Exporter by the early exporter secret (RFC 9846 §7.5). A replay gives the same value (§F.5.1).

        For a client that may send early data and a server that took it, until the handshake is complete; UsageError.
        """
        self._check_usable()
        if self._early_exporter_secret is None or self._early_suite is None:
            raise UsageError("there is no early exporter: no early data is under way")
        return schedule.export_keying_material(self._early_suite, self._early_exporter_secret, label, context, length)

    # ---- what the handshake wants, and what comes --------------------------------------------------------------------

    def _early_data(self, content: bytes) -> None:
        """Application data came before the handshake is complete: the client's early data, or an offence."""
        if self._reader.epoch is not Epoch.EARLY:
            raise UnexpectedMessage("application data before the handshake is complete", rfc="9846 §5")
        if len(content) > self._early_left:
            raise UnexpectedMessage("more early data than the ticket allows", rfc="9846 §4.7.1", code="TLS-EARLY-DATA")
        self._early_left -= len(content)
        if content:
            self._events.append(EarlyData(content))
            if self._trace is not None:
                self._trace(EarlyDataTraced(direction=Direction.RECEIVED, size=len(content)))

    def _do_early(
        self, action: OfferEarlyData | EndEarlySending | AcceptEarlyData | SkipEarlyData | AnswerEarly
    ) -> None:
        """Carry out what concerns data before the handshake is complete (RFC 9846 §2.3, §4.3.10)."""
        if isinstance(action, AnswerEarly):
            self._answers_early = self._sending = True
            self._limit_records(action.suite)
        elif isinstance(action, (OfferEarlyData, AcceptEarlyData)):
            self._early_suite = action.suite
            self._early_exporter_secret = action.exporter_secret
            self._early_left = action.limit
            if isinstance(action, AcceptEarlyData):
                self._events.append(EarlyDataAccepted(action.negotiated, action.limit))
            else:
                self._limit_records(action.suite)
                self._early_protocol = action.alpn
        elif isinstance(action, EndEarlySending):
            self._early_left = 0
            self._early_exporter_secret = None
            if action.in_the_open:
                self._writer.forget()
        elif isinstance(action, SkipEarlyData):
            self._reader.skip(action.limit)

    def _limit_records(self, suite: Suite) -> None:
        after = suite.rekey_after
        self._writer.limit = (MAX_SEQUENCE if after is None else after) - 1  # one left for the KeyUpdate itself (§5.5)
