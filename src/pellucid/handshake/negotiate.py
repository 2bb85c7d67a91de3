"""Choices as pure functions: from what both sides said to what will be used, and why (RFC 9846 §4.2.1).

Nothing here has a state, sends or derives anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from pellucid.config import ServerConfig
from pellucid.crypto.provider import Group, Suite
from pellucid.errors import (
    HandshakeFailure,
    IllegalParameter,
    MissingExtension,
    NoApplicationProtocol,
    PeerError,
    ProtocolVersion,
)
from pellucid.messages import extensions as x
from pellucid.messages.extensions import Extensions, KeyShareEntry
from pellucid.messages.handshake import DOWNGRADE_TLS_1_1, DOWNGRADE_TLS_1_2, ClientHello, Extension, ServerHello
from pellucid.registry import (
    GREASE_VALUES,
    TLS_1_2,
    TLS_1_3,
    ExtensionType,
    extension_name,
    group_name,
    is_grease,
    suite_name,
    version_name,
)
from pellucid.value import internal_value

NULL_COMPRESSION: Final = b"\0"
_GREASE: Final = frozenset(GREASE_VALUES)


def names(codes: Sequence[int]) -> str:
    """Return the hex of code points for an error's text, at most eight."""
    shown = ", ".join(f"0x{code:04x}" for code in codes[:8])
    return shown + (", …" if len(codes) > 8 else "")


# ---- what a server makes of a ClientHello ----------------------------------------------------------------------------


@internal_value
class ClientOffer:
    """A ClientHello whose form is right: what the client offers, decoded. GREASE values are still in it."""

    hello: ClientHello
    extensions: Extensions
    server_name: str | None
    alpn: tuple[bytes, ...]
    groups: tuple[int, ...]
    shares: dict[int, bytes]
    signature_schemes: tuple[int, ...]


def read_client_hello(hello: ClientHello) -> ClientOffer:
    """Return what the client offers (RFC 9846 §4.2.2, §9.2).

    Raises ProtocolVersion, IllegalParameter, DecodeError, MissingExtension.
    """
    try:
        decoded = x.decode_extensions(x.M.CH, hello.extensions)
    except PeerError:
        check_client_version(hello)  # an older client is told so, whatever its extensions are like
        raise
    versions = decoded.get(x.SUPPORTED_VERSIONS)
    if versions is None or TLS_1_3 not in versions or hello.legacy_version != TLS_1_2:
        check_client_version(hello)  # which says what is wrong
    if hello.legacy_compression_methods != NULL_COMPRESSION:
        raise IllegalParameter("legacy_compression_methods is not exactly null", rfc="9846 §4.2.2")
    groups = decoded.get(x.SUPPORTED_GROUPS)
    shares = decoded.get(x.KEY_SHARES)
    schemes = decoded.get(x.SIGNATURE_ALGORITHMS)
    lacks_modes = ExtensionType.PSK_KEY_EXCHANGE_MODES not in decoded and ExtensionType.PRE_SHARED_KEY in decoded
    if groups is None or shares is None or schemes is None or lacks_modes:
        _check_required(decoded)
    return ClientOffer(
        hello=hello,
        extensions=decoded,
        server_name=decoded.get(x.SERVER_NAME),
        alpn=decoded.get(x.ALPN) or (),
        groups=groups or (),
        shares=_read_shares(shares or (), groups or ()),
        signature_schemes=schemes or (),
    )


def _check_required(hello: Extensions) -> None:
    """Raise MissingExtension if an extension is missing that the others demand (RFC 9846 §9.2, §4.3.9)."""
    groups = hello.get(x.SUPPORTED_GROUPS)
    shares = hello.get(x.KEY_SHARES)
    schemes = hello.get(x.SIGNATURE_ALGORITHMS)
    required: list[tuple[object, int]] = []
    if ExtensionType.PRE_SHARED_KEY not in hello:
        required += [(schemes, ExtensionType.SIGNATURE_ALGORITHMS), (groups, ExtensionType.SUPPORTED_GROUPS)]
    if groups is not None or shares is not None:
        required += [(groups, ExtensionType.SUPPORTED_GROUPS), (shares, ExtensionType.KEY_SHARE)]
    for value, code in required:
        if value is None:
            raise MissingExtension(f"ClientHello has no {extension_name(code)}", rfc="9846 §9.2")
    if ExtensionType.PRE_SHARED_KEY in hello and ExtensionType.PSK_KEY_EXCHANGE_MODES not in hello:
        raise MissingExtension("ClientHello has pre_shared_key without psk_key_exchange_modes", rfc="9846 §4.3.9")


