"""Which of our credentials is shown, and which scheme signs with it: one pure function of what the peer can verify.

RFC 9846 §4.5.1.2. Both sides use the same rules; resolvers, pauses and the trace are around it.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, Final, NamedTuple, TypeVar

from pellucid.config import (
    CertificateRequestInfo,
    ClientConfig,
    ClientHelloInfo,
    Credential,
    CredentialResolver,
    ServerConfig,
)
from pellucid.crypto.signatures import PrivateKeySigner
from pellucid.errors import (
    HandshakeFailure,
    InternalError,
    MissingExtension,
    UnrecognizedName,
    UnsupportedCertificate,
)
from pellucid.handshake.actions import NeedCredential, Result, answered
from pellucid.handshake.certificate_types import types_accepted
from pellucid.handshake.core import Context
from pellucid.handshake.negotiate import ClientOffer, covers, names, wildcard_for
from pellucid.handshake.oid_filters import read_filters, satisfies
from pellucid.messages import extensions as x
from pellucid.messages.handshake import CertificateRequest
from pellucid.registry import CertificateType, certificate_type_name, scheme_name

Asked = ClientHelloInfo | CertificateRequestInfo
"""What the peer said of the certificates that it can use."""
A = TypeVar("A", ClientHelloInfo, CertificateRequestInfo)


class Choice(NamedTuple):
    """A credential, the scheme that signs CertificateVerify, and why it is this one."""

    credential: Credential
    scheme: int
    reason: str


class _Refusal(NamedTuple):
    """Why a credential cannot be used. stage: how far it came; of several the furthest says most."""

    stage: int
    reason: str
    rfc: str


# ---- the choice ------------------------------------------------------------------------------------------------------


def choose_credential(
    credentials: tuple[Credential, ...], asked: Asked, able: Container[int], *, strict_server_name: bool = False
) -> Choice:
    """Return the credential that suits the peer best; among equals the first (RFC 9846 §4.5.1.2).

    able: the schemes that may sign handshakes at all.
    Usable is one of a type that the peer can verify (RFC 7250), for the name asked for (if any is), whose key can sign
    with a scheme that the peer accepts, that satisfies oid_filters, and one of whose issuers the peer names if it must.
    Better are those whose chains are signed with what the peer can verify, and then those of authorities that it names;
    if there are none, the others are the fallback.

    Raises UnsupportedCertificate if a client can verify none of their types; UnrecognizedName if none is for the name
    and the configuration is strict; HandshakeFailure if there is none at all, if no scheme is in common (§4.3.3), or if
    none has an issuer that the peer names (§4.3.4).
    """
    if not credentials:
        raise HandshakeFailure("there is no credential for this peer", rfc="9846 §4.2.1")
    candidates, reason = _by_name(_by_type(credentials, asked), asked, strict=strict_server_name)
    best: Choice | None = None
    best_rank = (False, False, False)
    refused: _Refusal | None = None
    for credential in candidates:
        scheme = _examine(credential, asked, able)
        if isinstance(scheme, _Refusal):
            if refused is None or scheme.stage > refused.stage:
                refused = scheme
            continue
        rank = _rank(credential, asked)
        if best is None or rank > best_rank:
            best, best_rank = Choice(credential, scheme, reason), rank
    if best is None:
        _, why, rfc = refused or _no_scheme(asked)
        raise HandshakeFailure(why, rfc=rfc)
    fits, _, named = best_rank
    issuer = "; the peer names one of its issuers" if named else ""
    fallback = "" if fits else "; a fallback: the peer does not name what its chain is signed with"
    return best._replace(reason=f"{reason}{issuer}{fallback}")


_MAX_CHOICES: Final = 256

Reasons = tuple[str | None, frozenset[int], frozenset[int] | None, tuple[int, ...]]
"""All that the choice among a configuration's credentials goes by: name, schemes, those in certificates, types.

