"""The table of all faults, by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from pellucid.errors import UsageError
from pellucid.testing.faults.certificates import CERTIFICATES
from pellucid.testing.faults.clients import CLIENTS
from pellucid.testing.faults.fault import Fault
from pellucid.testing.faults.hellos import HELLOS
from pellucid.testing.faults.proofs import PROOFS
from pellucid.testing.faults.records import RECORDS, flipped_tag
from pellucid.testing.faults.transport import TRANSPORT
from pellucid.trace import Role

__all__ = ["FAULTS", "fault_named"]

_ALL: Final = (*TRANSPORT, *CERTIFICATES, *HELLOS, *PROOFS, *RECORDS, *CLIENTS)

_FLIPPED: Final = re.compile("flipped-tag-([1-9][0-9]?)")

FAULTS: Final[Mapping[str, Fault]] = MappingProxyType({fault.name: fault for fault in _ALL})
"""name → fault: those of servers by kind, then those of clients"""


def fault_named(name: str, side: Role) -> Fault:
    """Return the fault *name* of that *side*. Raises UsageError, with the names that are near, if there is none."""
    fault = FAULTS.get(name) or _numbered(name)
    if fault is not None and fault.side is side:
        return fault
    names = [fault.name for fault in FAULTS.values() if fault.side is side]
    near = difflib.get_close_matches(name, names, n=3)
    meant = f": did you mean {', '.join(near)}?" if near else ""
    raise UsageError(f"there is no fault {name!r} of a {side.value}{meant}")


def _numbered(name: str) -> Fault | None:
    """Return the fault of "flipped-tag-7", which no table has for every number."""
    match = _FLIPPED.fullmatch(name)
    if match is None:
        return None
    base, number = FAULTS["flipped-tag"], int(match[1])
    return replace(
        base,
        name=name,
        summary=f"a bit of record {number} of its answer is flipped",
        recipe=replace(base.recipe, answer=flipped_tag(number)),
    )