def _supported_versions(extensions: Sequence[Extension]) -> Extension | None:
    for extension in extensions:
        if extension[0] == ExtensionType.SUPPORTED_VERSIONS:
            return extension
    return None


def check_client_version(hello: ClientHello) -> None:
    """Raise ProtocolVersion unless the client offers TLS 1.3 (RFC 9846 §4.2.2, §4.3.1)."""
    offered = _supported_versions(hello.extensions)
    if offered is None:
        raise ProtocolVersion(
            f"the client offers {version_name(hello.legacy_version)} at most, only TLS 1.3 is spoken here",
            rfc="9846 §4.3.1",
        )
    data = offered.extension_data
    versions = x.SUPPORTED_VERSIONS.again.get(data) or x.SUPPORTED_VERSIONS.codec.decode_all(data, "supported_versions")
    if TLS_1_3 not in versions:
        known = ", ".join(version_name(v) for v in versions[:8] if not is_grease(v))
        raise ProtocolVersion(f"the client offers {known}, only TLS 1.3 is spoken here", rfc="9846 §4.3.1")
    if hello.legacy_version != TLS_1_2:
        raise ProtocolVersion(f"legacy_version is 0x{hello.legacy_version:04x}, not 0x0303", rfc="9846 §4.2.2")


def _read_shares(entries: tuple[KeyShareEntry, ...], groups: tuple[int, ...]) -> dict[int, bytes]:
    shares: dict[int, bytes] = {}
    listed = frozenset(groups)
    for group, key_exchange in entries:
        if group in shares:
            raise IllegalParameter(f"two key shares for {group_name(group)}", rfc="9846 §4.3.8")
        if group not in listed:
            raise IllegalParameter(
                f"a key share for {group_name(group)}, which supported_groups does not list", rfc="9846 §4.3.8"
            )
        shares[group] = key_exchange
    return shares


def choose_suite(config: ServerConfig, hello: ClientHello, hashes: Collection[str] = ()) -> tuple[Suite, str]:
    """Return the first of our suites that the client offers. HandshakeFailure if there is none (RFC 9846 §4.2.1).

    hashes: of the external PSKs that both have; a suite with one of them comes before the others (§4.3.11).
    """
    offered = frozenset(hello.cipher_suites)
    if hashes:
        for code, suite in config.suite_table.items():
            if code in offered and suite.hash_name in hashes:
                return suite, "the first of ours that the client offers and an external PSK fits"
    for code, suite in config.suite_table.items():
        if code in offered:
            return suite, "the first of ours that the client offers"
    raise HandshakeFailure(
        f"no cipher suite in common: the client offers {names(hello.cipher_suites)}",
        rfc="9846 §4.2.1",
        code="TLS-NO-COMMON-SUITE",
    )


def choose_group(config: ServerConfig, offer: ClientOffer) -> tuple[Group, str]:
    """Return the group to use; if the client sent no share for it, a HelloRetryRequest has to ask (RFC 9846 §4.3.8).

    A post-quantum group both sides have is worth a round trip, whatever was shared (attack C14); among equals one
    that the client already shared is taken. HandshakeFailure if there is none in common.
    """
    if not offer.groups:
        raise MissingExtension("ClientHello has no supported_groups, and no PSK makes do without", rfc="9846 §9.2")
    offered = frozenset(offer.groups)
    common = [group for code, group in config.group_table.items() if code in offered]
    if not common:
        raise HandshakeFailure(
            f"no group in common: the client offers {names(offer.groups)}",
            rfc="9846 §4.2.1",
            code="TLS-NO-COMMON-GROUP",
        )
    if common[0].post_quantum:
        common = [group for group in common if group.post_quantum]
    for group in common:
        if group.code in offer.shares:
            return group, "the first of ours that the client sent a share for"
    return common[0], "the first of ours that the client supports; it sent no share for it"


def choose_alpn(config: ServerConfig, offer: ClientOffer) -> bytes | None:
    """Return the application protocol; None if one side names none. NoApplicationProtocol (RFC 7301 §3.2)."""
    if not config.alpn_names or not offer.alpn:
        return None
    for name in config.alpn_names:
        if name in offer.alpn:
            return name
    offered = ", ".join(repr(name[:32])[1:] for name in offer.alpn[:8])
    raise NoApplicationProtocol(f"no application protocol in common: the client offers {offered}", rfc="7301 §3.2")


def covers(certificate_names: tuple[str, ...], server_name: str) -> bool:
    """Return whether names of a certificate cover *server_name*; a wildcard covers one label (RFC 9525 §6.3)."""
    return server_name in certificate_names or wildcard_for(server_name) in certificate_names


