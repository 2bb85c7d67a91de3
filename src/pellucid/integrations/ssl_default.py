"""`pellucid.create_default_context`: what `ssl.create_default_context` gives, by Pellucid."""

from __future__ import annotations

import os
import ssl
import sys

from pellucid.crypto.provider import Buffer
from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_trust import FilePath

__all__ = ["create_default_context", "default_context"]


def create_default_context(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
    *,
    cafile: FilePath | None = None,
    capath: FilePath | None = None,
    cadata: str | Buffer | None = None,
) -> SSLContext:
    """Return an SSLContext for clients, which verifies servers; with *purpose* CLIENT_AUTH one for servers.

    cafile, capath, cadata: roots to trust, as `SSLContext.load_verify_locations` has them; without any, a client trusts
    the system's. SSLKEYLOGFILE in the environment names the key log, as for `ssl`. Raises TypeError for another
    purpose, OSError for a file that cannot be read, ConfigurationError where there is no root.
    """
    return default_context(SSLContext, purpose, cafile, capath, cadata)


def default_context(
    kind: type[SSLContext],
    purpose: ssl.Purpose,
    cafile: FilePath | None,
    capath: FilePath | None,
    cadata: str | Buffer | None,
) -> SSLContext:
    """Return that as a *kind* of SSLContext."""
    if not isinstance(purpose, ssl.Purpose):
        raise TypeError(purpose)
    server = purpose == ssl.Purpose.CLIENT_AUTH
    context = kind(int(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT))
    if cafile or capath or cadata:
        context.load_verify_locations(cafile, capath, cadata)
    elif not server:
        context.load_default_certs(purpose)
    take_key_log_file(context)
    return context


def take_key_log_file(context: SSLContext) -> None:
    """Have *context* write its keys where the environment says, unless Python is to look at none (-E, -I)."""
    path = os.environ.get("SSLKEYLOGFILE")
    if path and not sys.flags.ignore_environment:
        context.keylog_filename = path
