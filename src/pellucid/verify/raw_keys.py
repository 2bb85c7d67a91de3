"""The verifier of raw public keys (RFC 7250): a key is trusted because it is one of those that are known.

Nothing in such a key says whose it is, until when it is good or that it was withdrawn: that is for whoever gives the
keys. Beside it the composition of two verifiers, one for certificates and one for keys.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final

from pellucid.crypto.certificates import RawPublicKey, parse_raw_public_key
from pellucid.crypto.signatures import is_small_order
from pellucid.errors import PeerError, UsageError
from pellucid.registry import CertificateType
from pellucid.verify.checks import key_finding
from pellucid.verify.report import (
    ALERTS,
    Check,
    CheckGroup,
    Failure,
    LazyChecks,
    Outcome,
    VerificationReport,
)
from pellucid.verify.request import PeerVerifier, Purpose, VerificationRequest, VerifierAnswer

_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----(?P<body>.*?)-----END PUBLIC KEY-----", re.DOTALL)
_NAMELESS: Final = Check(
    group=CheckGroup.NAME,
    name="subject alternative name",
    outcome=Outcome.NOT_APPLICABLE,
    evidence="a raw public key has no name: the key itself is what was expected, or not",
    certificate=0,
)


class RawPublicKeyVerifier:
    """Accepts the peers whose raw public key is among *keys*, and no certificate at all; made once and shared.

    keys: each is SubjectPublicKeyInfo, DER or PEM; a PEM text may have several. One key may be for several servers:
          whoever has one of the keys is accepted under any name.
    Raises UsageError without a key, for one that cannot be used, and for one that proves nothing: too short, or a
    point of small order (attack D25).
    """

    certificate_types: Final = (CertificateType.RAW_PUBLIC_KEY,)

    def __init__(self, keys: bytes | Iterable[bytes]) -> None:
        texts = (keys,) if isinstance(keys, bytes) else tuple(keys)
        known = [_usable(der) for text in texts for der in _public_keys(text)]
        if not known:
            raise UsageError("no public key is trusted: nobody could ever be accepted")
        self._known = frozenset(known)

    @property
    def authorities(self) -> tuple[bytes, ...]:
        """None: nobody issues such keys."""
        return ()

    @property
    def session_identity(self) -> bytes:
        """What sessions are bound to: the same for verifiers that trust the same keys (attacks E7, E8)."""
        return b"raw public keys " + hashlib.sha256(b"".join(sorted(map(_digest, self._known)))).digest()

    def verify(self, request: VerificationRequest) -> VerificationReport:
        """Return the report on *request*. Never raises for what a peer sent."""
        key = request.leaf
        if not isinstance(key, RawPublicKey):
            return _refused(
                Failure.UNSUPPORTED,
                "an X.509 certificate was shown, and only raw public keys are accepted",
                "certificate type",
                certificate_type=CertificateType.X509,
            )
        whose = "the client" if request.purpose is Purpose.CLIENT_AUTH else "the server"
        shown = f"{whose}'s raw public key ({key.key_algorithm}, SHA-256 {key.fingerprint})"
        if key.der not in self._known:
            count = len(self._known)
            among = "not the one that is trusted" if count == 1 else f"none of the {count} that are trusted"
            return _refused(Failure.UNKNOWN_KEY, f"{shown} is {among}", "known key", _key_check(key))
        trusted = _check(CheckGroup.TRUST, "known key", f"{shown} is one of those that are trusted")
        return VerificationReport(
            accepted=True,
            summary=trusted.evidence,
            path=(key.der,),
            certificate_type=CertificateType.RAW_PUBLIC_KEY,
            explanation=LazyChecks(lambda: (_key_check(key), _NAMELESS, trusted)),
        )


def either(certificates: PeerVerifier, raw_keys: RawPublicKeyVerifier) -> PeerVerifier:
    """Return the verifier of peers that may show either: X.509 chains go to *certificates*, raw keys to *raw_keys*."""
    if not isinstance(raw_keys, RawPublicKeyVerifier):
        raise UsageError(f"raw keys are verified by a RawPublicKeyVerifier, not by a {type(raw_keys).__name__}")
    return _ByType(certificates, raw_keys)


class _ByType:
    certificate_types: Final = (CertificateType.X509, CertificateType.RAW_PUBLIC_KEY)

    def __init__(self, certificates: PeerVerifier, raw_keys: RawPublicKeyVerifier) -> None:
        self._certificates = certificates
        self._raw_keys = raw_keys

    @property
    def authorities(self) -> Sequence[bytes]:
        return self._certificates.authorities

    @property
    def session_identity(self) -> bytes | None:
        """None where that of *certificates* is not known: then no sessions are kept."""
        identity: object = getattr(self._certificates, "session_identity", None)
        if not isinstance(identity, bytes):
            return None
        return b"either " + _digest(identity) + _digest(self._raw_keys.session_identity)

    def verify(self, request: VerificationRequest) -> VerifierAnswer:
        if request.certificate_type == CertificateType.RAW_PUBLIC_KEY:
            return self._raw_keys.verify(request)
        return self._certificates.verify(request)


def _public_keys(text: bytes) -> list[bytes]:
    """Return the DER of each key in *text*."""
    if b"-----BEGIN " not in text:
        return [text]
    try:
        found = [binascii.a2b_base64(b"".join(one["body"].split()), strict_mode=True) for one in _PEM.finditer(text)]
    except binascii.Error as error:
        raise UsageError(f"a public key in the PEM text cannot be read: {error}") from error
    if not found:
        raise UsageError("there is no PUBLIC KEY in the PEM text")
    return found


def _usable(der: bytes) -> bytes:
    try:
        key = parse_raw_public_key(der)
    except PeerError as error:
        raise UsageError(f"a public key to trust cannot be used: {error.reason}") from error
    failure, evidence = key_finding(key.public_key, "a public key to trust")
    if failure is not None:
        raise UsageError(evidence)
    if is_small_order(key.public_key):
        raise UsageError("a public key to trust is a point of small order: anybody can sign for it")
    return der


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _key_check(key: RawPublicKey) -> Check:
    failure, evidence = key_finding(key.public_key, "the key")
    return _check(CheckGroup.VALIDITY, "key strength", evidence, failure)


def _refused(
    failure: Failure,
    evidence: str,
    name: str,
    *more: Check,
    certificate_type: int = CertificateType.RAW_PUBLIC_KEY,
) -> VerificationReport:
    decisive = _check(CheckGroup.TRUST, name, evidence, failure)
    return VerificationReport(
        accepted=False,
        failure=failure,
        summary=evidence,
        alert=ALERTS[failure],
        certificate_type=certificate_type,
        explanation=LazyChecks(lambda: (*more, decisive)),
    )


def _check(group: CheckGroup, name: str, evidence: str, failure: Failure | None = None) -> Check:
    outcome = Outcome.PASSED if failure is None else Outcome.FAILED
    return Check(group=group, name=name, outcome=outcome, evidence=evidence, certificate=0, failure=failure)
