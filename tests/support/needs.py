"""What a test needs of the machine: where it is missing it fails in CI, which installs it, and skips elsewhere."""

from __future__ import annotations

import importlib.util
import os

import pytest


def need(missing: str | None) -> None:
    """Fail in CI, and skip elsewhere, if something is *missing*; None: nothing is."""
    if missing is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI installs what the tests need: {missing}", pytrace=False)
    pytest.skip(missing)


def need_module(name: str) -> None:
    """The same for a module that an extra, or nothing but the tests, brings."""
    need(None if importlib.util.find_spec(name) is not None else f"{name} is not installed")
