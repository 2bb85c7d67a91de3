"""How long the tests go on that could go on for ever: shortly in `make test`, for long in `make soak`."""

from __future__ import annotations

import os
from typing import Final

SOAK: Final = bool(os.environ.get("PELLUCID_SOAK"))
SOAK_TIMES: Final = 20
"""what `make soak` multiplies the examples with"""


def examples(count: int, soak: int = 0) -> int:
    """Return how many examples Hypothesis shall try: *count*; in a soak *soak*, or SOAK_TIMES as many."""
    return (soak or count * SOAK_TIMES) if SOAK else count


def times(short: int, long: int) -> int:
    """Return how often a test shall do what it does: *short*, or *long* in a soak."""
    return long if SOAK else short
