"""Chromium over Pellucid, HTTP/2: the page is of that browser's own connection, and everything on it works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pellucid.explain.recorder import Recorder
from pellucid.registry import HandshakeType
from pellucid.trace import HandshakeCompleted, MessageTraced, SecretDerived
from pellucid.web.downloads import KINDS
from tests.web.running import RecordingProxy, RunningPage
from tests.web.screenshots import DESKTOP, PHONE
from tests.web.wire_ja4 import client_hello, is_grease, ja4

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.program("chromium")

TIMEOUT_MS = 15_000


@pytest.fixture(scope="module")
def running() -> Iterator[RunningPage]:
    with RunningPage() as server:
        yield server


class Visitor:
    """A browser profile of its own, and a page in it that must say nothing on its console."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("console", lambda message: self._console(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def secrets(self) -> dict[str, str]:
        """Return the secrets that the page shows, by name."""
        return dict(
            self.page.evaluate("""() => [...document.querySelectorAll("li.key")].map(key =>
            [key.querySelector(".keyname").textContent, key.querySelector("code.secret").textContent])""")
        )

    @property
    def connection(self) -> str:
        live = self.page.locator("#lanes").get_attribute("data-live") or ""
        return live.partition("connection=")[2].partition("&")[0]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Any]:
    """Call with the options of a browser profile; nothing may be on the console of its page in the end."""
    opened: list[tuple[BrowserContext, Visitor]] = []

    def start(**options: Any) -> Visitor:
        context = browser.new_context(**options)
        opened.append((context, Visitor(context)))
        return opened[-1][1]

    yield start
    for context, _ in opened:
        context.close()
    assert [visitor.complaints for _, visitor in opened] == [[] for _ in opened]


def of_type(recorder: Recorder, number: int) -> list[MessageTraced]:
    return [event for event in recorder.of(MessageTraced) if event.message_type == number]


def recorder_of(running: RunningPage, visitor: Visitor) -> Recorder:
    """Return the recorder of the connection whose ClientHello is on the page."""
    shown = visitor.page.locator("li.msg .hex").first.text_content() or ""
    return next(one for one in running.recorders if of_type(one, 1) and of_type(one, 1)[0].raw.hex(" ") in shown)


def test_client_hello_is_the_browser_s_own_and_its_messages_open(running: RunningPage, visit: Any) -> None:
    with RecordingProxy(running.port) as proxy:
        visitor = visit(viewport=DESKTOP)
        page = visitor.page
        page.goto(proxy.url)
        assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        shown = page.locator("li.msg .hex").first.text_content()
        # A browser opens connections ahead, which have said nothing yet.
        hellos = [client_hello(bytes(stream)) for stream in proxy.streams if stream]
        (hello,) = [one for one in hellos if one.message.hex(" ") == shown.strip()]
        assert page.locator("#ja4").text_content() == ja4(hello)
        assert any(is_grease(kind) for kind, _ in hello.extensions)

        recorder = recorder_of(running, visitor)
        messages = recorder.of(MessageTraced)
        opening = page.locator("li.msg details.bytes")
        assert opening.count() == len(messages) >= 7
        for index, message in enumerate(messages):
            details = opening.nth(index)
            assert not details.locator(".hex").is_visible()
            details.locator("summary").click()
            assert details.locator(".hex").is_visible()
            assert (details.locator(".hex").text_content() or "").split() == message.raw.hex(" ").split()
            assert details.locator("tbody tr").count() >= 2
        page.close()


RUN = """
import contextlib, io, json, sys
done = []
for code in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "snippet", "exec"), {"__name__": "__main__"})
    done.append(out.getvalue().strip())
json.dump(done, sys.stdout)
"""


def test_snippets_of_the_key_schedule_run_and_give_the_shown_values(running: RunningPage, visit: Any) -> None:
    visitor = visit(viewport=DESKTOP)
    visitor.page.goto(running.url)
    shown = visitor.secrets()
    code = visitor.page.evaluate("""() => [...document.querySelectorAll("li.key")].map(key =>
        key.querySelector("pre.code code").textContent)""")
    assert len(shown) == len(code) > 20
    # -I -S: the standard library alone
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", RUN], input=json.dumps(code), capture_output=True, text=True, timeout=30,
        check=True,
    )  # fmt: skip
    printed = json.loads(done.stdout)
    for (name, value), output in zip(shown.items(), printed, strict=True):
        assert value in output, name
    recorder = recorder_of(running, visitor)
    for secret in recorder.of(SecretDerived):
        assert shown[secret.name] == secret.secret.reveal().hex()


