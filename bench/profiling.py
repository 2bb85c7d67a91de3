"""`python -m bench profile [KIND]`: what a handshake's time is spent on, by part of the house.

A timer interrupts handshakes every millisecond of processor time; each time counts for the innermost function of ours.
What cryptography does counts for who called it, so that the primitives stand apart. Shares are what can be compared
between runs; a sample that falls into C code may count for the function that runs next.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections import Counter
from types import FrameType

from bench.peers.interface import Certificates, How, handshake, resumed
from bench.peers.ours import PellucidStack

KINDS = {"full": How(), "cached": How(cached=True), "resumed": How(resume=True)}
EVERY_SECONDS = 0.001
OURS = "pellucid/"

PARTS = (
    ("cryptography: X25519", ("crypto/groups.py",)),
    ("cryptography: ECDSA", ("crypto/signatures.py",)),
    ("key schedule, AEAD keys, hashes", ("schedule.py", "transcript.py", "handshake/secrets.py", "record/protect.py")),
    ("verification, our part", ("verify/", "crypto/certificates.py")),
    ("messages", ("wire.py", "inlined.py", "messages/")),
    (
        "records, connection",
        ("record/", "connection.py", "carrier.py", "early.py", "direct.py", "extraction.py", "handshaking.py"),
    ),
    ("state machine, negotiation", ("",)),
)
"""part → how the names of its files begin, below the package; the first that fits counts"""
CHAIN = "cryptography: chain"


def part_of(frame: FrameType | None) -> str:
    """Return the part of the house that *frame* works for."""
    while frame is not None:
        name, function = frame.f_code.co_filename, frame.f_code.co_name
        if function == "_ask" and name.endswith("verify/webpki.py"):
            return CHAIN
        if name.startswith("<") and not name.startswith(("<frozen", "<string>")):
            return "messages"  # compiled from the declarations
        if OURS in name:
            below = name.rpartition(OURS)[2]
            return next(part for part, beginnings in PARTS if below.startswith(beginnings))
        frame = frame.f_back
    return "the bench"


def profile(kind: str, seconds: float) -> tuple[float, Counter[str]]:
    """Return the µs of a handshake and how many samples fell into each part."""
    stack = PellucidStack(Certificates(), KINDS[kind])
    work = resumed if KINDS[kind].resume else handshake
    found: Counter[str] = Counter()
    for _ in range(20):
        work(stack.pair())
    before = signal.signal(signal.SIGPROF, lambda _number, frame: found.update((part_of(frame),)))
    signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)
    start, done = time.process_time(), 0
    try:
        while time.process_time() - start < seconds:
            work(stack.pair())
            done += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return (time.process_time() - start) / done * 1e6, found


def main(arguments: list[str]) -> int:
    """Print the shares of each kind of handshake."""
    parser = argparse.ArgumentParser(
        prog="python -m bench profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", metavar="KIND", nargs="*", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each; default: %(default)s")
    options = parser.parse_args(arguments)
    if wrong := set(options.kinds) - set(KINDS):
        parser.error(f"no such kind: {', '.join(sorted(wrong))}")
    for kind in options.kinds or KINDS:
        per, found = profile(kind, options.seconds)
        print(f"{kind} handshake, both ends: {per:,.0f} µs")
        for part, count in found.most_common():
            share = count / found.total()
            print(f"    {share:>5.0%}  {share * per:>6,.0f} µs  {part}")
    return 0
