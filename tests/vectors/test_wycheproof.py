"""Project Wycheproof's vectors through our own wrappers: key shares by `KeyExchange.finish`, signatures by `Verifier`.

Nothing is left out but 40 vectors of ML-KEM with a private seed of the wrong length: no peer sends us one, and we take
none. What Wycheproof calls "acceptable" is decided here by RFC 9846:

- x25519, x448: points on the twist and in a non-canonical encoding are computed with (RFC 7748 §5); a shared secret of
  zeros is refused (§7.4.2).
- EC points: compressed ones are refused (§4.3.8.2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from pellucid.crypto.certificates import X509Certificate
from pellucid.crypto.pyca import PYCA
from pellucid.errors import IllegalParameter
from pellucid.registry import NamedGroup as G
from pellucid.registry import SignatureScheme as S
from tests.support.scripted import exchange_with, hybrid_with
from tests.support.vectors import DATA, load

VERIFIERS = {verifier.code: verifier for verifier in PYCA.verifiers}
DHE_KEY = bytes(range(1, 33))


def vectors(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(group, test) of a file."""
    for group in load(f"wycheproof/{name}.json.gz")["testGroups"]:
        for test in group["tests"]:
            yield group, test


def finish(code: int, private_key: bytes, peer: bytes) -> bytes | None:
    """The shared secret, or None if the share is refused as the RFC demands."""
    try:
        return exchange_with(code, private_key).finish(peer)
    except IllegalParameter:
        return None


def unexpected(wrong: list[str]) -> str:
    return f"{len(wrong)} vectors disagree, first: {wrong[:5]}"


# ---- key shares ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), [("x25519_test", G.X25519), ("x448_test", G.X448)])
@pytest.mark.rfc("9846 §7.4.2", "an all-zero X25519 or X448 secret aborts the handshake")
@pytest.mark.rfc("9846 §4.3.8.2", "key shares are validated")
def test_x25519_and_x448(name: str, code: int) -> None:
    wrong, seen = [], Counter[str]()
    for _, test in vectors(name):
        zero = "ZeroSharedSecret" in test["flags"]
        refused = zero or test["result"] == "invalid"
        ours = finish(code, bytes.fromhex(test["private"]), bytes.fromhex(test["public"]))
        if ours != (None if refused else bytes.fromhex(test["shared"])):
            wrong.append(f"{test['tcId']} {test['comment']} {test['result']}")
        seen["zero" if zero else test["result"]] += 1
    assert not wrong, unexpected(wrong)
    assert seen["zero"] > 10 and seen["acceptable"] > 200 and seen["valid"] > 250


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ecdh_secp256r1_ecpoint_test", G.SECP256R1),
        ("ecdh_secp384r1_ecpoint_test", G.SECP384R1),
        ("ecdh_secp521r1_ecpoint_test", G.SECP521R1),
    ],
)
@pytest.mark.rfc("9846 §4.3.8.2", "key shares are validated")
@pytest.mark.rfc("9846 §4.3.8.2", "only the uncompressed point format is used")
def test_nist_points(name: str, code: int) -> None:
    wrong, seen = [], Counter[str]()
    for _, test in vectors(name):
        refused = test["result"] != "valid"  # the acceptable ones are compressed
        ours = finish(code, bytes.fromhex(test["private"]), bytes.fromhex(test["public"]))
        if ours != (None if refused else bytes.fromhex(test["shared"])):
            wrong.append(f"{test['tcId']} {test['comment']} {test['result']}")
        seen[test["result"]] += 1
        if test["result"] == "acceptable":
            assert "CompressedPublic" in test["flags"]
    assert not wrong, unexpected(wrong)
    assert seen["invalid"] > 15 and seen["valid"] > 300


