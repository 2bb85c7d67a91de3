"""What a leaf says of itself, whatever name, time and trust it is judged by: found once, without reading all of it."""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

from cryptography import x509

from pellucid.crypto.certificates import X509Certificate
from pellucid.verify.checks import extension, key_check, subject_check
from pellucid.verify.paths import Candidate
from pellucid.verify.report import Outcome

__all__ = ["LeafFacts", "leaf_facts"]

_TLS_FEATURE: Final = bytes.fromhex("2b06010505070118")  # the OID 1.3.6.1.5.5.7.1.24, without tag and length
_KEY_USAGE: Final = bytes.fromhex("0603551d0f")  # OBJECT IDENTIFIER 2.5.29.15
_PURPOSES: Final = bytes.fromhex("0603551d25")  # 2.5.29.37
_SERVER_AUTH: Final = bytes.fromhex("06082b06010505070301")
_CRITICAL: Final = b"\x01\x01\xff"
_BIT_STRING: Final = 3
_OCTET_STRING: Final = 4
_DIGITAL_SIGNATURE: Final = 0x80


class LeafFacts(NamedTuple):
    """fits: its key and subject will do.   must_staple: its TLS feature extension promises a staple (RFC 7633).

    usual: its key usage and purposes, where it has them, are a server's: upstream's own rules may judge the rest.
    """

    fits: bool
    must_staple: bool
    usual: bool


@functools.lru_cache(maxsize=256)  # facts of the certificate alone: neither name, time nor trust is in them
def leaf_facts(certificate: X509Certificate) -> LeafFacts:
    """Return what is known of it, whoever asks. Reads as little of it as says that."""
    leaf = Candidate(certificate.x509, 0, certificate.der)
    fits = key_check(leaf).outcome is not Outcome.FAILED and subject_check(leaf).outcome is not Outcome.FAILED
    usual = _is_usual(leaf.der)
    if _TLS_FEATURE not in leaf.der:
        return LeafFacts(fits=fits, must_staple=False, usual=usual)
    features = extension(leaf, x509.TLSFeature)
    must_staple = features is not None and x509.TLSFeatureType.status_request in features
    # What it promises cannot be known of extensions that cannot be read.
    return LeafFacts(fits=fits and leaf.extensions is not None, must_staple=must_staple, usual=usual)


def _is_usual(der: bytes) -> bool:
    """Whether the leaf may sign, which upstream does not ask, and is for servers by name if it is for anything.

    Found by the extensions' OIDs: to have all extensions read takes longer than a verdict. Where one stands twice, in a
    name perhaps, it is not known which is the extension, and the leaf is not usual. What stands there once, and is no
    extension, says nothing of a leaf that has none. That the purposes are truly a server's is upstream's to see.
    """
    usage, purposes = _value_of(der, _KEY_USAGE), _value_of(der, _PURPOSES)
    if usage is None or purposes is None:
        return False
    signs = not usage or (usage[0] == _BIT_STRING and len(usage) > 3 and bool(usage[3] & _DIGITAL_SIGNATURE))
    return signs and (not purposes or _SERVER_AUTH in purposes)


def _value_of(der: bytes, oid: bytes) -> bytes | None:
    """Return the value of the extension *oid*, b"" where there is none; None if that cannot be told."""
    _, found, rest = der.partition(oid)
    if not found:
        return b""
    head = rest[:3]
    value = rest[3:] if head == _CRITICAL else rest
    if oid in rest or len(value) < 2 or value[0] != _OCTET_STRING or not 0 < value[1] < 128:  # of a short length
        return None
    return value[2 : 2 + value[1]]
