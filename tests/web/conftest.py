"""The browser of a module's tests: to start one takes long.

Not of all modules: while Playwright runs it holds the thread's event loop, and others have one of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.needs import need_module
from tests.web.screenshots import options

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need_module("playwright")
    need_module("axe_playwright_python")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(**options())
        yield found
        found.close()
