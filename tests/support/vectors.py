"""Reading the vectors in tests/vectors/data."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "vectors" / "data"


@functools.cache
def load(name: str) -> Any:
    """Return the JSON of a file in tests/vectors/data, gzipped or not."""
    raw = (DATA / name).read_bytes()
    return json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)


@functools.cache
def trace(name: str) -> dict[str, Any]:
    """Return one of RFC 8448's traces."""
    found: dict[str, Any] = next(trace for trace in load("rfc8448.json")["traces"] if trace["name"] == name)
    return found


def message(trace: dict[str, Any], role: str, kind: str, which: int = 0) -> bytes:
    """Return the *which*-th handshake message of this kind that *role* sent."""
    found = [m["bytes"] for m in trace["messages"] if (m["role"], m["type"]) == (role, kind)]
    return bytes.fromhex(found[which])
