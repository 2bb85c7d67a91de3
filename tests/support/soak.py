"""How long the tests go on that could go on for ever: shortly in `make test`, for long in `make soak`."""

from __future__ import annotations

import os
from typing import Final

SOAK: Final = bool(os.environ.get("PELLUCID_SOAK"))
SOAK_TIMES: Final = 20
"""what `make soak` multiplies the examples with"""


def examples(count: int) -> int:
    """Return how many examples Hypothesis shall try: *count*, or SOAK_TIMES as many in a soak."""
    return count * SOAK_TIMES if SOAK else count
