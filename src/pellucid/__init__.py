"""TLS 1.3 you can see through: the public names and nothing else."""

from pellucid._version import __version__
from pellucid.config import ClientAuthentication, ClientConfig, Credential, ServerConfig, pad_to_multiple
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
    CloseNotify,
    CredentialNeeded,
    Event,
    HandshakeComplete,
    KeyUpdated,
    SignatureNeeded,
    TicketReceived,
    VerificationNeeded,
)
from pellucid.handshake.actions import Negotiated
from pellucid.verify.report import CertificateRejected, VerificationReport, VerifiedPeer
from pellucid.verify.trust import TrustStore

__all__ = [
    "NEED_DATA",
    "PENDING",
    "PYCA",
    "AlertReceived",
    "ApplicationData",
    "CertificateRejected",
    "ClientAuthentication",
    "ClientConfig",
    "CloseNotify",
    "Connection",
    "Credential",
    "CredentialNeeded",
    "CryptoProvider",
    "Event",
    "HandshakeComplete",
    "InternalError",
    "KeyUpdated",
    "Negotiated",
    "PeerError",
    "ServerConfig",
    "SignatureNeeded",
    "TLSError",
    "TicketReceived",
    "TruncatedStream",
    "TrustStore",
    "UsageError",
    "VerificationNeeded",
    "VerificationReport",
    "VerifiedPeer",
    "__version__",
    "pad_to_multiple",
]
