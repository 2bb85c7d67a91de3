"""XMPP: a stream of XML in which <starttls/> is said. Read with expat, which is told to refuse document types."""

from __future__ import annotations

from typing import Final
from xml.parsers import expat  # bounded in bytes by the inbox, and no document type is read: no entity can grow
from xml.sax.saxutils import quoteattr

from pellucid.inspection.starttls.preamble import Inbox, Steps

__all__ = ["xmpp"]

_STREAMS: Final = "http://etherx.jabber.org/streams"
_TLS: Final = "urn:ietf:params:xml:ns:xmpp-tls"
_MAX_DEPTH: Final = 16


def xmpp(server_name: str, local_address: str, inbox: Inbox) -> Steps:
    """RFC 6120 §5.4: the stream's beginning, <starttls/>, <proceed/>."""
    yield (
        f"<?xml version='1.0'?><stream:stream to={quoteattr(server_name)} version='1.0' xmlns='jabber:client' "
        f"xmlns:stream='{_STREAMS}'>"
    ).encode()
    reader = _Reader(inbox)
    while not reader.said(f"{_STREAMS} features"):
        reader.feed((yield from inbox.some()))
    if not reader.said(f"{_TLS} starttls"):
        raise inbox.failed("the server does not offer it")
    yield f"<starttls xmlns='{_TLS}'/>".encode()
    while not reader.said(f"{_TLS} proceed"):
        reader.feed((yield from inbox.some()))
    inbox.put_back(reader.after_last)


class _Reader:
    """What elements have ended so far. Raises StartTLSFailed for what is no stream, and for what ends one."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._ended: set[str] = set()
        self._before = ""
        self._depth = 0
        self._refusal = ""
        self._fed = bytearray()
        self._last_end = 0
        self._parser = expat.ParserCreate(namespace_separator=" ")
        if hasattr(self._parser, "SetReparseDeferralEnabled"):
            # It would keep what is there until much more has come, which the server waits with.
            self._parser.SetReparseDeferralEnabled(False)
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def said(self, name: str) -> bool:
        return name in self._ended

    @property
    def after_last(self) -> bytes:
        """What came after the last element that ended."""
        # Of <a></a> expat gives where the end tag begins, of <a/> where it ends.
        closes = self._fed.startswith(b"</", self._last_end)
        return bytes(self._fed[self._fed.find(b">", self._last_end) + 1 if closes else self._last_end :])

    def feed(self, data: bytes) -> None:
        self._fed += data
        try:
            self._parser.Parse(data, False)
        except (expat.ExpatError, LookupError, ValueError) as error:  # the latter of encodings; XMPP has UTF-8 alone
            raise self._inbox.failed(f"the server sent no XML: {error}") from error
        if self._refusal:
            raise self._inbox.refused(self._refusal)

    def _doctype(self, *_: object) -> None:
        raise self._inbox.failed("the server sent a document type, which XMPP forbids (RFC 6120 §11.1)")

    def _start(self, name: str, _: dict[str, str]) -> None:
        if self._depth == 0 and name != f"{_STREAMS} stream":
            raise self._inbox.failed(f"the server does not speak XMPP here: its document is a {name!r}")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._inbox.failed(f"the server nested more than {_MAX_DEPTH} elements")

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._last_end = self._parser.CurrentByteIndex
        self._ended.add(name)
        if name in {f"{_STREAMS} error", f"{_TLS} failure"}:
            self._refusal = (self._before or name).rpartition(" ")[2]  # what stands in it says which
        elif self._depth == 0:
            self._refusal = "the end of the stream"
        self._before = name
