"""`pellucid inspect`: what it prints, for people and programs, where it connects to, and how it exits."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.cli.main import main
from pellucid.testing.ca import CA
from tests.support.starttls import SPOKEN, StartTLSServer
from tests.unit.test_inspect import AUTHORITY, CREDENTIAL, serving

pytestmark = pytest.mark.skipif(os.name != "posix", reason="terminals are POSIX's")
DOCUMENTED = Path(__file__).parents[2] / "docs" / "reference" / "inspect.md"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_bytes(AUTHORITY.root_pem)
    return path


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found


def inspect(capsys: pytest.CaptureFixture[str], *words: object) -> Result:
    with pytest.raises(SystemExit) as leaving:
        main(["inspect", *map(str, words)])
    out, err = capsys.readouterr()
    assert isinstance(leaving.value.code, int)
    return Result(leaving.value.code, out, err)


def test_inspect_one_host_prints_everything(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(alpn=("h2", "http/1.1")) as port:
        result = inspect(capsys, "--cacert", root, f"localhost:{port}")
    assert result.code == 0, result.out + result.err
    assert result.out.startswith(f"localhost:{port}  good  ")
    for label in ("agreed", "checks", "groups", "suites", "signs with", "retry", "resumes", "KeyUpdate", "OCSP staple"):
        assert re.search(rf"^  {label} ", result.out, re.MULTILINE), label
    assert "✓ dates (leaf): the leaf" in result.out and "128 bits, post-quantum" in result.out
    wide = [line for line in result.out.splitlines() if len(line) > 80]
    assert all(max(map(len, line.split())) > 60 for line in wide), wide  # a word is not broken: the path of a file
    assert "\x1b" not in result.out + result.err
    assert result.err == ""


def test_inspect_many_hosts_prints_verdicts_and_reasons(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(groups=(0x17,)) as port:
        words = ("--cacert", root, f"localhost:{port}", "localhost:1", f"127.0.0.1:{port}")
        result = inspect(capsys, *words)
        full = inspect(capsys, "--full", *words)
    assert result.code == full.code == 1
    first, reason, second, *why, third, again = result.out.splitlines()
    assert first == f"localhost:{port}  fair  secp256r1, TLS_AES_128_GCM_SHA256"
    assert reason == again == "  ● no group resists a quantum computer: what is recorded today can be read then"
    assert second.startswith("localhost:1  broken") and "(TCP-REFUSED)" in " ".join(why)
    assert third.startswith(f"127.0.0.1:{port}  fair")
    assert full.out.count("KeyUpdate") == 2


def test_inspect_takes_hosts_from_a_file(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "hosts"
    with serving() as port:
        listed.write_text(f"# ours\nlocalhost:{port}  # here\n\n127.0.0.1:{port}\n")
        result = inspect(capsys, "--cacert", root, f"@{listed}")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()] == [f"localhost:{port}", f"127.0.0.1:{port}"]
    listed.write_text("# nobody\n")
    assert inspect(capsys, "--cacert", root, f"@{listed}").code == 2
    assert inspect(capsys, "--cacert", root, f"@{tmp_path / 'missing'}").code == 26
    listed.write_bytes(b"\xff\xfe")
    assert inspect(capsys, "--cacert", root, f"@{listed}").code == 26


@pytest.mark.parametrize(("least", "code"), [("good", 1), ("fair", 0), ("poor", 0)])
def test_inspect_exit_code_is_the_verdict(
    least: str, code: int, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(groups=(0x17,)) as port:
        assert inspect(capsys, "--cacert", root, "--at-least", least, f"localhost:{port}").code == code


def test_inspect_json_has_the_documented_fields(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as port:
        result = inspect(capsys, "--json", "--cacert", root, f"localhost:{port}", "localhost:1")
    assert result.code == 1
    found = result.json()
    assert found["schema"] == 1
    here, nobody = found["examinations"]
    assert (here["host"], here["port"], here["verdict"], here["unknown"]) == ("localhost", port, "good", {})
    assert here["groups"]["details"][0] == {"name": "X25519MLKEM768", "bits": 128, "post_quantum": True}
    assert here["chain"]["verification"]["accepted"] is True
    assert here["timing"]["flights"][1]["sender"] == "server"
    assert nobody["verdict"] == "broken" and nobody["failed"]["message"] and nobody["chain"] is None
    documented = set(re.findall(r"^\| `([^`]+)` \|", DOCUMENTED.read_text(encoding="utf-8"), re.MULTILINE))
    assert _paths(here) | _paths(nobody) == documented


def _paths(value: object, prefix: str = "") -> set[str]:
    """Return the names of all fields, as the documentation writes them: groups.details[].bits"""
    if isinstance(value, dict) and prefix not in ("chain.verification", "unknown"):
        return {path for key, one in value.items() for path in _paths(one, f"{prefix}.{key}" if prefix else key)}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {path for one in value for path in _paths(one, f"{prefix}[]")}
    return {prefix}


def test_inspect_goes_where_it_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaf = AUTHORITY.issue("shop.example")
    with serving(credential=pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)) as port:
        moved = inspect(capsys, "--cacert", root, "--connect-to", f"::127.0.0.1:{port}", "shop.example")
        resolved = inspect(
            capsys, "--cacert", root, "--resolve", f"shop.example:{port}:127.0.0.1", f"shop.example:{port}"
        )
        named = inspect(capsys, "--cacert", root, "--server-name", "shop.example", f"127.0.0.1:{port}")
    assert (moved.code, resolved.code, named.code) == (0, 0, 0)
    assert moved.out.startswith("shop.example:443  good")


def test_inspect_starttls_from_the_command_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = pellucid.ServerConfig(credentials=(CREDENTIAL,))
    with StartTLSServer(SPOKEN["smtp"], config, b"250 ok\r\n") as server:
        result = inspect(capsys, "--cacert", root, "--starttls", "smtp", f"localhost:{server.port}")
    assert result.code == 0
    assert result.out.startswith(f"localhost:{server.port} (smtp)  good")
    assert "STARTTLS in " in " ".join(result.out.split())


def test_inspect_refused_certificate_is_shown_check_by_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(CA("somebody else").root_pem)
    with serving() as port:
        result = inspect(capsys, "--cacert", other, f"localhost:{port}")
    assert result.code == 1
    assert re.search(r"^  ✗ ", result.out, re.MULTILINE) and "✗ signed by a trusted CA" in result.out
    assert "groups" in result.out


def test_inspect_certificate_moves_no_cursor(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaf = AUTHORITY.issue("localhost", common_name="evil\x1b[2J\r\u202e")
    with serving(credential=pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)) as port:
        result = inspect(capsys, "--cacert", root, f"localhost:{port}")
    assert result.code == 0 and "evil" in result.out
    assert all(character.isprintable() or character == "\n" for character in result.out)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("no/host",), 2),
        ((), 2),
        (("--starttls", "telnet", "localhost"), 2),
        (("--key", "x", "localhost"), 2),
        (("--cacert", "/nonexistent", "localhost"), 77),
        (("--keylog", "/nonexistent/keys", "localhost:1"), 23),
        (("--pcapng", "/nonexistent/file", "localhost:1"), 23),
    ],
)
def test_inspect_wrong_words_are_told(words: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    result = inspect(capsys, *words)
    assert (result.code, result.out) == (code, "")
    assert result.err


def test_inspect_is_watched(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys, capture = tmp_path / "keys", tmp_path / "capture"
    with serving() as port:
        result = inspect(
            capsys, "-v", "--brief", "--cacert", root, "--keylog", keys, "--pcapng", capture, f"localhost:{port}"
        )
    assert result.code == 0
    assert "record limit 16385 bytes" in result.err
    assert result.err.count("ClientHello ─") == 1 and "ClientHello ─" not in result.out
    hellos = {line.split()[1] for line in keys.read_text().splitlines()}
    assert len(hellos) > 20  # of all connections that came so far
    assert capture.read_bytes()[:4] == bytes.fromhex("0a0d0d0a") and capture.stat().st_size > 20_000


def test_inspect_progress_is_for_terminals(root: Path) -> None:
    """On a terminal's standard error there is a bar; standard output, a pipe, has the facts alone."""
    ours, theirs = pty.openpty()
    with serving() as port:
        command = [sys.executable, "-m", "pellucid", "inspect", "--cacert", str(root), f"localhost:{port}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"})
        os.close(theirs)
        out, _ = process.communicate(timeout=30)
    shown = b""
    try:
        while piece := os.read(ours, 2**16):
            shown += piece
    except OSError:
        pass  # the other side of the terminal is closed
    finally:
        os.close(ours)
    assert process.returncode == 0 and out.decode().startswith(f"localhost:{port}  good")
    assert b"0/1" in shown and b"\x1b" in shown and b"\x1b" not in out
