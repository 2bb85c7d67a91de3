"""docs/guides/operating.md: each piece of its code runs, in its order, and its command does what it says."""

from __future__ import annotations

import asyncio
import datetime
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.cli.serve import command as serve_command
from pellucid.net import reload
from pellucid.testing.ca import CA
from tests.support.pair import Pair, client_config, credential, events_of
from tests.unit.test_reload import write

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "operating.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
CONSOLE = re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL)
AUTHORITY = CA("guide to operating")
(FILES, RELOAD, REFUSED, TOLD, FUNCTION, CHOSEN, AWAITED, UVICORN, APP) = CODE


def run(block: str, names: dict[str, Any], **changed: str) -> dict[str, Any]:
    for old, new in changed.items():
        block = block.replace(old, new)
    exec(compile(block, "guide", "exec"), names)
    return names


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Any]:
    live = tmp_path / "live" / "localhost"
    live.mkdir(parents=True)
    leaf = AUTHORITY.issue("localhost")
    write(live / "fullchain.pem", leaf.chain_pem)
    write(live / "privkey.pem", leaf.key_pem)
    return {"pellucid": pellucid}


def served(names: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    block = FILES.replace("/etc/letsencrypt/live", str(tmp_path / "live")).replace("8443", "0")
    return run(block, names)


def test_guide_follows_the_files_of_certbot(
    names: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served(names, tmp_path)
    listener = names["listener"]
    threading.Thread(target=listener.serve, args=(lambda stream: stream.sendall(b"x"),), daemon=True).start()
    config = pellucid.ClientConfig(trust=AUTHORITY.trust, sessions=None)
    leaf = AUTHORITY.issue("localhost")
    write(tmp_path / "live" / "localhost" / "privkey.pem", leaf.key_pem)
    write(tmp_path / "live" / "localhost" / "fullchain.pem", leaf.chain_pem)
    run(RELOAD, names)
    with pellucid.connect("localhost", listener.address[1], config) as stream:
        assert stream.peer.leaf.der == leaf.der
    listener.close()
    run(TOLD, names)
    assert capsys.readouterr().out.splitlines()[1] == "1 0 no error"
    assert isinstance(names["context"], ssl.SSLContext)
    names["context"].reload()


def test_guide_refuses_what_has_expired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir()
    now = datetime.datetime.now(datetime.UTC)
    leaf = AUTHORITY.issue(
        "localhost", not_before=now - datetime.timedelta(days=9), not_after=now - datetime.timedelta(days=1)
    )
    write(tmp_path / "old" / "tls.crt", leaf.chain_pem)
    write(tmp_path / "old" / "tls.key", leaf.key_pem)
    monkeypatch.chdir(tmp_path)
    run(REFUSED, {"pellucid": pellucid})
    assert capsys.readouterr().out.startswith("expired - old/tls.crt: the certificate expired on")


def test_guide_takes_a_function() -> None:
    made = run(FUNCTION, {"pellucid": pellucid, "fetch_credential": credential})
    assert made["config"].current.credentials == (credential(),)
    assert made["config"].reload().reloads == 1


def test_guide_chooses_by_the_client_hello() -> None:
    class Vault:
        async def credential_for(self, _name: str | None) -> pellucid.Credential:
            return credential()

    names = {
        "pellucid": pellucid,
        "known_scanners": set[str](),
        "decoy": None,
        "vault": Vault(),
        "default": credential(),
    }
    config = run(CHOSEN, names)["config"]
    pair = Pair.of(client_config(), config)
    pair.server.receive_data(pair.client.data_to_send())
    body = "async def main():\n" + "".join(f"    {line}\n" for line in AWAITED.splitlines())
    names = run(body, {"pellucid": pellucid, "connection": pair.server})
    asyncio.run(names["main"]())
    pair.pump()
    seen, error = events_of(pair.client)
    assert error is None
    assert next(type(one) for one in seen) is pellucid.HandshakeComplete


def test_guide_runs_an_application_that_knows_its_client(tmp_path: Path, names: dict[str, Any]) -> None:
    served(names, tmp_path)["listener"].close()
    run(APP, names)
    run(UVICORN, names)
    sock = socket.create_server(("127.0.0.1", 0))
    names["settings"].log_level = "critical"
    names["settings"].configure_logging()
    server = names["uvicorn"].Server(names["settings"])
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])), daemon=True)
    thread.start()
    context = ssl.create_default_context(cadata=AUTHORITY.root_pem.decode())
    address = f"https://localhost:{sock.getsockname()[1]}/"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(address, timeout=20) as answer:
        assert re.fullmatch(rb"nobody, 0x130[123]\n", answer.read())
    server.should_exit = True
    thread.join(20)
    sock.close()


def test_guide_serves_and_reloads(tmp_path: Path) -> None:
    leaf = AUTHORITY.issue("localhost")
    write(tmp_path / "server.pem", leaf.chain_pem)
    write(tmp_path / "server-key.pem", leaf.key_pem)
    (tmp_path / "site").mkdir()
    line, told = CONSOLE[0].splitlines()
    words = shlex.split(line.removeprefix("$ pellucid "))
    known = {option for parameter in serve_command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known
    command = [sys.executable, "-m", "pellucid", *words, "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline().startswith("https://")
            process.send_signal(signal.SIGHUP)
            assert process.stderr.readline().strip() == told
        finally:
            process.kill()


def test_guide_names_the_faults_and_the_defaults_that_there_are() -> None:
    rows = re.findall(r"^\| (`[a-z`, -]+`) \|", GUIDE, re.MULTILINE)
    named = {fault for row in rows for fault in re.findall(r"`([a-z-]+)`", row)}
    faults = {fault.value for fault in reload.own_chain.ChainFault}
    assert faults <= named
    assert "within 14 days" in GUIDE
    assert reload._WARN_DAYS == 14
