"""The page in a real browser: at every width and in both schemes it fits, can be read by all, and logs no error.

The pages are served from memory: no socket is opened, and whatever the page would ask of anybody else fails the test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pellucid.web.page import page
from pellucid.web.view import STATIC
from tests.support.gallery import view

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.program("chromium")

SITE = "https://pellucid.test"
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'"
)
KINDS = {".css": "text/css", ".js": "text/javascript"}
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


class Visit:
    """One page in a context of its own, and what it complained of."""

    def __init__(self, browser: Browser, name: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.tab = self.context.new_page()
        self.complaints: list[str] = []
        self.tab.on("console", lambda told: self.complaints.append(told.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.route("**/*", self._answer)
        self.name = name
        self.tab.goto(f"{SITE}/")

    def _answer(self, route: Any) -> None:
        path = route.request.url.removeprefix(SITE)
        headers = {"content-security-policy": POLICY}
        file = STATIC / path.rpartition("/")[2]
        if path == "/":
            route.fulfill(body=page(view(self.name)), content_type="text/html", headers=headers)
        elif path.startswith("/static/") and file.suffix in KINDS:
            route.fulfill(body=file.read_text(encoding="utf-8"), content_type=KINDS[file.suffix], headers=headers)
        elif path == "/favicon.ico":
            route.fulfill(status=204)
        else:
            self.complaints.append(f"the page asks for {route.request.url}")
            route.abort()

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []


@pytest.mark.parametrize(
    "name", ["refused", *(pytest.param(one, marks=pytest.mark.slow) for one in ("resumed", "full"))]
)
def test_page_has_no_serious_finding_of_axe(browser: Browser, name: str) -> None:
    """The shortest page; a full one, which takes ten times as long, is looked at in test_web_browser and in a soak."""
    from axe_playwright_python.sync_playwright import Axe

    visit = Visit(browser, name, viewport=DESK)
    # One of each kind is opened: all of them are thousands of elements, and alike.
    visit.tab.evaluate(
        """() => { for (const kind of [".bytes", ".work details", ".key details", ".offer details", ".card details",
            ".layer-http details", ".machines details"]) { const one = document.querySelector(kind);
            if (one) one.open = true; } }"""
    )
    brief = {"resultTypes": ["violations"]}
    found = Axe().run(visit.tab, options=brief).response["violations"]
    visit.tab.emulate_media(color_scheme="dark")
    colours = {**brief, "runOnly": {"type": "rule", "values": ["color-contrast"]}}
    found += Axe().run(visit.tab, options=colours).response["violations"]
    told = [(one["id"], one["impact"], [node["target"] for node in one["nodes"][:3]]) for one in found]
    visit.close()
    assert told == []


@pytest.mark.parametrize("size", [PHONE, {"width": 390, "height": 844}, DESK], ids=["360", "390", "1280"])
def test_page_never_scrolls_sideways_even_when_all_is_open(browser: Browser, size: dict[str, int]) -> None:
    visit = Visit(browser, "full", viewport=size)
    visit.tab.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    widths = visit.tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    visit.close()
    assert widths[0] <= widths[1] == size["width"]


def test_page_is_whole_without_javascript(browser: Browser) -> None:
    visit = Visit(browser, "full", viewport=PHONE, java_script_enabled=False)
    summary = visit.tab.locator("summary", has_text="Open ClientHello")
    summary.click()
    assert visit.tab.locator("li.msg", has_text="ClientHello").first.locator(".hex").is_visible()
    assert visit.tab.locator(".copy").count() == 0
    visit.close()


def test_a_field_and_its_bytes_light_up_together(browser: Browser) -> None:
    visit = Visit(browser, "full", viewport=DESK, reduced_motion="reduce")
    tab = visit.tab
    tab.locator("summary", has_text="Open ClientHello").click()
    octets = tab.locator(".octets").first
    octets.locator("tr", has_text="legacy_version").first.hover()
    assert octets.locator(".hex .hot").all_inner_texts() == ["03 03 "]
    octets.locator('.hex [data-f="0"]').hover()
    assert octets.locator("tr.hot .fieldname").all_inner_texts() == ["msg_type"]
    # By keyboard: the first row takes the focus, arrows go on.
    octets.locator("tbody tr").first.focus()
    tab.keyboard.press("ArrowDown")
    assert octets.locator("tr.hot .fieldname").all_inner_texts() == ["length"]
    assert octets.locator(".hex .hot").count() == 1
    assert octets.locator('tbody tr[tabindex="0"]').count() == 1
    visit.close()


def test_a_node_of_the_drawing_opens_its_python(browser: Browser) -> None:
    visit = Visit(browser, "full", viewport=DESK, reduced_motion="reduce")
    visit.tab.locator('svg [data-node="key-main-secret"] > rect').first.click()
    opened = visit.tab.locator("details#key-main-secret")
    assert opened.get_attribute("open") is not None
    assert opened.locator(".copy").is_visible()
    assert "main_secret = hmac.digest(" in opened.locator("pre.code").inner_text()
    visit.close()
