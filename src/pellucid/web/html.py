"""HTML that is escaped by construction: elements are made of text, which is escaped, and of markup, which is made here.

    section = h("p", {"class": "note"}, "5 < 6 ", h("b", "indeed"))

Whatever a peer sent is a str and can therefore not become markup. There is no way to write an event handler or a style.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from pellucid.errors import InternalError
from pellucid.explain.text import escaped

__all__ = ["EMPTY", "Attributes", "Child", "Markup", "h", "joined", "raw"]


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | int | Iterable[Child] | None"
Attributes = Mapping[str, "str | int | bool | None"]

EMPTY: Final = Markup("")
_VOID: Final = frozenset({"br", "hr", "input", "link", "meta", "wbr"})
_MULTILINE: Final = str.maketrans(dict.fromkeys((*range(9), *range(11, 32), *range(0x7F, 0xA0)), "\ufffd"))


def h(name: str, *content: Child | Attributes) -> Markup:
    """Return the element *name*. content: at most one mapping of attributes, first; then what is in it.

    An attribute that is None or False is left out, one that is True has no value. A URL is http(s) or a path.
    """
    attributes: Attributes = {}
    if content and isinstance(content[0], Mapping):
        attributes, content = content[0], content[1:]
    inner = joined(content)
    head = f"<{name}{''.join(map(_attribute, attributes.items()))}>"
    return Markup(head if name in _VOID else f"{head}{inner}</{name}>")


def joined(content: Child) -> Markup:
    """Return *content* as one piece of markup, text escaped."""
    if isinstance(content, Markup):
        return content
    if content is None:
        return EMPTY
    if isinstance(content, int):
        return Markup(content)
    if isinstance(content, str):
        return Markup(html.escape(content.translate(_MULTILINE), quote=False))
    return Markup("".join(map(joined, content)))


def raw(trusted: str) -> Markup:
    """Return *trusted*, a constant of ours or a file of ours, as markup."""
    return Markup(trusted)


def _attribute(attribute: tuple[str, str | int | bool | None]) -> str:
    name, value = attribute
    if name.startswith("on") or name == "style":
        raise InternalError(f"no page of ours has an attribute {name}")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    if name in {"href", "src", "action"} and not str(value).startswith(("/", "#", "?", "https://", "http://")):
        raise InternalError(f"no page of ours links to {value!r}")
    return f' {name}="{html.escape(escaped(str(value)))}"'
