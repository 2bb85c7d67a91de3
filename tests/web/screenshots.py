"""Pictures of the live page in Chromium: desktop, phone, dark; whole, and open at what is behind a click.

python -m tests.web.screenshots FOLDER
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.web.running import RunningPage, spki

if TYPE_CHECKING:
    from playwright.sync_api import Page

DESKTOP: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 390, "height": 844}
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "desktop": {"viewport": DESKTOP},
    "phone": {"viewport": PHONE, "device_scale_factor": 2, "is_mobile": True, "has_touch": True},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "phone-dark": {
        "viewport": PHONE, "device_scale_factor": 2, "is_mobile": True, "has_touch": True, "color_scheme": "dark",
    },
}  # fmt: skip
_SLICE: Final = 2400
"""CSS pixels of one picture: what is longer is hard to look at."""
_OPEN: Final = """() => {
    for (const what of ["li.msg details.bytes", "li.work details", "li.key details", ".ja4 details", "#states details"])
        for (const one of [...document.querySelectorAll(what)].slice(0, 2)) one.open = true;
}"""


def options() -> dict[str, Any]:
    """Return how Chromium is launched: it takes the servers' key, and as root goes without its sandbox."""
    arguments = [f"--ignore-certificate-errors-spki-list={spki()}", "--disable-quic", "--no-proxy-server"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")
    return {"executable_path": shutil.which("chromium"), "args": arguments}


def main(folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with RunningPage() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(**options())
        for look, settings in LOOKS.items():
            page = browser.new_context(**settings).new_page()
            page.goto(server.url)
            page.get_by_role("button", name="Change the keys").click()
            page.wait_for_timeout(500)
            _shoot(page, folder, look)
            page.evaluate(_OPEN)
            _shoot(page, folder, f"{look}-open")
        page = browser.new_context(viewport=DESKTOP).new_page()
        page.goto(server.url)
        page.get_by_role("button", name="Connect again and resume").click()
        page.wait_for_timeout(800)
        _shoot(page, folder, "resumed", slices=2)
        page.goto(server.retry_url)
        _shoot(page, folder, "retried", slices=2)
        browser.close()


def _shoot(page: Page, folder: Path, name: str, *, slices: int = 6) -> None:
    """Take the page's first *slices* as they stand one below the other."""
    before = page.viewport_size
    width, height = page.evaluate("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
    page.set_viewport_size({"width": width, "height": _SLICE})
    for number in range(min(slices, -(-height // _SLICE))):
        page.evaluate("at => scrollTo({top: at, behavior: 'instant'})", number * _SLICE)
        page.screenshot(path=folder / f"{name}-{number + 1}.png")
    if before is not None:
        page.set_viewport_size(before)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots"))
