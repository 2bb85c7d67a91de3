"""RSASSA-PSS by the certificate's OID: which key signs with which scheme, and what its parameters forbid (RFC 4055)."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from pellucid import Credential, UsageError
from pellucid.config import ClientAuthentication
from pellucid.crypto.certificates import parse_certificate
from pellucid.crypto.credentials import private_key_from_pem
from pellucid.crypto.provider import Signer
from pellucid.crypto.signatures import PrivateKeySigner
from pellucid.errors import BadCertificate, HandshakeFailure, UnsupportedCertificate
from pellucid.handshake.authenticate import signed_content
from pellucid.messages.handshake import Certificate, CertificateEntry, CertificateVerify, handshake_message
from pellucid.registry import AlertDescription as A
from pellucid.registry import HandshakeType as H
from pellucid.registry import SignatureScheme as S
from pellucid.testing.ca import CA
from pellucid.trace import Role
from tests.illegal.evil import Evil, connected, evil_client, evil_server, good_client, good_server, refused
from tests.support.pair import NAME, Chunking, Pair, authority, client_config, credential, events_of, server_config
from tests.support.pss import DEFAULTS, HASHES, NONE, parameters, pss_credential, pss_issuer, pss_signed

PSS = {"sha256": S.RSA_PSS_PSS_SHA256, "sha384": S.RSA_PSS_PSS_SHA384, "sha512": S.RSA_PSS_PSS_SHA512}
RSAE = {"sha256": S.RSA_PSS_RSAE_SHA256, "sha384": S.RSA_PSS_RSAE_SHA384, "sha512": S.RSA_PSS_RSAE_SHA512}
CHAIN = S.ECDSA_SECP256R1_SHA256  # the issuer's, which the verifier of the chain must accept


def private_key(signer: Signer) -> rsa.RSAPrivateKey:
    assert isinstance(signer, PrivateKeySigner)
    assert isinstance(signer.key, rsa.RSAPrivateKey)
    return signer.key


def signing_with(own: Credential, scheme: int, digest: str, victim: str) -> tuple[Any, Evil]:
    """A good *victim*, and an evil peer with *own*, whose CertificateVerify says *scheme* and is signed with PSS."""
    role = Role.SERVER if victim == "client" else Role.CLIENT
    hash_algorithm = HASHES[digest]

    def edit(kind: int, raw: bytes) -> bytes:
        if kind != H.CERTIFICATE_VERIFY:
            return raw
        content = signed_content(role, evil._context.transcript.digest())
        pss = padding.PSS(padding.MGF1(hash_algorithm), hash_algorithm.digest_size)
        signature = private_key(own.signer).sign(content, pss, hash_algorithm)
        return handshake_message(CertificateVerify(scheme, signature))

    if victim == "client":
        evil = evil_server(server_config(credentials=(own,)), edit=edit)
        return good_client(client_config(), NAME), evil
    evil = evil_client(client_config(credentials=(own,)), edit=edit, name=NAME)
    asking = server_config(client_authentication=ClientAuthentication.REQUIRED, client_trust=authority().trust)
    return good_server(asking), evil


both = pytest.mark.parametrize("victim", ["client", "server"])


# ---- rsae and pss ----------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.3.3", "an rsae scheme is for rsaEncryption keys, a pss scheme for RSASSA-PSS keys")
@pytest.mark.parametrize("digest", PSS)
def test_a_key_signs_with_schemes_of_its_own_oid(digest: str, chunking: Chunking) -> None:
    for own, right, wrong in (
        (credential("rsa2048"), RSAE[digest], PSS[digest]),
        (pss_credential(), PSS[digest], RSAE[digest]),
    ):
        server = server_config(credentials=(own,))
        pair = Pair.of(client_config(signature_schemes=(wrong, right, CHAIN)), server, chunking=chunking).connect()
        assert pair.client.negotiated is not None
        assert pair.client.negotiated.signature_scheme == right
        pair = Pair.of(client_config(signature_schemes=(wrong, CHAIN)), server, chunking=chunking)
        pair.pump()
        assert isinstance(events_of(pair.server)[1], HandshakeFailure)


@both
@pytest.mark.rfc("9846 §4.3.3", "an rsae scheme is for rsaEncryption keys, a pss scheme for RSASSA-PSS keys")
@pytest.mark.parametrize("digest", PSS)
def test_a_scheme_of_the_other_oid_is_refused_though_the_signature_is_right(victim: str, digest: str) -> None:
    refused(*signing_with(pss_credential(), RSAE[digest], digest, victim), A.ILLEGAL_PARAMETER)
    refused(*signing_with(credential("rsa2048"), PSS[digest], digest, victim), A.ILLEGAL_PARAMETER)


# ---- the parameters of a key -----------------------------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.3.3", "an RSASSA-PSS key with parameters signs with those parameters only")
@pytest.mark.parametrize("null", [True, False], ids=["null", "absent"])
@pytest.mark.parametrize("digest", PSS)
def test_a_restricted_key_signs_with_its_own_hash_only(digest: str, null: bool, chunking: Chunking) -> None:
    own = pss_credential(parameters(digest, null=null))
    assert own.signer.schemes == (PSS[digest],)
    pair = Pair.of(server=server_config(credentials=(own,)), chunking=chunking).connect()
    assert pair.client.negotiated is not None
    assert pair.client.negotiated.signature_scheme == PSS[digest]
    others = tuple(scheme for name, scheme in PSS.items() if name != digest)
    client = client_config(signature_schemes=(*others, *RSAE.values(), CHAIN))
    pair = Pair.of(client, server_config(credentials=(own,)), chunking=chunking)
    pair.pump()
    assert isinstance(events_of(pair.server)[1], HandshakeFailure)


@both
@pytest.mark.rfc("9846 §4.3.3", "an RSASSA-PSS key with parameters signs with those parameters only")
@pytest.mark.parametrize("restricted", PSS)
@pytest.mark.parametrize("digest", PSS)
def test_another_hash_than_the_restricted_keys_is_refused(victim: str, digest: str, restricted: str) -> None:
    good, evil = signing_with(pss_credential(parameters(restricted)), PSS[digest], digest, victim)
    if digest == restricted:
        connected(good, evil)
    else:
        refused(good, evil, A.ILLEGAL_PARAMETER)


@pytest.mark.rfc("9846 §4.3.3", "an RSASSA-PSS key with parameters signs with those parameters only")
@pytest.mark.parametrize(
    "restriction",
    [DEFAULTS, parameters("sha256", mgf="sha384"), parameters("sha384", mgf="sha256"), parameters("sha256", salt=33)],
    ids=["sha1", "mgf-sha384", "mgf-sha256", "salt-33"],
)
def test_a_key_whose_parameters_no_scheme_has_signs_nothing(restriction: bytes) -> None:
    with pytest.raises(UsageError):
        pss_credential(restriction)


@pytest.mark.rfc("9846 §4.3.3", "an RSASSA-PSS key with parameters signs with those parameters only")
def test_a_key_that_allows_a_shorter_salt_signs_with_the_digests_length() -> None:
    """RFC 4055 §3.1: saltLength in a key is a least length."""
    assert pss_credential(parameters("sha256", salt=24)).signer.schemes == (S.RSA_PSS_PSS_SHA256,)
    assert len(pss_credential(NONE).signer.schemes) == 3


def test_mutated_key_parameters_raise_nothing_but_refusals() -> None:
    """The parameters are read by our own code: 3,000 leaves with bytes changed in and around them."""
    chance = random.Random(4055)
    restriction = parameters("sha256")
    leaf = pss_credential(restriction).chain[0]
    start = leaf.index(restriction)
    restricted = 0
    for _ in range(3000):
        mutated = bytearray(leaf)
        for _ in range(chance.randint(1, 3)):
            at = start + chance.randrange(-20, len(restriction))
            mutated[at] = chance.choice((chance.randrange(256), 0, 0x80, 0x81, 0xFF, mutated[at] ^ 1))
        with contextlib.suppress(BadCertificate, UnsupportedCertificate):
            restricted += parse_certificate(bytes(mutated)).pss_hash == ""
    assert restricted > 50


# ---- the parameters of a certificate's signature ---------------------------------------------------------------------


@pytest.mark.rfc("9846 §4.3.3", "RSASSA-PSS parameters in a certificate's signature are DER")
@pytest.mark.parametrize(
    ("algorithm_parameters", "good"),
    [
        (parameters("sha256"), True),
        (parameters("sha256", long_form=True), False),
        (parameters("sha256")[:2] + b"\xa0\x80" + parameters("sha256")[4:], False),
        (parameters("sha256") + b"\x05\x00", False),
    ],
    ids=["der", "long-form-length", "indefinite-length", "trailing"],
)
def test_pss_parameters_that_are_not_der_are_refused(algorithm_parameters: bytes, good: bool) -> None:
    ca = CA("PSS root", key="rsa2048")
    leaf, key = pss_signed(ca, algorithm_parameters)
    client = good_client(client_config(trust=ca.trust), NAME)
    if good:
        connected(client, showing((leaf,), key))
    else:
        refused(client, showing((leaf,), key), A.BAD_CERTIFICATE)


def showing(chain: tuple[bytes, ...], key: bytes) -> Evil:
    """A server that shows *chain*, whatever our own credentials would refuse in it, and signs with its *key*."""
    own = credential("p256")
    shown = handshake_message(Certificate(b"", tuple(CertificateEntry(der, ()) for der in chain)))
    signer = PrivateKeySigner(private_key_from_pem(key), own.signer.schemes)
    return evil_server(
        server_config(credentials=(Credential(chain=own.chain, signer=signer),)),
        edit=lambda kind, raw: shown if kind == H.CERTIFICATE else raw,
    )


@pytest.mark.rfc("9846 §4.3.3", "a certificate signed by an RSASSA-PSS key is refused, whatever its parameters")
@pytest.mark.parametrize(
    "restriction", [NONE, parameters("sha256"), parameters("sha384")], ids=["none", "same", "other"]
)
def test_issuers_with_pss_keys_are_refused_whether_the_parameters_agree_or_not(restriction: bytes) -> None:
    """pyca/cryptography has no such issuers: where the parameters differ, as where they do not, there is no path."""
    ca, above = pss_issuer(restriction)
    leaf, key = pss_signed(ca, parameters("sha256"))
    error = refused(good_client(client_config(), NAME), showing((leaf, *above), key), A.UNSUPPORTED_CERTIFICATE)
    assert "RSASSA-PSS" in str(error)
    ordinary = (ca.certificate.public_bytes(Encoding.DER), *above[1:])
    connected(good_client(client_config(), NAME), showing((leaf, *ordinary), key))
