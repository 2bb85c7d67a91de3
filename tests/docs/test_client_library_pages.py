"""docs/libraries: the code of the pages about HTTP clients and event loops, run as it stands; and the matrix there."""

from __future__ import annotations

from pathlib import Path

import pytest
import websockets.sync.client

import tests.ecosystem.cells  # the rows  # noqa: F401
from tests.docs.test_server_and_protocol_pages import PAGES, Runs, blocks, run, serving, trial
from tests.ecosystem.cells.websocket import _served
from tests.ecosystem.matrix import ROWS
from tests.ecosystem.peers import fetched
from tests.ecosystem.report import as_markdown
from tests.ecosystem.trial import Trial

__all__ = ["run", "trial"]

HOST = "www.example.org"


@pytest.mark.parametrize(
    ("page", "printed"),
    [
        ("http-client", "200 b'hello over TLS\\n'"),
        ("urllib", "200 b'hello over TLS\\n'"),
        ("httpcore", "200"),
        ("urllib3", "200"),
        ("requests", "200"),
        ("httpx", "HTTP/2"),
    ],
)
def test_page_of_an_http_client_gets_a_page(trial: Trial, run: Runs, page: str, printed: str) -> None:
    server = trial.peers.h2 if page in {"httpx", "httpcore"} else trial.peers.https
    address = ((f'"{HOST}", 443', f'"localhost", {server.port}'),)
    if page != "http-client":
        address = ((f"https://{HOST}/", f"{server.url}/"),)
    for text in blocks(page):
        assert run(text, *address).strip() == printed


@pytest.mark.parametrize("page", ["asyncio", "anyio", "trio"])
def test_page_of_an_event_loop_reads_an_answer(trial: Trial, run: Runs, page: str) -> None:
    port = trial.peers.https.port
    said = run(blocks(page)[0], (f'"{HOST}", 443', f'"localhost", {port}'))
    assert said.startswith("b'HTTP/1.1 200 OK")


def test_page_of_asyncio_upgrades_on_uvloop(trial: Trial, run: Runs) -> None:
    port = trial.peers.starttls.port
    said = run(blocks("asyncio")[1], ("mail.example.org", "localhost"), ("4190", str(port)))
    assert said == "b'hello\\r\\n'\n"


def test_page_of_aiohttp_gets_and_serves(trial: Trial, tmp_path: Path, run: Runs) -> None:
    client, server = blocks("aiohttp")
    assert run(client, (f"https://{HOST}/", f"{trial.peers.https.url}/")) == "200\n"
    with serving(trial, tmp_path, server) as (port, _):
        assert fetched(port) == b"hello\n"


def test_page_of_websockets_talks(trial: Trial, tmp_path: Path, run: Runs) -> None:
    client, server = blocks("websockets")
    with _served(trial.stdlib_server()) as port:
        assert run(client, (f"wss://{HOST}/", f"wss://localhost:{port}/")) == "hello\n"
    with (
        serving(trial, tmp_path, server) as (port, _),
        websockets.sync.client.connect(
            f"wss://localhost:{port}", ssl=trial.stdlib_client(), proxy=None, open_timeout=20
        ) as socket,
    ):
        socket.send("hello")
        assert socket.recv(timeout=20) == "hello"


def test_matrix_of_the_pages_is_the_one_that_is_tested() -> None:
    text = (PAGES / "README.md").read_text(encoding="utf-8")
    assert text.endswith(as_markdown(list(ROWS.values()))), "python -m tests.ecosystem.report brings it up to date"


def test_every_page_is_in_the_list() -> None:
    text = (PAGES / "README.md").read_text(encoding="utf-8")
    for page in PAGES.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in text, page.name
