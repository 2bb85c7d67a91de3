"""What speaks something else than TLS, known by its first bytes: so that the error can say what it is."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Stranger", "stranger"]


class Stranger(NamedTuple):
    """A protocol that is not TLS. name: "" if it is not known.   code: the diagnosis's."""

    name: str
    code: str


_HTTP: Final = Stranger("HTTP", "PEER-PLAIN-HTTP")
_NOT_TLS: Final = "PEER-NOT-TLS"

_METHODS: Final = (
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"PRI * HTTP/2",
)
_BEGINNINGS: Final = (
    *((word, _HTTP) for word in (b"HTTP/", *_METHODS, b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML")),
    (b"SSH-", Stranger("SSH", _NOT_TLS)),
    (b"220 FTP", Stranger("FTP", _NOT_TLS)),
    (b"220", Stranger("SMTP or FTP", _NOT_TLS)),
    (b"+OK", Stranger("POP3", _NOT_TLS)),
    (b"* OK", Stranger("IMAP", _NOT_TLS)),
    (b"* PREAUTH", Stranger("IMAP", _NOT_TLS)),
    (b"RFB ", Stranger("VNC", _NOT_TLS)),
    (b"<?xml", Stranger("XML, such as XMPP", _NOT_TLS)),
    (b"<stream", Stranger("XMPP", _NOT_TLS)),
    (b"-ERR", Stranger("Redis", _NOT_TLS)),
    (b"AMQP", Stranger("AMQP", _NOT_TLS)),
    (b"@RSYNCD", Stranger("rsync", _NOT_TLS)),
    (b"E\0\0\0", Stranger("PostgreSQL", _NOT_TLS)),
)
"""how they begin; the first that fits counts"""


def stranger(first: bytes) -> Stranger:
    """Return who begins with *first*, bytes that are no record of TLS."""
    for beginning, who in _BEGINNINGS:
        # Where less has come than the beginning is long, what has come decides.
        if first[: len(beginning)] == beginning[: len(first)]:
            return who
    if first[3:4] == b"\x04" and first[:2] == b"\0\0":
        return Stranger("HTTP/2 without TLS", _HTTP.code)  # its SETTINGS frame
    if first[3:5] == b"\0\x0a":
        return Stranger("MySQL", _NOT_TLS)  # a packet's number, and the version of its greeting
    if first[:2] == b"\x03\0":
        return Stranger("RDP", _NOT_TLS)
    if first[:1] >= b"\x80" and first[2:3] in {b"\x01", b"\x04"}:
        return Stranger("SSL 2.0", _NOT_TLS)
    return Stranger("", _NOT_TLS)
