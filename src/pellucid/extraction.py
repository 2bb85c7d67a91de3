"""A connection's secrets, for whoever goes on with its records: a kernel, a network card, another library.

Dangerous: whoever has them reads and writes as this end. The connection is over here once they are out.
"""

from __future__ import annotations

from dataclasses import dataclass

from pellucid.direct import DirectCarrier
from pellucid.errors import InternalError, UsageError
from pellucid.handshake.connected import Connected
from pellucid.handshake.post_handshake import Asking
from pellucid.schedule import TrafficSecret
from pellucid.trace import ChoiceMade, Secret

__all__ = ["Detachable", "DirectionSecrets", "ExtractedSecrets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionSecrets:
    """What protects the next record of one direction (RFC 9846 §5.2, §5.3, §7.3).

    cipher_suite: code point.        generation: KeyUpdates so far.
    secret:       application_traffic_secret_N, Hash.length bytes: the next keys come of it (§7.2).
    key, iv:      the AEAD's key, and 12 bytes. The nonce is *iv* XOR *sequence*.
    sequence:     of the next record.
    fragment:     bytes of content, padding included, that a record may have (RFC 8449).
    """

    cipher_suite: int
    generation: int
    secret: Secret
    key: Secret
    iv: Secret
    sequence: int
    fragment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractedSecrets:
    """Both directions, as this end sees them."""

    sending: DirectionSecrets
    receiving: DirectionSecrets


class Detachable(DirectCarrier):
    """What of a connection lets its secrets out. Use `Connection`."""

    def dangerous_extract_secrets(self) -> ExtractedSecrets:
        """Return what protects the next records of both directions, and be over: every later call raises UsageError.

        All that was sealed must have been taken (`data_to_send`), all that came must have been read (`next_event`), to
        the end of a record. Messages that come from then on, tickets and KeyUpdates, are whoever goes on's to answer;
        alerts and close_notify are its to send. What exporters give has to be asked for before.

        raises: UsageError before the handshake is complete, and where anything is under way: data or a message that
                waits, half a record, an owed KeyUpdate, an authentication, a close in either direction. Nothing has
                changed then.
        """
        self._check_usable()
        if (why := self._under_way()) is not None:
            raise UsageError(f"secrets cannot be extracted: {why}")
        sending, receiving = self._writer.present, self._reader.present
        if sending is None or receiving is None:
            raise InternalError("a connection without keys")
        extracted = ExtractedSecrets(
            sending=_direction(*sending, self._writer.fragment),
            receiving=_direction(*receiving, self._reader.fragment),
        )
        if self._trace is not None:
            self._trace(
                ChoiceMade(what="secrets", chosen="extracted", reason="the caller goes on with the records elsewhere")
            )
        self._latch(UsageError("the connection's secrets were extracted: it goes on elsewhere"), None)
        return extracted

    def _under_way(self) -> str | None:
        """Return what stands against an end at this moment, None if nothing does."""
        phase = self._handshake.phase
        if self.negotiated is None or not isinstance(phase, Connected):
            return "the handshake is not complete"
        if self._sent_close or self._peer_closed or self._peer_ended:
            return "one direction is closed"
        asking = isinstance(phase, Asking) and (phase.requests or phase.reading or phase.unjudged)
        if asking or phase.asked or self._asides:
            return "a certificate is asked for, and not shown"
        if self._events:
            return "what came was not all read: next_event"
        if self._incoming or self._message:
            return "half a record or message has come"
        if self._writer.out or self._update_owed:
            return "what is to be sent was not all taken: data_to_send"
        return None


def _direction(secret: TrafficSecret, sequence: int, fragment: int) -> DirectionSecrets:
    keys = secret.keys()
    return DirectionSecrets(
        cipher_suite=secret.suite.code,
        generation=secret.generation,
        secret=Secret(secret.value),
        key=Secret(keys.key),
        iv=Secret(keys.iv),
        sequence=sequence,
        fragment=fragment,
    )
