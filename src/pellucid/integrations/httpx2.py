"""Transports for httpx2: `httpx2.Client(transport=HTTPTransport())`. Errors keep their report, 0-RTT can be sent.

Each takes a `pellucid.SSLContext` (None: the default one), and beside it what httpx2's transport of that name takes.
"""

from __future__ import annotations

from types import ModuleType
from typing import ClassVar

import httpcore2
import httpx2

from pellucid.integrations import http_transport

__all__ = ["AsyncHTTPTransport", "HTTPTransport"]


class HTTPTransport(http_transport.Transport, httpx2.HTTPTransport):
    """An `httpx2.HTTPTransport` over Pellucid. What it raises is httpx2's error and ours: `error.report` is there."""

    library: ClassVar[ModuleType] = httpx2
    core: ClassVar[ModuleType] = httpcore2


class AsyncHTTPTransport(http_transport.AsyncTransport, httpx2.AsyncHTTPTransport):
    """An `httpx2.AsyncHTTPTransport` over Pellucid, on asyncio and trio."""

    library: ClassVar[ModuleType] = httpx2
    core: ClassVar[ModuleType] = httpcore2
