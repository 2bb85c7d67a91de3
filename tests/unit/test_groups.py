"""Key shares that no vector has: wrong forms of every group, and hybrids with one half wrong."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pellucid.crypto.groups import KEMS_ALONE
from pellucid.crypto.pyca import PYCA
from pellucid.errors import IllegalParameter
from pellucid.registry import NamedGroup as G
from tests.support.scripted import exchange_with

GROUPS = {group.code: group for group in PYCA.groups}
NIST = {G.SECP256R1: ec.SECP256R1(), G.SECP384R1: ec.SECP384R1(), G.SECP521R1: ec.SECP521R1()}


def refused(group: Any, share: bytes) -> None:
    """Neither as a server's share nor as a client's."""
    mine = group.generate()
    with pytest.raises(IllegalParameter):
        mine.finish(share)
    with pytest.raises(IllegalParameter):
        group.respond(share)


@pytest.mark.parametrize("code", NIST)
@pytest.mark.rfc("9846 §4.3.8.2", "only the uncompressed point format is used")
def test_other_point_formats_are_refused(code: int) -> None:
    group = GROUPS[code]
    key = ec.generate_private_key(NIST[code]).public_key()
    good = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert group.generate().finish(good)
    compressed = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    other_types = (bytes((kind,)) + good[1:] for kind in (0, 2, 3, 6, 7))
    for share in (compressed, compressed.ljust(len(good), b"\0"), b"\0", *other_types):
        refused(group, share)


@pytest.mark.parametrize("code", NIST)
@pytest.mark.rfc("9846 §4.3.8.2", "a point that is not on the curve is illegal_parameter")
def test_points_off_the_curve_are_refused(code: int) -> None:
    group = GROUPS[code]
    good = group.generate().public
    width = len(good) // 2
    for share in (
        good[:-1] + bytes((good[-1] ^ 1,)),
        b"\x04" + bytes(2 * width),
        b"\x04" + b"\xff" * 2 * width,
        b"\x04" + good[1 + width :] + good[1 : 1 + width],
    ):
        refused(group, share)


@pytest.mark.parametrize(("code", "size"), [(G.X25519, 32), (G.X448, 56)])
@pytest.mark.rfc("9846 §7.4.2", "an all-zero X25519 or X448 secret aborts the handshake")
def test_small_order_points_are_refused(code: int, size: int) -> None:
    for share in (bytes(size), b"\x01" + bytes(size - 1)):
        refused(GROUPS[code], share)


@pytest.mark.parametrize("code", [G.X25519MLKEM768, G.SECP256R1MLKEM768, G.SECP384R1MLKEM1024])
def test_hybrid_with_either_half_wrong_is_refused(code: int) -> None:
    group = GROUPS[code]
    kem_first = code == G.X25519MLKEM768
    dhe = {G.X25519MLKEM768: G.X25519, G.SECP256R1MLKEM768: G.SECP256R1, G.SECP384R1MLKEM1024: G.SECP384R1}[code]
    size = GROUPS[dhe].client_length
    mine = group.generate()
    answer, _ = group.respond(mine.public)
    for share, use in ((mine.public, group.respond), (answer, mine.finish)):
        kem, point = (share[:-size], share[-size:]) if kem_first else (share[size:], share[:size])
        wrong = ((kem, bytes(size)), (kem[:-1], point), (kem, point[:-1]), (b"", point), (kem, b""))
        for wrong_kem, wrong_point in wrong:
            with pytest.raises(IllegalParameter):
                use(wrong_kem + wrong_point if kem_first else wrong_point + wrong_kem)
    key = mine.public[:-size] if kem_first else mine.public[size:]
    not_reduced = b"\xff" * 3 + key[3:]
    point = mine.public[-size:] if kem_first else mine.public[:size]
    with pytest.raises(IllegalParameter, match="encapsulation key"):
        group.respond(not_reduced + point if kem_first else point + not_reduced)


@pytest.mark.parametrize("code", [G.X25519MLKEM768, G.SECP256R1MLKEM768, G.SECP384R1MLKEM1024])
def test_hybrid_ciphertext_that_was_changed_gives_another_secret(code: int) -> None:
    """ML-KEM rejects implicitly: the handshake then fails at the first record, not here."""
    group = GROUPS[code]
    mine = group.generate()
    answer, secret = group.respond(mine.public)
    at = 0 if code == G.X25519MLKEM768 else len(answer) - 1
    changed = answer[:at] + bytes((answer[at] ^ 1,)) + answer[at + 1 :]
    assert mine.finish(changed) != secret
    assert mine.finish(answer) == secret


@pytest.mark.parametrize("group", KEMS_ALONE, ids=lambda group: group.name)
def test_kem_alone_agrees_and_refuses_wrong_shares(group: Any) -> None:
    mine = group.generate()
    answer, secret = group.respond(mine.public)
    assert (len(mine.public), len(answer), len(secret)) == (group.client_length, group.server_length, 32)
    assert mine.finish(answer) == secret
    assert mine.finish(answer[:-1] + bytes((answer[-1] ^ 1,))) != secret  # ML-KEM rejects implicitly
    for share in (b"", answer[:-1], answer + b"\0"):
        with pytest.raises(IllegalParameter):
            mine.finish(share)
    for share in (b"", mine.public[:-1], mine.public + b"\0", b"\xff" * 3 + mine.public[3:]):
        with pytest.raises(IllegalParameter):
            group.respond(share)


def test_kem_alone_is_not_offered_by_default() -> None:
    assert not {group.code for group in KEMS_ALONE} & {group.code for group in PYCA.groups}


@pytest.mark.parametrize("group", (*PYCA.groups, *KEMS_ALONE), ids=lambda group: group.name)
@pytest.mark.rfc("9846 §4.3.8", "key shares are independently generated")
def test_every_share_is_fresh(group: Any) -> None:
    assert len({group.generate().public for _ in range(4)}) == 4
    client = group.generate().public
    assert len({group.respond(client) for _ in range(4)}) == 4


@pytest.mark.parametrize("code", NIST)
@pytest.mark.rfc("9846 §7.4.2", "leading zeros of a shared secret are kept")
def test_shared_secret_with_leading_zeros_has_the_full_length(code: int) -> None:
    """Keys are tried until the x-coordinate begins with a zero byte: of P-256 and P-384 one in 256 does."""
    length = (NIST[code].key_size + 7) // 8
    mine = exchange_with(code, (7).to_bytes(length, "big"))
    for number in range(2, 20_000):
        peer = exchange_with(code, number.to_bytes(length, "big"))
        secret = mine.finish(peer.public)
        assert len(secret) == length
        if secret[0] == 0:
            assert peer.finish(mine.public) == secret
            return
    raise AssertionError("no shared secret begins with a zero byte")
