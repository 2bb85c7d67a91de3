"""Values that are frozen stay what they say, however they are copied."""

from __future__ import annotations

import copy
import dataclasses
from typing import cast

import pytest

from pellucid import PYCA, Connection, Credential, ServerConfig, TrustStore, UsageError
from pellucid.errors import HandshakeFailure
from pellucid.handshake import actions
from pellucid.limits import MAX_CERTIFICATES
from pellucid.testing.ca import CA
from pellucid.verify.report import CertificateRejected
from tests.support.pair import NAME, authority, client_config, credential, events_of, pump, server_config


def test_a_trust_store_made_of_another_trusts_its_own_roots_alone() -> None:
    """What was computed of the first store's roots does not come along."""
    trusting, other = authority().trust, CA("Somebody else").trust
    assert trusting.store is not None
    assert trusting.authorities
    changed = dataclasses.replace(trusting, roots=other.roots, certificates=other.certificates)
    assert changed.authorities == other.authorities
    assert trusting.roots[0] not in changed
    assert changed == other
    client, server = Connection.client(client_config(trust=changed), NAME), Connection.server(server_config())
    pump(client, server)
    assert isinstance(events_of(client)[1], CertificateRejected)
    assert not client.handshake_complete


def test_a_copied_trust_store_is_the_same_store() -> None:
    trusting = authority().trust
    for same in (copy.copy(trusting), trusting | TrustStore.empty(), dataclasses.replace(trusting)):
        assert same.roots == trusting.roots
        assert trusting.roots[0] in same


def test_a_credential_has_ten_certificates_at_most() -> None:
    """More than a peer of our own kind would look at."""
    issued = credential()
    for count, fits in ((MAX_CERTIFICATES, True), (MAX_CERTIFICATES + 1, False)):
        chain = issued.chain[:1] + issued.chain[1:2] * (count - 1)
        if fits:
            assert len(Credential(chain=chain, signer=issued.signer).chain) == count
        else:
            with pytest.raises(UsageError, match="11 certificates"):
                Credential(chain=chain, signer=issued.signer)


def test_a_server_without_any_credential_says_that_it_has_none() -> None:
    server = Connection.server(ServerConfig(credential_resolver=lambda _: None))
    pump(Connection.client(client_config(), NAME), server)
    error = events_of(server)[1]
    assert isinstance(error, HandshakeFailure)
    assert "no credential" in error.reason


def test_actions_that_carry_a_secret_do_not_show_it() -> None:
    suite, secret = PYCA.suites[0], bytes(range(32))
    offered = actions.OfferEarlyData(limit=1, suite=suite, exporter_secret=secret, alpn=None)
    accepted = actions.AcceptEarlyData(
        negotiated=cast("actions.Negotiated", None), limit=1, suite=suite, exporter_secret=secret
    )
    for value in (offered, accepted):
        assert repr(secret) not in repr(value)
        assert repr(secret)[2:-1] not in str(value)
