"""Answers over HTTP: the headers that all of them have, what a client prefers, and whether a form is our own page's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from pellucid.web.html import h, joined
from pellucid.web.view import STATIC

__all__ = ["HTML", "JSON", "TEXT", "Answer", "asset", "headers_of", "is_own", "notice", "preferred", "send_answer"]

HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"

_ASSETS: Final = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
)
_MAX_HEADER: Final = 1024  # of Accept and its kin, in characters: what is beyond is not read


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer. It is never stored, unless *headers* say otherwise: it speaks of one connection."""

    status: int = 200
    content_type: str = TEXT
    body: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @classmethod
    def of(cls, body: str, content_type: str = TEXT, status: int = 200, **headers: str) -> Answer:
        """Return an answer whose body is text. headers: with "_" for "-"."""
        named = tuple((name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items())
        return cls(status=status, content_type=content_type, body=body.encode(), headers=named)

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """Return every header of the answer."""
        stored = any(name == b"cache-control" for name, _ in self.headers)
        return [
            (b"content-type", self.content_type.encode()),
            (b"content-length", b"%d" % len(self.body)),
            *(() if stored else ((b"cache-control", b"no-store"),)),
            *_ALWAYS,
            *self.headers,
        ]


async def send_answer(send: Any, answer: Answer, *, head: bool = False) -> None:  # Any: ASGI's callables
    """Send *answer*; without its body if *head*."""
    headers = answer.all_headers()
    if answer.status in {204, 304}:
        headers = [(name, value) for name, value in headers if name not in {b"content-length", b"content-type"}]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


def headers_of(scope: Any) -> dict[str, str]:  # Any: ASGI's dictionaries
    """Return the request's headers by lower-case name; of one that is repeated, all values with commas between."""
    found: dict[str, str] = {}
    for name, value in scope.get("headers") or ():
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


def preferred(accept: str | None) -> str:
    """Return HTML, JSON or TEXT (RFC 9110 §12.5.1). Browsers name text/html; curl takes anything, and gets text."""
    weights: dict[str, float] = {}
    for part in (accept or "*/*")[:_MAX_HEADER].split(","):
        kind, _, parameters = part.partition(";")
        weights[kind.strip().lower()] = _weight(parameters)
    named = {HTML: weights.get("text/html", 0.0), JSON: weights.get(JSON, 0.0), TEXT: weights.get("text/plain", 0.0)}
    best = max(named, key=lambda kind: named[kind])
    return best if named[best] > 0 else TEXT


def _weight(parameters: str) -> float:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(max(float(value.strip()), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def is_own(headers: Mapping[str, str]) -> bool:
    """Whether a request that changes something was made by our own page, or by no browser.

    Browsers say where a request comes from (Sec-Fetch-Site), older ones by whose page (Origin); neither can be forged
    by another site's page.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        parts = urlsplit(origin[:_MAX_HEADER])
    except ValueError:
        return False
    return parts.scheme == "https" and parts.netloc.lower() == headers.get("host", "").lower() != ""


def asset(name: str, if_none_match: str | None) -> Answer | None:
    """Return page.css or page.js, or None. They are the same for everybody, and asked for again each time."""
    if name not in _ASSETS:
        return None
    body = STATIC.joinpath(name).read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = ((b"cache-control", b"no-cache"), (b"etag", tag.encode()))
    if if_none_match is not None and tag in if_none_match[:_MAX_HEADER]:
        return Answer(status=304, headers=headers)
    return Answer(content_type=_ASSETS[name], body=body, headers=headers)


def notice(kind: str, status: int, title: str, *paragraphs: str, alone: bool = False, **headers: str) -> Answer:
    """Return a short page that says why there is no other. kind: HTML, or anything else for text.

    alone: it asks for no style sheet, for the connection ends with it.
    """
    if kind != HTML:
        return Answer.of("\n\n".join((title, *paragraphs)) + "\n", TEXT, status, **headers)
    head = h(
        "head",
        h("meta", {"charset": "utf-8"}),
        h("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        h("meta", {"name": "color-scheme", "content": "light dark"}),
        h("title", title),
        None if alone else h("link", {"rel": "stylesheet", "href": "/static/page.css"}),
    )
    told = [h("p", one) for one in paragraphs]
    if status != 501:
        told.append(h("p", h("a", {"href": "/"}, "To the page of your connection")))
    body = h("body", h("main", {"class": "notice"}, h("p", {"class": "brand"}, "Pellucid"), h("h1", title), told))
    return Answer.of(f"<!doctype html>\n{joined(h('html', {'lang': 'en'}, head, body))}", HTML, status, **headers)
