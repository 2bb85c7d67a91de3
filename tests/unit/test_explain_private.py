"""Files with secrets are their owner's; what is no file is left as it is."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from pellucid.explain import PcapngWriter, Recorder, write_jsonl
from pellucid.explain.private import open_private

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no modes")


def write_capture(recorder: Recorder, path: Path) -> None:
    PcapngWriter(path).close()


@pytest.mark.parametrize("write", [write_jsonl, write_capture])
def test_a_pipe_keeps_its_mode(write: object, tmp_path: Path) -> None:
    """As a device does: `--pcapng /dev/null`, by root, is not to take it from everybody."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    path.chmod(0o666)
    reader = threading.Thread(target=path.read_bytes)
    reader.start()
    write(Recorder(), path)  # type: ignore[operator]
    reader.join(10)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


def test_nothing_stays_open_where_the_mode_cannot_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []

    def refuse(descriptor: int, mode: int) -> None:
        closed.append(descriptor)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(PermissionError):
        open_private(str(tmp_path / "file"), os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(closed[0])
