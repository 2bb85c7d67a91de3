"""What happens after the page was loaded, as Server-Sent Events: on the connection the page is of, and on no other.

rows     id: how far it tells; data: HTML to add to the page's lanes
section  data: HTML, a section of the page that takes the place of the one with its id: the keys, the states
another  data: a sentence. The browser opened another connection for the stream, of which the page does not tell.
end      data: a sentence. Nothing more will come: this connection is about to close.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from pellucid.integrations.asgi import LiveRecorder, OwnConnection
from pellucid.web.answers import TEXT, Answer, send_answer
from pellucid.web.html import Markup
from pellucid.web.page import Fragment, changed_sections, fragment
from pellucid.web.view import View

__all__ = ["MAX_STREAMS", "stream"]

MAX_STREAMS: Final = 4
"""of one connection, at a time"""
_BEAT_SECONDS: Final = 15.0
_GATHER_SECONDS: Final = 0.05  # what comes within is told at once
_ANEW_SECONDS: Final = 1.0  # from one drawing of whole sections to the next
_STREAM_SECONDS: Final = 900.0  # then the browser asks for the stream anew
_ANOTHER: Final = (
    "Your browser opened another connection for what happens next. This page tells of the first one alone."
)
_RETIRED: Final = "This connection is about to close: the next request takes a new one."


async def stream(
    view: Callable[[], View],
    own: OwnConnection,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    receive: Any,  # Any: ASGI's callables
    send: Any,
) -> None:
    """Answer with the stream of events, until either end has had enough. view: what there is to show by now."""
    if own.streams >= MAX_STREAMS:
        await send_answer(send, Answer.of("there are too many streams on this connection\n", TEXT, 429))
        return
    own.streams += 1
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STREAM_SECONDS):
                await _stream(view, own, query, headers, receive, send)
    finally:
        own.streams -= 1


async def _stream(
    view: Callable[[], View],
    own: OwnConnection,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    receive: Any,
    send: Any,
) -> None:
    start = Answer(content_type="text/event-stream").all_headers()
    start = [(name, value) for name, value in start if name != b"content-length"]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    if query.get("connection") != own.id:
        await _tell(send, _event("another", _ANOTHER), more=False)
        return
    loaded = _number(query.get("since"), len(view().recorder))
    since = _number(headers.get("last-event-id"), loaded)
    # A stream that is taken up again knows which rows the page has; of its sections, what it had when it was loaded.
    anew = _Anew(loaded)
    async with _waiting(own, receive) as wait:
        await _tell(send, b": the rest of the story\n\n")
        while not own.retired:
            async with own.turns.turn() as granted:
                shown = view()
                told = fragment(shown, since) if granted else Fragment("", since)
                sections = anew.draw(shown) if granted else ()
            since = told.position
            if told.html:
                await _tell(send, _event("rows", told.html, since))
            for section in sections:
                await _tell(send, _event("section", section))
            overdue = anew.due_in(shown)
            if not await wait(_BEAT_SECONDS if overdue is None else overdue):
                return
            await asyncio.sleep(_GATHER_SECONDS)
            # What keeps the connection open through proxies would fill the record of a page that nobody looks at:
            # comments are sent after silence alone.
            if overdue is None and len(view().recorder) == since and not own.retired:
                await _tell(send, b": still here\n\n")
    await _tell(send, _event("end", _RETIRED), more=False)


class _Anew:
    """The page's sections that change with its connection. They are long: drawn anew they are once in a while alone."""

    def __init__(self, since: int) -> None:
        self._since = since
        self._next = 0.0
        self._told: frozenset[int] = frozenset()

    def draw(self, view: View) -> tuple[Markup, ...]:
        """Return the sections that have changed since they were last returned, none before it is time."""
        now = time.monotonic()
        if now < self._next:
            return ()
        drawn = changed_sections(view, self._since)
        self._since = len(view.recorder)
        if not drawn:
            return ()
        self._next = now + _ANEW_SECONDS
        before, self._told = self._told, frozenset(map(hash, drawn))
        return tuple(section for section in drawn if hash(section) not in before)

    def due_in(self, view: View) -> float | None:
        """Return the seconds until it is time for what came too early to be drawn, None where nothing did."""
        if len(view.recorder) == self._since:
            return None
        return max(0.0, self._next - time.monotonic())


@contextlib.asynccontextmanager
async def _waiting(own: OwnConnection, receive: Any) -> AsyncIterator[Callable[[float], Any]]:
    """Give a function that waits for news or for so many seconds, and returns whether the client is still there."""
    news = asyncio.Event()
    gone = asyncio.Event()

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        gone.set()
        news.set()

    async def wait(seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()
        news.clear()
        return not gone.is_set()

    listening = asyncio.ensure_future(listen())
    recorder = own.recorder
    unsubscribe = recorder.subscribe(news.set) if isinstance(recorder, LiveRecorder) else None
    try:
        yield wait
    finally:
        if unsubscribe is not None:
            unsubscribe()
        listening.cancel()


async def _tell(send: Any, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


def _event(name: str, data: str, number: int | None = None) -> bytes:
    identity = "" if number is None else f"id: {number}\n"
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{identity}{lines}\n".encode()


def _number(*candidates: str | int | None) -> int:
    """Return the first of *candidates* that is a number of at most nine digits."""
    for one in candidates:
        if isinstance(one, int):
            return one
        if one is not None and one.isascii() and one.isdigit() and len(one) <= 9:
            return int(one)
    return 0
