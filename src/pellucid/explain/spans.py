"""Where each field of a message or a record stands, and what it is for: from the codecs' own spans, no second parser.

The leaves cover every byte exactly once: length prefixes, which codecs count to the field they belong to, are spans of
their own. Bytes that do not decode are one opaque leaf; nothing here raises, however odd they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pellucid.errors import PeerError
from pellucid.explain.der import DerPart, certificate_part
from pellucid.explain.fields import certificate_name
from pellucid.explain.meanings import ABOUT, EXTENSIONS, GREASE, HYBRIDS, LENGTH, ROOTS, UNKNOWN, About, text
from pellucid.limits import RECORD_HEADER
from pellucid.messages import extensions as x
from pellucid.messages.handshake import BODIES, HEADER_LENGTH, CertificateEntry, Extension
from pellucid.registry import HandshakeType as H
from pellucid.registry import (
    content_type_name,
    extension_name,
    group_name,
    handshake_type_name,
    is_grease,
    version_name,
)
from pellucid.trace import RecordTraced
from pellucid.wire import Codec, Span

__all__ = ["FieldSpan", "message_spans", "record_spans"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpan:
    """One field: where it stands, what it says, what it is for.

    path:    "extensions[3].extension_data.client_shares[0].group"; "msg_type" and "length" are the header's.
    name:    the last component of *path*, as the RFC writes the field.
    offset:  from the message's first byte, its 4-byte header included; of a record's field from the record's.
    length:  in bytes, at least 1.
    depth:   0 for the fields of the message itself.
    value:   readable, free of control characters: "x25519 (0x001d)", "32 bytes".
    meaning: one sentence.
    rfc:     "9846 §4.3.8".
    leaf:    whether it has no parts.
    """

    path: str
    name: str
    offset: int
    length: int
    depth: int
    value: str
    meaning: str
    rfc: str
    leaf: bool


def message_spans(raw: bytes, message_type: int) -> tuple[FieldSpan, ...]:
    """Return the fields of a handshake message, header included, each before its parts.

    message_type: as MessageTraced has it: HELLO_RETRY_REQUEST for a ServerHello that is one.
    """
    if len(raw) < HEADER_LENGTH:
        return _told([_Part("message", 0, len(raw), f"{len(raw)} bytes", UNKNOWN)])
    name = handshake_type_name(message_type)
    size = int.from_bytes(raw[1:HEADER_LENGTH], "big")
    parts = [
        _Part("msg_type", 0, 1, f"{name} ({raw[0]})", ABOUT["msg_type"]),
        _Part("length", 1, HEADER_LENGTH, _bytes(size), LENGTH),
    ]
    body = BODIES.get(message_type)
    spans = None if body is None else _decoded(body.codec, raw, HEADER_LENGTH, len(raw), "")
    if spans is None:
        told = f"{len(raw) - HEADER_LENGTH} bytes that are not well-formed"
        parts.append(_Part("body", HEADER_LENGTH, len(raw), told, UNKNOWN))
    else:
        reader = _Reader(raw, name, _CARRIERS.get(message_type))
        parts += [part for node in _tree(spans) for part in reader.part(node)]
    return _told(parts)


def record_spans(event: RecordTraced) -> tuple[FieldSpan, ...]:
    """Return the fields of a record (RFC 9846 §5.1, §5.2): header, then the fragment, or what is in its ciphertext.

    AEADs of TLS 1.3 keep places: the byte of the ciphertext where the content type stands is known. () without bytes.
    """
    raw, start = event.raw, RECORD_HEADER
    if len(raw) < start:
        return _told([_Part("record", 0, len(raw), f"{len(raw)} bytes", UNKNOWN)])
    protected = event.sequence is not None or not event.opened
    outer = f"{content_type_name(raw[0])} ({raw[0]})"
    parts = [
        _Part("type", 0, 1, outer, _OPAQUE_TYPE if protected else _TYPE),
        _Part("legacy_record_version", 1, 3, _named(version_name, int.from_bytes(raw[1:3], "big")), _VERSION),
        _Part("length", 3, start, f"{int.from_bytes(raw[3:start], 'big')} bytes", LENGTH),
    ]
    content = f"{event.content_size} bytes of {content_type_name(event.content_type)}"
    end = start + event.content_size
    zeros = end + 1 + event.padding_size
    if not protected:
        parts.append(_Part("fragment", start, len(raw), f"{len(raw) - start} bytes", _FRAGMENT))
    elif not event.opened or not start <= end < zeros < len(raw):
        parts.append(_Part("encrypted_record", start, len(raw), f"{len(raw) - start} bytes", _ENCRYPTED))
    else:
        path = "encrypted_record"
        kind = f"{content_type_name(event.content_type)} ({event.content_type}), encrypted"
        inner = [
            _Part(f"{path}.content", start, end, f"{content}, encrypted", _CONTENT),
            _Part(f"{path}.type", end, end + 1, kind, _INNER_TYPE),
            _Part(f"{path}.zeros", end + 1, zeros, f"{event.padding_size} bytes of padding, encrypted", _ZEROS),
            _Part(f"{path}.tag", zeros, len(raw), f"{len(raw) - zeros} bytes", _TAG),
        ]
        parts.append(_Part(path, start, len(raw), f"{len(raw) - start} bytes", _ENCRYPTED, inner))
    return _told(parts)


_TYPE: Final = About("What stands in this record.", "9846 §5.1")
_OPAQUE_TYPE: Final = About(
    "Always application_data: the true type is inside, where nobody on the way can read it.", "9846 §5.2"
)
_VERSION: Final = About("Means nothing any more; it is set so that old middleboxes let the record pass.", "9846 §5.1")
_FRAGMENT: Final = About("Handshake messages, an alert or the dummy change_cipher_spec, in the open.", "9846 §5.1")
_ENCRYPTED: Final = ABOUT["encrypted_record"]
_CONTENT: Final = About("What is said, readable for the two ends only.", "9846 §5.2")
_INNER_TYPE: Final = About("The true content type.", "9846 §5.2")
_ZEROS: Final = About("Padding, so that the record's size does not tell how much was said.", "9846 §5.4")
_TAG: Final = About("The seal: it does not fit any more when a single bit was changed.", "9846 §5.2")

_CARRIERS: Final = {
    H.CLIENT_HELLO: x.M.CH,
    H.SERVER_HELLO: x.M.SH,
    H.HELLO_RETRY_REQUEST: x.M.HRR,
    H.ENCRYPTED_EXTENSIONS: x.M.EE,
    H.CERTIFICATE: x.M.CT,
    H.CERTIFICATE_REQUEST: x.M.CR,
    H.NEW_SESSION_TICKET: x.M.NST,
}
"""message → its name in the table of extensions"""


# ---- from the codec's spans to a tree of parts --------------------------------------------------------------------


@dataclass(slots=True)
class _Part:
    """A field to be told of, before it is known how deep it stands."""

    path: str
    start: int
    end: int
    value: str
    about: About
    parts: list[_Part] = field(default_factory=list)


@dataclass(slots=True)
class _Node:
    """A codec's span with those inside it."""

    span: Span
    children: list[_Node] = field(default_factory=list)


