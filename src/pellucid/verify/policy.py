"""What pyca/cryptography is asked to demand of the certificates on a path: the policy, all but the time and the name.

This module and webpki.py are the ones that use `cryptography.x509.verification`, whose interface upstream calls
unstable. What is asked of extensions is upstream's Web PKI policy but for these, which browsers and OpenSSL accept, and
which many private CAs issue:
- a CA certificate without keyUsage; with it, keyCertSign is still required (RFC 5280 §4.2.1.3);
- basicConstraints of a CA that is not marked critical (§4.2.1.9);
- subjectAltName marked critical although there is a subject (§4.2.1.6);
- a leaf without authorityKeyIdentifier (§4.2.1.1);
- a client's leaf without subjectAltName: clients are not looked up by name;
- a leaf that is a CA, if it is itself in the trust store, as `openssl req -x509` makes them.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy, PolicyBuilder, Store

from pellucid.verify.checks import PURPOSE_OIDS
from pellucid.verify.request import Purpose
from pellucid.verify.strictness import Strictness

__all__ = ["make_builder"]


def make_builder(
    purpose: Purpose,
    store: Store,
    pinned: frozenset[x509.Certificate],
    max_path_depth: int,
    strictness: Strictness,
) -> PolicyBuilder:
    """Return all of the policy but time and name. pinned: leaves that may be CAs.

    Without a name there is but upstream's verifier of clients: what issuers may issue for is asked here then.
    """

    def ca_flag(_: Policy, certificate: x509.Certificate, constraints: x509.BasicConstraints | None) -> None:
        if constraints is not None and constraints.ca and certificate not in pinned:
            raise ValueError("the leaf is a CA certificate")

    ca = (
        ExtensionPolicy.webpki_defaults_ca()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign_certificates)
    )

    def key_usage(_: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
        if usage is None:
            return
        if not usage.digital_signature or (usage.key_cert_sign and certificate not in pinned):
            raise ValueError("the leaf's key usage is not that of a peer")

    def extended_key_usage(_: Policy, __: x509.Certificate, usages: x509.ExtendedKeyUsage | None) -> None:
        if usages is not None and PURPOSE_OIDS[purpose] not in usages:
            raise ValueError(f"the leaf's extended key usage lacks {purpose.value}")

    unnamed_server = purpose is Purpose.SERVER_AUTH and strictness.dangerous_skip_name_check
    if unnamed_server:
        ca = ca.may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _may_issue_for_servers)

    leaf = (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, key_usage)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.NON_CRITICAL, extended_key_usage)
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, None)
        .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, ca_flag)
    )
    if purpose is Purpose.SERVER_AUTH and not unnamed_server:
        leaf = leaf.require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    else:
        leaf = leaf.may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    builder = PolicyBuilder().store(store).max_chain_depth(max_path_depth)
    return builder.extension_policies(ca_policy=ca, ee_policy=leaf)


def _may_sign_certificates(_: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("a CA's key usage lacks keyCertSign")


def _may_issue_for_servers(_: Policy, __: x509.Certificate, usages: x509.ExtendedKeyUsage | None) -> None:
    if usages is not None and not {PURPOSE_OIDS[Purpose.SERVER_AUTH], ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(
        usages
    ):
        raise ValueError("a CA's extended key usage lacks server authentication")
