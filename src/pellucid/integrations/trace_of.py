"""`pellucid.trace_of`: the record of a connection, found in whatever a library hands out for it.

Each library has its own way to the TLS object behind a response, stream or transport, and for some it leads through
their private parts. The ways are known here, so that no program needs to know them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pellucid.errors import UsageError
from pellucid.integrations.ssl_engine import Facts
from pellucid.trace import Observer

__all__ = ["facts_of", "trace_of"]

_MAX_STEPS: Final = 64

_ATTRIBUTES: Final = (
    "_ssl_object",  # trio's SSLStream
    "sslobj",  # urllib3's TLS in TLS
    "transport",  # websockets, aiosmtplib, aiohttp
    "sock",  # http.client, urllib3, smtplib, imaplib, ftplib
    "socket",  # websockets without asyncio
    "connection",  # aiohttp's and urllib3's responses
    "raw",  # requests' responses; files over a socket
    "fp",  # http.client's responses
    "_sock",  # what such a file reads from
    "_connection",
)
"""where libraries keep what leads to the TLS object"""


def trace_of(found: object) -> Observer | None:
    """Return the record of the connection behind *found*: the observer of `ClientConfig(trace=…)`, mostly a Recorder.

    found: a response of httpx, httpx2, requests, urllib3, aiohttp, http.client or urllib.request; a stream, writer,
           transport or connection of asyncio, uvloop, anyio, trio, httpcore, websockets, aiosmtplib, smtplib, imaplib,
           ftplib, …. A response leads there only as long as it has its connection: before it is read
           to its end with requests, urllib3, aiohttp, http.client and urllib.
    None:  nothing records it: neither has the configuration a `trace`, nor the context a callback (`on_handshake`).
    Raises UsageError where there is no connection of Pellucid's in *found*, or none any more.
    """
    facts = facts_of(found)
    if facts is None:
        raise UsageError(f"no connection of Pellucid's is to be found in this {type(found).__name__}, or none any more")
    if isinstance(facts, Facts):
        engine = facts._engine
        if engine is None:
            return None
        if engine.own is not None:
            return engine.own
        return None if engine.watch is None else engine.watch.recorder
    trace: Observer | None = facts.trace
    return trace


def facts_of(found: object) -> Any:  # Any: Facts, or what has the same names
    """Return the TLS object behind *found*, that of the innermost TLS; None if there is none of Pellucid's."""
    known: list[object] = []
    waiting = [found]
    while waiting and len(known) < _MAX_STEPS:
        one = waiting.pop(0)
        if any(one is other for other in known):
            continue
        if _is_ours(one):
            return one
        known.append(one)
        waiting += [inner for inner in _inside(one) if inner is not None]
    return None


def _is_ours(one: object) -> bool:
    if isinstance(one, Facts):
        return True
    return type(one).__module__.startswith("pellucid.") and hasattr(one, "trace") and hasattr(one, "negotiated")


def _inside(one: object) -> Iterator[object]:
    """Give what *one* may have its connection in, the likeliest first."""
    ask = _attribute(one, "get_extra_info")  # asyncio's transports and writers, httpcore's streams
    if callable(ask):
        yield ask("ssl_object")
    tls = sys.modules.get("anyio.streams.tls")
    extra = _attribute(one, "extra")
    if tls is not None and callable(extra) and isinstance(_attribute(one, "extra_attributes"), Mapping):
        yield extra(tls.TLSAttribute.ssl_object, None)
    extensions = _attribute(one, "extensions")  # httpx's and httpcore's responses
    if isinstance(extensions, Mapping):
        yield extensions.get("network_stream")
    for name in _ATTRIBUTES:
        yield _attribute(one, name)


def _attribute(one: object, name: str) -> object:
    """Return an attribute, None where there is none: some are properties that raise once a connection is released."""
    try:
        return getattr(one, name, None)
    except (AttributeError, LookupError, OSError, RuntimeError, ValueError):
        return None
