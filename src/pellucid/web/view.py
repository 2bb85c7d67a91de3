"""What the page shows of one connection, as data: between whoever serves it and whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pellucid.explain.recorder import Recorder

__all__ = ["STATIC", "Action", "Exchange", "Link", "View"]

STATIC: Final = Path(__file__).with_name("static")
"""The folder of page.css and page.js, which the page refers to as STATIC_PATH and their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A button. name: for programs; url: where its form goes, by *method*; note: one sentence on what it does."""

    name: str
    label: str
    url: str
    method: str = "POST"
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Something to download. note: what it is good for."""

    label: str
    url: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The HTTP exchange that the page came with.

    protocol: "HTTP/1.1", "HTTP/2". request, response: the first line; the headers follow it, as (name, value).
    """

    protocol: str
    request: str
    request_headers: tuple[tuple[str, str], ...] = ()
    response: str = ""
    response_headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything the page shows about one connection.

    recorder: what either end recorded; which one it was is found in its events.
    reveal:   whether secrets stand in the page: only for the very connection that asks.
    live:     URL of the event stream, None for a page that does not change.
    assets:   where page.css and page.js are served, with a slash at the end.
    now:      seconds since 1970, for the dates of certificates; None: the provider's clock.
    """

    recorder: Recorder
    reveal: bool = False
    exchange: Exchange | None = None
    actions: tuple[Action, ...] = ()
    links: tuple[Link, ...] = ()
    live: str | None = None
    assets: str = "/static/"
    now: float | None = None
