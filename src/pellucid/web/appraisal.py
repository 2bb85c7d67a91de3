"""The four verifications of the server, as its client must have made them: the same checks, over the same messages.

A client's trace has its verdict. A server's has not: there the chain that was sent is judged here, with the issuer of
its end in the place of the root that the client must have, and CertificateVerify is checked over the same transcript.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from pellucid.crypto.certificates import (
    PARSE_ERRORS,
    EndEntity,
    RawPublicKey,
    X509Certificate,
    parse_raw_public_key,
)
from pellucid.crypto.provider import Suite, Verifier
from pellucid.crypto.pyca import PYCA
from pellucid.errors import PeerError, TLSError
from pellucid.explain.fields import certificate_name, parsed
from pellucid.handshake.authenticate import signed_content
from pellucid.integrations.certificate_compression import installed
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    Certificate,
    CertificateVerify,
    ClientHello,
    CompressedCertificate,
    ServerHello,
)
from pellucid.registry import HandshakeType as H
from pellucid.registry import scheme_name
from pellucid.trace import (
    CertificateDecompressed,
    Direction,
    HandshakeCompleted,
    MessageTraced,
    Role,
    TraceEvent,
    VerificationTraced,
)
from pellucid.transcript import Transcript
from pellucid.verify.report import Check, CheckGroup, LazyChecks, Outcome, VerificationReport
from pellucid.verify.request import Purpose, VerificationRequest
from pellucid.verify.trust import TrustStore
from pellucid.verify.webpki import WebPKIVerifier

__all__ = ["Appraisal", "appraise"]

_SUBJECT_ALT_NAME: Final = "2.5.29.17"
_NOBODY: Final = "unnamed.invalid"
_END: Final = "the end of the chain that was sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """What is known of the server's proof of who it is.

    report:   None if there is nothing to judge: a resumed session, a raw public key, a handshake that broke off.
    inferred: whether the report was made here, not by the client itself.
    why:      without a report, why there is none, a sentence.
    chain:    the certificates, a line each, leaf first.
    vouching: who must be trusted for the chain to count: the issuer of its end.
    named:    the name that the client asked for, None if it sent none.
    """

    report: VerificationReport | None = None
    inferred: bool = True
    why: str = ""
    chain: tuple[str, ...] = ()
    vouching: str = ""
    named: str | None = None


def appraise(events: Iterable[TraceEvent], role: Role, *, now: float | None = None) -> Appraisal:
    """Return what the server showed and whether it holds. Never raises for what stands in *events*.

    role: whose trace it is.   now: seconds since 1970; None: the provider's clock.
    """
    events = tuple(events)
    if role is Role.CLIENT:
        report = next((e.report for e in events if isinstance(e, VerificationTraced)), None)
        if isinstance(report, VerificationReport):
            path = tuple(map(certificate_name, report.path))
            return Appraisal(report=report, inferred=False, chain=path, vouching="a root in the client's own store")
    if any(isinstance(event, HandshakeCompleted) and event.resumed for event in events):
        return Appraisal(why="A session was resumed: nobody shows a certificate; the key that both ends kept is proof.")
    certificate = _certificate(events, role)
    if certificate is None or not certificate.certificate_list:
        return Appraisal(why="The handshake did not come as far as the server's certificate.")
    chain = tuple(entry.cert_data for entry in certificate.certificate_list)
    names = tuple(map(certificate_name, chain))
    leaf = parsed(chain[0])
    named = _server_name(events)
    if leaf is None:
        return Appraisal(why=_without_certificate(chain[0]), chain=names, named=named)
    staple = _staple(certificate)
    moment = PYCA.now() if now is None else now
    report = _judged(leaf, chain, named, moment, staple)
    report = report.with_check(_proof(events, role, leaf)) if report is not None else None
    last = parsed(chain[-1])
    vouching = "" if last is None else _issuer(last)
    why = "" if report is not None else "The certificates are not such that they can be judged."
    return Appraisal(report=report, chain=names, vouching=vouching, named=named, why=why)


def _without_certificate(der: bytes) -> str:
    try:
        key: RawPublicKey = parse_raw_public_key(der)
    except PeerError:
        return "What was sent cannot be read as a certificate."
    return (
        f"The server showed a raw public key, which has no name, no dates and no issuer: its client knows it by "
        f"its SHA-256, {key.fingerprint}."
    )


def _issuer(last: X509Certificate) -> str:
    return last.x509.issuer.rfc4514_string() or "(an issuer without a name)"


# ---- what was said -----------------------------------------------------------------------------------------------


def _from_server(event: TraceEvent, role: Role) -> bool:
    sent = Direction.SENT if role is Role.SERVER else Direction.RECEIVED
    return isinstance(event, MessageTraced) and event.direction is sent


def _certificate(events: tuple[TraceEvent, ...], role: Role) -> Certificate | None:
    for event in events:
        if isinstance(event, CertificateDecompressed) and role is Role.CLIENT and isinstance(event.body, Certificate):
            return event.body
        if not isinstance(event, MessageTraced) or not _from_server(event, role):
            continue
        if isinstance(event.body, Certificate):
            return event.body
        if isinstance(event.body, CompressedCertificate) and (found := _decompressed(event.body)) is not None:
            return found
    return None


def _decompressed(message: CompressedCertificate) -> Certificate | None:
    algorithm = next((one for one in installed() if one.code == message.algorithm), None)
    if algorithm is None:
        return None
    try:
        return Certificate.decode(
            algorithm.decompress(message.compressed_certificate_message, message.uncompressed_length)
        )
    except (ValueError, PeerError):
        return None


def _server_name(events: tuple[TraceEvent, ...]) -> str | None:
    for event in events:
        if isinstance(event, MessageTraced) and isinstance(event.body, ClientHello):
            try:
                return x.decode_extensions(x.M.CH, event.body.extensions).get(x.SERVER_NAME)
            except PeerError:
                return None
    return None


def _staple(certificate: Certificate) -> bytes | None:
    try:
        known = x.decode_extensions(
            x.M.CT,
            certificate.certificate_list[0].extensions,
            requested={code for code, _data in certificate.certificate_list[0].extensions},
        )
    except PeerError:
        return None
    return known.get(x.OCSP_RESPONSE)


# ---- what it is worth --------------------------------------------------------------------------------------------


def _judged(
    leaf: X509Certificate, chain: tuple[bytes, ...], named: str | None, now: float, staple: bytes | None
) -> VerificationReport | None:
    request = VerificationRequest(
        leaf=leaf,
        intermediates=chain[1:],
        purpose=Purpose.SERVER_AUTH,
        server_name=named or _own_name(leaf),
        now=now,
        ocsp_response=staple,
    )
    try:
        trust = TrustStore.from_der([chain[-1]], origin=_END)
        report = WebPKIVerifier(trust).verify(request)
    except TLSError:
        return None
    checks = tuple(_told(check, named) for check in report.checks)
    return replace(report, explanation=LazyChecks(lambda: checks))


def _told(check: Check, named: str | None) -> Check:
    if check.group is CheckGroup.NAME and named is None:
        unknown = "the client named no server: what it asked for is not seen"
        return replace(check, outcome=Outcome.NOT_CHECKED, evidence=unknown, failure=None)
    return replace(check, evidence=_without_a_root(check.evidence))


def _without_a_root(evidence: str) -> str:
    """Say of the chain's end what it is: the root that the client must have was not sent."""
    return evidence.replace(f"a trusted root (of 1, {_END})", _END).replace("the root '", "the last certificate '")


