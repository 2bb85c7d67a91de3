"""docs/guides/inspect.md: its code runs, its options are there, its verdicts are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pellucid import inspection
from pellucid.cli.inspect import command
from pellucid.inspection import Verdict
from pellucid.inspection.starttls import PROTOCOLS
from tests.unit.test_inspect import AUTHORITY, serving

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "inspect.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference" / "inspect.md").read_text(encoding="utf-8")
VERDICTS = (ROOT / "src" / "pellucid" / "inspection" / "verdict.py").read_text(encoding="utf-8")


def test_guide_program_prints_what_was_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    real = inspection.inspect
    with serving() as port:
        monkeypatch.setattr(
            inspection, "inspect", lambda host, **more: real("localhost", port, server_name="localhost", **more)
        )
        exec(compile(block, "guide", "exec"), {"trust": AUTHORITY.trust})
    assert "X25519MLKEM768" in capsys.readouterr().out


def test_guide_names_options_and_protocols_that_there_are() -> None:
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", GUIDE)) <= known
    assert all(name in GUIDE for name in PROTOCOLS)


def test_guide_defines_every_verdict_and_reference_every_reason() -> None:
    assert re.findall(r"^\| \*\*(\w+)\*\* \|", GUIDE, re.MULTILINE) == [verdict.value for verdict in Verdict]
    (row,) = re.findall(r"^\| `reasons\[\]\.code` \| stable: (.*) \|$", REFERENCE, re.MULTILINE)
    given = re.findall(r'Reason\(\s*(?:Verdict\.\w+|verdict), "([a-z-]+)"', VERDICTS)
    assert sorted(set(re.findall(r"`([a-z-]+)`", row))) == sorted(set(given))
