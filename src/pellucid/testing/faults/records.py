"""Faults in records and after the handshake: sizes, seals, floods, messages out of place (RFC 9846 §4.7, §5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pellucid.handshake.actions import Action, InstallKeys
from pellucid.limits import (
    MAX_CHANGE_CIPHER_SPECS,
    MAX_CIPHERTEXT,
    MAX_EMPTY_RECORDS,
    MAX_INNER_PLAINTEXT,
    MAX_KEY_UPDATES,
    MAX_TICKETS,
)
from pellucid.messages.handshake import Extension, NewSessionTicket, handshake_message
from pellucid.registry import AlertDescription as A
from pellucid.registry import ContentType
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.testing.bent import BentConnection, Edit, Step, before_message, message, replacing
from pellucid.testing.faults.conversation import Conversation
from pellucid.testing.faults.fault import protocol_fault as _fault
from pellucid.testing.faults.mint import Shown
from pellucid.trace import Direction

__all__ = ["RECORDS", "flipped_tag", "handshake_record", "once_connected", "oversized", "sealed"]

UM: Final = A.UNEXPECTED_MESSAGE
_RECORDS: Final = 8
"""in which a server answers whose records are counted"""


def flipped_tag(number: int) -> Callable[[Conversation], None]:
    """Answer in many records, and flip a bit of the *number*-th one, counted from 1."""

    def answer(conversation: Conversation) -> None:
        connection, reply = conversation.connection, conversation.reply()
        size = -(-len(reply) // max(_RECORDS, number))
        for at in range(max(_RECORDS, number)):
            piece = reply[at * size : (at + 1) * size] or b"\n"
            if at + 1 == number:
                connection.spoiled(ContentType.APPLICATION_DATA, piece)
            else:
                connection.record(ContentType.APPLICATION_DATA, piece)
            conversation.flush()
        connection.close()

    return answer


def once_connected(*steps: Step) -> Callable[[Conversation], None]:
    """Do *steps* once the handshake is complete."""

    def connected(conversation: Conversation) -> None:
        for step in steps:
            step(conversation.connection)
        conversation.flush()

    return connected


def handshake_record(content: bytes) -> Step:
    """Send *content* in a handshake record."""
    return lambda peer: peer.record(ContentType.HANDSHAKE, content)


def sealed(inner: bytes) -> Step:
    """Send a record whose TLSInnerPlaintext is *inner*."""
    return lambda peer: peer.sealed(inner)


def oversized(peer: BentConnection) -> None:
    """Send a record that is a byte longer than any may be."""
    size = MAX_CIPHERTEXT + 1
    peer.wire(b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size))


def _behind(kind: int, extra: bytes) -> Callable[[Shown], Edit]:
    """Append *extra* to the message of *kind*, in its record: it runs across the change of keys that follows."""
    return lambda _: replacing(kind, lambda raw: raw + extra)


def _unprotected(_: BentConnection, actions: list[Action]) -> list[Action | Step]:
    """Forget to seal the flight: no keys are installed for sending."""
    return [a for a in actions if not (isinstance(a, InstallKeys) and a.direction is Direction.SENT)]


def _garbled_flight(peer: BentConnection) -> None:
    """One record that does not open, where EncryptedExtensions should be."""
    peer.wire(b"\x17\x03\x03\x00\x40" + bytes(64))


_TICKET: Final = handshake_message(NewSessionTicket(60, 0, b"\0", b"ticket", ()))
_ENDLESS: Final = handshake_message(
    NewSessionTicket(60, 0, b"\0", b"ticket", (Extension(E.EARLY_DATA, b"\xff" * 2_000),))
)
_CHANGE_CIPHER_SPEC: Final = b"\x01"


RECORDS: Final = (
    _fault("oversized-record", f"sends a record of {MAX_CIPHERTEXT + 1} bytes",
           "TLS-RECORD-OVERFLOW", A.RECORD_OVERFLOW, "9846 §5.2", connected=once_connected(oversized)),
    _fault("oversized-plaintext", f"seals {MAX_INNER_PLAINTEXT + 1} bytes in one record",
           "TLS-RECORD-OVERFLOW", A.RECORD_OVERFLOW, "9846 §5.4",
           connected=once_connected(sealed(bytes(MAX_INNER_PLAINTEXT) + b"\x17"))),
    _fault("flipped-tag", "a bit of the first record of its answer is flipped (flipped-tag-N: of the N-th)",
           "TLS-BAD-RECORD-MAC", A.BAD_RECORD_MAC, "9846 §5.2", answer=flipped_tag(1)),
    _fault("flipped-tag-handshake", "the first sealed record of its handshake does not open",
           "TLS-BAD-RECORD-MAC", A.BAD_RECORD_MAC, "9846 §5.2",
           rewrite=before_message(H.ENCRYPTED_EXTENSIONS, _garbled_flight)),
    _fault("unprotected-flight", "sends its flight after ServerHello unsealed",
           "TLS-UNPROTECTED", UM, "9846 §5.2", rewrite=_unprotected),
    _fault("unprotected-alert", "sends close_notify unsealed after the handshake, as anybody on the way could",
           "TLS-UNPROTECTED", UM, "9846 §5.2",
           connected=once_connected(lambda peer: peer.plaintext(ContentType.ALERT, b"\x01\x00"))),
    _fault("key-change", "the first byte of a message stands behind Finished, across the change of keys",
           "TLS-KEY-CHANGE", UM, "9846 §5.1", edit=_behind(H.FINISHED, b"\x04")),
    _fault("key-change-hello", "EncryptedExtensions begins behind ServerHello, across the change of keys",
           "TLS-KEY-CHANGE", UM, "9846 §5.1", edit=_behind(H.SERVER_HELLO, b"\x08")),
    _fault("key-update-flood", f"changes its key {MAX_KEY_UPDATES + 8} times without a byte of data",
           "TLS-KEY-UPDATE-FLOOD", UM, "9846 §4.7.3",
           connected=once_connected(*[lambda peer: peer.send_key_update()] * (MAX_KEY_UPDATES + 8))),
    _fault("key-update-value", "its KeyUpdate neither asks for one nor does not",
           "TLS-ILLEGAL-PARAMETER", A.ILLEGAL_PARAMETER, "9846 §4.7.3",
           connected=once_connected(handshake_record(message(H.KEY_UPDATE, b"\x07")))),
    _fault("empty-record-flood", f"sends {MAX_EMPTY_RECORDS + 8} records of application data without any",
           "TLS-EMPTY-RECORDS", UM, "9846 §5.1",
           connected=once_connected(*[sealed(b"\x17")] * (MAX_EMPTY_RECORDS + 8))),
    _fault("empty-handshake-record", "sends a handshake record without content",
           "TLS-EMPTY-RECORDS", UM, "9846 §5.1", connected=once_connected(sealed(b"\x16"))),
    _fault("all-padding", "sends a record that is padding alone, without a content type",
           "TLS-UNEXPECTED-MESSAGE", UM, "9846 §5.4", connected=once_connected(sealed(bytes(64)))),
    _fault("ticket-flood", f"sends {MAX_TICKETS + 8} tickets in a row",
           "TLS-MESSAGE-FLOOD", UM, "9846 §4.7.1",
           connected=once_connected(*[handshake_record(_TICKET)] * (MAX_TICKETS + 8))),
    _fault("endless-early-data", "its ticket allows early data, by a number of 2000 bytes instead of 4",
           "TLS-DECODE", A.DECODE_ERROR, "9846 §4.3.10", connected=once_connected(handshake_record(_ENDLESS))),
    _fault("change-cipher-spec-flood", f"sends {MAX_CHANGE_CIPHER_SPECS + 3} change_cipher_spec records",
           "TLS-MESSAGE-FLOOD", UM, "9846 §5",
           rewrite=before_message(
               H.ENCRYPTED_EXTENSIONS,
               *[lambda peer: peer.plaintext(ContentType.CHANGE_CIPHER_SPEC, _CHANGE_CIPHER_SPEC)]
               * (MAX_CHANGE_CIPHER_SPECS + 3),
           )),
    _fault("unexpected-message", "sends EncryptedExtensions twice",
           "TLS-UNEXPECTED-MESSAGE", UM, "9846 §A.1",
           edit=lambda _: replacing(H.ENCRYPTED_EXTENSIONS, lambda raw: raw * 2)),
    _fault("renegotiation", "asks for a new handshake (HelloRequest), as TLS 1.2 could",
           "TLS-UNEXPECTED-MESSAGE", UM, "9846 §4.2.2", connected=once_connected(handshake_record(message(0, b"")))),
    _fault("early-application-data", "sends application data before its Finished",
           "TLS-UNEXPECTED-MESSAGE", UM, "9846 §5",
           rewrite=before_message(
               H.FINISHED, lambda peer: peer.record(ContentType.APPLICATION_DATA, b"HTTP/1.1 200 OK\r\n\r\n")
           )),
    _fault("closed-in-handshake", "says close_notify where its Finished should be",
           "PEER-CLOSED-EARLY", None, "9846 §6.1",
           rewrite=before_message(H.FINISHED, lambda peer: peer.record(ContentType.ALERT, b"\x01\x00"))),
    _fault("canceled", "says user_canceled and close_notify where its Finished should be",
           "TLS-ALERT-USER-CANCELED", None, "9846 §6.1",
           rewrite=before_message(H.FINISHED, lambda peer: peer.record(ContentType.ALERT, b"\x01\x5a"),
                                  lambda peer: peer.record(ContentType.ALERT, b"\x01\x00"))),
    _fault("short-alert", "sends an alert of one byte",
           "TLS-DECODE", A.DECODE_ERROR, "9846 §5.1",
           connected=once_connected(lambda peer: peer.record(ContentType.ALERT, b"\x02"))),
)  # fmt: skip
