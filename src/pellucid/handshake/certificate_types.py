"""What the two ends show: X.509 certificates or raw public keys, each end's own (RFC 7250, RFC 9846 §4.5.1).

X.509 is what is not spoken of: an extension is sent only where something else is possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pellucid.config import ClientConfig, ServerConfig
from pellucid.credential import ONLY_X509
from pellucid.crypto.certificates import EndEntity
from pellucid.crypto.provider import CryptoProvider
from pellucid.errors import IllegalParameter, UnsupportedCertificate
from pellucid.handshake.core import Context
from pellucid.messages import extensions as x
from pellucid.messages.extensions import Body, Extensions
from pellucid.messages.handshake import Extension
from pellucid.registry import CertificateType, certificate_type_name, extension_name
from pellucid.value import internal_value

_BY_DEFAULT: Final = "no other was negotiated"


@internal_value
class CertificateTypes:
    """What was agreed. server: what the server shows; client: what the client shows, if it is asked."""

    server: int
    client: int


X509_BOTH: Final = CertificateTypes(server=CertificateType.X509, client=CertificateType.X509)


def parse_end_entity(provider: CryptoProvider, certificate_type: int, der: bytes) -> EndEntity:
    """Return what stands first in a Certificate message of that type, parsed.

    Raises BadCertificate, DecodeError, UnsupportedCertificate.
    """
    if certificate_type == CertificateType.RAW_PUBLIC_KEY:
        return provider.parse_raw_public_key(der)
    return provider.parse_certificate(der)


# ---- the client's ----------------------------------------------------------------------------------------------------


def certificate_type_extensions(config: ClientConfig) -> list[Extension]:
    """Return what a ClientHello says of types; nothing where only X.509 is possible, as demanded (RFC 7250 §4.1)."""
    built = []
    if config.shown_certificate_types != ONLY_X509:
        built.append(x.CLIENT_CERTIFICATE_TYPES.extension(config.shown_certificate_types))
    if config.server_certificate_types != ONLY_X509:
        built.append(x.SERVER_CERTIFICATE_TYPES.extension(config.server_certificate_types))
    return built


def types_answered(context: Context[ClientConfig], answer: Extensions, *, certificates: bool) -> CertificateTypes:
    """Return what EncryptedExtensions says of types (RFC 7250 §4.2). certificates: whether the server shows one.

    Raises IllegalParameter for a type that was not offered, UnsupportedCertificate if none was chosen and X.509, which
    that means, is not accepted.
    """
    config = context.config
    if config.shown_certificate_types == ONLY_X509 and config.server_certificate_types == ONLY_X509:
        return X509_BOTH
    client = _answered(answer, x.CLIENT_CERTIFICATE_TYPE, config.shown_certificate_types)
    server = _answered(answer, x.SERVER_CERTIFICATE_TYPE, config.server_certificate_types)
    if certificates:
        if server is None and CertificateType.X509 not in config.server_certificate_types:
            raise UnsupportedCertificate(
                f"the server shows an X.509 certificate, accepted is {_names(config.server_certificate_types)[0]}",
                rfc="7250 §4.2",
            )
        if context.trace is not None:
            _tell(context, "server_certificate_type", server, config.server_certificate_types)
    if context.trace is not None and client is not None:
        _tell(context, "client_certificate_type", client, config.shown_certificate_types)
    return CertificateTypes(
        server=CertificateType.X509 if server is None else server,
        client=CertificateType.X509 if client is None else client,
    )


def _answered(answer: Extensions, body: Body[int], offered: tuple[int, ...]) -> int | None:
    chosen = answer.get(body)
    if chosen is not None and chosen not in offered:
        raise IllegalParameter(
            f"{extension_name(body.extension_type)} is {certificate_type_name(chosen)}, which was not offered",
            rfc="7250 §4.2",
        )
    return chosen


def _tell(context: Context[ClientConfig], what: str, chosen: int | None, offered: tuple[int, ...]) -> None:
    if chosen is None:
        context.chose(what, certificate_type_name(CertificateType.X509), _BY_DEFAULT, _names(offered))
    else:
        context.chose(what, certificate_type_name(chosen), "the server's choice of those offered", _names(offered))


# ---- the server's ----------------------------------------------------------------------------------------------------


def types_accepted(hello: Extensions) -> tuple[int, ...]:
    """Return what the client can verify, of types that are known; none may be (RFC 7250 §4.1)."""
    return _known(hello.get(x.SERVER_CERTIFICATE_TYPES))


def choose_client_type(context: Context[ServerConfig], hello: Extensions) -> int:
    """Return the first of ours that the client can show, where it is asked for a certificate (RFC 7250 §4.2).

    Raises UnsupportedCertificate if there is none.
    """
    ours = context.config.client_certificate_types
    offered = hello.get(x.CLIENT_CERTIFICATE_TYPES)
    theirs = _known(offered)
    chosen = common_client_type(context.config, hello)
    if chosen is not None:
        if context.trace is not None and (offered is not None or ours != ONLY_X509):
            why = _BY_DEFAULT if offered is None else "the first of ours that the client can show"
            context.chose("client_certificate_type", certificate_type_name(chosen), why, _names(ours), _names(theirs))
        return chosen
    can_show = ", ".join(_names(theirs)) or "nothing that is known here"
    raise UnsupportedCertificate(
        f"the client can show {can_show}, accepted is {' or '.join(_names(ours))}", rfc="7250 §4.2"
    )


def common_client_type(config: ServerConfig, hello: Extensions) -> int | None:
    """Return the first of ours that the client can show, None if there is none."""
    theirs = _known(hello.get(x.CLIENT_CERTIFICATE_TYPES))
    for code in config.client_certificate_types:
        if code in theirs:
            return code
    return None


def later_client_type(config: ServerConfig, hello: Extensions) -> int | None:
    """Return what a client shows that may be asked after the handshake (RFC 9846 §4.7.2), None if it cannot be.

    EncryptedExtensions says it, as for a request that follows at once: afterwards there is no place for it.
    """
    if config.peer_verifier is None or x.POST_HANDSHAKE_AUTH.extension_type not in hello:
        return None
    return common_client_type(config, hello)


def chosen_type_extensions(hello: Extensions, *, server: int | None, client: int | None) -> list[Extension]:
    """Return what EncryptedExtensions answers (RFC 7250 §4.2).

    server: what we show, or showed when the session began; None if nothing.   client: what is asked for, None if
    nothing is.
    """
    built = []
    if client is not None and x.CLIENT_CERTIFICATE_TYPES.extension_type in hello:
        built.append(x.CLIENT_CERTIFICATE_TYPE.extension(client))
    if server is not None and x.SERVER_CERTIFICATE_TYPES.extension_type in hello:
        built.append(x.SERVER_CERTIFICATE_TYPE.extension(server))
    return built


def _known(listed: Sequence[int] | None) -> tuple[int, ...]:
    known = (CertificateType.X509, CertificateType.RAW_PUBLIC_KEY)
    return ONLY_X509 if listed is None else tuple(code for code in listed if code in known)


def _names(codes: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(map(certificate_type_name, codes))
