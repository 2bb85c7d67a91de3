"""-vvv draws every record; a reader of stderr that goes away takes no connection with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pellucid.testing.ca import CA
from tests.support.programs import Pellucid, run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


@pytest.fixture
def served(tmp_path: Path) -> Path:
    authority = CA()
    leaf = authority.issue("localhost")
    (tmp_path / "ca.pem").write_bytes(authority.root_pem)
    (tmp_path / "server.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "a.txt").write_text("said")
    return tmp_path


def start(folder: Path, *options: str) -> tuple[Pellucid, str]:
    process = Pellucid("serve", "www", "--port", "0", "--cert", "server.pem", *options, cwd=folder, text=False)
    return process, process.stdout.readline().decode().split()[-1]


def get(folder: Path, url: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    return run("get", f"{url}a.txt", "--cacert", "ca.pem", *options, cwd=folder, text=False)


def end(process: Pellucid) -> bytes:
    process.terminate()
    try:
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    return said


def test_vvv_draws_every_record_and_v_does_not(served: Path) -> None:
    drawn = {}
    for detail in ("-v", "-vvv"):
        process, url = start(served, detail)
        try:
            result = get(served, url, detail)
        finally:
            said = end(process)
        assert result.returncode == 0, result.stderr
        assert result.stdout == b"said"
        drawn[detail] = [text.decode().lower().count("record") for text in (result.stderr, said)]
    for few, many in zip(drawn["-v"], drawn["-vvv"], strict=True):
        assert many >= few + 10, drawn


def test_serve_goes_on_when_nobody_reads_its_stderr(served: Path) -> None:
    process, url = start(served, "-v")
    try:
        assert process.stderr is not None
        process.stderr.close()
        for _ in range(3):
            result = get(served, url)
            assert result.returncode == 0, result.stderr
            assert result.stdout == b"said"
    finally:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