def _decoded(codec: Codec[Any], data: bytes, start: int, end: int, path: str) -> list[Span] | None:
    """Return the spans of data[start:end], None if that is not what *codec* takes."""
    try:
        if codec.decode(data, start, end)[1] != end:
            return None
        return list(codec.spans(data, start, end, path))
    except PeerError:
        return None


def _tree(spans: list[Span]) -> list[_Node]:
    """Return the outermost spans with the others inside them, as their paths say."""
    roots: list[_Node] = []
    open_nodes: list[_Node] = []
    for span in spans:
        while open_nodes and not _within(span.path, open_nodes[-1].span.path):
            open_nodes.pop()
        node = _Node(span)
        (open_nodes[-1].children if open_nodes else roots).append(node)
        open_nodes.append(node)
    return roots


def _within(path: str, outer: str) -> bool:
    return path.startswith(outer) and path[len(outer)] in ".["


def _told(parts: list[_Part], depth: int = 0) -> tuple[FieldSpan, ...]:
    return tuple(_flat(parts, depth))


def _flat(parts: list[_Part], depth: int) -> Iterator[FieldSpan]:
    for part in parts:
        if part.end == part.start:
            continue
        yield FieldSpan(
            path=part.path,
            name=part.path.rpartition(".")[2],
            offset=part.start,
            length=part.end - part.start,
            depth=depth,
            value=part.value,
            meaning=part.about.meaning,
            rfc=part.about.rfc,
            leaf=not part.parts,
        )
        yield from _flat(part.parts, depth + 1)


_INDEX: Final = re.compile(r"\[\d+\]")
_BODY: Final = re.compile(r"(?:.*\.)?extension_data\.")


