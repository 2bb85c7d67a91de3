"""docs/guides/asyncio.md: its code runs, each piece against the others."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import pellucid
from tests.support.loops import CREDENTIAL, both_loops, client_config, run_on, server_config

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "asyncio.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def named(*titles: str) -> dict[str, Any]:
    """What the guide's blocks that define *titles* define."""
    names: dict[str, Any] = {"pellucid": pellucid, "asyncio": asyncio}
    for block in BLOCKS:
        if any(f"async def {title}(" in block for title in titles):
            exec(compile(block, "guide", "exec"), names)
    return names


@both_loops
def test_guides_client_and_server_meet(loop: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = named("ask", "listen")

    async def main() -> None:
        server = await names["listen"](CREDENTIAL)
        port = server.sockets[0].getsockname()[1]
        assert (await names["ask"]("localhost", port, client_config())).endswith(b"hello\n")
        server.close()
        await server.wait_closed()

    run_on(loop, main)
    assert "TLS_AES_128_GCM_SHA256" in capsys.readouterr().out


def test_guides_upgrade_works() -> None:
    names = named("upgrade")

    async def main() -> None:
        over: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"220 go\r\n")
            secure, answer = await pellucid.asyncio.start_tls_streams(reader, writer, server_config(), server_side=True)
            over.set_result(await secure.readline())
            answer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        _, writer = await names["upgrade"]("127.0.0.1", server.sockets[0].getsockname()[1], client_config())
        writer.write(b"over TLS\n")
        assert await over == b"over TLS\n"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)

    run_on("asyncio", main)


def test_guides_uvicorn_is_told_what_it_cannot_do() -> None:
    names = named()
    exec(compile(BLOCKS[3], "guide", "exec"), names)
    with pytest.raises(pellucid.UsageError, match="workers"):
        names["serve"]("no.such:app", server_config(), workers=2)


def test_every_block_of_the_guide_is_run() -> None:
    assert len(BLOCKS) == 4
