"""Fixtures for every room: the three ways that bytes arrive, and pairs of ends that they pass between."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable

import pytest
from hypothesis import settings

from tests.support.needs import need
from tests.support.pair import CHUNKINGS, Chunking, Pair

# How long an example takes says more of what else the machine does than of the example; CI's own profile has no
# deadline either. What is to be quick is measured by bench/.
settings.register_profile("pellucid", settings(), deadline=None)
settings.load_profile("pellucid")


def pytest_collection_finish() -> None:
    """Spare the tests that collect garbage the 400,000 objects of twelve thousand tests: 0.2 s each time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Hypothesis, where nobody has imported it before the summary, looks for who refers to what."""
    gc.unfreeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail in CI, which installs it, where a program that the test needs is missing; elsewhere skip with the reason."""
    for mark in item.iter_markers("program"):
        (name,) = mark.args
        need(None if shutil.which(name) is not None else f"the program {name} is not installed")


@pytest.fixture(params=CHUNKINGS.values(), ids=[name.replace(" ", "-") for name in CHUNKINGS])
def chunking(request: pytest.FixtureRequest) -> Chunking:
    """As sent, one byte at a time, all at once: every handshake test runs three ways."""
    way: Chunking = request.param
    return way


@pytest.fixture
def pair(chunking: Chunking) -> Pair:
    """A client and a server that have not spoken yet."""
    return Pair.of(chunking=chunking)


@pytest.fixture
def handshake(chunking: Chunking) -> Callable[..., Pair]:
    """Call with the arguments of `Pair.of`: both ends, after a complete handshake."""

    def connect(*arguments: object, **keywords: object) -> Pair:
        return Pair.of(*arguments, chunking=chunking, **keywords).connect()  # type: ignore[arg-type]

    return connect