def test_two_browsers_never_see_each_other_s_secrets(running: RunningPage, visit: Any) -> None:
    visitors = [visit(), visit()]
    for visitor in visitors:
        visitor.page.goto(running.url)
    one, two = visitors
    shared = set(one.secrets().values()) & set(two.secrets().values())
    same = {name for name, value in one.secrets().items() if value in shared}
    # without a PSK the first stage is made of zeros, for everybody
    assert same <= {name for name in same if name == "early_secret" or "derived" in name}
    assert one.connection != two.connection
    for mine, theirs in ((one, two), (two, one)):
        secret = theirs.secrets()["client_application_traffic_secret_0"]
        assert secret not in mine.page.content()
        for path in ("/", *(f"/connection.{kind}" for kind in KINDS)):
            status, text = mine.page.evaluate(
                "async url => { const a = await fetch(url); return [a.status, await a.text()]; }",
                f"{path}?connection={theirs.connection}",
            )
            assert status == 409, path
            assert secret not in text
        text = mine.page.evaluate("async url => (await fetch(url)).text()", f"/events?connection={theirs.connection}")
        assert text.startswith("event: another\n")
        mine.complaints[:] = [one for one in mine.complaints if "409" not in one]


def test_key_update_appears_while_the_page_is_open(running: RunningPage, visit: Any) -> None:
    from playwright.sync_api import expect

    visitor = visit()
    page = visitor.page
    page.goto(running.url)
    before = page.url
    page.get_by_role("button", name="Change the keys").click()
    rows = page.locator("#lanes li.msg", has_text="KeyUpdate")
    expect(rows).to_have_count(2, timeout=TIMEOUT_MS)
    assert page.url == before
    page.locator("form[data-action='key-update'] a").click()  # the rows are far below the button
    expect(page.locator("#layer-since")).to_be_in_viewport()
    rows.first.locator("summary").click()
    recorder = recorder_of(running, visitor)
    sent, received = of_type(recorder, HandshakeType.KEY_UPDATE)
    assert rows.first.locator(".hex").text_content().split() == sent.raw.hex(" ").split()
    assert received.raw[-1] == 0


def test_key_update_draws_keys_and_states_anew_and_disturbs_no_reader(running: RunningPage, visit: Any) -> None:
    from playwright.sync_api import expect

    visitor = visit(viewport=DESKTOP, reduced_motion="reduce")
    page = visitor.page
    page.goto(running.url)
    opened = "key-client-application-traffic-secret-0"
    page.locator(f"#{opened} > summary").click()
    page.locator("#path-server > summary").click()
    page.locator(f"#{opened} .copy").focus()
    place = page.locator(f"#{opened}").bounding_box()
    # The button stands above, and pressing it takes the focus: a reader's second hand.
    page.evaluate("""async () => {
        const form = document.querySelector("form[data-action='key-update']");
        await fetch(form.action, {method: "POST", headers: {accept: "application/json"}});
    }""")
    for side in ("client", "server"):
        entry = page.locator(f"#key-{side}-application-traffic-secret-1")
        expect(entry).to_have_count(1, timeout=TIMEOUT_MS)
        expect(page.locator(f"#states-{side}-desc")).to_contain_text("KeyUpdate", timeout=TIMEOUT_MS)
    secrets = recorder_of(running, visitor).secrets
    shown = visitor.secrets()
    for name in ("client_application_traffic_secret_1", "server_application_traffic_secret_1"):
        assert shown[name] == secrets[name].reveal().hex()
    expect(page.locator("#waiting")).to_contain_text("drawn anew")
    assert page.locator(f"#{opened}").get_attribute("open") is not None
    assert page.locator("#path-server").get_attribute("open") is not None
    assert page.evaluate("document.activeElement.closest('details')?.id") == opened
    assert page.evaluate("document.activeElement.className") == "copy"
    now = page.locator(f"#{opened}").bounding_box()
    assert place
    assert now
    assert abs(now["y"] - place["y"]) < 2
    page.locator('svg [data-node="key-client-application-traffic-secret-1"] > rect').click()
    assert page.locator("#key-client-application-traffic-secret-1").get_attribute("open") is not None


def test_key_update_is_shown_where_the_stream_came_over_another_connection(running: RunningPage, visit: Any) -> None:
    from playwright.sync_api import expect

    page = visit().page
    page.route(
        "**/events?*",
        lambda route: route.fulfill(content_type="text/event-stream", body="event: another\ndata: Elsewhere.\n\n"),
    )
    page.goto(running.url)
    expect(page.locator("#waiting")).to_have_text("Elsewhere.", timeout=TIMEOUT_MS)
    page.get_by_role("button", name="Change the keys").click()
    expect(page.locator("#lanes li.msg", has_text="KeyUpdate")).not_to_have_count(0, timeout=TIMEOUT_MS)


