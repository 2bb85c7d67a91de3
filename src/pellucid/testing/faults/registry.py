"""The table of all faults, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pellucid.errors import UsageError
from pellucid.testing.faults.certificates import CERTIFICATES
from pellucid.testing.faults.fault import Fault
from pellucid.trace import Role

__all__ = ["FAULTS", "fault_named"]

_ALL: Final = (*CERTIFICATES,)

FAULTS: Final[Mapping[str, Fault]] = MappingProxyType({fault.name: fault for fault in _ALL})
"""name → fault: those of servers by kind, then those of clients"""


def fault_named(name: str, side: Role) -> Fault:
    """Return the fault *name* of that *side*. Raises UsageError, with the names that are near, if there is none."""
    fault = FAULTS.get(name)
    if fault is None or fault.side is not side:
        raise UsageError(f"there is no fault {name!r} of a {side.value}")
    return fault
