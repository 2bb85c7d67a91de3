"""A pytest plugin: peers that misbehave on purpose, as fixtures. `pip install pellucid` is all that it needs.

It stands beside the package, not in it: pytest loads it in every run, and whoever uses no fixture of it must not wait
for a TLS stack, nor have it imported before coverage is measured. Nothing of pellucid is imported until then.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pellucid.testing.ca import CA
    from pellucid.testing.faults import FaultyClient, FaultyServer

__all__ = ["broken_client", "broken_server", "tls_ca"]


@pytest.fixture
def broken_server() -> Iterator[Callable[..., FaultyServer]]:
    """Call with a fault's name: a server on this machine that commits it until the test is over.

    Its `address`, `port`, `host`, `url`, `ca_pem` and `client_config` are what a client needs; `alerts` is what clients
    said. `pellucid serve --fault list` shows the names. More arguments are those of `FaultyServer`.
    """
    faults = importlib.import_module("pellucid.testing.faults")
    with contextlib.ExitStack() as servers:
        yield lambda name, **options: servers.enter_context(faults.FaultyServer(name, **options))


@pytest.fixture
def broken_client() -> Iterator[Callable[..., FaultyClient]]:
    """Call with a fault's name: a client that commits it against whom it is sent to, by `run` or `start`.

    `ca_pem` is the CA of its certificate. More arguments are those of `FaultyClient`.
    """
    faults = importlib.import_module("pellucid.testing.faults")
    with contextlib.ExitStack() as clients:
        yield lambda name, **options: clients.enter_context(faults.FaultyClient(name, **options))


@pytest.fixture(scope="session")
def tls_ca() -> CA:
    """A certificate authority for this run: `issue("localhost")` makes a leaf, `trust` and `root_pem` believe it."""
    ca: CA = importlib.import_module("pellucid.testing.ca").CA("Certificate authority of the tests")
    return ca
