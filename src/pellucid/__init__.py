"""TLS 1.3 you can see through: the public names and nothing else.

`aio`, `asyncio`, `uvicorn`, `SSLContext` and others are loaded when first used: they need more than the core does.
"""

import importlib
from typing import TYPE_CHECKING

from pellucid._version import __version__
from pellucid.config import (
    ClientAuthentication,
    ClientConfig,
    ConfigSource,
    Credential,
    ServerConfig,
    pad_to_multiple,
)
from pellucid.connection import Connection
from pellucid.crypto.provider import PENDING, CryptoProvider
from pellucid.crypto.pyca import PYCA
from pellucid.errors import (
    AlertReceived,
    Explanation,
    InternalError,
    PeerError,
    TLSError,
    TruncatedStream,
    UsageError,
    explain_with,
)
from pellucid.events import (
    NEED_DATA,
    ApplicationData,
    CertificateRequested,
    CloseNotify,
    CredentialNeeded,
    EarlyData,
    EarlyDataAccepted,
    Event,
    FirstUseNeeded,
    HandshakeComplete,
    KeyUpdated,
    PeerAuthenticated,
    SignatureNeeded,
    TicketNeeded,
    TicketReceived,
    VerificationNeeded,
)
from pellucid.handshake.actions import EarlyDataOutcome, Negotiated
from pellucid.net.listener import Listener, listen
from pellucid.net.session_file import FileSessionStore
from pellucid.net.sync import Stream, connect, wrap
from pellucid.registry import CertificateType, PskKeyExchangeMode
from pellucid.sessions import (
    ClientSession,
    ExternalPsk,
    MemoryServerSessions,
    MemorySessionStore,
    ServerSession,
    SessionKey,
    StrikeRegister,
    TicketKeys,
)
from pellucid.trace import Role
from pellucid.verify.raw_keys import RawPublicKeyVerifier
from pellucid.verify.report import CertificateRejected, VerificationReport, VerifiedPeer
from pellucid.verify.revocation import RevocationPolicy
from pellucid.verify.trust import TrustStore

if TYPE_CHECKING:
    from pellucid import aio as aio
    from pellucid import asyncio as asyncio
    from pellucid import uvicorn as uvicorn
    from pellucid.integrations.logging import log_to as log_to
    from pellucid.integrations.ssl_context import SSLContext as SSLContext
    from pellucid.integrations.ssl_default import create_default_context as create_default_context
    from pellucid.integrations.ssl_install import install as install
    from pellucid.integrations.ssl_install import installed as installed
    from pellucid.integrations.ssl_install import uninstall as uninstall
    from pellucid.integrations.tls_buffer import TLSBuffer as TLSBuffer
    from pellucid.integrations.trace_of import trace_of as trace_of
    from pellucid.net.reload import CredentialError as CredentialError
    from pellucid.net.reload import ReloadingConfig as ReloadingConfig

__all__ = [
    "NEED_DATA",
    "PENDING",
    "PYCA",
    "AlertReceived",
    "ApplicationData",
    "CertificateRejected",
    "CertificateRequested",
    "CertificateType",
    "ClientAuthentication",
    "ClientConfig",
    "ClientSession",
    "CloseNotify",
    "ConfigSource",
    "Connection",
    "Credential",
    "CredentialError",
    "CredentialNeeded",
    "CryptoProvider",
    "EarlyData",
    "EarlyDataAccepted",
    "EarlyDataOutcome",
    "Event",
    "ExternalPsk",
    "FileSessionStore",
    "FirstUseNeeded",
    "HandshakeComplete",
    "InternalError",
    "KeyUpdated",
    "Listener",
    "MemoryServerSessions",
    "MemorySessionStore",
    "Negotiated",
    "PeerAuthenticated",
    "PeerError",
    "PskKeyExchangeMode",
    "RawPublicKeyVerifier",
    "ReloadingConfig",
    "RevocationPolicy",
    "Role",
    "SSLContext",
    "ServerConfig",
    "ServerSession",
    "SessionKey",
    "SignatureNeeded",
    "Stream",
    "StrikeRegister",
    "TLSBuffer",
    "TLSError",
    "TicketKeys",
    "TicketNeeded",
    "TicketReceived",
    "TruncatedStream",
    "TrustStore",
    "UsageError",
    "VerificationNeeded",
    "VerificationReport",
    "VerifiedPeer",
    "__version__",
    "aio",
    "asyncio",
    "connect",
    "create_default_context",
    "install",
    "installed",
    "listen",
    "log_to",
    "pad_to_multiple",
    "trace_of",
    "uninstall",
    "uvicorn",
    "wrap",
]

_LAZY = {
    "aio": "pellucid.aio",
    "asyncio": "pellucid.asyncio",
    "CredentialError": "pellucid.net.reload",
    "ReloadingConfig": "pellucid.net.reload",
    "SSLContext": "pellucid.integrations.ssl_context",
    "TLSBuffer": "pellucid.integrations.tls_buffer",
    "log_to": "pellucid.integrations.logging",
    "create_default_context": "pellucid.integrations.ssl_default",
    "install": "pellucid.integrations.ssl_install",
    "installed": "pellucid.integrations.ssl_install",
    "trace_of": "pellucid.integrations.trace_of",
    "uninstall": "pellucid.integrations.ssl_install",
    "uvicorn": "pellucid.uvicorn",
}


def _explained(error: BaseException) -> Explanation:
    """Return the diagnosis of *error*. What makes it is loaded when the first one is asked for."""
    diagnosis: Explanation = importlib.import_module("pellucid.explain.diagnosis.diagnose").diagnose(error)
    return diagnosis


explain_with(_explained)


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    return module if name in {"aio", "asyncio", "uvicorn"} else getattr(module, name)
