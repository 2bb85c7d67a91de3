"""Every suite, group and kind of credential with every other one of another kind: pairwise, three deliveries each."""

from __future__ import annotations

from typing import Any

import pytest

from pellucid import ApplicationData, Credential
from pellucid.config import ClientAuthentication
from pellucid.crypto.pyca import PYCA
from pellucid.registry import SignatureScheme as S
from pellucid.registry import group_name, suite_name
from tests.support.pair import (
    NAME,
    Chunking,
    Pair,
    authority,
    client_config,
    credential,
    events_of,
    server_config,
)
from tests.support.pss import pss_credential

SUITES = tuple(suite.code for suite in PYCA.suites)
GROUPS = tuple(group.code for group in PYCA.groups)
SCHEMES: dict[str, int] = {
    "p256": S.ECDSA_SECP256R1_SHA256,
    "p384": S.ECDSA_SECP384R1_SHA384,
    "p521": S.ECDSA_SECP521R1_SHA512,
    "rsa2048": S.RSA_PSS_RSAE_SHA256,
    "rsa-pss": S.RSA_PSS_PSS_SHA256,
    "ed25519": S.ED25519,
    "ed448": S.ED448,
    "mldsa44": S.MLDSA44,
    "mldsa65": S.MLDSA65,
    "mldsa87": S.MLDSA87,
}
KINDS = tuple(SCHEMES)


def of_kind(kind: str) -> Credential:
    return pss_credential() if kind == "rsa-pss" else credential(kind)  # type: ignore[arg-type]


COMBINATIONS = [
    pytest.param(
        SUITES[(i + j) % len(SUITES)],
        group,
        kind,
        id=f"{suite_name(SUITES[(i + j) % len(SUITES)])}-{group_name(group)}-{kind}",
    )
    for i, group in enumerate(GROUPS)
    for j, kind in enumerate(KINDS)
]


def test_every_pair_of_choices_is_among_the_combinations() -> None:
    chosen: list[Any] = [combination.values for combination in COMBINATIONS]
    for first, second, left, right in ((0, 1, SUITES, GROUPS), (0, 2, SUITES, KINDS), (1, 2, GROUPS, KINDS)):
        assert {(c[first], c[second]) for c in chosen} == {(a, b) for a in left for b in right}
    assert {verifier.code for verifier in PYCA.verifiers if verifier.handshake} - set(SCHEMES.values()) == {
        *(S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_RSAE_SHA512, S.RSA_PSS_PSS_SHA384, S.RSA_PSS_PSS_SHA512)
    }


@pytest.mark.parametrize(("suite", "group", "kind"), COMBINATIONS)
@pytest.mark.rfc("9846 §9.3", "a client supports every parameter that it advertises")
def test_a_handshake_of_each_suite_group_and_credential(suite: int, group: int, kind: str, chunking: Chunking) -> None:
    pair = Pair.of(
        client_config(suites=(suite,), groups=(group,), key_shares=(group,)),
        server_config(suites=SUITES, groups=GROUPS, credentials=(of_kind(kind),)),
        chunking=chunking,
    ).connect()
    for end in (pair.client, pair.server):
        agreed = end.negotiated
        assert agreed is not None
        assert (agreed.cipher_suite, agreed.group, agreed.signature_scheme) == (suite, group, SCHEMES[kind])
        assert (agreed.server_name, agreed.retried) == (NAME, False)
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.peer is not None
    assert pair.client.negotiated.peer.leaf.der == of_kind(kind).chain[0]
    assert pair.client.channel_binding() == pair.server.channel_binding()
    for sender in (pair.client, pair.server):
        seen, error = pair.send(sender, b"application data " * 100)
        assert (
            b"".join(event.data for event in seen if isinstance(event, ApplicationData)) == b"application data " * 100
        )
        assert error is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_authenticates_with_each_kind_of_credential(kind: str, chunking: Chunking) -> None:
    pair = Pair.of(
        client_config(credentials=(of_kind(kind),)),
        server_config(client_authentication=ClientAuthentication.REQUIRED, client_trust=authority().trust),
        chunking=chunking,
    ).connect()
    assert pair.server.negotiated is not None
    assert pair.server.negotiated.peer is not None
    assert pair.server.negotiated.peer.leaf.der == of_kind(kind).chain[0]
    assert pair.server.negotiated.client_signature_scheme == SCHEMES[kind]


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        ("rsa2048", S.RSA_PSS_RSAE_SHA384),
        ("rsa2048", S.RSA_PSS_RSAE_SHA512),
        ("rsa-pss", S.RSA_PSS_PSS_SHA384),
        ("rsa-pss", S.RSA_PSS_PSS_SHA512),
    ],
)
def test_an_rsa_key_signs_with_the_larger_hashes_where_the_client_wants_them(kind: str, scheme: int) -> None:
    schemes = (scheme, S.ECDSA_SECP256R1_SHA256)
    pair = Pair.of(client_config(signature_schemes=schemes), server_config(credentials=(of_kind(kind),))).connect()
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.signature_scheme == scheme


@pytest.mark.parametrize("suite", SUITES, ids=suite_name)
def test_bulk_data_of_every_suite(suite: int, chunking: Chunking) -> None:
    pair = Pair.of(client_config(suites=(suite,)), server_config(suites=SUITES), chunking=chunking).connect()
    data = bytes(range(256)) * 150  # three records
    for sender, receiver in ((pair.client, pair.server), (pair.server, pair.client)):
        seen, error = pair.send(sender, data)
        assert b"".join(event.data for event in seen) == data
        assert error is None
        assert events_of(receiver) == ([], None)