A name that a wildcard alone is for is that wildcard, one that none of them is for is "", and only those schemes stand
in it that one of them has: strangers' hellos can neither fill the memory nor have everything forgotten by naming what
matters to nobody.
"""


class Choices:
    """What a server's configuration has chosen before: 20 µs of a handshake, for what the client asks as others did.

    Not where somebody is to be asked or told: with a resolver, with signers whose schemes may change, or watched; nor
    for clients that name authorities.
    """

    __slots__ = ("_fixed", "_found", "_names", "_schemes", "_strict")

    def __init__(self, config: ServerConfig) -> None:
        credentials = config.credentials
        ours = all(type(one.signer) is PrivateKeySigner for one in credentials)
        self._fixed = config.credential_resolver is None and ours
        self._strict = config.strict_server_name
        self._names = frozenset(name for one in credentials for name in one.names)
        self._schemes = frozenset(code for one in credentials for code in _schemes_of(one))
        self._found: dict[Reasons, Choice] = {}

    def reasons(self, offer: ClientOffer) -> Reasons | None:
        """Return what the choice goes by; None if it is made anew each time."""
        get, name = offer.extensions.get, offer.server_name
        if not self._fixed or get(x.CERTIFICATE_AUTHORITIES) is not None:
            return None
        if name is not None and name not in self._names:
            name = wildcard_for(name)
            if name not in self._names:
                if self._strict:
                    return None
                name = ""
        in_certificates = get(x.SIGNATURE_ALGORITHMS_CERT)
        return (
            name,
            self._schemes.intersection(offer.signature_schemes),
            None if in_certificates is None else self._schemes.intersection(in_certificates),
            types_accepted(offer.extensions),
        )

    def find(self, reasons: Reasons) -> Choice | None:
        return self._found.get(reasons)

    def keep(self, reasons: Reasons, choice: Choice) -> None:
        if len(self._found) >= _MAX_CHOICES:
            self._found.clear()
        self._found[reasons] = choice


def _schemes_of(credential: Credential) -> frozenset[int]:
    """Return every scheme that `_examine` or `_rank` asks of a peer."""
    return frozenset(credential.schemes).union(credential.sha1_schemes, *credential.chain_schemes)


def choices_of(config: ServerConfig) -> Choices:
    """Return what was chosen for this configuration's clients before."""
    found = config.memo.get("credentials")
    if not isinstance(found, Choices):
        found = config.memo["credentials"] = Choices(config)
    return found


def _by_type(credentials: tuple[Credential, ...], asked: Asked) -> tuple[Credential, ...]:
    matching = tuple(one for one in credentials if one.certificate_type in asked.certificate_types)
    if matching:
        return matching
    wanted = " or ".join(map(certificate_type_name, asked.certificate_types)) or "no type that is known here"
    why = f"no credential of the type that the peer can verify: {wanted}"
    if isinstance(asked, CertificateRequestInfo):
        raise HandshakeFailure(why, rfc="7250 §4.2")
    raise UnsupportedCertificate(why, rfc="7250 §4.2", code="TLS-NO-COMMON-SCHEME")


def _by_name(credentials: tuple[Credential, ...], asked: Asked, *, strict: bool) -> tuple[tuple[Credential, ...], str]:
    if isinstance(asked, CertificateRequestInfo):
        return credentials, "asked for by the server"
    name = asked.server_name
    if name is None:
        return credentials, "the client named no server"
    # A raw public key has no names, and will do for any: who connects knows it by itself.
    if matching := tuple(one for one in credentials if _is_raw(one) or covers(one.names, name)):
        return matching, f"it is for {name}" if not any(map(_is_raw, matching)) else f"it will do for {name}"
    if strict:
        raise UnrecognizedName(f"no credential is for {name[:64]!r}", rfc="6066 §3")
    return credentials, f"none is for {name[:64]!r}: the default"


def _is_raw(credential: Credential) -> bool:
    return credential.certificate_type == CertificateType.RAW_PUBLIC_KEY


def _examine(credential: Credential, asked: Asked, able: Container[int]) -> int | _Refusal:
    """Return the first scheme of the credential that the peer accepts, or why it cannot be used."""
    for scheme in credential.schemes:
        if scheme in asked.signature_schemes and scheme in able:
            break
    else:
        return _no_scheme(asked)
    if not credential.may_sign:
        return _Refusal(1, "the certificate's key usage does not allow signatures", "9846 §4.5.1.2")
    if not credential.sha1_schemes.issubset(_certificate_schemes(asked)):
        return _Refusal(2, "the chain is signed with SHA-1, which the peer does not accept", "9846 §4.5.1.2")
    if isinstance(asked, CertificateRequestInfo) and not satisfies(credential, asked.oid_filters):
        return _Refusal(3, "no certificate has the extensions that the server asks for", "9846 §4.3.5")
    if credential.must_match_issuer and credential.issuers.isdisjoint(asked.authorities):
        return _Refusal(4, "no credential is of an issuer that the peer names", "9846 §4.3.4")
    return scheme


def _no_scheme(asked: Asked) -> _Refusal:
    return _Refusal(
        0, f"no signature scheme in common: the peer accepts {names(asked.signature_schemes)}", "9846 §4.3.3"
    )


def _rank(credential: Credential, asked: Asked) -> tuple[bool, bool, bool]:
    accepted, fits = _certificate_schemes(asked), True
    for schemes in credential.chain_schemes:
        if schemes.isdisjoint(accepted):
            fits = False
    return fits, not credential.sha1_schemes, not credential.issuers.isdisjoint(asked.authorities)


