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
What a Strictness gives up beside that is given up here, and in checks.py for the report.
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
    """Return all of the policy but time and name. pinned: leaves that may be CAs."""
    builder = PolicyBuilder().store(store).max_chain_depth(max_path_depth)
    return builder.extension_policies(
        ca_policy=_for_issuers(purpose, strictness), ee_policy=_for_leaf(purpose, pinned, strictness)
    )


def _for_issuers(purpose: Purpose, strictness: Strictness) -> ExtensionPolicy:
    policy = (
        ExtensionPolicy.webpki_defaults_ca()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign_certificates)
    )
    if strictness.allow_any_criticality:
        policy = _of_any_criticality(policy)
    if strictness.dangerous_skip_purpose:
        return policy.may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, None)
    if strictness.dangerous_skip_name_check:
        # Without a name there is but upstream's verifier of clients, which asks for issuers of clients.
        good = {PURPOSE_OIDS[purpose], ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}

        def may_issue(_: Policy, __: x509.Certificate, usages: x509.ExtendedKeyUsage | None) -> None:
            if usages is not None and not good & set(usages):
                raise ValueError(f"a CA's extended key usage lacks {purpose.value}")

        return policy.may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, may_issue)
    return policy


def _for_leaf(purpose: Purpose, pinned: frozenset[x509.Certificate], strictness: Strictness) -> ExtensionPolicy:
    def may_be_ca(certificate: x509.Certificate) -> bool:
        return strictness.allow_ca_leaf or certificate in pinned

    def ca_flag(_: Policy, certificate: x509.Certificate, constraints: x509.BasicConstraints | None) -> None:
        if constraints is not None and constraints.ca and not may_be_ca(certificate):
            raise ValueError("the leaf is a CA certificate")

    def key_usage(_: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
        if usage is None:
            return
        signs = usage.digital_signature or strictness.allow_leaf_without_digital_signature
        if not signs or (usage.key_cert_sign and not may_be_ca(certificate)):
            raise ValueError("the leaf's key usage is not that of a peer")

    good = {PURPOSE_OIDS[purpose]}
    if strictness.allow_any_purpose_leaf:
        good.add(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)

    def extended_key_usage(_: Policy, __: x509.Certificate, usages: x509.ExtendedKeyUsage | None) -> None:
        if usages is not None and not good & set(usages) and not strictness.dangerous_skip_purpose:
            raise ValueError(f"the leaf's extended key usage lacks {purpose.value}")

    lax = strictness.allow_any_criticality
    policy = (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, key_usage)
        .may_be_present(
            x509.ExtendedKeyUsage, Criticality.AGNOSTIC if lax else Criticality.NON_CRITICAL, extended_key_usage
        )
        .may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, ca_flag)
    )
    if lax:
        policy = _of_any_criticality(policy)
    else:
        policy = policy.may_be_present(x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, None)
    if purpose is Purpose.SERVER_AUTH and not strictness.dangerous_skip_name_check:
        return policy.require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    return policy.may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)


def _of_any_criticality(policy: ExtensionPolicy) -> ExtensionPolicy:
    for kind in (x509.AuthorityKeyIdentifier, x509.SubjectKeyIdentifier, x509.AuthorityInformationAccess):
        policy = policy.may_be_present(kind, Criticality.AGNOSTIC, None)
    return policy


def _may_sign_certificates(_: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("a CA's key usage lacks keyCertSign")