@pytest.mark.parametrize(
    ("name", "code"), [("mlkem_768_test", G.X25519MLKEM768), ("mlkem_1024_test", G.SECP384R1MLKEM1024)]
)
def test_mlkem_ciphertexts_in_a_hybrid(name: str, code: int) -> None:
    """The ciphertext stands beside a fixed ECDH share, and the secret beside that share's secret."""
    dhe, kem_first = (G.X25519, True) if code == G.X25519MLKEM768 else (G.SECP384R1, False)
    peer = exchange_with(dhe, bytes(range(33, 65)))
    dhe_secret = exchange_with(dhe, DHE_KEY).finish(peer.public)
    wrong, seen = [], Counter[str]()
    for _, test in vectors(name):
        seed, ciphertext = bytes.fromhex(test["seed"]), bytes.fromhex(test["c"])
        if len(seed) != 64:
            seen["seed of a wrong length"] += 1
            continue
        mine = hybrid_with(code, DHE_KEY, seed)
        expected = None
        if test["result"] == "valid":
            secret = bytes.fromhex(test["K"])
            expected = secret + dhe_secret if kem_first else dhe_secret + secret
            assert bytes.fromhex(test["ek"]) in mine.public
        try:
            ours = mine.finish(ciphertext + peer.public if kem_first else peer.public + ciphertext)
        except IllegalParameter:
            ours = None
        if ours != expected:
            wrong.append(f"{test['tcId']} {test['comment']} {test['result']}")
        seen[test["result"]] += 1
    assert not wrong, unexpected(wrong)
    assert seen == {"seed of a wrong length": 20, "invalid": 20, "valid": 153}


@pytest.mark.parametrize(
    ("name", "code"), [("mlkem_768_encaps_test", G.X25519MLKEM768), ("mlkem_1024_encaps_test", G.SECP384R1MLKEM1024)]
)
def test_mlkem_keys_in_a_hybrid(name: str, code: int) -> None:
    """Encapsulation is randomised: a valid key is taken, one that FIPS 203 §7.2 refuses is refused."""
    group = next(group for group in PYCA.groups if group.code == code)
    dhe, kem_first = (G.X25519, True) if code == G.X25519MLKEM768 else (G.SECP384R1, False)
    share = exchange_with(dhe, bytes(range(33, 65))).public
    wrong, seen = [], Counter[str]()
    for _, test in vectors(name):
        key = bytes.fromhex(test["ek"])
        try:
            public, _ = group.respond(key + share if kem_first else share + key)
        except IllegalParameter:
            taken = False
        else:
            taken = len(public) == group.server_length
        if taken != (test["result"] == "valid"):
            wrong.append(f"{test['tcId']} {test['result']}")
        seen[test["result"]] += 1
    assert not wrong, unexpected(wrong)
    assert seen["valid"] > 130 and seen["invalid"] > 130


# ---- signatures ------------------------------------------------------------------------------------------------------


def with_key(der: bytes, *, pss: bool = False) -> X509Certificate | None:
    """A certificate's key as our verifiers see it; None if the library takes no such key."""
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        return None
    match key:
        case ec.EllipticCurvePublicKey():
            algorithm = f"EC {key.curve.name}"
        case rsa.RSAPublicKey():
            algorithm = f"{'RSASSA-PSS' if pss else 'RSA'} {key.key_size}"
        case ed25519.Ed25519PublicKey():
            algorithm = "Ed25519"
        case ed448.Ed448PublicKey():
            algorithm = "Ed448"
        case mldsa.MLDSA65PublicKey():
            algorithm = "ML-DSA-65"
        case _:
            raise AssertionError(type(key))
    return X509Certificate(b"", None, key, algorithm)  # type: ignore[arg-type]  # a verifier looks at the key only


