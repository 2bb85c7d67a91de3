"""ML-KEM's known answers through our hybrid groups, and hybrid secrets through the key schedule.

Our groups are hybrids only: each vector's ciphertext is put beside a fixed (EC)DHE share, whose secret is known.
"""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from pellucid.crypto.pyca import PYCA
from pellucid.errors import IllegalParameter
from pellucid.registry import NamedGroup as G
from pellucid.schedule import EarlySecret
from tests.support.scripted import exchange_with, hybrid_with, suite
from tests.support.vectors import load

VECTORS = load("x25519mlkem768.json")
OURS = bytes(range(1, 33))
THEIRS = bytes(range(33, 65))


def group(code: int) -> Any:
    return next(group for group in PYCA.groups if group.code == code)


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS["mlkem768"] if v["result"] == "valid"], ids=lambda v: v["comment"]
)
@pytest.mark.parametrize("code", [G.X25519MLKEM768, G.SECP256R1MLKEM768])
def test_decapsulation_gives_the_known_answer(vector: dict[str, str], code: int) -> None:
    """The implicit rejection of the second vector too: it succeeds with a secret nobody else has."""
    dhe = G.X25519 if code == G.X25519MLKEM768 else G.SECP256R1
    mine = hybrid_with(code, OURS, bytes.fromhex(vector["seed"]))
    peer = exchange_with(dhe, THEIRS)
    key, ciphertext, secret = (bytes.fromhex(vector[name]) for name in ("ek", "c", "K"))
    own_share, dhe_secret = exchange_with(dhe, OURS).public, exchange_with(dhe, OURS).finish(peer.public)
    if code == G.X25519MLKEM768:
        assert mine.public == key + own_share
        assert mine.finish(ciphertext + peer.public) == secret + dhe_secret
    else:
        assert mine.public == own_share + key
        assert mine.finish(peer.public + ciphertext) == dhe_secret + secret


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS["mlkem768"] if v["result"] == "invalid"], ids=lambda v: v["comment"]
)
@pytest.mark.parametrize("code", [G.X25519MLKEM768, G.SECP256R1MLKEM768])
def test_encapsulation_key_that_fails_the_modulus_check_is_refused(vector: dict[str, str], code: int) -> None:
    key = bytes.fromhex(vector["ek"])
    dhe = G.X25519 if code == G.X25519MLKEM768 else G.SECP256R1
    share = exchange_with(dhe, THEIRS).public
    with pytest.raises(IllegalParameter, match="encapsulation key"):
        group(code).respond(key + share if code == G.X25519MLKEM768 else share + key)


@pytest.mark.parametrize("vector", VECTORS["hybrid_key_schedule"], ids=lambda v: f"{v['group']}-{v['hash']}")
@pytest.mark.rfc("9846 §7.1", "the shared secret goes into HKDF-Extract as it is")
def test_hybrid_secret_through_the_key_schedule(vector: dict[str, str]) -> None:
    """The ML-KEM ciphertext is not in these vectors: our KEM half is made to answer with its secret.

    What is held: the ECDH of our groups, the order in which the halves are concatenated, and the schedule.
    """
    code = int(vector["group_id"], 16)
    hybrid = hybrid_with(code, bytes.fromhex(vector["client_ecdh_private_key"]), bytes(64))
    ciphertext_length = group(code).server_length - len(vector["server_ecdh_public_key"]) // 2
    secret = bytes.fromhex(vector["mlkem_shared_secret"])

    class Answering:
        def decapsulate(self, ciphertext: bytes) -> bytes:
            assert len(ciphertext) == ciphertext_length
            return secret

    hybrid._kem = Answering()  # type: ignore[attr-defined]
    ecdh = bytes.fromhex(vector["server_ecdh_public_key"])
    ciphertext = bytes(ciphertext_length)
    shared = hybrid.finish(ciphertext + ecdh if code == G.X25519MLKEM768 else ecdh + ciphertext)
    assert shared.hex() == vector["hybrid_shared_secret"]
    chosen = next(suite(s.code) for s in PYCA.suites if s.name == vector["cipher_suite"])
    stage = EarlySecret.extract(chosen).handshake(shared)
    digest = hashlib.new(vector["hash"], bytes.fromhex(vector["transcript"])).digest()
    assert stage.client_handshake_traffic_secret(digest).value.hex() == vector["client_handshake_traffic_secret"]
    assert stage.server_handshake_traffic_secret(digest).value.hex() == vector["server_handshake_traffic_secret"]


@pytest.mark.parametrize("chosen", PYCA.groups, ids=lambda group: group.name)
@pytest.mark.rfc("9846 §7.4", "both sides compute the same shared secret")
def test_every_group_agrees_with_itself(chosen: Any) -> None:
    mine = chosen.generate()
    assert len(mine.public) == chosen.client_length
    share, secret = chosen.respond(mine.public)
    assert len(share) == chosen.server_length
    assert mine.finish(share) == secret
    assert chosen.generate().public != mine.public
    for wrong in (share[:-1], share + b"\0", b""):
        with pytest.raises(IllegalParameter):
            mine.finish(wrong)
    for wrong in (mine.public[:-1], mine.public + b"\0", b""):
        with pytest.raises(IllegalParameter):
            chosen.respond(wrong)
