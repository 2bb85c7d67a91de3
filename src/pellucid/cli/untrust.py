"""`pellucid untrust`: takes development CAs out of the stores that `pellucid trust` put them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from pellucid.cli.common import CommandFailed
from pellucid.cli.output import Output
from pellucid.cli.stores import Root, Store, StoreFailed, run
from pellucid.cli.trust import NAMES, chosen, shell, why_of
from pellucid.errors import PeerError, UsageError
from pellucid.explain.text import Span, line

__all__ = ["command"]

SCHEMA: Final = 1


@click.command(short_help="Take the development CA out of other programs' stores again.")
@click.argument("names", metavar="[STORE]...", nargs=-1, type=click.Choice(NAMES))
@click.option("--apply", "apply_it", is_flag=True, help="Do it, instead of telling what to type.")
@click.option("--ca", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="This CA (PEM) alone.  [default: every development CA that `pellucid trust` put there]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def untrust(names: tuple[str, ...], **options: Any) -> int:  # Any: click's options, each of its own type
    """Tell what to type so that development CAs are trusted no more; with --apply do it, in every STORE or all.

    Those of earlier data directories and expired ones are found too: their entries have a name of our own.
    Programs that were told by a variable or a setting have to be told again by hand.
    """
    output = Output()
    only = None if options["ca"] is None else _tag(options["ca"])
    done: list[dict[str, object]] = []
    for name, store in chosen(names).items():
        if store.missing:
            if names:
                raise CommandFailed(f"{name}: {store.missing}", code=23)
            continue
        tags = _tags(store, only)
        done.append({"name": name, "found": tags, "removed": options["apply_it"] and bool(tags), "commands": []})
        if not tags:
            output.talk(f"{name}: no development CA is there.")
            continue
        commands = [one for tag in tags for one in store.remove(tag)]
        done[-1]["commands"] = shell(store, commands)
        if options["apply_it"]:
            _remove(store, commands)
        if not options["as_json"]:
            for tag in tags:
                word = "is gone" if options["apply_it"] else "is there"
                output.fact(line(Span(f"{name:<8}", "name"), f" Pellucid development CA {tag} {word}"))
            if not options["apply_it"]:
                output.facts(f"    {text}" for text in shell(store, commands))
    if options["as_json"]:
        output.json({"schema": SCHEMA, "stores": done})
    return 0


command = untrust


def _tag(path: Path) -> str:
    try:
        return Root.read(path).tag
    except (OSError, UsageError, PeerError) as error:
        raise CommandFailed(f"cannot read {path}: {why_of(error)}", code=77) from error


def _tags(store: Store, only: str | None) -> list[str]:
    try:
        found = dict.fromkeys(store.entries().values())
    except StoreFailed as error:
        raise CommandFailed(f"{store.name}: {error}", code=26) from error
    return [tag for tag in found if only in (None, tag)]


def _remove(store: Store, commands: list[tuple[str, ...]]) -> None:
    if store.needs_root:
        raise CommandFailed(f"{store.name} is not yours to change", code=23, hints=tuple(shell(store, commands)))
    try:
        run(commands)
    except StoreFailed as error:
        raise CommandFailed(f"{store.name}: {error}", code=23) from error
