"""The standard library's own SSLContext, whatever stands in its place: truststore's, or ours (`ssl_install`)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

__all__ = ["RealContext", "real_context"]


def real_context(shown: type) -> type:
    """Return the class of the standard library among the bases of *shown*; *shown* itself if there is none."""
    return next((kind for kind in shown.__mro__ if kind.__module__ == "ssl"), shown)


if TYPE_CHECKING:
    RealContext = ssl.SSLContext
else:
    RealContext = real_context(ssl.SSLContext)
