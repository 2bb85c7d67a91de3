"""Every peer behind one interface, in memory. `peer(name)` gives the stack's class, or why there is none."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bench.peers.bio import BioStack, StdlibStack
from bench.peers.crossed import CrossedStack
from bench.peers.interface import (
    AES_128,
    AES_256,
    CHACHA,
    HYBRID,
    NOT_INSTALLED,
    PLAIN,
    X25519,
    Certificates,
    How,
    NotAsAskedError,
    Pair,
    Stack,
)
from bench.peers.ours import PellucidStack, RecordedStack
from bench.peers.proof import proven, unverified

__all__ = [
    "AES_128",
    "AES_256",
    "ALL",
    "CHACHA",
    "HYBRID",
    "MAIN",
    "NOT_INSTALLED",
    "PLAIN",
    "X25519",
    "Certificates",
    "CrossedStack",
    "How",
    "NotAsAskedError",
    "Pair",
    "PellucidStack",
    "RecordedStack",
    "Stack",
    "StdlibStack",
    "peer",
    "ready",
]

_WHERE = {
    "ssl": ("ssl", "bio", "StdlibStack"),
    "pyOpenSSL": ("OpenSSL", "openssl", "PyOpenSSLStack"),
    "rtls": ("rtls", "bio", "RtlsStack"),
    "utls": ("utls", "bio", "UtlsStack"),
    "siotls": ("siotls", "siotls", "SiotlsStack"),
    "tlslite-ng": ("tlslite", "tlslite", "TlsliteStack"),
    "aioquic.tls": ("aioquic", "aioquic", "AioquicStack"),
    "pellucid": ("pellucid", "ours", "PellucidStack"),
}
"""name → (what has to be installed, module here, class)"""

ALL = tuple(_WHERE)
MAIN = ("ssl", "pyOpenSSL", "rtls", "utls", "pellucid")
"""whom `make bench` measures: those that the records name. The others are slow, and wait for `make bench-full`."""


def peer(name: str) -> type[Stack] | str:
    """Return the class, or "not installed"."""
    needs, module, kind = _WHERE[name]
    if find_spec(needs) is None:
        return NOT_INSTALLED
    found: type[Stack] = getattr(import_module(f"bench.peers.{module}"), kind)
    return found


def ready(name: str, certificates: Certificates, how: How, *, groups: bool = True) -> Any:
    """Return a stack that was seen to do what *how* says and to verify, or the reason why there is none.

    One that insists on a suite or a group of its own is measured against our ends, where that can be (`crossed`).
    groups: whether the group matters.
    """
    kind = peer(name)
    if isinstance(kind, str):
        return kind
    if lacking := kind.lacks(how):
        return lacking
    if missing := unverified(kind):
        return f"does not verify {missing}"
    stack: Stack = kind(certificates, how)
    try:
        proven(stack, how, groups=groups)
    except NotAsAskedError as error:
        if not issubclass(kind, BioStack):
            return str(error)
        stack = CrossedStack(kind, certificates, how)
        try:
            proven(stack, how)
        except NotAsAskedError as error:
            return str(error)
    return stack