def accepts(code: int, certificate: X509Certificate | None, test: dict[str, Any]) -> bool:
    verifier = VERIFIERS[code]
    return (
        certificate is not None
        and verifier.accepts(certificate)
        and verifier.verify(certificate, bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"]))
    )


@pytest.mark.parametrize(
    ("name", "code", "pss"),
    [
        ("ecdsa_secp256r1_sha256_test", S.ECDSA_SECP256R1_SHA256, False),
        ("ecdsa_secp384r1_sha384_test", S.ECDSA_SECP384R1_SHA384, False),
        ("ecdsa_secp521r1_sha512_test", S.ECDSA_SECP521R1_SHA512, False),
        ("ed25519_test", S.ED25519, False),
        ("ed448_test", S.ED448, False),
        ("mldsa_65_verify_test", S.MLDSA65, False),
        ("rsa_pss_2048_sha256_mgf1_32_test", S.RSA_PSS_RSAE_SHA256, False),
        ("rsa_pss_2048_sha256_mgf1_32_test", S.RSA_PSS_PSS_SHA256, True),
        ("rsa_pss_4096_sha512_mgf1_64_test", S.RSA_PSS_RSAE_SHA512, False),
        ("rsa_pss_4096_sha512_mgf1_64_test", S.RSA_PSS_PSS_SHA512, True),
    ],
)
@pytest.mark.rfc("9846 §4.5.2", "the receiver of CertificateVerify verifies the signature")
def test_signatures(name: str, code: int, pss: bool) -> None:
    """An ML-DSA signature over a context string is none for TLS, whose context is empty."""
    wrong, seen = [], Counter[str]()
    certificates: dict[str, X509Certificate | None] = {}
    for group, test in vectors(name):
        der = group["publicKeyDer"]
        if der not in certificates:
            certificates[der] = with_key(bytes.fromhex(der), pss=pss)
        expected = test["result"] == "valid" and not test.get("ctx")
        if accepts(code, certificates[der], test) is not expected:
            wrong.append(f"{test['tcId']} {test['comment']} {test['result']}")
        seen[test["result"]] += 1
    assert not wrong, unexpected(wrong)
    assert seen["valid"] > 15 and seen["invalid"] > 40 and "acceptable" not in seen


@pytest.mark.rfc("9846 §4.3.3", "RSASSA-PSS: MGF1 with the scheme's hash, and a salt as long as the digest")
def test_rsa_pss_with_other_parameters_is_refused() -> None:
    """All 150 are good signatures; TLS has a scheme for 3 of them."""
    lengths = {"SHA-256": 32, "SHA-384": 48, "SHA-512": 64}
    ours = {
        "SHA-256": {S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_PSS_SHA256},
        "SHA-384": {S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_PSS_SHA384},
        "SHA-512": {S.RSA_PSS_RSAE_SHA512, S.RSA_PSS_PSS_SHA512},
    }
    wrong, taken = [], 0
    for group, test in vectors("rsa_pss_misc_test"):
        der = bytes.fromhex(group["publicKeyDer"])
        fits = group["sha"] == group["mgfSha"] and lengths.get(group["sha"]) == group["sLen"]
        expected = ours[group["sha"]] if fits else set()
        accepted = {
            code
            for codes in ours.values()
            for code in codes
            for pss in (False, True)
            if accepts(code, with_key(der, pss=pss), test)
        }
        if accepted != expected:
            wrong.append(f"{test['tcId']} {group['sha']} {group['mgfSha']} {group['sLen']}")
        taken += bool(accepted)
    assert not wrong, unexpected(wrong)
    assert taken == 3


@pytest.mark.parametrize("name", ["rsa_pss_2048_sha256_mgf1_32_test", "ecdsa_secp256r1_sha256_test", "ed25519_test"])
@pytest.mark.rfc("9846 §4.3.3", "a signature is good under its own scheme only")
def test_good_signature_is_good_under_one_scheme_only(name: str) -> None:
    group, test = next((g, t) for g, t in vectors(name) if t["result"] == "valid")
    der = bytes.fromhex(group["publicKeyDer"])
    for pss in (False, True) if "rsa" in name else (False,):
        certificate = with_key(der, pss=pss)
        good = [code for code in VERIFIERS if accepts(code, certificate, test)]
        assert len(good) == 1


@pytest.mark.rfc("9846 §4.3.3", "RSASSA-PKCS1-v1_5 and SHA-1 are not for signed handshake messages")
def test_verifiers_for_the_handshake_are_named() -> None:
    assert {code for code, verifier in VERIFIERS.items() if verifier.handshake} == {
        *(S.ECDSA_SECP256R1_SHA256, S.ECDSA_SECP384R1_SHA384, S.ECDSA_SECP521R1_SHA512, S.ED25519, S.ED448),
        *(S.RSA_PSS_RSAE_SHA256, S.RSA_PSS_RSAE_SHA384, S.RSA_PSS_RSAE_SHA512),
        *(S.RSA_PSS_PSS_SHA256, S.RSA_PSS_PSS_SHA384, S.RSA_PSS_PSS_SHA512),
        *(S.MLDSA44, S.MLDSA65, S.MLDSA87),
    }


def test_every_file_goes_through_the_wrappers() -> None:
    """A file that is added here is read by a test above; with -s, how many vectors each has."""
    files = sorted(path.name.removesuffix(".json.gz") for path in (DATA / "wycheproof").iterdir())
    source = Path(__file__).read_text(encoding="utf-8")
    counted = {name: sum(1 for _ in vectors(name)) for name in files}
    for name, count in counted.items():
        print(f"{name:36} {count:5}")
    print(f"{len(files)} files, {sum(counted.values())} vectors")
    assert len(files) == 18
    assert [name for name in files if f'"{name}"' not in source] == []
    assert sum(counted.values()) == load_count()


def load_count() -> int:
    """What the files themselves say."""
    names = (path.name for path in (DATA / "wycheproof").iterdir())
    return sum(load(f"wycheproof/{name}")["numberOfTests"] for name in names)
