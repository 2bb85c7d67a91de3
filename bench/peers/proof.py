"""Whether a peer did what it is measured with: from the ServerHello on the wire, and from what it refuses."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from bench.peers.interface import GROUPS, SUITES, Certificates, How, NotAsAskedError, Pair, Stack, handshake

SUPPORTED_VERSIONS, PRE_SHARED_KEY, KEY_SHARE = 43, 41, 51


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a ServerHello says."""

    suite: int
    group: int
    resumed: bool
    version: int


def chosen(flight: bytes) -> Chosen:
    """Return what the ServerHello at the head of a server's first *flight* says (RFC 9846 §4.2.3)."""
    if flight[:1] != b"\x16" or flight[5:6] != b"\x02":
        raise NotAsAskedError("the server did not begin with a ServerHello")
    at = 5 + 4 + 2 + 32
    at += 1 + flight[at]
    suite = int.from_bytes(flight[at : at + 2])
    at += 3
    end = at + 2 + int.from_bytes(flight[at : at + 2])
    at += 2
    extensions: dict[int, bytes] = {}
    while at < end:
        kind, size = int.from_bytes(flight[at : at + 2]), int.from_bytes(flight[at + 2 : at + 4])
        extensions[kind] = flight[at + 4 : at + 4 + size]
        at += 4 + size
    return Chosen(
        suite=suite,
        group=int.from_bytes(extensions.get(KEY_SHARE, b"")[:2]),
        resumed=PRE_SHARED_KEY in extensions,
        version=int.from_bytes(extensions.get(SUPPORTED_VERSIONS, b"")),
    )


def proven(stack: Stack, how: How, *, groups: bool = True) -> Pair:
    """Return a pair of *stack* that shook hands and did what *how* says; NotAsAskedError says what it did instead.

    Where it is to resume, it is the second handshake that counts.   groups: whether they matter.
    """
    for again in (False, True) if how.resume else (False,):
        pair = stack.pair()
        pair.client_turn()
        pair.server_turn()
        flight = pair.server_bytes()
        pair.client_turn()
        pair.server_turn()
        pair.completed()
        found = chosen(flight)
        _expect("suite", found.suite, SUITES[how.suite])
        if groups:
            _expect("group", found.group, GROUPS[how.group])
        _expect("version", found.version, 0x0304)
        if again and not found.resumed:
            raise NotAsAskedError("it did not resume")
        if how.resume:
            pair.take_ticket()
    return pair


def _expect(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise NotAsAskedError(f"took {what} {_name(found)}, whatever it was asked for")


def _name(code: int) -> str:
    names = {number: name for table in (SUITES, GROUPS) for name, number in table.items()}
    return names.get(code, f"{code:#06x}")


@functools.cache
def unverified(kind: type[Stack]) -> str:
    """Return what a client of *kind* fails to verify, or nothing: it refuses a root it does not trust, another name."""
    certificates = Certificates()
    missing = [
        what
        for what, how in (
            ("the chain", How(roots_pem=Certificates().roots_pem)),
            ("the name", How(name="other.test")),
        )
        if _accepts(kind(certificates, how))
    ]
    return " and ".join(missing)


def _accepts(stack: Stack) -> bool:
    try:
        handshake(stack.pair())
    except Exception:  # noqa: BLE001 - each library has its own
        return False
    return True