def _certificate_schemes(asked: Asked) -> tuple[int, ...]:
    """Return what the peer accepts in certificates (RFC 9846 §4.3.3)."""
    schemes = asked.certificate_signature_schemes
    return asked.signature_schemes if schemes is None else schemes


def read_certificate_request(
    message: CertificateRequest, certificate_type: int
) -> tuple[CertificateRequestInfo, x.Extensions]:
    """Return what the server accepts (RFC 9846 §4.4.2), and all its extensions.

    certificate_type: what EncryptedExtensions said that we are to show (RFC 7250).
    Raises MissingExtension without signature_algorithms, DecodeError, IllegalParameter.
    """
    decoded = x.decode_extensions(x.M.CR, message.extensions)
    schemes = decoded.get(x.SIGNATURE_ALGORITHMS)
    if schemes is None:
        raise MissingExtension("CertificateRequest has no signature_algorithms", rfc="9846 §4.4.2")
    filters = decoded.get(x.OID_FILTERS) or ()
    read_filters(filters)
    info = CertificateRequestInfo(
        signature_schemes=schemes,
        authorities=decoded.get(x.CERTIFICATE_AUTHORITIES) or (),
        certificate_signature_schemes=decoded.get(x.SIGNATURE_ALGORITHMS_CERT),
        oid_filters=filters,
        certificate_types=(certificate_type,),
    )
    return info, decoded


# ---- resolvers and the trace -----------------------------------------------------------------------------------------


def server_credential(
    context: Context[ServerConfig], asked: ClientHelloInfo, then: Callable[[Choice], Result]
) -> Result:
    """Go on with the resolver's credential, or the best of the configuration's. Pauses for a slow resolver.

    Raises as `choose_credential` does.
    """
    config = context.config

    def chosen(answer: Credential | None) -> Result:
        if answer is None:
            choice = choose_credential(
                config.credentials, asked, config.signing_table, strict_server_name=config.strict_server_name
            )
        else:
            choice = _resolved(answer, asked, config)
        if context.trace is not None:
            credential = choice.credential
            context.chose("credential", _told(credential), choice.reason)
            _tell_scheme(context, choice, asked, "the first that its key can make and the client accepts")
        return then(choice)

    return _resolve(config.credential_resolver, asked, chosen)


def client_credential(
    context: Context[ClientConfig], asked: CertificateRequestInfo, then: Callable[[Choice | None], Result]
) -> Result:
    """Go on with the resolver's credential, or the best of the configuration's; with None if none can be used.

    Pauses for a slow resolver. Raises HandshakeFailure if the configuration insists on a credential and none
    can be used.
    """
    config = context.config
    resolver = config.credential_resolver

    def chosen(answer: Credential | None) -> Result:
        choice, why = None, "the resolver has none" if resolver is not None else "none is configured"
        try:
            if answer is not None:
                choice = _resolved(answer, asked, config)
            elif resolver is None and config.credentials:
                choice = choose_credential(config.credentials, asked, config.signing_table)
        except HandshakeFailure as failure:
            if config.insist_on_credential:
                raise
            why = failure.reason
        if context.trace is not None:
            context.chose(
                "client_certificate", "none" if choice is None else "sent", why if choice is None else choice.reason
            )
            if choice is not None:
                _tell_scheme(context, choice, asked, "the first that its key can make and the server accepts")
        return then(choice)

    return _resolve(resolver, asked, chosen)


def _resolve(
    resolver: CredentialResolver[A] | None,
    asked: A,
    chosen: Callable[[Credential | None], Result],
) -> Result:
    if resolver is None:
        return chosen(None)
    return answered(lambda: resolver(asked), lambda answer: NeedCredential(asked, answer), chosen)


def _resolved(answer: object, asked: Asked, config: ClientConfig | ServerConfig) -> Choice:
    if not isinstance(answer, Credential):
        raise InternalError("the answer to NeedCredential is a Credential or None")
    return choose_credential((answer,), asked, config.signing_table)._replace(reason="the resolver's answer")


def _told(credential: Credential) -> str:
    if _is_raw(credential):
        return f"raw public key ({credential.leaf.key_algorithm})"
    return ", ".join(credential.names) or credential.leaf.key_algorithm


def _tell_scheme(context: Context[Any], choice: Choice, asked: Asked, reason: str) -> None:
    context.chose(
        "signature_scheme",
        scheme_name(choice.scheme),
        reason,
        tuple(map(scheme_name, choice.credential.schemes)),
        tuple(map(scheme_name, asked.signature_schemes)),
    )