def test_browser_resumes_and_tries_again_on_a_button(running: RunningPage, visit: Any) -> None:
    visitor = visit()
    page = visitor.page
    page.goto(running.url)
    first = visitor.connection
    page.get_by_role("button", name="Connect again and resume").click()
    page.wait_for_function(
        "first => document.querySelector('#lanes')?.dataset.live.includes(first) === false", arg=first
    )
    resumed = recorder_of(running, visitor)
    assert resumed.of(HandshakeCompleted)[0].resumed
    assert "pre_shared_key" in (page.locator("body").text_content() or "")
    assert page.locator("li.msg .name", has_text="CertificateVerify").count() == 0

    page.get_by_role("link", name="Connect with a HelloRetryRequest").click()
    page.wait_for_url(running.retry_url)
    names = page.locator("li.msg .name").all_text_contents()
    assert names.count("ClientHello") == 2
    assert names.count("HelloRetryRequest") == 1
    page.get_by_role("link", name="Connect without a retry").click()
    page.wait_for_url(running.url)


def test_page_works_without_javascript(running: RunningPage, visit: Any) -> None:
    from playwright.sync_api import expect

    visitor = visit(java_script_enabled=False, viewport=PHONE)
    page = visitor.page
    page.goto(running.url)
    details = page.locator("li.msg details.bytes").first
    details.locator("summary").click()
    assert details.locator(".hex").is_visible()
    page.get_by_role("button", name="Change the keys").click()
    expect(page.locator("#lanes li.msg", has_text="KeyUpdate")).not_to_have_count(0, timeout=TIMEOUT_MS)
    page.get_by_role("button", name="Connect again and resume").click()
    expect(page.locator("li.msg .name", has_text="CertificateVerify")).to_have_count(0, timeout=TIMEOUT_MS)


# One of each that opens, and the shortest message: to look at the colours of each byte takes long.
OPEN = """() => {
    const messages = [...document.querySelectorAll("details.bytes")];
    messages.sort((one, other) => one.querySelectorAll("*").length - other.querySelectorAll("*").length);
    const others = ["li.work details", "li.key details", ".ja4 details", "#states details"];
    for (const one of [messages[0], ...others.map((what) => document.querySelector(what))]) if (one) one.open = true;
}"""


def serious(page: Page, *rules: str) -> list[object]:
    """Return what axe finds that stands in somebody's way. rules: alone; none: all."""
    from axe_playwright_python.sync_playwright import Axe

    chosen = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    return [
        (one["impact"], one["id"], one["help"], [node["html"][:150] for node in one["nodes"][:3]])
        for one in Axe().run(page, options={"resultTypes": ["violations"], **chosen}).response["violations"]
        if one["impact"] in {"serious", "critical"}
    ]


def test_nothing_serious_stands_in_anybody_s_way(running: RunningPage, visit: Any) -> None:
    page = visit(viewport=DESKTOP).page
    page.goto(running.url)
    page.evaluate(OPEN)
    assert serious(page) == []
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    assert serious(page, "color-contrast", "target-size", "scrollable-region-focusable") == []
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1], "the page scrolls sideways"


@contextmanager
def downloaded(page: Page, kind: str) -> Iterator[Any]:
    with page.expect_download() as waiting:
        page.locator(f'a[href^="/connection.{kind}?"]').click()
    yield waiting.value.path()


@pytest.mark.program("tshark")
def test_downloads_open_elsewhere(running: RunningPage, visit: Any) -> None:
    page = visit(accept_downloads=True).page
    page.goto(running.url)
    with downloaded(page, "pcapng") as path:
        done = subprocess.run(
            ["tshark", "-r", path, "-Y", "http2.headers.path", "-T", "fields", "-e", "http2.headers.path"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert "/" in re.split(r"[,\n]", done.stdout)
    with downloaded(page, "jsonl") as path, open(path, encoding="utf-8") as file:
        head, *events = [json.loads(line) for line in file]
        assert head["events"] == len(events) > 20
    with downloaded(page, "json") as path, open(path, encoding="utf-8") as file:
        assert json.load(file)["schema"] == 1
    with downloaded(page, "txt") as path, open(path, encoding="utf-8") as file:
        assert "ClientHello" in file.read()
