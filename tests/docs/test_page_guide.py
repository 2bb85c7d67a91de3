"""docs/guides/page.md: its code runs and serves the page, and its options are options."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from pathlib import Path
from typing import Any

import httpx2

import pellucid
import pellucid.web
from pellucid.cli.page import command
from pellucid.integrations.asgi import LiveRecorder, wants_recorder
from pellucid.integrations.serving import Listening, Server
from pellucid.testing.ca import CA
from tests.web.running import RunningPage

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "page.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def test_guide_serves_the_page() -> None:
    authority = CA("guide root")
    leaf = authority.issue("localhost")
    names: dict[str, Any] = {
        "pellucid": pellucid, "socket": socket, "asyncio": asyncio, "Server": Server, "Listening": Listening,
        "LiveRecorder": LiveRecorder, "credential": pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem),
    }  # fmt: skip
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await names["server"].run()

    def tell(_: str) -> None:
        ready.set()

    body, _, last = BLOCKS[0].rstrip().rpartition("\n")
    assert last.startswith("asyncio.run(server.run())")
    exec(compile(body, "guide", "exec"), names | {"print": tell}, names)
    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(10)
        context = pellucid.SSLContext(pellucid.ClientConfig(trust=authority.trust))
        with httpx2.Client(verify=context, http2=True, trust_env=False) as session:
            answer = session.get(f"https://localhost:{names['sock'].getsockname()[1]}/")
        assert "ClientHello" in answer.text
    finally:
        loops[0].call_soon_threadsafe(names["server"].stop)
        thread.join(10)
        names["sock"].close()


def test_guide_s_application_is_told_of_its_connection() -> None:
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[1], "guide", "exec"), names)
    assert wants_recorder(names["app"])
    with RunningPage(names["app"]) as server, httpx2.Client(verify=server.client, trust_env=False) as session:
        answer = session.get(server.url)
    assert re.fullmatch(r"http/1\.1, \d+ events", answer.text)


def test_options_in_the_guide_are_options() -> None:
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    assert set(re.findall(r"`?(--[a-z][a-z-]+)", GUIDE)) <= known
