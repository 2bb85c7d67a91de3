"""Unmodified programs over Pellucid: `create_default_context`, and `ssl` itself with our context in its place.

What is put in its place, in `ssl` and in every module that has the same object under a name of its own (`from ssl import
SSLContext`): the class SSLContext and the functions that make one. Real contexts that were made before stay what they
are, and still pass for `ssl.SSLContext`; of the libraries that keep contexts made when they are imported, the known ones
get new ones (`_KEPT_CONTEXTS`). What cannot be reached: classes derived from the real one before, default values of
parameters, names within functions and instances. Interpreted programs that use OpenSSL past `ssl` are not reached either.
"""

from __future__ import annotations

import ssl
import sys

from pellucid.integrations.ssl_context import SSLContext
from pellucid.integrations.ssl_trust import FilePath

__all__ = ["create_default_context", "install", "installed", "uninstall"]


def create_default_context(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
    *,
    cafile: FilePath | None = None,
    capath: FilePath | None = None,
    cadata: str | bytes | None = None,
) -> SSLContext:
    """Return an SSLContext as `ssl.create_default_context` makes them: a client's, unless *purpose* is CLIENT_AUTH.

    cafile, capath, cadata: roots to trust; without any, a client trusts the system's.
    SSLKEYLOGFILE in the environment is where the secrets go, as with `ssl`.
    """
    return _default_context(SSLContext, purpose, cafile, capath, cadata)


def _default_context(
    kind: type[SSLContext],
    purpose: ssl.Purpose,
    cafile: FilePath | None,
    capath: FilePath | None,
    cadata: str | bytes | None,
) -> SSLContext:
    if not isinstance(purpose, ssl.Purpose):
        raise TypeError(purpose)
    server = purpose is ssl.Purpose.CLIENT_AUTH
    context = kind(int(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT))
    if cafile or capath or cadata:
        context.load_verify_locations(cafile, capath, cadata)
    elif not server:
        context.load_default_certs(purpose)
    if keylog := _key_log_file():
        context.keylog_filename = keylog
    return context


def _key_log_file() -> str | None:
    return None if sys.flags.ignore_environment else os.environ.get("SSLKEYLOGFILE")
