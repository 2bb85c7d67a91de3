"""TLS 1.3 you can see through: the public names and nothing else.

`import pellucid` loads none of them: each comes with what it needs when it is first used, and so a program that only
imports this, or only names an exception of it, pays for nothing else.
"""

import importlib
from typing import TYPE_CHECKING, Final

from pellucid._version import __version__
from pellucid.errors import Explanation, explain_with

if TYPE_CHECKING:
    from pellucid import aio as aio
    from pellucid import asyncio as asyncio
    from pellucid import uvicorn as uvicorn
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
        InternalError,
        PeerError,
        TLSError,
        TruncatedStream,
        UsageError,
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
    from pellucid.integrations.logging import log_to as log_to
    from pellucid.integrations.ssl_context import SSLContext as SSLContext
    from pellucid.integrations.ssl_default import create_default_context as create_default_context
    from pellucid.integrations.ssl_install import install as install
    from pellucid.integrations.ssl_install import installed as installed
    from pellucid.integrations.ssl_install import uninstall as uninstall
    from pellucid.integrations.tls_buffer import TLSBuffer as TLSBuffer
    from pellucid.integrations.trace_of import trace_of as trace_of
    from pellucid.net.listener import Listener, listen
    from pellucid.net.reload import CredentialError as CredentialError
    from pellucid.net.reload import ReloadingConfig as ReloadingConfig
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

_HOMES: Final = {
    "pellucid.config": (
        "ClientAuthentication",
        "ClientConfig",
        "ConfigSource",
        "Credential",
        "ServerConfig",
        "pad_to_multiple",
    ),
    "pellucid.connection": ("Connection",),
    "pellucid.crypto.provider": (
        "CryptoProvider",
        "PENDING",
    ),
    "pellucid.crypto.pyca": ("PYCA",),
    "pellucid.errors": (
        "AlertReceived",
        "InternalError",
        "PeerError",
        "TLSError",
        "TruncatedStream",
        "UsageError",
    ),
    "pellucid.events": (
        "ApplicationData",
        "CertificateRequested",
        "CloseNotify",
        "CredentialNeeded",
        "EarlyData",
        "EarlyDataAccepted",
        "Event",
        "FirstUseNeeded",
        "HandshakeComplete",
        "KeyUpdated",
        "NEED_DATA",
        "PeerAuthenticated",
        "SignatureNeeded",
        "TicketNeeded",
        "TicketReceived",
        "VerificationNeeded",
    ),
    "pellucid.handshake.actions": (
        "EarlyDataOutcome",
        "Negotiated",
    ),
    "pellucid.integrations.logging": ("log_to",),
    "pellucid.integrations.ssl_context": ("SSLContext",),
    "pellucid.integrations.ssl_default": ("create_default_context",),
    "pellucid.integrations.ssl_install": (
        "install",
        "installed",
        "uninstall",
    ),
    "pellucid.integrations.tls_buffer": ("TLSBuffer",),
    "pellucid.integrations.trace_of": ("trace_of",),
    "pellucid.net.listener": (
        "Listener",
        "listen",
    ),
    "pellucid.net.reload": (
        "CredentialError",
        "ReloadingConfig",
    ),
    "pellucid.net.session_file": ("FileSessionStore",),
    "pellucid.net.sync": (
        "Stream",
        "connect",
        "wrap",
    ),
    "pellucid.registry": (
        "CertificateType",
        "PskKeyExchangeMode",
    ),
    "pellucid.sessions": (
        "ClientSession",
        "ExternalPsk",
        "MemoryServerSessions",
        "MemorySessionStore",
        "ServerSession",
        "SessionKey",
        "StrikeRegister",
        "TicketKeys",
    ),
    "pellucid.trace": ("Role",),
    "pellucid.verify.raw_keys": ("RawPublicKeyVerifier",),
    "pellucid.verify.report": (
        "CertificateRejected",
        "VerificationReport",
        "VerifiedPeer",
    ),
    "pellucid.verify.revocation": ("RevocationPolicy",),
    "pellucid.verify.trust": ("TrustStore",),
}
"""module → the public names that it has"""

_MODULE_OF: Final = {name: module for module, names in _HOMES.items() for name in names}
_ROOMS: Final = frozenset(
    {"aio", "asyncio", "config", "crypto", "errors", "events", "explain", "handshake", "integrations", "limits", "net"}
    | {"registry", "sessions", "signers", "testing", "trace", "uvicorn", "verify"}
)
"""modules that `import pellucid` is enough for"""


def _explained(error: BaseException) -> Explanation:
    """Return the diagnosis of *error*. What makes it is loaded when the first one is asked for."""
    diagnosis: Explanation = importlib.import_module("pellucid.explain.diagnosis.diagnose").diagnose(error)
    return diagnosis


explain_with(_explained)


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(f"pellucid.{name}")
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