def wildcard_for(server_name: str) -> str:
    """Return the one wildcard that covers *server_name* too, or the name itself where it has but one label."""
    _, dot, parent = server_name.partition(".")
    return f"*.{parent}" if dot else server_name


_FREE_TO_CHANGE: Final = frozenset(
    {
        ExtensionType.EARLY_DATA,
        ExtensionType.COOKIE,
        ExtensionType.PRE_SHARED_KEY,
        ExtensionType.PADDING,
    }
)


def unchanged_part(hello: ClientHello, *, shares: bool) -> bytes:
    """Return the encoding of what must be the same in a second ClientHello (RFC 9846 §4.2.2).

    shares: whether key_share is of it: the HelloRetryRequest asks for no other. Then its groups are, not its values:
            JSSE makes fresh ones for the same groups, which takes nothing from anybody.
    """
    free = _FREE_TO_CHANGE if shares else _FREE_TO_CHANGE | {ExtensionType.KEY_SHARE}
    kept = tuple(_without_shares(extension) for extension in hello.extensions if extension.extension_type not in free)
    return replace(hello, extensions=kept).encode()


def _without_shares(extension: Extension) -> Extension:
    if extension.extension_type != ExtensionType.KEY_SHARE:
        return extension
    entries = x.KEY_SHARES.codec.decode_all(extension.extension_data, "key_share")
    return Extension(extension.extension_type, b"".join(entry.group.to_bytes(2, "big") for entry in entries))


_TLS_1_3_FIRST: Final = (Extension(ExtensionType.SUPPORTED_VERSIONS, TLS_1_3.to_bytes(2, "big")),)


# ---- what a client makes of a ServerHello ----------------------------------------------------------------------------


def check_server_version(hello: ServerHello, *, retried: bool = False) -> None:
    """Raise unless the server chose TLS 1.3: looked at before anything else in it (RFC 9846 §4.2.3, §4.3.1).

    IllegalParameter for the downgrade sentinel, a version that was not offered, or another than its HelloRetryRequest
    had chosen (retried); ProtocolVersion for an older one.
    """
    if hello.legacy_version == TLS_1_2 and hello.extensions[:1] == _TLS_1_3_FIRST:
        return  # as most servers have it
    chosen = _supported_versions(hello.extensions)
    if chosen is None:
        if retried:
            raise IllegalParameter(
                "HelloRetryRequest chose TLS 1.3, ServerHello does not", rfc="9846 §4.2.4", code="TLS-DOWNGRADE"
            )
        if hello.random.endswith((DOWNGRADE_TLS_1_2, DOWNGRADE_TLS_1_1)):
            raise IllegalParameter(
                f"the server speaks TLS 1.3 but chose {version_name(hello.legacy_version)}: somebody downgraded it",
                rfc="9846 §4.2.3",
                code="TLS-DOWNGRADE",
            )
        raise ProtocolVersion(
            f"the server chose {version_name(hello.legacy_version)}; it does not speak TLS 1.3", rfc="9846 §4.3.1"
        )
    data = chosen.extension_data
    version = x.SELECTED_VERSION.again.get(data) or x.SELECTED_VERSION.codec.decode_all(data, "supported_versions")
    if version != TLS_1_3:
        raise IllegalParameter(
            f"the server chose {version_name(version)}, offered is TLS 1.3", rfc="9846 §4.3.1", code="TLS-VERSION"
        )
    if hello.legacy_version != TLS_1_2:
        section = "9846 §4.2.4" if retried else "9846 §4.2.3"
        raise ProtocolVersion(f"legacy_version is 0x{hello.legacy_version:04x}, not 0x0303", rfc=section)


def check_server_hello_fields(hello: ServerHello, session_id: bytes, suites: Sequence[int]) -> None:
    """Raise IllegalParameter unless the echoes and the suite fit what was offered (RFC 9846 §4.2.3)."""
    if hello.legacy_session_id_echo != session_id:
        raise IllegalParameter("legacy_session_id_echo is not what was sent", rfc="9846 §4.2.3")
    if hello.legacy_compression_method != 0:
        raise IllegalParameter("legacy_compression_method is not 0", rfc="9846 §4.2.3")
    if hello.cipher_suite not in suites:
        raise IllegalParameter(
            f"the server chose {suite_name(hello.cipher_suite)}, which was not offered",
            rfc="9846 §4.2.3",
            code="TLS-SUITE-NOT-OFFERED",
        )


def suits_request(extensions: Sequence[Extension]) -> frozenset[int]:
    """Return the types that a response may have: those sent, without GREASE (RFC 8701 §3.1)."""
    return frozenset([code for code, _ in extensions if code not in _GREASE])
