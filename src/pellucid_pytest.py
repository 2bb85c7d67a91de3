"""A pytest plugin: an HTTPS server, and peers that misbehave on purpose, as fixtures. It needs nothing but pellucid.

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
    from pellucid.testing.https_server import HttpsServer

__all__ = ["broken_client", "broken_server", "https_server", "tls_ca"]


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


@pytest.fixture
def https_server(tls_ca: CA) -> Iterator[Callable[..., HttpsServer]]:
    """Call with an ASGI or WSGI application, or a dictionary of pages: an HTTPS server until the test is over.

    Its certificate is by `tls_ca`. `url` is where it is; `client_context`, `client_config` and `ca_path` trust it;
    `requests` is what clients asked for. More arguments are those of `HttpsServer`.
    """
    server = importlib.import_module("pellucid.testing.https_server").HttpsServer
    with contextlib.ExitStack() as servers:
        yield lambda application, **options: servers.enter_context(server(application, **{"ca": tls_ca, **options}))


@pytest.fixture(scope="session")
def tls_ca() -> CA:
    """A certificate authority for this run: `issue("localhost")` makes a leaf, `trust` and `root_pem` believe it."""
    ca: CA = importlib.import_module("pellucid.testing.ca").CA("Certificate authority of the tests")
    return ca
