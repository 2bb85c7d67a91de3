"""Application data in memory: bulk by size and suite, and 100 bytes there and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from bench.harness import Measure, Peers, Round, Scale, enough, opened, per_second
from bench.peers import AES_128, AES_256, ALL, CHACHA, MAIN, Certificates, CrossedStack, How, Stack, ready
from bench.peers.interface import handshake

GROUP = "application data, in memory"
ROUND_SECONDS = 0.05
SIZES = {"16 KiB": 2**14, "64 KiB": 2**16, "1 MiB": 2**20}
SUITES = {"AES-128-GCM": AES_128, "AES-256-GCM": AES_256, "ChaCha20-Poly1305": CHACHA}
PING_PONG = "ping-pong, 100 bytes"
NO_RECORDS = "has no records: they are QUIC's"


def bulk_name(suite: str, size: str) -> str:
    return f"bulk {suite}, {size} writes"


def measures(scale: Scale) -> Iterable[Measure]:
    promised: dict[str, dict[str, Any]] = {
        bulk_name("AES-128-GCM", "1 MiB"): {"floor": 1.9, "record": 2.2, "beside": {"pyOpenSSL": 1.6}},
        bulk_name("ChaCha20-Poly1305", "1 MiB"): {"floor": 0.95, "record": 1.0},
    }
    names = scale.peers or (ALL if scale.full else MAIN)
    for suite, code in SUITES.items():
        for size, count in SIZES.items():
            name = bulk_name(suite, size)
            if scale.full or suite == "AES-128-GCM" or size == "1 MiB":
                yield Measure(
                    name=name, group=GROUP, unit="GB/s", better="higher", rounds=scale.rounds,
                    open=peers(names, How(suite=code), bulk(count)), **promised.get(name, {}),
                )  # fmt: skip
    yield Measure(
        name=PING_PONG, group=GROUP, unit="/s", better="higher", rounds=scale.rounds, floor=0.85, record=1.0,
        open=peers(names, How(), ping_pong),
    )  # fmt: skip


def peers(names: Iterable[str], how: How, work: Callable[[Stack], Round]) -> Callable[[], Any]:
    """Return an `open` with a round of *work* for each peer."""

    def make() -> Peers:
        certificates = Certificates()
        found: dict[str, Round | str] = {}
        for name in names:
            # Which group was agreed on does not matter here: a pair of its own is preferred to one with ours.
            stack = ready(name, certificates, how, groups=False)
            if name == "aioquic.tls":
                stack = NO_RECORDS
            found[name] = stack if isinstance(stack, str) else work(stack)
        return found

    return opened(make)


def bulk(size: int) -> Callable[[Stack], Round]:
    """Return what makes a round of writes of *size* bytes from client to server."""
    data = bytes(size)

    def work(stack: Stack) -> Round:
        pair = stack.pair()
        handshake(pair)
        if not isinstance(stack, CrossedStack):
            return per_second(lambda: pair.send(data), enough(lambda: pair.send(data), ROUND_SECONDS), size / 1e9)
        count = enough(lambda: pair.send(data), ROUND_SECONDS * 2)

        def one_round() -> float:
            pair.client_seconds = pair.server_seconds = 0.0
            for _ in range(count):
                pair.send(data)
            return count * size / 1e9 / float(pair.client_seconds + pair.server_seconds)

        return one_round

    return work


def ping_pong(stack: Stack) -> Round:
    """Return a round of 100 bytes there and back."""
    pair, data = stack.pair(), bytes(100)
    handshake(pair)
    return per_second(lambda: pair.ping_pong(data), enough(lambda: pair.ping_pong(data), ROUND_SECONDS))
