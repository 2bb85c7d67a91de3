"""inspect finds of each server what it was configured to be: OpenSSL, GnuTLS, nginx, Go and ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.inspection import CONFIGURATIONS, NAMES, Configuration, InspectionFiles, inspected, missing
from tests.support.needs import need


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> InspectionFiles:
    return InspectionFiles(tmp_path_factory.mktemp("inspection"))


@pytest.mark.parametrize(
    ("peer", "configuration"),
    [
        pytest.param(peer, one, id=f"{peer}-{one.name}", marks=pytest.mark.peer(peer))
        for peer in NAMES
        for one in CONFIGURATIONS
        if peer in one.peers
    ],
)
def test_inspect_finds_what_the_server_was_configured_to(
    peer: str, configuration: Configuration, files: InspectionFiles, tmp_path: Path
) -> None:
    need(missing(peer))
    cell = inspected(peer, configuration, files, tmp_path)
    assert cell.wrong == []
    assert cell.seconds < 10  # alone it is under 3; here others use the machine too
