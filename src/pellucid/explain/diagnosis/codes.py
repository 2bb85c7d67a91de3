"""All codes of a diagnosis. Their names are stable: programs compare them, people search for them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pellucid.explain.diagnosis.code import Code
from pellucid.explain.diagnosis.codes_alerts import ALERTS
from pellucid.explain.diagnosis.codes_certificates import CERTIFICATES
from pellucid.explain.diagnosis.codes_protocol import PROTOCOL
from pellucid.explain.diagnosis.codes_transport import TRANSPORT

__all__ = ["CODES", "find_code", "near_misses"]

CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {one.code: one for one in (*TRANSPORT, *CERTIFICATES, *PROTOCOL, *ALERTS)}
)
"""code → what it means; in the order of a connection: transport, certificates, protocol, the peer's alerts"""


def find_code(text: str) -> Code | None:
    """Return the code that *text* names, whatever its case and with blanks or underscores for hyphens."""
    return CODES.get("-".join(text.upper().replace("_", " ").replace("-", " ").split()))


def near_misses(text: str) -> tuple[str, ...]:
    """Return up to three codes that *text* may have meant."""
    wanted = text.upper().replace("_", "-").replace(" ", "-")
    inside = [name for name in CODES if wanted and wanted in name]
    close = difflib.get_close_matches(wanted, CODES, n=3, cutoff=0.75)
    return tuple(dict.fromkeys((*close, *inside)))[:3]
