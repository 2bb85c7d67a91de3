"""Files that a command makes: none replaces another unasked, and private ones are for their owner alone."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pellucid.cli.common import CommandFailed

__all__ = ["NewFile", "readers", "write_all"]


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is to be written where. private: with mode 0600, else 0644."""

    path: Path
    data: bytes = field(repr=False)
    private: bool = False

    @property
    def mode(self) -> int:
        return 0o600 if self.private else 0o644


def write_all(files: Sequence[NewFile], *, overwrite: bool) -> None:
    """Write all of *files*, or none. Each appears whole. Raises CommandFailed (23); (2) for one place that is two's.

    overwrite: what is there is replaced, one after another; an error leaves those that were.
    """
    places: dict[str, NewFile] = {}
    for file in files:
        if places.setdefault(os.path.abspath(file.path), file) is not file:
            raise CommandFailed(f"{file.path} cannot hold two files: give one of them another name", code=2)
    for path in (file.path for file in files):
        if not overwrite and os.path.lexists(path):
            raise CommandFailed(f"{path} is there already", code=23, hints=("have it replaced: --force",))
    made: list[Path] = []
    try:
        with contextlib.ExitStack() as drafts:
            ready = [(drafts.enter_context(_draft(file)), file) for file in files]
            for draft, file in ready:
                _place(draft, file.path, overwrite=overwrite)
                made.append(file.path)
    except OSError as error:
        if not overwrite:
            for path in made:
                path.unlink(missing_ok=True)
        where = error.filename2 or error.filename or files[0].path
        raise CommandFailed(f"cannot write {where}: {error.strerror or error}", code=23) from error


def readers(path: Path) -> str:
    """Return who else may read the private file *path*: "" for nobody, as it should be.

    It was made with mode 0600; file systems of other systems may know no modes.
    """
    if os.name != "posix":
        return ""
    return "everybody on this machine" if stat.S_IMODE(path.stat().st_mode) & 0o077 else ""


@contextlib.contextmanager
def _draft(file: NewFile) -> Iterator[Path]:
    """Yield a file beside *file*, with its content and mode, that is gone afterwards."""
    descriptor, name = tempfile.mkstemp(prefix=".pellucid-", dir=file.path.parent)  # mode 0600
    path = Path(name)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(file.data)
        path.chmod(file.mode)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _place(draft: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        os.replace(draft, path)
        return
    try:
        os.link(draft, path)  # fails where something is, which rename would replace
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, draft.stat().st_mode)) as stream:
            stream.write(draft.read_bytes())
