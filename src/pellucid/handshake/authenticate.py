"""Certificate, CertificateVerify, Finished: making them, checking them, and the proofs that they were right.

RFC 9846 §4.5. Both sides use the same functions; whose message it is, is an argument.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any, Final

from pellucid.config import Credential
from pellucid.crypto.certificates import EndEntity
from pellucid.crypto.provider import Verifier
from pellucid.crypto.signatures import PrivateKeySigner
from pellucid.errors import (
    BadCertificate,
    DecodeError,
    DecryptError,
    IllegalParameter,
    InternalError,
)
from pellucid.handshake.actions import (
    Authenticated,
    FinishedChecked,
    NeedSignature,
    Result,
    SignatureChecked,
    answered,
    judged,
)
from pellucid.handshake.certificate_types import parse_end_entity
from pellucid.handshake.certificates import tell_stapled
from pellucid.handshake.core import Context
from pellucid.limits import MAX_CERTIFICATE_LIST, MAX_CERTIFICATES
from pellucid.messages.extensions import OCSP_RESPONSE, SCTS, M, decode_extensions
from pellucid.messages.handshake import Certificate, CertificateVerify, Finished, handshake_message
from pellucid.registry import CertificateType, scheme_name
from pellucid.registry import SignatureScheme as S
from pellucid.schedule import TrafficSecret
from pellucid.trace import Role, SignatureTraced, VerificationTraced
from pellucid.value import quickly_made
from pellucid.verify.report import (
    Check,
    CheckGroup,
    Failure,
    Outcome,
    VerificationReport,
    VerifiedPeer,
    verified_peer,
)
from pellucid.verify.request import PeerVerifier, Purpose, VerificationRequest

_SIGNED_PREFIXES: Final = {
    Role.SERVER: b"\x20" * 64 + b"TLS 1.3, server CertificateVerify\0",
    Role.CLIENT: b"\x20" * 64 + b"TLS 1.3, client CertificateVerify\0",
}
_TRANSCRIPT_HASHES: Final = frozenset({32, 48})  # SHA-256, SHA-384 (§B.4)


def signed_content(signer: Role, transcript_hash: bytes) -> bytes:
    """Return what CertificateVerify signs (RFC 9846 §4.5.2). transcript_hash: up to and with Certificate."""
    return _SIGNED_PREFIXES[signer] + transcript_hash


def signing_role(content: bytes) -> Role | None:
    """Return whose CertificateVerify signs *content*; None if none of TLS 1.3 does (RFC 9846 §4.5.2).

    For who signs on behalf of another process: with this asked first a key signs handshakes and nothing else.
    """
    for role in Role:
        prefix = signed_content(role, b"")
        if content.startswith(prefix) and len(content) - len(prefix) in _TRANSCRIPT_HASHES:
            return role
    return None


# ---- the peer's ----------------------------------------------------------------------------------------------------


@quickly_made
@dataclass(frozen=True, slots=True)
class PresentedCertificates:
    """The peer's Certificate message, counted, its leaf parsed; nothing of it is believed yet."""

    leaf: EndEntity
    intermediates: tuple[bytes, ...] = field(repr=False)
    ocsp_response: bytes | None = field(default=None, repr=False)
    scts: tuple[bytes, ...] = field(default=(), repr=False)


def read_certificate(
    context: Context[Any],
    message: Certificate,
    requested: Container[int],
    certificate_type: int,
    *,
    request_context: bytes = b"",
) -> PresentedCertificates | None:
    """Return the certificates or the raw public key presented, None for an empty list (RFC 9846 §4.5.1.3).

    requested: the extension types that the entries may answer.   certificate_type: what was negotiated (RFC 7250).
    request_context: of the CertificateRequest answered.
    Raises DecodeError, BadCertificate, UnsupportedCertificate, UnsupportedExtension, IllegalParameter.
    """
    if message.certificate_request_context != request_context:
        raise IllegalParameter("certificate_request_context is not the request's", rfc="9846 §4.5.1")
    entries = message.certificate_list
    if not entries:
        return None
    if len(entries) > MAX_CERTIFICATES:
        raise BadCertificate(
            f"{len(entries)} certificates, at most {MAX_CERTIFICATES} are looked at",
            rfc="9846 §4.5.1",
            code="X509-TOO-LARGE",
        )
    sent = [entry.cert_data for entry in entries]
    if (size := sum(map(len, sent))) > MAX_CERTIFICATE_LIST:
        raise BadCertificate(
            f"{size} bytes of certificates, at most {MAX_CERTIFICATE_LIST}", rfc="9846 §4.5.1", code="X509-TOO-LARGE"
        )
    if certificate_type == CertificateType.RAW_PUBLIC_KEY:
        if len(entries) > 1:
            raise IllegalParameter(f"{len(entries)} entries where a raw public key stands alone", rfc="9846 §4.5.1")
        requested = ()  # OCSP responses and SCTs are of certificates
    # All are decoded; the leaf's count (§4.5.1: an extension applies to its entry).
    of_leaf, *_ = [decode_extensions(M.CT, entry.extensions, requested=requested) for entry in entries]
    leaf = parse_end_entity(context.provider, certificate_type, sent[0])
    if context.trace is not None and certificate_type == CertificateType.X509:
        tell_stapled(context, of_leaf, requested)
    return PresentedCertificates(leaf, tuple(sent[1:]), of_leaf.get(OCSP_RESPONSE), of_leaf.get(SCTS) or ())


