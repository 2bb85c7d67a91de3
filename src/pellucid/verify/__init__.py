"""Verification of the peer's certificate: trust, names, purposes, keys; a verdict and the report that explains it."""

from pellucid.verify.combine import all_of, any_of
from pellucid.verify.constraints import NameLimits
from pellucid.verify.direct import AllowCertificate, AllowKeys
from pellucid.verify.first_use import KnownPeer, KnownPeers, MemoryKnownPeers, TrustOnFirstUse
from pellucid.verify.names import is_ip, normalize_server_name
from pellucid.verify.pins import SpkiPins, path_pins, spki_pin
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
from pellucid.verify.request import PeerVerifier, PendingPart, Purpose, Requirement, VerificationRequest, VerifierAnswer
from pellucid.verify.revocation import RevocationPolicy
from pellucid.verify.scts import SignedCertificateTimestamp, parse_sct, parse_sct_list
from pellucid.verify.strictness import Strictness
from pellucid.verify.trust import TrustStore
from pellucid.verify.webpki import WebPKIVerifier, dangerous_accept_any

__all__ = [
    "AllowCertificate",
    "AllowKeys",
    "CertificateRejected",
    "Check",
    "CheckGroup",
    "Failure",
    "KnownPeer",
    "KnownPeers",
    "MemoryKnownPeers",
    "NameLimits",
    "Outcome",
    "PeerVerifier",
    "PendingPart",
    "Purpose",
    "RawPublicKeyVerifier",
    "Requirement",
    "RevocationPolicy",
    "SignedCertificateTimestamp",
    "SpkiPins",
    "Strictness",
    "TrustOnFirstUse",
    "TrustStore",
    "VerificationReport",
    "VerificationRequest",
    "VerifiedPeer",
    "VerifierAnswer",
    "WebPKIVerifier",
    "all_of",
    "any_of",
    "dangerous_accept_any",
    "either",
    "is_ip",
    "normalize_server_name",
    "parse_sct",
    "parse_sct_list",
    "path_pins",
    "spki_pin",
    "verified_peer",
]
