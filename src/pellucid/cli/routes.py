"""`--resolve` and `--connect-to`: where to connect to instead of where a name leads, by curl's rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pellucid.cli.common import CommandFailed

__all__ = ["ConnectTo", "routes"]

ConnectTo = Callable[[str, int], tuple[str, int, Mapping[str, list[str]] | None]]
"""(host, port) asked for → host and port to connect to, and addresses that the resolver is not asked for."""


def routes(resolve: tuple[str, ...], connect_to: tuple[str, ...]) -> ConnectTo:
    """Return the function that says where to connect to, by curl's rules for --connect-to and --resolve."""
    addresses: dict[tuple[str, str], list[str]] = {}
    for text in resolve:
        host, port, rest = _split(text, 2, "--resolve", "HOST:PORT:ADDR")
        addresses[host.lower(), port] = [one.strip("[]") for one in rest.split(",")]
    moves = [_split(text, 4, "--connect-to", "HOST1:PORT1:HOST2:PORT2") for text in connect_to]

    def route(host: str, port: int) -> tuple[str, int, Mapping[str, list[str]] | None]:
        for old_host, old_port, new_host, new_port in moves:
            if old_host.lower() in ("", host.lower()) and old_port in ("", str(port)):
                host, port = new_host or host, int(new_port or port)
                break
        found = addresses.get((host.lower(), str(port))) or addresses.get(("*", str(port)))
        return host, port, {host: found} if found else None

    return route


def _split(text: str, colons: int, option: str, form: str) -> list[str]:
    """Split at colons outside of brackets; with *colons* 2 the third part keeps its own. Ports are checked."""
    parts, depth = [""], 0
    for character in text:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == ":" and not depth and (colons == 4 or len(parts) < 3):
            parts.append("")
        else:
            parts[-1] += character
    ports = parts[1:2] if colons == 2 else parts[1::2]
    if len(parts) != (3 if colons == 2 else 4) or not all(not p or (p.isdigit() and int(p) < 2**16) for p in ports):
        raise CommandFailed(f"{option} {text!r} is not {form}", code=2)
    return [part.strip("[]") if colons == 4 or index == 0 else part for index, part in enumerate(parts)]
