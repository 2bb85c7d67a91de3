"""The shim of BoringSSL's TLS test runner over Pellucid: one call of `main` is one test.

`python -m tests.conformance.shim FLAGS…` works by itself; `make conformance` keeps it warm (warm.py).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from pellucid.errors import TLSError
from tests.conformance.configure import Memory, Refused, setup
from tests.conformance.errors import name_of
from tests.conformance.exchange import run_connection
from tests.conformance.expectations import Mismatch
from tests.conformance.flags import Phases, UnknownFlag, parse

FAILED: Final = 1
UNIMPLEMENTED: Final = 89


def main(arguments: Sequence[str]) -> int:
    """Run one test. Returns the exit code; what went wrong stands on standard error."""
    try:
        phases = parse(arguments)
    except UnknownFlag as error:
        print(f"unknown flag: {error}")
        return UNIMPLEMENTED
    if phases.initial.is_handshaker_supported:
        print("No")
        return 0
    try:
        _run(phases)
    except TLSError as error:
        print(f"{name_of(error)}\n{error!r} {error}", file=sys.stderr)
        return FAILED
    except (Mismatch, Refused, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return 0


def _run(phases: Phases) -> None:
    memory = Memory()
    for number in range(phases.initial.resume_count + 1):
        flags = phases.resume if number else phases.initial
        if number and not flags.server and memory.client_sessions.session is None:
            raise Mismatch("there is no session to offer")
        run_connection(flags, phases.retry, setup(flags, memory), memory, resumed=number > 0)
        memory.clock.advance(flags.resumption_delay)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
