"""`pellucid trust`: what to type so that other programs trust the development CA, and with --apply doing it."""

from __future__ import annotations

import base64
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from pellucid.cli.common import CommandFailed
from pellucid.cli.development_ca import CERTIFICATE, DevelopmentCA
from pellucid.cli.new_files import NewFile, write_all
from pellucid.cli.output import Output
from pellucid.cli.stores import Root, Store, StoreFailed, other_lines, run, stores
from pellucid.cli.trust_lines import all_trust_lines
from pellucid.errors import PeerError, UsageError
from pellucid.explain.text import Line, Span, line
from pellucid.net.load import system_trust

__all__ = ["NAMES", "SCHEMA", "Standing", "chosen", "command", "shell", "standing_of", "why_of"]

SCHEMA: Final = 1
NAMES: Final = ("nss", "firefox", "debian", "java")
_URL: Final = "https://localhost:8443/"


@click.command(short_help="Have other programs trust the development CA.")
@click.argument("names", metavar="[STORE]...", nargs=-1, type=click.Choice(NAMES))
@click.option("--apply", "apply_it", is_flag=True, help="Do it, instead of telling what to type.")
@click.option("--ca", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="This CA (PEM) instead of the development CA.")  # fmt: skip
@click.option("--any-name", is_flag=True, help="The CA that may vouch for every name (dev-cert --any-name).")
@click.option("--bundle", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the system's roots and the CA to FILE, for variables that replace all roots.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace FILE of --bundle.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def trust(names: tuple[str, ...], **options: Any) -> int:  # Any: click's options, each of its own type
    """Tell what to type so that other programs trust the development CA; with --apply STORE... do it.

    Stores are nss (Chromium and Chrome), firefox, debian (the system's, as root) and java. `pellucid untrust` takes the
    CA out of them again; `pellucid doctor` tries the programs. The exit code is 0 if every STORE named has it.
    """
    output = Output()
    root = _root(options)
    found = chosen(names)
    if options["any_name"] and options["ca"] is None:
        output.hint(
            "whoever gets this CA's key can pose as any site to you: pellucid untrust --apply when you are done"
        )
    if options["bundle"] is not None:
        _write_bundle(options["bundle"], root, overwrite=options["force"])
        output.talk(f"Written: {options['bundle']}, for SSL_CERT_FILE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, PIP_CERT")
    if options["apply_it"]:
        if not names:
            raise CommandFailed(f"--apply needs the stores: {', '.join(NAMES)}", code=2)
        for store in found.values():
            _apply(store, root, output)
        found = chosen(names)  # NSS has a database now
    standings = {name: standing_of(store, root) for name, store in found.items()}
    if options["as_json"]:
        output.json(_document(root, found, standings))
    else:
        for name, store in found.items():
            output.facts(_store_lines(store, standings[name], root, with_commands=not options["apply_it"]))
        if not names:
            output.facts(_program_lines(root))
    return 0 if not names or all(one.trusted for one in standings.values()) else 60


command = trust


@dataclass(frozen=True, slots=True)
class Standing:
    """How a CA stands with a store. trusted: None where that cannot be told; problem: why."""

    trusted: bool | None
    problem: str = ""


def standing_of(store: Store, root: Root) -> Standing:
    """Return whether *store* has *root*; never raises."""
    if store.missing:
        return Standing(None, store.missing)
    try:
        return Standing(store.holds(root))
    except StoreFailed as error:
        return Standing(None, str(error))


def chosen(names: Sequence[str]) -> Mapping[str, Store]:
    """Return the stores with these names; all of them for none."""
    found = stores()
    return {name: found[name] for name in names} if names else found


def shell(store: Store, commands: Sequence[tuple[str, ...]]) -> list[str]:
    """Return *commands* as one types them."""
    return [("sudo " if store.needs_root else "") + shlex.join(command) for command in commands]


def why_of(error: OSError | UsageError | PeerError) -> str:
    """Return why a file could not be read, without its name."""
    return error.reason if isinstance(error, UsageError | PeerError) else error.strerror or str(error)


def _root(options: Mapping[str, Any]) -> Root:
    path: Path | None = options["ca"]
    if path is None:
        _check_whose(any_name=options["any_name"])
        path = DevelopmentCA.open(any_name=options["any_name"]).certificate_path
    try:
        return Root.read(path)
    except (OSError, UsageError, PeerError) as error:
        raise CommandFailed(f"cannot read {path}: {why_of(error)}", code=77) from error


def _check_whose(*, any_name: bool) -> None:
    """Raise CommandFailed where root, through sudo, would have a CA of its own made and trusted by all."""
    user = os.environ.get("SUDO_USER")
    if user and DevelopmentCA.existing(any_name=any_name) is None:
        hint = f"name yours: --ca {CERTIFICATE}, whose place `pellucid trust` tells {user}"
        raise CommandFailed("under sudo this would make another CA, of root's", code=58, hints=(hint,))


def _apply(store: Store, root: Root, output: Output) -> None:
    if store.missing:
        raise CommandFailed(f"{store.name}: {store.missing}", code=23)
    if standing_of(store, root).trusted:
        output.talk(f"{store.name} has the CA already.")
        return
    commands = store.add(root)
    if store.needs_root:
        raise CommandFailed(f"{store.name} is not yours to change", code=23, hints=tuple(shell(store, commands)))
    try:
        for text in shell(store, commands):
            output.talk(text)
        run(commands)
    except StoreFailed as error:
        raise CommandFailed(f"{store.name}: {error}", code=23) from error


def _write_bundle(path: Path, root: Root, *, overwrite: bool) -> None:
    try:
        system = system_trust()
    except UsageError as error:
        raise CommandFailed(error.reason, code=77) from error
    every = dict.fromkeys((root.der, *system.roots))
    text = b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n" for der in every
    )
    write_all([NewFile(path, text)], overwrite=overwrite)


def _store_lines(store: Store, standing: Standing, root: Root, *, with_commands: bool) -> Iterator[Line]:
    mark, word = {
        True: (Span("✔", "good"), "trusts it"),
        False: (Span("✘", "bad"), "does not trust it yet"),
        None: (Span("–", "muted"), standing.problem),
    }[standing.trusted]
    yield line(mark, " ", Span(f"{store.name:<8}", "name"), f" {store.title}: {word}")
    if with_commands and standing.trusted is False:
        for text in shell(store, store.add(root)):
            yield line(f"    {text}")


def _program_lines(root: Root) -> Iterator[Line]:
    yield line("Programs with a way of their own:")
    for name, text in (*all_trust_lines(root.path, _URL), *other_lines(root)):
        yield line("  ", Span(f"{name:<9}", "name"), text)


def _document(root: Root, found: Mapping[str, Store], standings: Mapping[str, Standing]) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "ca": {"file": str(root.path), "tag": root.tag},
        "stores": [
            {
                "name": name,
                "title": store.title,
                "trusted": standings[name].trusted,
                "problem": standings[name].problem,
                "commands": [] if store.missing else shell(store, store.add(root)),
            }
            for name, store in found.items()
        ],
        "programs": [
            {"name": name, "line": text} for name, text in (*all_trust_lines(root.path, _URL), *other_lines(root))
        ],
    }
