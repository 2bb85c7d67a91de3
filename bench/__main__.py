"""`make bench`: speed as a ratio to stdlib ssl, both in one process and in memory.

Rounds of the two stacks alternate, and each ratio is the median over the rounds of neighbours: what else the machine
does hits both alike. The last measure is ours against ours: what a recorder at either end costs. Time is the process's
CPU time. `python -m bench ttfb` measures the time to the first byte over a path with a delay: wall-clock time.
`python -m bench compare REV` sets this tree beside another commit. `python -m bench asyncio` measures event loops.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cryptography

from bench import compare, loopback, ttfb
from bench.peers import Certificates, PellucidStack, RecordedStack, Stack, StdlibStack

RECORDED = "full handshake, recorders on, against trace off"

# What is aimed at, as a ratio to ssl; None: measured, nothing promised. The run fails below, less what noise may take.
FLOORS: dict[str, float | None] = {
    "full handshake, ECDSA P-256 leaf + intermediate": 1.0,
    "full handshake, RSA-2048 leaf + intermediate": None,
    "resumed handshake, x25519": 1.2,
    "bulk AES-128-GCM, 1 MiB writes": 1.5,
    "bulk AES-128-GCM, 16 KiB writes": None,
    "ping-pong, 100 bytes": 0.6,
    RECORDED: 0.7,
}


def rounds(stacks: tuple[Stack, Stack], work: Callable[[Stack], Callable[[], None]], count: int, repeat: int) -> dict:
    """Return per-operation seconds of each stack and the ratio of the second to the first, as medians of *repeat*."""
    runs = {stack.name: work(stack) for stack in stacks}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for i in range(repeat):
        order = list(runs.items())
        for name, run in order if i % 2 else reversed(order):
            start = time.process_time()
            for _ in range(count):
                run()
            seconds[name].append((time.process_time() - start) / count)
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "ratio": statistics.median(ratios),
        "spread": [quartiles[0], quartiles[2]],
        "microseconds": {name: statistics.median(values) * 1e6 for name, values in seconds.items()},
    }


def handshakes(stack: Stack) -> Callable[[], None]:
    return lambda: stack.pair().handshake()


def resumptions(stack: Stack) -> Callable[[], None]:
    return lambda: stack.resumed_pair().handshake()


def bulk(size: int) -> Callable[[Stack], Callable[[], None]]:
    def work(stack: Stack) -> Callable[[], None]:
        pair, data = stack.pair(), bytes(size)
        pair.handshake()
        return lambda: pair.send(data)

    return work


def ping_pong(stack: Stack) -> Callable[[], None]:
    pair, data = stack.pair(), bytes(100)
    pair.handshake()
    return lambda: pair.ping_pong(data)


def measure(quick: bool) -> dict:
    """Run every measure; *quick* takes fewer rounds."""
    repeat = 7 if quick else 21
    ecdsa, rsa = Certificates("p256"), Certificates("rsa2048")
    pairs = (StdlibStack(ecdsa), PellucidStack(ecdsa))
    work = {
        "full handshake, ECDSA P-256 leaf + intermediate": (pairs, handshakes, 100),
        "full handshake, RSA-2048 leaf + intermediate": ((StdlibStack(rsa), PellucidStack(rsa)), handshakes, 60),
        "resumed handshake, x25519": ((StdlibStack(ecdsa, 1), PellucidStack(ecdsa, 1)), resumptions, 150),
        "bulk AES-128-GCM, 1 MiB writes": (pairs, bulk(2**20), 60),
        "bulk AES-128-GCM, 16 KiB writes": (pairs, bulk(2**14), 2000),
        "ping-pong, 100 bytes": (pairs, ping_pong, 8000),
        RECORDED: ((PellucidStack(ecdsa), RecordedStack(ecdsa)), handshakes, 100),
    }
    facts = []
    for stack in pairs:
        pair = stack.pair()
        pair.handshake()
        facts.append(f"{stack.name}: {pair.facts()}")
    if "TLS_AES_128_GCM_SHA256" not in facts[0]:
        raise SystemExit(f"stdlib ssl did not take the suite it is to be measured with: {facts[0]}")
    results = {name: rounds(*arguments, repeat) for name, arguments in work.items()}
    return {
        "schema": 1,
        "python": platform.python_version(),
        "cryptography": cryptography.__version__,
        "stacks": facts,
        "results": results,
    }


def with_openssl_config() -> None:
    """Have OpenSSL take the same suite as we do. It reads that once, when it is loaded: begin again with it."""
    config = str(Path(__file__).with_name("openssl.cnf"))
    if os.environ.get("OPENSSL_CONF") != config:
        os.execve(sys.executable, [sys.executable, "-m", "bench", *sys.argv[1:]], os.environ | {"OPENSSL_CONF": config})


def main() -> int:
    if sys.argv[1:2] == ["ttfb"]:
        return ttfb.main(sys.argv[2:])
    if sys.argv[1:2] == ["compare"]:
        return compare.main(sys.argv[2:])
    if sys.argv[1:2] == ["asyncio"]:
        with_openssl_config()
        return loopback.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--slack", type=float, default=0.15, help="share below a floor that is put down to noise")
    options = parser.parse_args()
    with_openssl_config()
    report = measure(options.quick)
    print(f"Python {report['python']}, cryptography {report['cryptography']}")
    for line in report["stacks"]:
        print(line)
    print(f"\n{'':<50}{'ssl':>12}{'pellucid':>12}{'ratio':>9}{'quartiles':>14}{'floor':>8}")
    low = []
    for name, result in report["results"].items():
        (first, second), floor = result["microseconds"].values(), FLOORS[name]
        spread = "{:.2f}-{:.2f}".format(*result["spread"])
        print(
            f"{name:<50}{first:>9.1f} µs{second:>9.1f} µs{result['ratio']:>8.2f}×{spread:>14}"
            + ("" if floor is None else f"{floor:>7.2f}×")
        )
        if floor is not None and result["ratio"] < floor * (1 - options.slack):
            low.append(name)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    for name in low:
        print(f"below its floor: {name}", file=sys.stderr)
    return 1 if low else 0


if __name__ == "__main__":
    raise SystemExit(main())
