"""The page as HTML."""

from __future__ import annotations

from typing import Final, NamedTuple

from pellucid.explain.sentences import describe
from pellucid.trace import RecordTraced
from pellucid.web.html import Markup, h, joined
from pellucid.web.view import View

__all__ = ["Fragment", "fragment", "page"]

_DOCTYPE: Final = "<!doctype html>\n"


class Fragment(NamedTuple):
    """What happened since: rows to add to the lanes, "" for none; position: up to which event they tell."""

    html: str
    position: int


def page(view: View, *, standalone: bool = False) -> str:
    """Return the whole document. standalone: with its style inside, to be saved as one file."""
    lanes = h("ol", {"id": "lanes", "data-live": view.live, "data-position": len(view.recorder)}, _rows(view, 0))
    actions = [
        h("form", {"action": one.url, "method": one.method}, h("button", one.label), one.note) for one in view.actions
    ]
    links = h("ul", [h("li", h("a", {"href": link.url}, link.label), " ", link.note) for link in view.links])
    body = h("main", h("h1", "Your connection"), actions, lanes, links)
    head = h("head", h("meta", {"charset": "utf-8"}), h("title", "Your connection, step by step"))
    return _DOCTYPE + h("html", {"lang": "en"}, head, h("body", body))


def fragment(view: View, since: int) -> Fragment:
    """Return the rows of the lanes that tell of the events from number *since* on (`data-position` of the page's list).

    Records of application data are not told of: the stream that carries the fragments is made of them.
    """
    return Fragment(_rows(view, since), len(view.recorder))


def _rows(view: View, since: int) -> Markup:
    events = view.recorder.events[since:]
    return joined([h("li", describe(event)) for event in events if not isinstance(event, RecordTraced)])
