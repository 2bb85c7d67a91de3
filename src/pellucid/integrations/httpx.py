"""Transports for httpx: `httpx.Client(transport=HTTPTransport())`. Errors keep their report, 0-RTT can be sent.

Each takes a `pellucid.SSLContext` (None: the default one), and beside it what httpx's transport of that name takes.
"""

from __future__ import annotations

from types import ModuleType
from typing import ClassVar

import httpcore
import httpx

from pellucid.integrations import http_transport

__all__ = ["AsyncHTTPTransport", "HTTPTransport"]


class HTTPTransport(http_transport.Transport, httpx.HTTPTransport):
    """An `httpx.HTTPTransport` over Pellucid. What it raises is httpx's error and ours: `error.report` is there."""

    library: ClassVar[ModuleType] = httpx
    core: ClassVar[ModuleType] = httpcore


class AsyncHTTPTransport(http_transport.AsyncTransport, httpx.AsyncHTTPTransport):
    """An `httpx.AsyncHTTPTransport` over Pellucid, on asyncio and trio."""

    library: ClassVar[ModuleType] = httpx
    core: ClassVar[ModuleType] = httpcore
