"""The ASGI application that serves a directory: GET and HEAD, ranges, conditions, listings. Nothing outside of it.

Served are regular files whose real path lies inside the root and has no hidden part; everything else is 404, so that
nobody learns what there is. Symbolic links are followed inside the root. `.well-known` is not hidden (RFC 8615).
"""

from __future__ import annotations

import asyncio
import hashlib
import html
import mimetypes
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote, unquote_to_bytes

__all__ = ["StaticFiles"]

Scope = MutableMapping[str, Any]  # Any: ASGI's dictionaries
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_CHUNK: Final = 2**18
_INDEX: Final = "index.html"
_VISIBLE: Final = ".well-known"
_TEXT: Final = frozenset({"application/javascript", "application/json", "application/xml", "image/svg+xml"})
_CONTENT_TYPES: Final = mimetypes.MimeTypes()  # the library's own table: what a machine adds to it is not asked
for _type, _suffix in (("text/javascript", ".js"), ("text/javascript", ".mjs"), ("application/wasm", ".wasm")):
    _CONTENT_TYPES.add_type(_type, _suffix)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a path leads to inside the root."""

    path: Path
    directory: bool


class StaticFiles:
    """Serves the directory *root*.

    listing:  whether a directory without index.html is listed.
    withheld: files that are not served wherever they lie: private keys, key logs. What is no file is passed over.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, listing: bool = True, withheld: Iterable[str | os.PathLike[str]] = ()
    ) -> None:
        self.root = Path(os.path.realpath(root))
        self._listing = listing
        self._withheld = tuple(withheld)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, send: Send) -> None:
        method = scope["method"]
        reply = _Reply(send, head=method == "HEAD")
        if method not in {"GET", "HEAD"}:
            await reply.text(405, "only GET and HEAD are answered here", [(b"allow", b"GET, HEAD")])
            return
        raw = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
        found = await asyncio.to_thread(self._find, raw.partition(b"?")[0])
        if found is None:
            await reply.text(404, "not found")
            return
        if not found.directory:
            await self._file(found.path, scope, reply)
            return
        if not raw.partition(b"?")[0].endswith(b"/"):
            # Encoded anew: nothing of the request stands in the header as it came. One slash, for two name a host.
            path = quote(unquote_to_bytes(raw.partition(b"?")[0]).strip(b"/"))
            query = quote(scope.get("query_string", b""), safe="%&=+/?:@,;~!$'()*-._")
            target = f"/{path}/{'?' if query else ''}{query}".encode("ascii")
            await reply.text(301, "it is a directory", [(b"location", target)])
            return
        index = await asyncio.to_thread(self._inside, found.path / _INDEX)
        if index is not None and not index.directory:
            await self._file(index.path, scope, reply)
        elif self._listing:
            page = await asyncio.to_thread(self._list, found.path)
            await reply.whole(
                200, page, [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-cache")]
            )
        else:
            await reply.text(404, "not found")

    # ---- what is served ------------------------------------------------------------------------------------------

    def _find(self, raw: bytes) -> _Found | None:
        """Return what the path of a URL leads to, None for whatever is not to be served."""
        path = self.root
        decoded = unquote_to_bytes(raw)
        if b"\0" in decoded or (os.sep != "/" and os.sep.encode() in decoded):
            return None
        for part in decoded.split(b"/"):
            name = os.fsdecode(part)
            if name in ("", "."):
                continue
            if name == ".." or _hidden(name) or (os.name == "nt" and ":" in name):
                return None
            path /= name
        found = self._inside(path)
        if found is not None and not found.directory and decoded.endswith(b"/"):
            return None
        return found

    def _inside(self, path: Path) -> _Found | None:
        """Return what *path* really is, if that lies inside the root and is not hidden."""
        try:
            real = Path(os.path.realpath(path, strict=True))
            parts = real.relative_to(self.root).parts
            status = real.stat()
        except (OSError, ValueError):  # not there, not readable, or not inside
            return None
        if any(_hidden(part) for part in parts):
            return None
        if stat.S_ISDIR(status.st_mode):
            return _Found(real, directory=True)
        if not stat.S_ISREG(status.st_mode) or self._is_withheld(status):
            return None
        return _Found(real, directory=False)

    def _is_withheld(self, status: os.stat_result) -> bool:
        """Return whether it is one of the files that are not served, by whatever name: they may be renewed."""
        for path in self._withheld:
            try:
                if os.path.samestat(status, os.stat(path)):
                    return True
            except (OSError, ValueError):  # it is not there at present, or no path at all
                continue
        return False

    def _list(self, directory: Path) -> bytes:
        """Return the page that lists *directory*: directories first, each by name; only what would be served."""
        try:
            names = sorted(os.listdir(directory))
        except OSError:  # it may be entered, not read
            names = []
        entries = [(name, self._inside(directory / name)) for name in names if not _hidden(name)]
        shown = sorted(((not found.directory, name) for name, found in entries if found is not None))
        where = "/" + "/".join(directory.relative_to(self.root).parts)
        title = f"Index of {html.escape(_printable(where))}"
        rows = [_row(name, is_file=is_file) for is_file, name in shown]
        if directory != self.root:
            rows.insert(0, '<li><a href="../">../</a></li>')
        lines = [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title></head>",
            f"<body><h1>{title}</h1><ul>",
            *rows,
            "</ul></body></html>",
        ]
        return ("\n".join(lines) + "\n").encode("utf-8")

    # ---- one file ------------------------------------------------------------------------------------------------

    async def _file(self, path: Path, scope: Scope, reply: _Reply) -> None:
        try:
            file, status = await asyncio.to_thread(_open, path)
        except OSError:  # removed since, made something else, or not ours to read
            await reply.text(404, "not found")
            return
        with file:
            request = {name.lower(): value for name, value in scope["headers"]}
            etag = _etag(status)
            headers: Headers = [
                (b"content-type", _content_type(path.name)),
                (b"last-modified", formatdate(status.st_mtime, usegmt=True).encode("ascii")),
                (b"etag", etag),
                (b"accept-ranges", b"bytes"),
                (b"cache-control", b"no-cache"),
                (b"x-content-type-options", b"nosniff"),
            ]
            if (code := _condition(request, etag, status.st_mtime)) is not None:
                await reply.whole(code, b"", headers)
                return
            size = status.st_size
            chosen = _range(request, etag, status.st_mtime, size)
            if chosen is None:
                await reply.file(200, file, 0, size, headers)
            elif not chosen:
                await reply.text(416, "that range is not in the file", [(b"content-range", b"bytes */%d" % size)])
            else:
                span = b"bytes %d-%d/%d" % (chosen.start, chosen.stop - 1, size)
                await reply.file(206, file, chosen.start, len(chosen), [*headers, (b"content-range", span)])


class _Reply:
    """Sends one response. head: leave the body out."""

    def __init__(self, send: Send, *, head: bool) -> None:
        self._send = send
        self._head = head

    async def text(self, status: int, sentence: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        await self.whole(status, f"{sentence}\n".encode(), [(b"content-type", b"text/plain; charset=utf-8"), *headers])

    async def whole(self, status: int, body: bytes, headers: Headers) -> None:
        length = [] if status == 304 else [(b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
        await self._send({"type": "http.response.body", "body": b"" if self._head else body})

    async def file(self, status: int, file: BinaryIO, start: int, size: int, headers: Headers) -> None:
        headers = [*headers, (b"content-length", b"%d" % size)]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        left = 0 if self._head else size
        if left and start:
            file.seek(start)
        while left:
            data = await asyncio.to_thread(file.read, min(_CHUNK, left))
            if not data:
                # The file has become shorter: the length that was announced cannot be kept.
                raise OSError(f"{file.name} was cut while it was sent")
            left -= len(data)
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{kind}.complete"})
        if kind == "shutdown":
            return


def _open(path: Path) -> tuple[BinaryIO, os.stat_result]:
    """Return the regular file at *path*, opened, with its status. Never waits, as for a pipe; OSError otherwise."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    file = open(descriptor, "rb", buffering=0)  # noqa: SIM115  # handed to the caller
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
    except OSError:
        file.close()
        raise
    return file, status


def _hidden(name: str) -> bool:
    return name.startswith(".") and name != _VISIBLE


def _printable(text: str) -> str:
    """Return a file name as text: bytes that are not UTF-8 as their escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _row(name: str, *, is_file: bool) -> str:
    slash = "" if is_file else "/"
    # "./" keeps a name with a colon from being read as a scheme.
    return f'<li><a href="./{quote(os.fsencode(name))}{slash}">{html.escape(_printable(name))}{slash}</a></li>'


def _content_type(name: str) -> bytes:
    kind, encoding = _CONTENT_TYPES.guess_type(name)
    if kind is None or encoding is not None:  # a .tar.gz is sent as what it is, not as a tar to be unpacked
        return b"application/octet-stream"
    charset = "; charset=utf-8" if kind.startswith("text/") or kind in _TEXT else ""
    return f"{kind}{charset}".encode("ascii")


def _etag(status: os.stat_result) -> bytes:
    seen = f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}".encode("ascii")
    return b'"%s"' % hashlib.sha256(seen).hexdigest()[:32].encode("ascii")


def _condition(request: dict[bytes, bytes], etag: bytes, modified: float) -> int | None:
    """Return 304 or 412 where a condition of the request says so (RFC 9110 §13.2.2), else None."""
    if (wanted := request.get(b"if-match")) is not None:
        if wanted.strip() != b"*" and etag not in _tags(wanted, weak=False):
            return 412
    elif (since := _moment(request.get(b"if-unmodified-since"))) is not None and int(modified) > since:
        return 412
    if (known := request.get(b"if-none-match")) is not None:
        return 304 if known.strip() == b"*" or etag in _tags(known, weak=True) else None
    since = _moment(request.get(b"if-modified-since"))
    return 304 if since is not None and int(modified) <= since else None


def _tags(value: bytes, *, weak: bool) -> list[bytes]:
    tags = [one.strip() for one in value.split(b",")]
    return [one.removeprefix(b"W/") for one in tags] if weak else tags


def _moment(value: bytes | None) -> float | None:
    """Return the time of an HTTP date, None if it is none."""
    if value is None:
        return None
    try:
        return parsedate_to_datetime(value.decode("latin-1")).timestamp()
    except (ValueError, TypeError, OverflowError):  # what is not a date is ignored (RFC 9110 §13.1.3)
        return None


def _range(request: dict[bytes, bytes], etag: bytes, modified: float, size: int) -> range | None:
    """Return the bytes asked for; None for the whole file, an empty range for one that is not in it (RFC 9110 §14).

    Several ranges, other units and what cannot be read are answered with the whole file, as is allowed.
    """
    value = request.get(b"range", b"").strip()
    unit, equals, spec = value.partition(b"=")
    first, dash, last = (part.strip() for part in spec.partition(b"-"))
    if unit.strip().lower() != b"bytes" or not equals or not dash or b"," in spec:
        return None
    if not all(part.isdigit() or not part for part in (first, last)) or not first + last or len(spec) > 64:
        return None
    guard = request.get(b"if-range", etag).strip()
    if guard != etag and (b'"' in guard or _moment(guard) != int(modified)):
        return None
    if not first:
        return range(max(0, size - int(last)), size)
    start, stop = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < int(first):
        return None
    return range(start, stop) if start < size else range(0)
