"""The tables and pictures of docs/performance.md: made of what runs have found, a miss shown as one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import pictures, report
from bench.harness import Measure, Sample, opened, run

SPEED = Measure(
    name="full handshake", group="handshakes, in memory", unit="/s", better="higher", rounds=3, floor=1.4, record=1.8,
    beside={"rtls": 1.0},
    open=opened(lambda: {
        "ssl": lambda: Sample(100.0, {"client": 7.0, "server": 3.0}),
        "rtls": lambda: 160.0,
        "pellucid": lambda: 150.0,
        "utls": "not installed",
    }),
)  # fmt: skip


def giving(ours: float) -> object:
    return opened(lambda: {"ssl": lambda: 100.0, "pellucid": lambda: ours})


RESULTS = [
    SPEED,
    replace(SPEED, name="bulk", group="data", unit="GB/s", beside={}, record=None, open=giving(90.0)),
    replace(SPEED, name="memory", group="memory", unit="KiB", better="lower", beside={}, floor=0.5, record=0.4,
            open=giving(52.0)),
    replace(SPEED, name="ttfb", group="time", unit="RTT", better="lower", against="difference", floor=-1.0, record=None,
            beside={}, open=giving(99.0)),
    replace(SPEED, name="cached", beside={}, open=opened(lambda: {"ssl": lambda: 1.0, "pellucid": "no verdict cache"})),
]  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> str:
    """The page after two Pythons' runs, with pictures beside it."""
    shutil.copy(pictures.FOLDER / pictures.PAGE, tmp_path)
    results = [run(measure) for measure in RESULTS]
    for python in ("3.13.0", "3.11.7"):
        primitives = {
            "floors": {"full handshake": 500.0},
            "baselines": {"full handshake": 1000.0},
            "ceilings": {"full handshake": 2.0},
        }
        report.write(
            tmp_path / f"{python}.json", report.machine() | {"python": python, "primitives": primitives}, results
        )
    files = [str(file) for file in tmp_path.glob("*.json")]
    assert pictures.main([*files, "--folder", str(tmp_path)]) == 0
    once = (tmp_path / pictures.PAGE).read_text()
    assert pictures.main([*files, "--folder", str(tmp_path)]) == 0
    assert (tmp_path / pictures.PAGE).read_text() == once
    return once


def test_the_table_has_each_floor_and_hides_no_miss(page: str) -> None:
    lines = page.splitlines()
    assert "| measure | floor | record | CPython 3.11 | CPython 3.13 |" in lines
    assert "| full handshake | 1.4 | 1.8, ≥ 1 × rtls | 1.50, behind rtls | 1.50, behind rtls |" in lines
    assert "| bulk | 1.4 | – | 0.90 (**below**) | 0.90 (**below**) |" in lines
    assert "| memory | ≤ 0.5 | 0.4 | 0.52 (within noise) | 0.52 (within noise) |" in lines
    assert "| ttfb | ≤ -1 | – | -1.00 | -1.00 |" in lines
    assert "| cached | 1.4 | 1.8 | not measured: no verdict cache | not measured: no verdict cache |" in lines


def test_the_page_has_every_peer_the_primitives_and_the_machine(page: str) -> None:
    assert "| full handshake, /s | 100 (7 + 3) | 160 = 1.60 | 150 = 1.50 |" in page
    assert "utls: not installed" in page
    assert "500 µs, 1,000 µs, **2.00**" in page
    assert "CPython 3.11.7" in page


def test_the_pictures_are_there_and_are_svg(page: str, tmp_path: Path) -> None:
    drawn = {file.name for file in (tmp_path / pictures.PICTURES).iterdir()}
    assert drawn == {"floors.svg", "handshakes-in-memory.svg", "data.svg", "memory.svg"}
    for name in drawn:
        assert f"]({pictures.PICTURES}/{name})" in page
        root = ElementTree.parse(tmp_path / pictures.PICTURES / name).getroot()
        assert root.tag.endswith("svg")
        assert "prefers-color-scheme: dark" in ElementTree.tostring(root, encoding="unicode")


def test_the_page_as_it_is_has_a_place_for_each_table() -> None:
    text = (pictures.FOLDER / pictures.PAGE).read_text()
    for name in ("floors", "pictures", "primitives", "peers", "machine"):
        assert pictures.BEGIN.format(name) in text


def test_json_into_a_folder_has_the_pythons_name(tmp_path: Path) -> None:
    assert report.file_in(tmp_path).parent == tmp_path
    assert report.file_in(tmp_path).name.startswith("cpython-3.")
    results = [run(SPEED)]
    report.write(tmp_path / "a.json", report.machine(), results)
    found = json.loads((tmp_path / "a.json").read_text())["results"]["full handshake"]
    assert found["verdict"] == "kept"
    assert found["behind"] == ["rtls"]


def test_a_miss_is_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert report.summary([run(measure) for measure in RESULTS]) == 1
    said = capsys.readouterr().err
    assert "below its floor: bulk: 0.90×, 1.4 is aimed at" in said
    assert "not measured: cached" in said
    assert report.summary([run(SPEED)]) == 0
