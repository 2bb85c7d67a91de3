"""docs/guides/development-certificates.md: its commands work, and what it says of the CA is so."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import click
import pytest

from pellucid.cli.dev_cert import command as dev_cert
from pellucid.cli.development_ca import DevelopmentCA
from pellucid.cli.doctor import command as doctor
from pellucid.cli.doctor_programs import PROGRAMS
from pellucid.cli.get import command as get
from pellucid.cli.main import main
from pellucid.cli.serve import command as serve
from pellucid.cli.trust import NAMES
from pellucid.cli.trust import command as trust
from pellucid.cli.untrust import command as untrust

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "development-certificates.md").read_text(encoding="utf-8")
LINES = [shlex.split(row, comments=True) for row in re.findall(r"^(pellucid .*)$", GUIDE, re.MULTILINE)]
COMMANDS: dict[str, click.Command] = {
    "dev-cert": dev_cert,
    "doctor": doctor,
    "get": get,
    "serve": serve,
    "trust": trust,
    "untrust": untrust,
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "certs").mkdir()


def test_guide_commands_have_the_options_they_are_given() -> None:
    assert len(LINES) == 18
    for _, name, *rest in LINES:
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= known


@pytest.mark.skipif(os.name != "posix", reason="the paths are POSIX's")
def test_guide_dev_cert_lines_work_one_after_the_other(tmp_path: Path) -> None:
    ran = 0
    for _, name, *rest in LINES:
        if name != "dev-cert":
            continue
        force = [] if "--list-faults" in rest else ["--force"]
        with pytest.raises(SystemExit) as left:
            main(["dev-cert", *rest, *force])
        assert left.value.code == 0, rest
        ran += 1
    assert ran == 9
    others = " ".join(" ".join(one) for one in LINES if one[1] != "dev-cert")
    for path in re.findall(r"[A-Za-z.-]+(?:-key)?\.pem", others):
        assert path in {"ca.pem", "roots.pem"} or (tmp_path / path).exists(), path
    assert (tmp_path / "certs" / "app.test.p12").exists()


def test_guide_says_what_the_ca_is_limited_to() -> None:
    told = GUIDE.partition("everything below")[2].partition("this machine")[0]
    domains = re.findall("`([a-z.]+)`", told)
    permitted = [one for one in DevelopmentCA.open().authority.permitted if "/" not in one]
    assert permitted[: len(domains)] == domains


def test_guide_names_stores_and_programs() -> None:
    assert all(name in GUIDE for name in NAMES)
    assert all(program.name in GUIDE.lower() for program in PROGRAMS)
