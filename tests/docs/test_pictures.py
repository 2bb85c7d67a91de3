"""The documents' pictures are those that the page's code draws today."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.support.pictures import FOLDER, pictures


@pytest.mark.parametrize("name", ["client-states.svg", "server-states.svg", "key-schedule.svg"])
def test_picture_is_up_to_date(name: str) -> None:
    content = pictures()[name]
    ET.fromstring(content)
    assert (FOLDER / name).read_text(encoding="utf-8") == content, "`make pictures` writes them anew"


def test_no_picture_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(pictures())