def check_certificate_verify(
    context: Context[Any],
    signer: Role,
    presented: PresentedCertificates,
    message: CertificateVerify,
    verifier: PeerVerifier,
    server_name: str | None,
    then: Callable[[Authenticated], Result],
) -> Result:
    """Check the peer's CertificateVerify, then its chain; go on with *then* if both are right.

    The transcript must end with the peer's Certificate. Both checks are made whatever the other says, so that the
    report has all four groups; a wrong signature is the error then, for it is the graver one.

    Raises IllegalParameter for a scheme not offered or not the key's, DecryptError for a wrong signature,
    CertificateRejected for a chain that is not trusted (RFC 9846 §4.5.2).
    """
    scheme = _scheme_of(context, message.algorithm, presented.leaf)
    content = signed_content(signer, context.transcript.digest())
    # A key of a size that no honest peer has is not computed with; the verifier says what is wrong with it.
    valid = scheme.verify(presented.leaf, message.signature, content) if scheme.computes(presented.leaf) else None
    request = VerificationRequest(
        leaf=presented.leaf,
        intermediates=presented.intermediates,
        purpose=Purpose.SERVER_AUTH if signer is Role.SERVER else Purpose.CLIENT_AUTH,
        server_name=server_name,
        now=context.provider.now(),
        ocsp_response=presented.ocsp_response,
        scts=presented.scts,
        status_requested=context.config.request_ocsp and presented.leaf.certificate_type == CertificateType.X509,
        port=context.port,
    )

    def judge(report: VerificationReport) -> Result:
        peer = _verdict(context, signer, presented.leaf, scheme, report, valid=valid)
        sent = (presented.leaf.der, *presented.intermediates)
        proof = SignatureChecked(scheme.code)
        return then(Authenticated(peer, proof, sent, presented.ocsp_response, presented.scts))

    return judged(verifier, request, judge)


def _scheme_of(context: Context[Any], code: int, leaf: EndEntity) -> Verifier:
    scheme: Verifier | None = context.config.verifier_table.get(code)
    if scheme is None or not scheme.handshake:
        raise IllegalParameter(
            f"CertificateVerify uses {scheme_name(code)}, which was not offered",
            rfc="9846 §4.5.2",
            code="TLS-SCHEME-NOT-OFFERED",
        )
    if not scheme.accepts(leaf):
        raise IllegalParameter(
            f"CertificateVerify uses {scheme.name} with a key of {leaf.key_algorithm}",
            rfc="9846 §4.5.2",
            code="TLS-SCHEME-NOT-OFFERED",
        )
    return scheme


def _verdict(
    context: Context[Any],
    signer: Role,
    leaf: EndEntity,
    scheme: Verifier,
    report: VerificationReport,
    *,
    valid: bool | None,
) -> VerifiedPeer:
    check = _signature_check(scheme.name, signer, leaf.key_algorithm, valid)
    evidence = check.evidence
    report = report.with_check(check)
    if valid:
        report = report.proven()
    if context.trace is not None:
        context.trace(SignatureTraced(what="CertificateVerify", signer=signer, scheme=scheme.code, valid=valid is True))
        context.trace(VerificationTraced(report=report))
    if valid is False:
        error = DecryptError(f"CertificateVerify: {evidence}", rfc="9846 §4.5.2", code="TLS-BAD-CERTIFICATE-VERIFY")
        error.verification = report
        raise error
    if valid is None and report.accepted:
        # A verifier of the user's own may take such a key; possession of it is still not shown.
        raise BadCertificate(f"CertificateVerify: {evidence}", rfc="9846 §C.2", code="X509-WEAK-KEY")
    return verified_peer(leaf, report)


