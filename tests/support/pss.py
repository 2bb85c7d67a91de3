"""Certificates of RSASSA-PSS keys and with RSASSA-PSS signatures (RFC 4055), which no builder makes: DER by hand."""

from __future__ import annotations

import functools

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pellucid import Credential
from pellucid.crypto.credentials import parse_own_certificate, private_key_from_pem, signer_for
from pellucid.testing.ca import CA
from tests.support.pair import NAME, authority

OID_RSASSA_PSS = bytes.fromhex("06092a864886f70d01010a")
_OID_MGF1 = bytes.fromhex("06092a864886f70d010108")
_RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")
_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_OID_HASH = {
    "sha256": bytes.fromhex("0609608648016503040201"),
    "sha384": bytes.fromhex("0609608648016503040202"),
    "sha512": bytes.fromhex("0609608648016503040203"),
}
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
NONE = b""
DEFAULTS = b"\x30\x00"
"""RSASSA-PSS-params with nothing in it: SHA-1, MGF1 with SHA-1, a salt of 20 bytes"""


def der(tag: int, body: bytes, *, long_form: bool = False) -> bytes:
    """One DER element; with *long_form* a length of more bytes than it needs, which is BER."""
    size = len(body)
    if size < 128 and not long_form:
        return bytes((tag, size)) + body
    if size < 256:
        return bytes((tag, 0x81, size)) + body
    return bytes((tag, 0x82)) + size.to_bytes(2, "big") + body


def parameters(
    name: str, *, mgf: str | None = None, salt: int | None = None, null: bool = True, long_form: bool = False
) -> bytes:
    """RSASSA-PSS-params: hash, MGF1 with *mgf* (the same), salt (as long as the digest)."""
    end = b"\x05\x00" if null else b""
    digest, mask = (der(0x30, _OID_HASH[each] + end) for each in (name, mgf or name))
    length = HASHES[name].digest_size if salt is None else salt
    return der(
        0x30,
        der(0xA0, digest) + der(0xA1, der(0x30, _OID_MGF1 + mask)) + der(0xA2, der(2, bytes((length,)))),
        long_form=long_form,
    )


def _with_pss_key(tbs: bytes, key_parameters: bytes) -> bytes:
    """A TBSCertificate whose rsaEncryption key is called RSASSA-PSS, restricted by *key_parameters*."""
    assert tbs.count(_RSA_ENCRYPTION) == 1
    start = tbs.index(_RSA_ENCRYPTION) - 4
    stop = start + 4 + int.from_bytes(tbs[start + 2 : start + 4], "big")
    spki = der(0x30, der(0x30, OID_RSASSA_PSS + key_parameters) + tbs[start + 4 + len(_RSA_ENCRYPTION) : stop])
    return der(0x30, tbs[4:start] + spki + tbs[stop:])


def _signed_by(issuer: CA, tbs: bytes) -> bytes:
    key = issuer.private_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return der(0x30, tbs + _ECDSA_WITH_SHA256 + der(3, b"\0" + signature))


@functools.cache
def pss_credential(key_parameters: bytes = NONE) -> Credential:
    """A credential whose key is RSASSA-PSS by its OID: an ordinary RSA leaf with another algorithm in its DER, which
    the issuer signs."""
    made = authority().issue(NAME, key="rsa2048")
    leaf = _signed_by(authority(), _with_pss_key(made.certificate.tbs_certificate_bytes, key_parameters))
    chain = (leaf, *(one.public_bytes(Encoding.DER) for one in made.intermediates))
    return Credential(chain=chain, signer=signer_for(parse_own_certificate(leaf), private_key_from_pem(made.key_pem)))


def pss_issuer(key_parameters: bytes = NONE) -> tuple[CA, tuple[bytes, ...]]:
    """A CA under `authority` with an RSA key, and the chain above its leaves, in which that key is RSASSA-PSS."""
    ca = authority().intermediate("PSS intermediate", key="rsa2048")
    issuer = _signed_by(authority(), _with_pss_key(ca.certificate.tbs_certificate_bytes, key_parameters))
    return ca, (issuer, *(one.public_bytes(Encoding.DER) for one in authority().intermediates))


def pss_signed(ca: CA, algorithm_parameters: bytes) -> tuple[bytes, bytes]:
    """A leaf of the RSA *ca*, and its key in PEM: signed with RSASSA-PSS and SHA-256, whatever the parameters say."""
    made = ca.issue(NAME)
    whole, tbs = made.der, made.certificate.tbs_certificate_bytes
    at = whole.index(tbs) + len(tbs)
    old = whole[at : at + 2 + whole[at + 1]]
    assert tbs.count(old) == 1
    new = der(0x30, OID_RSASSA_PSS + algorithm_parameters)
    tbs = der(0x30, tbs[4:].replace(old, new))
    key = ca.private_key
    assert isinstance(key, rsa.RSAPrivateKey)
    digest = hashes.SHA256()
    signature = key.sign(tbs, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    return der(0x30, tbs + new + der(3, b"\0" + signature)), made.key_pem
