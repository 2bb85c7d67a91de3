"""docs/guides/keys.md: its commands serve HTTPS, with a key behind the agent and with one in SoftHSM; its code runs."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.crypto.credentials import certificates_from_pem
from pellucid.handshake.authenticate import signed_content
from pellucid.registry import SignatureScheme
from pellucid.signers import AgentProcess
from pellucid.testing.ca import CA
from pellucid.trace import Role
from tests.interop.process import output_of, running
from tests.support.needs import need
from tests.support.tokens import Token, module

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "keys.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL)
CODE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
AUTHORITY = CA("guide to keys")
LEAF = AUTHORITY.issue("localhost")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page.txt").write_text("from a server that has no key\n")
    (tmp_path / "server.pem").write_bytes(LEAF.chain_pem)
    (tmp_path / "server.pem").chmod(0o644)
    (tmp_path / "server-key.pem").write_bytes(LEAF.key_pem)
    (tmp_path / "server-key.pem").chmod(0o600)
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.root_pem)
    return tmp_path


def command(line: str, folder: Path, **changed: str) -> list[object]:
    """Return a command of the guide as it is run here: other places, the interpreter's own pellucid, a free port."""
    words = shlex.split(line.lstrip("#$ ").replace("\\\n", " "))
    assert words[0] == "pellucid"
    for old, new in changed.items():
        words = [word.replace(old, new) for word in words]
    for name in ("server.pem", "server-key.pem", "site/"):
        words = [str(folder / name) if word == name else word for word in words]
    return [sys.executable, "-m", "pellucid", *words[1:]]


def fetched(serve: list[object], folder: Path, env: dict[str, str] | None = None) -> str:
    need(None if shutil.which("curl") else "no curl on the PATH (apt install curl)")
    with running([*serve, "--port", "0"], env=env) as program:
        port = int(program.wait_for(rb"^https://localhost:(\d+)/$").group(1))
        curl = ["curl", "-sS", "--fail", "--noproxy", "*", "--max-time", "20", "--cacert", folder / "ca.pem"]
        return output_of([*curl, f"https://localhost:{port}/page.txt"]).strip()


@pytest.mark.program("curl")
def test_key_behind_the_agent_serves_https(folder: Path) -> None:
    agent_line, serve_line = CONSOLE[0].strip().splitlines()
    places = {"/run/tls/keys": str(folder / "s")}
    agent = command(agent_line, folder, **places)
    at = agent.index("--user")
    del agent[at : at + 2]
    agent[agent.index("www-data")] = str(os.geteuid())
    with running(agent) as program:
        program.wait_for(rb"^" + re.escape(str(folder / "s")).encode() + rb"$")
        (folder / "server-key.pem").unlink()
        said = fetched(command(serve_line, folder, **places), folder)
        assert said == "from a server that has no key", program.output()
    assert not (folder / "s").exists()


@pytest.mark.program("curl")
@pytest.mark.program("softhsm2-util")
def test_key_in_softhsm_serves_https(folder: Path) -> None:
    library = module()
    token = Token(folder)
    token.add("key", 1, LEAF.key_pem)
    (folder / "server-key.pem").unlink()
    places = {"/usr/lib/softhsm/libsofthsm2.so": library, "/run/pin": str(token.pin_file)}
    serve = command(CONSOLE[1].strip(), folder, **places)
    said = fetched(serve, folder, env=dict(os.environ) | token.environment)
    assert said == "from a server that has no key"


def run(text: str, monkeypatch: pytest.MonkeyPatch, folder: Path, **names: Any) -> dict[str, Any]:
    import pathlib

    monkeypatch.chdir(folder)
    known = {"pellucid": pellucid, "pathlib": pathlib, "dataclasses": dataclasses, "hashlib": hashlib, **names}
    exec(compile(text, "guide", "exec"), known)
    return known


def test_code_with_an_agent_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connecting, starting, _, threading, _ = CODE
    with AgentProcess([folder / "server-key.pem"]) as agent:
        known = run(connecting.replace("/run/tls/keys", agent.path), monkeypatch, folder)
        assert known["config"].credentials[0].names == ("localhost",)
        known = run(threading, monkeypatch, folder, credential=known["credential"])

        async def sign() -> bytes:
            signature: bytes = await known["credential"].signer.sign(
                SignatureScheme.ECDSA_SECP256R1_SHA256, signed_content(Role.SERVER, bytes(32))
            )
            return signature

        assert asyncio.run(sign())
    served: list[pellucid.ServerConfig] = []
    starting = starting.replace('user="nobody", allow=["www-data"]', "")
    run(starting, monkeypatch, folder, serve=served.append)
    assert served[0].credentials[0].names == ("localhost",)


@pytest.mark.program("softhsm2-util")
def test_code_with_a_token_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = module()
    token = Token(folder)
    token.add("key", 1, LEAF.key_pem)
    script = CODE[2].replace("/usr/lib/softhsm/libsofthsm2.so", library).replace("/run/pin", str(token.pin_file))
    # In a process of its own: SoftHSM reads where its tokens are when it is loaded.
    (folder / "script.py").write_text(
        f"import os, pathlib\nos.chdir({str(folder)!r})\n{script}\nprint(credential.names)"
    )
    with running([sys.executable, folder / "script.py"], env=dict(os.environ) | token.environment) as program:
        program.wait_for(rb"^\('localhost',\)$")


def test_signer_of_ones_own_is_awaited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kms:
        async def sign(self, name: str, digest: bytes) -> bytes:
            assert (name, len(digest)) == ("key-7", 32)
            return b"signature"

    chain = certificates_from_pem(LEAF.chain_pem)
    known = run(CODE[4], monkeypatch, folder, kms=Kms(), chain=chain, SignatureScheme=SignatureScheme)
    signer = known["credential"].signer
    assert asyncio.run(signer.sign(signer.schemes[0], b"data")) == b"signature"
