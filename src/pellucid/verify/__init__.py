"""Verification of the peer's certificate: trust, names, purposes, keys; a verdict and the report that explains it."""

from pellucid.verify.names import is_ip, normalize_server_name
from pellucid.verify.raw_keys import RawPublicKeyVerifier, either
from pellucid.verify.report import (
    CertificateRejected,
    Check,
    CheckGroup,
    Failure,
    Outcome,
    VerificationReport,
    VerifiedPeer,
    verified_peer,
)
from pellucid.verify.request import PeerVerifier, Purpose, VerificationRequest
from pellucid.verify.revocation import RevocationPolicy
from pellucid.verify.scts import SignedCertificateTimestamp, parse_sct, parse_sct_list
from pellucid.verify.strictness import Strictness
from pellucid.verify.trust import TrustStore
from pellucid.verify.webpki import WebPKIVerifier, dangerous_accept_any

__all__ = [
    "CertificateRejected",
    "Check",
    "CheckGroup",
    "Failure",
    "Outcome",
    "PeerVerifier",
    "Purpose",
    "RawPublicKeyVerifier",
    "RevocationPolicy",
    "SignedCertificateTimestamp",
    "Strictness",
    "TrustStore",
    "VerificationReport",
    "VerificationRequest",
    "VerifiedPeer",
    "WebPKIVerifier",
    "dangerous_accept_any",
    "either",
    "is_ip",
    "normalize_server_name",
    "parse_sct",
    "parse_sct_list",
    "verified_peer",
]
