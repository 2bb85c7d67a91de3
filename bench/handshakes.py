"""Handshakes a second, both ends in memory: full, to a host verified before, resumed, with early data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from bench.harness import Measure, Peers, Round, Sample, Scale, enough, opened
from bench.peers import ALL, HYBRID, MAIN, Certificates, CrossedStack, How, PellucidStack, RecordedStack, Stack, ready
from bench.peers.interface import Pair, handshake, resumed

GROUP = "handshakes, in memory"
ROUND_SECONDS = 0.06
APART = 8
"""one in so many handshakes more is timed turn by turn: the clock's own time would show in all of them"""
REQUEST = bytes(500)

FULL = "full handshake, x25519, ECDSA P-256"
CACHED = "full handshake, host verified minutes ago"
KEM = "full handshake, X25519MLKEM768"
RSA = "full handshake, RSA-2048"
RESUMED = "resumed handshake"
EARLY = "resumed handshake and its request"
RECORDED = "full handshake, recorders on"


def measures(scale: Scale) -> Iterable[Measure]:
    names = scale.peers or (ALL if scale.full else MAIN)
    rounds = scale.rounds

    def full(name: str, how: How, key: Any = "p256", **more: Any) -> Measure:
        return Measure(
            name=name, group=GROUP, unit="/s", better="higher", rounds=rounds, open=peers(names, how, key), **more
        )

    yield full(FULL, How(), floor=1.4, record=1.8, beside={"rtls": 1.0})
    yield full(CACHED, How(cached=True), floor=2.2, record=2.8, beside={"utls": 1.0})
    yield full(KEM, How(group=HYBRID), floor=0.9, record=1.1, baseline="pyOpenSSL")
    yield full(RSA, How(), "rsa2048")
    yield full(RESUMED, How(resume=True), floor=1.6, record=2.0)
    yield full(EARLY, How(resume=True, early=len(REQUEST)), note="500 bytes; 0-RTT where there is that")
    yield Measure(
        name=RECORDED, group=GROUP, unit="/s", better="higher", rounds=rounds, baseline="pellucid", ours="recorded",
        floor=0.7, open=recorders(scale), note="against ours with the trace off",
    )  # fmt: skip


def peers(names: Iterable[str], how: How, key: Any = "p256") -> Callable[[], Any]:
    """Return an `open` with each peer's handshakes. Early data is sent by who can; the others send it afterwards."""

    def make() -> Peers:
        certificates = Certificates(key)
        found: dict[str, Round | str] = {}
        for name in names:
            later = how.early > 0 and name != "pellucid"
            if later and name == "aioquic.tls":
                found[name] = "has no records: they are QUIC's"
                continue
            stack = ready(name, certificates, How(resume=True) if later else how)
            found[name] = stack if isinstance(stack, str) else handshakes(stack, REQUEST if later else b"")
        return found

    return opened(make)


def handshakes(stack: Stack, request: bytes = b"", seconds: float = ROUND_SECONDS) -> Round:
    """Return a round of *stack*'s handshakes: how many a second, and the µs of client and server apart.

    request: is sent when the handshake is complete.
    """
    if isinstance(stack, CrossedStack):
        return _crossed(stack, seconds)
    work = resumed if stack.how.resume else handshake
    if request:
        work = _then(request)

    def one() -> None:
        work(stack.pair())

    for _ in range(3):  # the first has no session
        one()
    count = enough(one, seconds)

    def one_round() -> Sample:
        start = time.process_time()
        for _ in range(count):
            work(stack.pair())
        return Sample(count / (time.process_time() - start), apart(stack, count // APART + 1))

    return one_round


def _then(request: bytes) -> Callable[[Pair], None]:
    def work(pair: Pair) -> None:
        handshake(pair)
        pair.send(request)
        pair.take_ticket()

    return work


def apart(stack: Stack, count: int) -> dict[str, float]:
    """Return the µs that client and server take of a handshake. What makes the pair is put down to both in halves."""
    clock = time.process_time
    client = server = 0.0
    for _ in range(count):
        start = clock()
        pair = stack.pair()
        made = clock()
        pair.client_turn()
        first = clock()
        pair.server_turn()
        second = clock()
        pair.client_turn()
        third = clock()
        pair.server_turn()
        fourth = clock()
        pair.completed()
        if stack.how.resume:
            pair.take_ticket()
        client += (made - start) / 2 + (first - made) + (third - second) + (clock() - fourth)
        server += (made - start) / 2 + (second - first) + (fourth - third)
    return {"client": client / count * 1e6, "server": server / count * 1e6}


def _crossed(stack: CrossedStack, seconds: float) -> Round:
    """The same for ends that talk to ours: the pair counts what its own ends take."""
    count = enough(lambda: handshake(stack.pair()), seconds * 3)

    def one_round() -> Sample:
        client = server = 0.0
        for _ in range(count):
            pair = stack.pair()
            handshake(pair)
            client += pair.client_seconds
            server += pair.server_seconds
        return Sample(count / (client + server), {"client": client / count * 1e6, "server": server / count * 1e6})

    return one_round


def recorders(scale: Scale) -> Callable[[], Any]:
    """Return an `open` with ours twice: with and without recorders."""

    def make() -> Peers:
        kinds = {"pellucid": PellucidStack, "recorded": RecordedStack}
        certificates = Certificates()
        return {name: handshakes(kind(certificates)) for name, kind in kinds.items() if name in (scale.peers or kinds)}

    return opened(make)