class _Reader:
    """Turns the spans of one message into parts.

    message: its name; carrier: under which name the table of extensions has it, None if it has none.
    """

    def __init__(self, raw: bytes, message: str, carrier: x.M | None) -> None:
        self._raw = raw
        self._message = message
        self._carrier = carrier

    def part(self, node: _Node, extension: int | None = None) -> list[_Part]:
        """Return *node* as a part with its own. extension: the type, if *node* is an extension's body."""
        path, start, end, value = node.span
        if start == end:
            return []
        about = self._about(path)
        part = _Part(path, start, end, self._value(node, about), about)
        if isinstance(value, int) and end - start == 2 and is_grease(value):
            part.about = GREASE
        if node.children:
            first = node.children[0].span.start
            part.parts = self._prefix(path, start, first)
            code = value.extension_type if isinstance(value, Extension) else None
            part.parts += [inner for child in node.children for inner in self.part(child, code)]
            if code is not None:
                part.about = self._extension(code, about)
        elif isinstance(value, tuple):  # a vector of nothing
            part.parts = self._prefix(path, start, end)
        elif isinstance(value, bytes) and len(value) < end - start:
            at = end - len(value)
            part.parts = [*self._prefix(path, start, at), *self._content(path, at, end, extension, about)]
        elif path.endswith(".extension_data.request"):
            part.parts = self._inside(x.OCSPStatusRequest.codec, path, start, end) or []
        return [part]

    def _prefix(self, path: str, start: int, end: int) -> list[_Part]:
        if start == end:
            return []
        size = int.from_bytes(self._raw[start:end], "big")
        return [_Part(f"{path}.length", start, end, _bytes(size), LENGTH)]

    def _content(self, path: str, start: int, end: int, extension: int | None, about: About) -> list[_Part]:
        """Return what stands behind a length: the body of an extension, a certificate, or just bytes."""
        if extension is not None and (found := self._extension_body(path, start, end, extension)) is not None:
            return found
        data = self._raw[start:end]
        if path.endswith(".cert_data") and (der := certificate_part(data)) is not None:
            return [_of_der(der, path, start)]
        if path.endswith(".key_exchange") and (halves := self._halves(path, start, end, about)):
            return halves
        show = about.show or _count
        return [_Part(f"{path}.content", start, end, show(data), UNKNOWN if extension is not None else about)]

    def _halves(self, path: str, start: int, end: int, about: About) -> list[_Part]:
        """Return the two shares of a hybrid group; nothing of another. The group stands before the length."""
        halves = HYBRIDS.get(int.from_bytes(self._raw[start - 4 : start - 2], "big"), ())
        sizes = [client if self._carrier is x.M.CH else server for _, client, server in halves]
        if start + sum(sizes) != end:
            return []
        parts = []
        for (name, _, _), size in zip(halves, sizes, strict=True):
            meaning = about._replace(meaning=f"The half for {name}; the result takes both.")
            parts.append(_Part(f"{path}.{name}", start, start + size, _bytes(size), meaning))
            start += size
        return parts

    def _extension_body(self, path: str, start: int, end: int, extension: int) -> list[_Part] | None:
        body = None if self._carrier is None else x.TABLE[self._carrier].get(extension)
        if body is None or body.codec.kind == "empty" or (body.codec.kind == "opaque[rest]" and body not in ROOTS):
            return None
        if not (root := ROOTS.get(body, "")):
            return self._inside(body.codec, path, start, end)
        spans = _decoded(body.codec, self._raw, start, end, f"{path}.{root}")
        return None if spans is None else [part for node in _tree(spans) for part in self.part(node)]

    def _inside(self, codec: Codec[Any], path: str, start: int, end: int) -> list[_Part] | None:
        """Return the fields of a structure that stands in a part which is there already; None if it is not one."""
        spans = _decoded(codec, self._raw, start, end, path)
        return None if spans is None else [part for node in _tree(spans[1:]) for part in self.part(node)]

    def _about(self, path: str) -> About:
        generic = _INDEX.sub("[]", path)
        body = _BODY.match(generic)
        key = generic if body is None else generic[body.end() :]
        own = ABOUT.get(f"{self._message}.{key}") if body is None else None
        return own or ABOUT.get(key, UNKNOWN)

    def _extension(self, code: int, about: About) -> About:
        if is_grease(code):
            return GREASE
        body = None if self._carrier is None else x.TABLE[self._carrier].get(code)
        told = EXTENSIONS.get(code)
        meaning = "An extension that Pellucid does not look into." if told is None else f"{told[0].upper()}{told[1:]}."
        return about._replace(meaning=meaning, rfc=about.rfc if body is None else body.rfc)

    def _value(self, node: _Node, about: About) -> str:
        value = node.span.value
        if isinstance(value, Extension):
            return _named(extension_name, value.extension_type)
        if isinstance(value, x.KeyShareEntry):
            return _named(group_name, value.group)
        if isinstance(value, CertificateEntry):
            return certificate_name(value.cert_data)
        if isinstance(value, x.ServerName):
            return text(value.host_name)
        listed = len(value) if isinstance(value, tuple) else sum(one.span.path.endswith("]") for one in node.children)
        if listed or isinstance(value, tuple):
            return f"{listed} {'entry' if listed == 1 else 'entries'}"
        if isinstance(value, (int, bytes)) and not isinstance(value, bool) and about.show is not None:
            return about.show(value)
        if isinstance(value, int):
            return str(value)
        if isinstance(value, bytes):
            return _count(value)
        return f"{node.span.end - node.span.start} bytes"


def _count(data: bytes) -> str:
    return _bytes(len(data))


def _bytes(count: int) -> str:
    return f"{count} byte{'' if count == 1 else 's'}"


def _named(name: Callable[[int], str], code: int) -> str:
    told = name(code)
    number = f"0x{code:04x}"
    return told if number in told else f"{told} ({number})"


def _of_der(der: DerPart, path: str, base: int) -> _Part:
    inner = [_of_der(one, f"{path}.{der.name}", base) for one in der.parts]
    about = About(der.meaning, der.rfc)
    return _Part(f"{path}.{der.name}", base + der.start, base + der.end, der.value, about, inner)
