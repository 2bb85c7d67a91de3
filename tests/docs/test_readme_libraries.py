"""The README's lines for httpx2, urllib, aiohttp and requests, verbatim but for the host, against OpenSSL's server."""

from __future__ import annotations

import ast
import asyncio
import inspect
import urllib.request

import aiohttp
import httpx2
import pytest
import requests

import pellucid
from pellucid.integrations.requests import HTTPAdapter
from pellucid.trace import HandshakeCompleted
from tests.docs.test_readme import block
from tests.ecosystem.trial import Trial

PARTS = {part.split(".")[0].split()[-1]: part for part in block("create_default_context").split("\n\n")}
"""the name that each part begins with → the part"""
NAMES = {
    "aiohttp": aiohttp,
    "httpx2": httpx2,
    "pellucid": pellucid,
    "requests": requests,
    "urllib": urllib,
    "HTTPAdapter": HTTPAdapter,
}


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Trial:
    """A trial that watches every default context, with the root of its servers for the system's."""
    with Trial() as trial:
        make = pellucid.create_default_context
        monkeypatch.setattr(pellucid, "create_default_context", lambda: trial.watch(make()))
        monkeypatch.setenv("SSL_CERT_FILE", str(trial.ca_file))
        monkeypatch.delenv("SSL_CERT_DIR", raising=False)
        yield trial


def run(part: str, url: str) -> None:
    text = PARTS[part].replace("https://example.org/", url + "/")
    code = compile(text, "README", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(code, dict(NAMES))
    if inspect.iscoroutine(made):
        asyncio.run(asyncio.wait_for(made, 20))


def test_readme_has_the_four_libraries() -> None:
    assert list(PARTS) == ["httpx2", "urllib", "aiohttp", "requests"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # urlopen's answer is left open, for brevity
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("part", list(PARTS))
def test_readme_library_gets_a_page_over_pellucid(trial: Trial, part: str) -> None:
    server = trial.peers.https
    run(part, server.url)
    (done,) = trial.handshakes
    assert isinstance(done, HandshakeCompleted)
    assert done.server_name == "localhost"
    with trial.refuses(OSError, httpx2.ConnectError, notes=part != "httpx2"):
        run(part, server.wrong_url)