@functools.lru_cache(maxsize=64)  # of some 20 schemes and kinds of key that there are
def _signature_check(scheme: str, signer: Role, key_algorithm: str, valid: bool | None) -> Check:
    """Return what the report says of a CertificateVerify. valid: None if nothing was computed."""
    whose = f"{scheme} signature by the {signer.value}'s {key_algorithm} key over the handshake"
    outcome, evidence = {
        True: (Outcome.PASSED, f"the {whose} is right"),
        False: (Outcome.FAILED, f"the {whose} is wrong"),
        None: (Outcome.NOT_CHECKED, f"nothing is computed with a key of {key_algorithm}"),
    }[valid]
    return Check(
        group=CheckGroup.SIGNATURE,
        name="CertificateVerify",
        outcome=outcome,
        evidence=evidence,
        certificate=0,
        failure=Failure.BAD_SIGNATURE if valid is False else None,
    )


def check_finished(
    context: Context[Any], sender: Role, secret: TrafficSecret, transcript_hash: bytes, message: Finished
) -> FinishedChecked:
    """Return the proof that the peer's Finished is right (RFC 9846 §4.5.3).

    secret: the sender's handshake traffic secret, after the handshake its application traffic secret of that moment.
    transcript_hash: up to what came before this Finished.
    Raises DecodeError for a wrong length, DecryptError for a wrong value.
    """
    if len(message.verify_data) != secret.suite.hash_length:
        raise DecodeError(
            f"Finished has {len(message.verify_data)} bytes, not {secret.suite.hash_length}",
            rfc="9846 §4.5.3",
        )
    valid = hmac.compare_digest(secret.verify_data(transcript_hash), message.verify_data)
    if context.trace is not None:
        context.trace(SignatureTraced(what="Finished", signer=sender, scheme=0, valid=valid))
    if not valid:
        raise DecryptError(f"the {sender.value}'s Finished is wrong", rfc="9846 §4.5.3")
    return FinishedChecked(sender)


# ---- our own -------------------------------------------------------------------------------------------------------

# A fault in an RSA-CRT computation gives the key away: such signatures are checked before they leave (§C.3).
_CHECK_OUR_OWN: Final = frozenset(
    {
        S.RSA_PSS_RSAE_SHA256,
        S.RSA_PSS_RSAE_SHA384,
        S.RSA_PSS_RSAE_SHA512,
        S.RSA_PSS_PSS_SHA256,
        S.RSA_PSS_PSS_SHA384,
        S.RSA_PSS_PSS_SHA512,
    }
)


def sign_certificate_verify(
    context: Context[Any], credential: Credential, scheme: int, then: Callable[[bytes], Result]
) -> Result:
    """Make our CertificateVerify over the transcript, which must end with our Certificate; go on with *then*.

    Pauses for a signer that takes its time. Raises InternalError if a signature is wrong that must be checked: those of
    RSA keys, and all of signers that are not ours (RFC 9846 §C.3).
    """
    content = signed_content(context.role, context.transcript.digest())
    signer = credential.signer

    def finish(signature: bytes) -> Result:
        if not isinstance(signature, bytes):
            raise InternalError("a signature is bytes")
        if scheme in _CHECK_OUR_OWN or not isinstance(signer, PrivateKeySigner):
            verifier = context.config.signing_table[scheme]
            if not verifier.verify(credential.leaf, signature, content):
                raise InternalError("our own signer gave a signature that its certificate does not verify")
        if context.trace is not None:
            context.trace(SignatureTraced(what="CertificateVerify", signer=context.role, scheme=scheme, valid=True))
        return then(handshake_message(CertificateVerify(scheme, signature)))

    if type(signer) is PrivateKeySigner:
        return finish(signer.sign(scheme, content))
    return answered(
        lambda: signer.sign(scheme, content), lambda answer: NeedSignature(signer, scheme, content, answer), finish
    )


def finished_message(secret: TrafficSecret, transcript_hash: bytes) -> bytes:
    """Return our Finished, header included (RFC 9846 §4.5.3).

    secret: the base key: our handshake traffic secret; after the handshake our application traffic secret (§4.5).
    """
    return handshake_message(Finished(secret.verify_data(transcript_hash)))
