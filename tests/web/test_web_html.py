"""HTML is escaped by construction, whatever stands in the text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import InternalError
from pellucid.web.html import h, joined, raw


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_text_is_escaped_and_markup_is_not() -> None:
    assert h("p", "5 < 6 & ", h("b", "7"), None, 8) == "<p>5 &lt; 6 &amp; <b>7</b>8</p>"
    assert joined(["<", ["<", raw("<hr>")]]) == "&lt;&lt;<hr>"


def test_attributes_are_escaped_and_left_out_when_there_is_no_value() -> None:
    made = h("input", {"value": "\"'><script>", "checked": True, "disabled": False, "id": None, "max": 3})
    assert made == '<input value="&quot;&#x27;&gt;&lt;script&gt;" checked max="3">'


@pytest.mark.parametrize("name", ["onclick", "onload", "style"])
def test_handlers_and_styles_cannot_be_written(name: str) -> None:
    with pytest.raises(InternalError):
        h("p", {name: "x"})


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", " /x", "JaVaScRiPt:x"])
def test_links_lead_to_paths_and_web_pages_alone(url: str) -> None:
    with pytest.raises(InternalError):
        h("a", {"href": url}, "x")
    assert h("a", {"href": "/x?a=1&b=2"}, "x") == '<a href="/x?a=1&amp;b=2">x</a>'


@given(st.text(), st.text())
def test_any_text_comes_back_as_text_and_makes_no_element(text: str, value: str) -> None:
    reader = _Reader()
    reader.feed(h("p", {"title": value}, text))
    reader.close()
    assert [tag for tag, _ in reader.tags] == ["p"]
    assert set(reader.tags[0][1]) == {"title"}
    printable = "".join(c for c in text if c.isprintable())
    assert "".join(c for c in reader.text if c.isprintable() and c != "\ufffd") == printable.replace("\ufffd", "")
