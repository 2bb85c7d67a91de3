"""What no configuration of ours can offer, choose or send: the reserved, the obsolete and the weak."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pellucid import PYCA, ClientConfig, Connection, UsageError, errors
from pellucid.messages import extensions as x
from pellucid.messages.handshake import BODIES, HEADER_LENGTH, ClientHello
from pellucid.registry import AlertDescription as A
from pellucid.registry import HandshakeType as H
from pellucid.registry import is_grease
from tests.support.pair import NAME, Pair, authority, client_config, events_of, server_config

# RFC 9846 Appendix B: what was used in earlier versions, copied from it and not from our registry.
RESERVED_ALERTS = frozenset({21, 30, 41, 60, 100, 111, 114})
RESERVED_MESSAGES = frozenset({0, 3, 6, 12, 14, 16, 21, 22, 23})
OBSOLETE_SCHEMES = frozenset(
    {*range(0x0201), 0x0202, *range(0x0204, 0x0401), 0x0402, *range(0x0404, 0x0501), 0x0502, *range(0x0504, 0x0601)}
    | {0x0602, *range(0x0604, 0x0700)}
)
OBSOLETE_GROUPS = frozenset({0x0000, *range(0x0001, 0x0017), *range(0x001A, 0x001D), 0xFF01, 0xFF02})
LEGACY_SCHEMES = frozenset({0x0201, 0x0203})  # SHA-1
# RFC 9846 §B.4, and the strength in bits of each AEAD's key.
SUITES = {0x1301: 128, 0x1302: 256, 0x1303: 256, 0x1304: 128, 0x1305: 128}


def everything() -> ClientConfig:
    """A client that offers all that the provider holds."""
    return client_config(
        suites=tuple(suite.code for suite in PYCA.suites),
        groups=tuple(group.code for group in PYCA.groups),
        key_shares=None,
        signature_schemes=tuple(verifier.code for verifier in PYCA.verifiers),
    )


def offered() -> Iterator[tuple[ClientHello, x.Extensions]]:
    for config in (everything(), client_config(), ClientConfig(trust=authority().trust)):
        hello = ClientHello.decode(Connection.client(config, NAME).data_to_send()[5 + HEADER_LENGTH :])
        yield hello, x.decode_extensions(x.M.CH, hello.extensions)


def without_grease(values: Any) -> set[int]:
    return {value for value in values if not is_grease(value)}


@pytest.mark.rfc("9846 §E.5", "no RC4, and no cipher of less than 112 bits, is offered or chosen")
def test_suites_are_those_of_tls_1_3_and_strong() -> None:
    assert {suite.code: 8 * suite.key_length for suite in PYCA.suites} == SUITES
    assert min(SUITES.values()) >= 112
    for hello, _ in offered():
        assert without_grease(hello.cipher_suites) <= set(SUITES)
    for code in (0x0005, 0xC011, 0x0004, 0x0003, 0x0008, 0x000A, 0x0009, 0x0000, 0xC02F, 0x00FF):  # RC4, EXPORT, DES, …
        with pytest.raises(UsageError, match="no cipher suite"):
            client_config(suites=(code,))


@pytest.mark.rfc("9846 §4.3.3", "obsolete signature algorithms, MD5, SHA-224 and DSA are neither offered nor used")
def test_obsolete_signature_schemes_are_not_there() -> None:
    assert not {verifier.code for verifier in PYCA.verifiers} & (OBSOLETE_SCHEMES | LEGACY_SCHEMES)
    for _, decoded in offered():
        assert not without_grease(decoded.get(x.SIGNATURE_ALGORITHMS) or ()) & (OBSOLETE_SCHEMES | LEGACY_SCHEMES)
    for code in (0x0101, 0x0103, 0x0301, 0x0303, 0x0202, 0x0402, 0x0602):  # MD5, SHA-224, DSA
        with pytest.raises(UsageError, match="no signature scheme"):
            client_config(signature_schemes=(code,))


@pytest.mark.rfc("9846 §B.3.1.4", "obsolete groups are neither offered nor negotiated")
def test_obsolete_groups_are_not_there() -> None:
    assert not {group.code for group in PYCA.groups} & OBSOLETE_GROUPS
    for _, decoded in offered():
        assert not without_grease(decoded.get(x.SUPPORTED_GROUPS) or ()) & OBSOLETE_GROUPS
    for code in sorted(OBSOLETE_GROUPS):
        with pytest.raises(UsageError, match="no group"):
            client_config(groups=(code,), key_shares=None)


@pytest.mark.rfc("9846 §4.5.1", "OpenPGP certificates are neither offered, chosen nor taken")
@pytest.mark.parametrize("types", [(1,), (0, 1), (2, 1), (1, 2, 0)])
def test_openpgp_certificates_cannot_be_configured(types: tuple[int, ...]) -> None:
    for config, name in (
        (client_config, "server_certificate_types"),
        (client_config, "client_certificate_types"),
        (server_config, "client_certificate_types"),
    ):
        with pytest.raises(UsageError, match=f"{name} has CertificateType.X509, RAW_PUBLIC_KEY or both"):
            config(**{name: types})  # type: ignore[operator]


@pytest.mark.rfc("9846 §E.5", "SSL 2.0 to TLS 1.1 are not negotiated for any reason")
def test_versions_before_1_3_are_not_offered() -> None:
    for hello, decoded in offered():
        assert without_grease(decoded.get(x.SUPPORTED_VERSIONS) or ()) == {0x0304}
        assert hello.legacy_version == 0x0303


@pytest.mark.rfc("9846 §B", "what Appendix B calls reserved is never sent")
def test_reserved_numbers_are_never_sent() -> None:
    """Alerts: every class of error that we answer with. Messages: every kind that can be made at all."""
    answered = {
        thing.alert
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, errors.PeerError)
    }
    assert len(answered) > 15
    assert not answered & RESERVED_ALERTS
    assert not {value for name, value in vars(A).items() if name[0] != "_"} & RESERVED_ALERTS
    sendable = set(BODIES) - {H.HELLO_RETRY_REQUEST}  # whose number on the wire is ServerHello's
    assert not sendable & RESERVED_MESSAGES
    pair = Pair.of(everything()).connect()
    pair.server.fail(A.INTERNAL_ERROR)
    pair.pump()
    assert getattr(events_of(pair.client)[1], "description", None) == A.INTERNAL_ERROR


@pytest.mark.rfc("9846 §9.3", "a client supports every parameter that it advertises")
def test_everything_advertised_is_supported() -> None:
    """tests/handshakes/test_handshake_matrix.py shakes hands with each."""
    suites, groups, verifiers = ({item.code for item in items} for items in (PYCA.suites, PYCA.groups, PYCA.verifiers))
    for hello, decoded in offered():
        assert without_grease(hello.cipher_suites) <= suites
        assert without_grease(decoded.get(x.SUPPORTED_GROUPS) or ()) <= groups
        assert without_grease(decoded.get(x.SIGNATURE_ALGORITHMS) or ()) <= verifiers
        assert without_grease(e.extension_type for e in hello.extensions) <= set(x.TABLE[x.M.CH])


@pytest.mark.rfc("9846 §F.1", "an exported value that is a channel binding is long enough against collisions")
def test_channel_binding_has_256_bits() -> None:
    pair = Pair.of().connect()
    assert 8 * len(pair.client.channel_binding()) >= 256
    assert pair.client.channel_binding() == pair.server.channel_binding()