def _own_name(leaf: X509Certificate) -> str:
    """Return a name of the leaf's own, for a client that sent none: the other checks can be made with it."""
    try:
        for extension in leaf.x509.extensions:
            if extension.oid.dotted_string == _SUBJECT_ALT_NAME:
                names = [str(getattr(name, "value", "")) for name in extension.value]
                return next(name.replace("*", "any") for name in names if name)
    except (*PARSE_ERRORS, StopIteration):
        return _NOBODY
    return _NOBODY


def _proof(events: tuple[TraceEvent, ...], role: Role, leaf: EndEntity) -> Check:
    """Check CertificateVerify over the transcript that ends with the server's Certificate (RFC 9846 §4.5.2)."""
    told = _verify_message(events, role)
    if told is None:
        return _check(Outcome.NOT_CHECKED, "no CertificateVerify was seen")
    message, digest = told
    verifier: Verifier | None = next((one for one in PYCA.verifiers if one.code == message.algorithm), None)
    name = scheme_name(message.algorithm)
    if verifier is None or not verifier.accepts(leaf) or not verifier.computes(leaf):
        return _check(Outcome.NOT_CHECKED, f"a signature by {name}, which cannot be computed here")
    good = verifier.verify(leaf, message.signature, signed_content(Role.SERVER, digest))
    about = f"{name} over the hash of ClientHello…Certificate, {digest.hex()[:16]}…"
    if good:
        return _check(Outcome.PASSED, f"the signature is right: {about}")
    return _check(Outcome.FAILED, f"the signature is wrong: {about}")


def _check(outcome: Outcome, evidence: str) -> Check:
    return Check(
        group=CheckGroup.SIGNATURE, name="CertificateVerify", outcome=outcome, evidence=evidence, certificate=0
    )


def _verify_message(events: tuple[TraceEvent, ...], role: Role) -> tuple[CertificateVerify, bytes] | None:
    suite = _suite(events)
    if suite is None:
        return None
    transcript = Transcript()
    for event in events:
        if not isinstance(event, MessageTraced):
            continue
        if isinstance(event.body, CertificateVerify) and _from_server(event, role):
            transcript.choose(suite)
            return event.body, transcript.digest()
        if event.message_type == H.HELLO_RETRY_REQUEST:
            transcript.replace_by_message_hash(suite)
        if event.message_type != H.END_OF_EARLY_DATA:
            transcript.add(event.raw)
    return None


def _suite(events: tuple[TraceEvent, ...]) -> Suite | None:
    code = next(
        (e.body.cipher_suite for e in events if isinstance(e, MessageTraced) and isinstance(e.body, ServerHello)), None
    )
    return next((suite for suite in PYCA.suites if suite.code == code), None)
