"""LDAP, PostgreSQL and MySQL: messages with lengths."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from pellucid.inspection.starttls.preamble import Inbox, Steps

__all__ = ["LDAP_REQUEST", "MYSQL_SSL_REQUEST_SIZE", "POSTGRES_REQUEST", "ldap", "mysql", "postgres"]

# ---- LDAP -----------------------------------------------------------------------------------------------------------

LDAP_REQUEST: Final = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
"""LDAPMessage 1: ExtendedRequest with StartTLS's name (RFC 4511 §4.14.1)."""
_EXTENDED_RESPONSE: Final = 0x78
_RESULTS: Final = {
    1: "operationsError",
    2: "protocolError",
    10: "referral",
    52: "unavailable",
    53: "unwillingToPerform",
}


def ldap(server_name: str, local_address: str, inbox: Inbox) -> Steps:
    """RFC 4511 §4.14: the extended request, and its answer."""
    yield LDAP_REQUEST
    body = yield from _sequence(inbox)
    fields = _elements(body, inbox)
    if len(fields) < 2 or fields[0] != (0x02, b"\x01") or fields[1][0] != _EXTENDED_RESPONSE:
        raise inbox.unexpected(body)
    result = _elements(fields[1][1], inbox)
    if len(result) < 3 or result[0][0] != 0x0A or len(result[0][1]) != 1:
        raise inbox.unexpected(fields[1][1])
    code = result[0][1][0]
    if code != 0:
        said = result[2][1].decode("utf-8", "replace")
        raise inbox.refused(f"{_RESULTS.get(code, f'result {code}')}{': ' if said else ''}{said}")


def _sequence(inbox: Inbox) -> Generator[None, None, bytes]:
    """Return the content of one SEQUENCE in BER, of definite length as RFC 4511 §5.1 demands."""
    tag, first = yield from inbox.take(2)
    if tag != 0x30:
        raise inbox.unexpected(bytes((tag, first)) + inbox.left)
    length = first
    if first & 0x80:
        width = first & 0x7F
        if not 1 <= width <= 4:
            raise inbox.unexpected(bytes((tag, first)))
        length = int.from_bytes((yield from inbox.take(width)), "big")
    return (yield from inbox.take(length))


def _elements(content: bytes, inbox: Inbox) -> list[tuple[int, bytes]]:
    """Return the elements that *content* consists of."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(content):
        head = content[at : at + 6]
        if len(head) < 2:
            raise inbox.unexpected(content)
        width = head[1] & 0x7F if head[1] & 0x80 else 0
        if width > 4 or head[1] == 0x80 or len(head) < 2 + width:
            raise inbox.unexpected(content)
        length = int.from_bytes(head[2 : 2 + width], "big") if width else head[1]
        start = at + 2 + width
        if start + length > len(content):
            raise inbox.unexpected(content)
        found.append((head[0], content[start : start + length]))
        at = start + length
    return found


# ---- PostgreSQL -----------------------------------------------------------------------------------------------------

POSTGRES_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""SSLRequest: its length, and the code 80877103 where a version would be."""


def postgres(server_name: str, local_address: str, inbox: Inbox) -> Steps:
    """The frontend/backend protocol's SSLRequest: one byte answers it."""
    yield POSTGRES_REQUEST
    answer = yield from inbox.take(1)
    if answer == b"N":
        raise inbox.failed("the server does not offer it")
    if answer == b"E":
        raise inbox.refused((yield from inbox.some()).replace(b"\0", b" "))
    if answer != b"S":
        raise inbox.unexpected(answer + inbox.left)


# ---- MySQL, MariaDB -------------------------------------------------------------------------------------------------

MYSQL_SSL_REQUEST_SIZE: Final = 32
_PROTOCOL_10: Final = 10
_ERROR: Final = 0xFF
_LONG_PASSWORD: Final = 0x0000_0001
_PROTOCOL_41: Final = 0x0000_0200
_SSL: Final = 0x0000_0800
_SECURE_CONNECTION: Final = 0x0000_8000
_UTF8MB4: Final = 45
_MAX_PACKET: Final = 2**24


def mysql(server_name: str, local_address: str, inbox: Inbox) -> Steps:
    """The client/server protocol: the server's handshake packet, then our SSLRequest, which nothing answers."""
    header = yield from inbox.take(4)
    length = int.from_bytes(header[:3], "little")
    if header[3] != 0 or not 1 <= length <= 1024:
        raise inbox.unexpected(header + inbox.left)
    packet = yield from inbox.take(length)
    if packet[0] == _ERROR:
        raise inbox.refused(packet[3:])
    capabilities = _capabilities(packet)
    if capabilities is None:
        raise inbox.unexpected(header + packet)
    if not capabilities & _SSL:
        raise inbox.failed("the server does not offer it")
    flags = _LONG_PASSWORD | _PROTOCOL_41 | _SSL | _SECURE_CONNECTION
    body = flags.to_bytes(4, "little") + _MAX_PACKET.to_bytes(4, "little") + bytes((_UTF8MB4,)) + bytes(23)
    yield MYSQL_SSL_REQUEST_SIZE.to_bytes(3, "little") + b"\x01" + body


def _capabilities(packet: bytes) -> int | None:
    """Return the capability flags of a HandshakeV10, None if the packet is none."""
    end_of_version = packet.find(b"\0", 1)
    if packet[0] != _PROTOCOL_10 or end_of_version < 0:
        return None
    at = end_of_version + 1 + 4 + 8 + 1  # the version, the thread's id, the first part of the scramble, a zero
    low = packet[at : at + 2]
    high = packet[at + 2 + 1 + 2 : at + 2 + 1 + 2 + 2]  # after the character set and the status
    if len(low) < 2:
        return None
    return int.from_bytes(low + high.ljust(2, b"\0"), "little")
