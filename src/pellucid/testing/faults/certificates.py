"""Faults in certificates and staples: what a client must not believe (RFC 5280, RFC 9525, RFC 6960)."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pellucid.config import Credential
from pellucid.limits import MAX_CERTIFICATES
from pellucid.registry import AlertDescription as A
from pellucid.registry import CertificateType
from pellucid.testing.ca import CA, DAY, Extra, Issued, self_signed
from pellucid.testing.faults.fault import NOTHING, Fault, Kind, Needs, Recipe
from pellucid.testing.faults.mint import Mint, Shown, shown
from pellucid.testing.revocation import signed_with_sha1
from pellucid.verify.raw_keys import RawPublicKeyVerifier
from pellucid.verify.revocation import RevocationPolicy

__all__ = ["CERTIFICATES"]

_DEEP_HOST: Final = "too.deep.fault.localhost"
_UNKNOWN_CRITICAL: Final = Extra(
    value=x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), critical=True
)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


# ---- dates -----------------------------------------------------------------------------------------------------------


def _expired(mint: Mint) -> Shown:
    now = _now()
    return shown(mint, mint.ca.issue(*mint.names, not_before=now - 90 * DAY, not_after=now - DAY))


def _not_yet_valid(mint: Mint) -> Shown:
    return shown(mint, mint.ca.issue(*mint.names, not_before=_now() + 7 * DAY))


def _expired_intermediate(mint: Mint) -> Shown:
    now = _now()
    middle = mint.ca.intermediate("Expired intermediate", not_before=now - 400 * DAY, not_after=now - 2 * DAY)
    return shown(mint, middle.issue(*mint.names))


def _clock(mint: Mint) -> Shown:
    start = _now() + 5 * 365 * DAY
    root = CA("Fault CA of another time", not_before=start, not_after=start + 3650 * DAY)
    middle = root.intermediate("Intermediate of another time", not_before=start, not_after=start + 3000 * DAY)
    leaf = middle.issue(*mint.names, not_before=start + DAY, not_after=start + 90 * DAY)
    return shown(mint, leaf, trusted=root)


# ---- names -----------------------------------------------------------------------------------------------------------


def _wrong_name(mint: Mint) -> Shown:
    return shown(mint, mint.ca.issue("www.another.test", "another.test"))


def _wildcard(mint: Mint) -> Shown:
    return shown(mint, mint.ca.issue("*.fault.localhost"))


def _common_name(mint: Mint) -> Shown:
    return shown(mint, mint.ca.issue(common_name=mint.host))


# ---- trust -----------------------------------------------------------------------------------------------------------


def _unknown_ca(mint: Mint) -> Shown:
    root = CA("Nobody's root")
    middle = root.intermediate("Nobody's intermediate", aia=None)
    leaf = middle.issue(*mint.names)
    return shown(mint, leaf, chain=(*leaf.chain_der, root.certificate))


def _missing_intermediate(mint: Mint) -> Shown:
    middle = mint.ca.intermediate("Intermediate that is not sent")
    leaf = middle.issue(*mint.names)
    return shown(mint, leaf, chain=(leaf.der,))


def _self_signed(mint: Mint) -> Shown:
    return shown(mint, self_signed(*mint.names))


def _proxy(mint: Mint) -> Shown:
    return shown(mint, CA("mitmproxy").issue(*mint.names))


def _bad_signature(mint: Mint) -> Shown:
    leaf = mint.ca.issue(*mint.names)
    return shown(mint, leaf, chain=(leaf.der[:-1] + bytes((leaf.der[-1] ^ 1,)),))


# ---- what it may be used for -----------------------------------------------------------------------------------------


def _wrong_purpose(mint: Mint) -> Shown:
    return shown(mint, mint.ca.issue(*mint.names, purposes=("client",)))


def _intermediate_purpose(mint: Mint) -> Shown:
    middle = mint.ca.intermediate("Intermediate for clients only", purposes=("client",))
    return shown(mint, middle.issue(*mint.names))


def _key_usage(mint: Mint) -> Shown:
    return shown(mint, mint.ca.issue(*mint.names, usage=("key_agreement",)))


def _not_a_ca(mint: Mint) -> Shown:
    middle = mint.ca.intermediate("A leaf that signs", ca=False, usage=("digital_signature",))
    return shown(mint, middle.issue(*mint.names))


def _path_too_long(mint: Mint) -> Shown:
    first = mint.ca.intermediate("Intermediate with pathLenConstraint 0", path_length=0)
    return shown(mint, first.intermediate("One intermediate too many").issue(*mint.names))


def _name_constraint(mint: Mint) -> Shown:
    middle = mint.ca.intermediate("Intermediate for allowed.test", permitted=("allowed.test",))
    return shown(mint, middle.issue(mint.host))


# ---- keys, algorithms, form ------------------------------------------------------------------------------------------


def _weak_key(mint: Mint) -> Shown:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505  # to be refused
    return shown(mint, mint.ca.issue(*mint.names, key=key))


def _odd_curve(mint: Mint) -> Shown:
    middle = mint.ca.intermediate("Intermediate on secp256k1", key=ec.generate_private_key(ec.SECP256K1()))
    return shown(mint, middle.issue(*mint.names))


def _unknown_key(mint: Mint) -> Shown:
    """A raw public key, and the client knows another."""
    credential = Credential.raw_public_key(mint.ca.issue(mint.host).key_pem)
    known = _public_pem(mint.ca.issue(mint.host))
    config = {
        "trust": None,
        "verifier": RawPublicKeyVerifier(known),
        "server_certificate_types": (CertificateType.RAW_PUBLIC_KEY,),
    }
    return Shown(
        chain=credential.chain, credential=credential, ca_pem=mint.ca.root_pem, config=config, public_key_pem=known
    )


def _public_pem(issued: Issued) -> bytes:
    return issued.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _sha1(mint: Mint) -> Shown:
    leaf = mint.ca.issue(*mint.names)
    return shown(mint, leaf, chain=(signed_with_sha1(leaf.der, mint.ca.private_key),))


def _unknown_critical(mint: Mint) -> Shown:
    return shown(mint, mint.ca.issue(*mint.names, extra=(_UNKNOWN_CRITICAL,)))


def _malformed(mint: Mint) -> Shown:
    leaf = mint.ca.issue(*mint.names)
    return shown(mint, leaf, chain=(leaf.der[:-9],))


def _chain_too_large(mint: Mint) -> Shown:
    leaf = mint.ca.issue(*mint.names)
    return shown(mint, leaf, chain=(leaf.der, *[mint.ca.certificate] * (MAX_CERTIFICATES + 1)))


# ---- revocation ------------------------------------------------------------------------------------------------------


def _stapled(**how: Any) -> Callable[[Mint], Shown]:  # Any: the arguments of CA.ocsp_response
    def make(mint: Mint) -> Shown:
        leaf = mint.ca.issue(*mint.names)
        return shown(mint, leaf, staple=mint.ca.ocsp_response(leaf, **how), chain=leaf.chain_der)

    return make


def _stale(mint: Mint) -> Shown:
    now = _now()
    return _stapled(this_update=now - 14 * DAY, next_update=now - 7 * DAY)(mint)


def _foreign(mint: Mint) -> Shown:
    leaf, another = mint.ca.issue(*mint.names), mint.ca.issue(*mint.names)
    return shown(mint, leaf, staple=mint.ca.ocsp_response(another))


def _must_staple(mint: Mint) -> Shown:
    return shown(mint, mint.ca.issue(*mint.names, must_staple=True))


def _no_staple(mint: Mint) -> Shown:
    return shown(mint, mint.ca.issue(*mint.names))


def _listed(mint: Mint) -> Shown:
    leaf = mint.ca.issue(*mint.names)
    crl = mint.ca.crl(leaf)
    return shown(mint, leaf, config={"revocation": RevocationPolicy(crls=(crl,))}, crl=crl)


def _unlisted(mint: Mint) -> Shown:
    crl = CA("CA of another list").crl()
    return shown(mint, mint.ca.issue(*mint.names), config={"revocation": RevocationPolicy(crls=(crl,))}, crl=crl)


# ---- the table -------------------------------------------------------------------------------------------------------


def _fault(
    name: str,
    summary: str,
    code: str,
    alert: int,
    rfc: str,
    make: Callable[[Mint], Shown],
    *,
    needs: Needs = NOTHING,
    host: str = "localhost",
) -> Fault:
    return Fault(
        name=name,
        summary=summary,
        kind=Kind.X509,
        code=code,
        alert=alert,
        rfc=rfc,
        recipe=Recipe(shown=make, host=host),
        needs=needs,
    )


_EXPIRED, _BAD, _UNKNOWN_CA = A.CERTIFICATE_EXPIRED, A.BAD_CERTIFICATE, A.UNKNOWN_CA
_UNSUPPORTED, _STATUS = A.UNSUPPORTED_CERTIFICATE, A.BAD_CERTIFICATE_STATUS_RESPONSE
_LISTS = Needs(text="a revocation list: `crl_path`", options=("--crlfile", "{crl}"))
_KNOWN_KEY = Needs(text="to know the server by its public key (RFC 7250)", options=("--pubkey", "{key}"))
_STAPLES = Needs(
    text="to demand a staple", config={"revocation": RevocationPolicy(require_staple=True)}, options=("--cert-status",)
)

CERTIFICATES: Final = (
    _fault("expired", "the certificate expired yesterday",
           "X509-EXPIRED", _EXPIRED, "5280 §4.1.2.5", _expired),
    _fault("not-yet-valid", "the certificate is valid from next week",
           "X509-NOT-YET-VALID", _EXPIRED, "5280 §4.1.2.5", _not_yet_valid),
    _fault("expired-intermediate", "the leaf is valid, the intermediate above it has expired",
           "X509-EXPIRED", _EXPIRED, "5280 §6.1.3", _expired_intermediate),
    _fault("clock", "every certificate of the chain is of another time, as a wrong local clock has it",
           "X509-CLOCK", _EXPIRED, "5280 §4.1.2.5", _clock),
    _fault("wrong-name", "the certificate is for another.test",
           "X509-WRONG-NAME", _BAD, "9525 §6.3", _wrong_name),
    _fault("wildcard-too-deep", "*.fault.localhost is shown for too.deep.fault.localhost",
           "X509-WILDCARD", _BAD, "9525 §6.3", _wildcard, host=_DEEP_HOST),
    _fault("common-name-only", "the name is in the common name alone, where nobody looks any more",
           "X509-NO-SAN", _BAD, "9525 §6.3", _common_name),
    _fault("unknown-ca", "a whole chain, up to a root that nobody trusts",
           "X509-UNKNOWN-CA", _UNKNOWN_CA, "9846 §4.5.1.3", _unknown_ca),
    _fault("missing-intermediate", "the leaf comes alone; it says where its issuer's certificate is (AIA)",
           "X509-MISSING-INTERMEDIATE", _UNKNOWN_CA, "9846 §4.5.1", _missing_intermediate),
    _fault("self-signed", "the certificate vouches for itself",
           "X509-SELF-SIGNED", _UNKNOWN_CA, "9846 §4.5.1.3", _self_signed),
    _fault("proxy", "the certificate was made by an intercepting proxy",
           "X509-PROXY", _UNKNOWN_CA, "9846 §4.5.1.3", _proxy),
    _fault("bad-signature", "the CA's signature on the certificate is wrong by one bit",
           "X509-BAD-SIGNATURE", _BAD, "5280 §6.1.3", _bad_signature),
    _fault("wrong-purpose", "the certificate is for clients",
           "X509-WRONG-PURPOSE", _UNSUPPORTED, "5280 §4.2.1.12", _wrong_purpose),
    _fault("wrong-purpose-intermediate", "the intermediate may issue certificates for clients only",
           "X509-WRONG-PURPOSE", _UNSUPPORTED, "5280 §4.2.1.12", _intermediate_purpose),
    _fault("key-usage", "the certificate's key must not sign: its key usage lacks digitalSignature",
           "X509-KEY-USAGE", _UNSUPPORTED, "9846 §4.5.1.2", _key_usage),
    _fault("not-a-ca", "the certificate was issued by one that is no CA",
           "X509-NOT-A-CA", _BAD, "5280 §4.2.1.9", _not_a_ca),
    _fault("path-too-long", "one intermediate more than pathLenConstraint allows",
           "X509-PATH-TOO-LONG", A.CERTIFICATE_UNKNOWN, "5280 §4.2.1.9", _path_too_long),
    _fault("name-constraint", "the intermediate may issue for allowed.test only",
           "X509-NAME-CONSTRAINT", A.CERTIFICATE_UNKNOWN, "5280 §4.2.1.10", _name_constraint),
    _fault("weak-key", "the certificate has an RSA key of 1024 bits",
           "X509-WEAK-KEY", _BAD, "9846 §C.2", _weak_key),
    _fault("odd-curve", "the intermediate has a key on secp256k1, which nobody here computes with",
           "X509-UNSUPPORTED", _UNSUPPORTED, "9846 §4.3.3", _odd_curve),
    _fault("unknown-key", "shows a raw public key that the client does not know",
           "X509-UNKNOWN-KEY", _BAD, "7250 §4.2", _unknown_key, needs=_KNOWN_KEY),
    _fault("sha1", "the certificate is signed with SHA-1",
           "X509-WEAK-SIGNATURE", _BAD, "9846 §4.5.1.3", _sha1),
    _fault("unknown-critical", "the certificate has a critical extension that nobody knows",
           "X509-UNKNOWN-CRITICAL", A.CERTIFICATE_UNKNOWN, "5280 §4.2", _unknown_critical),
    _fault("malformed", "the certificate is cut off before its end",
           "X509-MALFORMED", _BAD, "5280 §4.1", _malformed),
    _fault("chain-too-large", f"{MAX_CERTIFICATES + 2} certificates where one would do",
           "X509-TOO-LARGE", _BAD, "9846 §4.5.1", _chain_too_large),
    _fault("revoked-staple", "the stapled OCSP response says that the certificate is revoked",
           "X509-REVOKED", A.CERTIFICATE_REVOKED, "6960 §2.2", _stapled(status="revoked")),
    _fault("stale-staple", "the stapled OCSP response should have been renewed a week ago",
           "X509-STAPLE-STALE", _STATUS, "6960 §3.2", _stale),
    _fault("foreign-staple", "the stapled OCSP response is about another certificate",
           "X509-STAPLE-INVALID", _STATUS, "6960 §3.2", _foreign),
    _fault("forged-staple", "the signature on the stapled OCSP response is wrong",
           "X509-STAPLE-INVALID", _STATUS, "6960 §3.2", _stapled(wrong_signature=True)),
    _fault("must-staple", "the certificate promises an OCSP response, and none comes with it",
           "X509-STAPLE-MISSING", _STATUS, "7633 §4.2.3", _must_staple),
    _fault("no-staple", "no OCSP response is stapled, to a client that demands one",
           "X509-STAPLE-MISSING", _STATUS, "6066 §8", _no_staple, needs=_STAPLES),
    _fault("revoked-list", "the certificate is on its CA's revocation list",
           "X509-REVOKED", A.CERTIFICATE_REVOKED, "5280 §6.3.3", _listed, needs=_LISTS),
    _fault("unlisted", "no revocation list that the client has answers for the certificate",
           "X509-REVOCATION-UNKNOWN", A.CERTIFICATE_UNKNOWN, "5280 §6.3.3", _unlisted, needs=_LISTS),
)  # fmt: skip
