"""docs/guides/testing.md: its tests run as a user's, its code in place, its commands have their options."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import pellucid
from pellucid.cli.get import command as get_command
from pellucid.cli.serve import command as serve_command
from pellucid.testing.faults import FAULTS
from pellucid.trace import Role
from tests.illegal.evil import client_config, drain, exchange, good_client, server_config
from tests.support.fault_table import PATH, table
from tests.support.needs import need_module

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "testing.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
*TESTS, TABLE, OWN = BLOCKS


def test_guide_tests_pass_in_a_users_run(tmp_path: Path) -> None:
    need_module("requests")
    assert len(TESTS) == 4
    for number, text in enumerate(TESTS):
        (tmp_path / f"test_block_{number}.py").write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "pellucid_pytest", "."],
        cwd=tmp_path,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "NO_PROXY": "localhost"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 passed" in done.stdout


def test_guide_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(TABLE, "guide", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == len(FAULTS)


def test_guide_bends_a_connection() -> None:
    names: dict[str, Any] = {"config": server_config()}
    exec(compile(OWN, "guide", "exec"), names)
    client = good_client(client_config())
    exchange(client, names["server"])
    _, error = drain(client)
    assert isinstance(error, pellucid.PeerError)
    assert "EncryptedExtensions came in state" in str(error)


def test_guide_commands_have_the_options_and_faults_they_are_given() -> None:
    commands = re.findall(r"^pellucid (get|serve) ([^#|\n]*)", GUIDE, re.MULTILINE)
    assert len(commands) == 4
    for name, rest in commands:
        command: click.Command = {"get": get_command, "serve": serve_command}[name]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest.split() if word.startswith("--")} <= known
    for fault in re.findall(r"--fault ([a-z-]+)", GUIDE):
        assert fault == "list" or FAULTS[fault].side is Role.SERVER
    assert f"{sum(fault.side is Role.SERVER for fault in FAULTS.values()) // 10 * 10} servers" in GUIDE


def test_reference_has_every_fault_as_it_is() -> None:
    assert PATH.read_text(encoding="utf-8") == table().rstrip() + "\n", "python -m tests.support.fault_table"
