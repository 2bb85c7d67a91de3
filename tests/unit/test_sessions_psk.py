"""External PSKs: what is imported, computed a second time with hmac and hashlib alone, and what is refused."""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Any

import pytest

from pellucid.errors import UsageError
from pellucid.sessions import ExternalPsk, Psk
from pellucid.trace import Role

KEY = bytes(range(32))
ENDS = {"client": "sensor 17", "server": "hub"}


def hkdf_expand_label(hash_name: str, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """RFC 9846 §7.1 with RFC 5869 §2.3, for one or two blocks."""
    full = b"tls13 " + label
    info = struct.pack(">HB", length, len(full)) + full + bytes((len(context),)) + context
    first = hmac.digest(secret, info + b"\x01", hash_name)
    return (first + hmac.digest(secret, first + info + b"\x02", hash_name))[:length]


def imported_psk(identity: bytes, key: bytes, context: bytes, own: str, kdf: int, length: int) -> tuple[bytes, bytes]:
    """RFC 9258 §5.1, from its text."""
    imported = struct.pack(">H", len(identity)) + identity + struct.pack(">H", len(context)) + context
    imported += struct.pack(">HH", 0x0304, kdf)
    epskx = hmac.digest(bytes(hashlib.new(own).digest_size), key, own)
    return imported, hkdf_expand_label(own, epskx, b"derived psk", hashlib.new(own, imported).digest(), length)


@pytest.mark.rfc("9258 §5.1", "ipskx is expanded from the EPSK with its own hash, to the length of the target's")
@pytest.mark.parametrize("own", ["sha256", "sha384"])
@pytest.mark.parametrize("context", [b"", b"context", bytes(300)])
@pytest.mark.parametrize("key", [bytes(16), KEY, bytes(range(200))], ids=len)
def test_imported_psk_is_what_rfc_9258_computes(own: str, context: bytes, key: bytes) -> None:
    psk = ExternalPsk.imported_with_context(b"identity", key, context=context, role=Role.CLIENT, hash_name=own)
    for_256, for_384 = psk.psks(["sha256", "sha384"])
    assert (for_256.identity, for_256.key) == imported_psk(b"identity", key, context, own, 0x0001, 32)
    assert (for_384.identity, for_384.key) == imported_psk(b"identity", key, context, own, 0x0002, 48)
    assert (for_256.hash_name, for_384.hash_name) == ("sha256", "sha384")
    assert len(for_384.key) == 48  # two blocks, where the key's own hash is SHA-256


def test_imported_psk_equals_a_frozen_one() -> None:
    """The values above, computed once and written down: neither computation may drift."""
    (psk,) = ExternalPsk.imported_with_context(b"identity", KEY, context=b"context", role=Role.SERVER).psks(["sha256"])
    assert psk.identity.hex() == "00086964656e746974790007636f6e7465787403040001"
    assert psk.key.hex() == FROZEN


FROZEN = "1ea76cb345610f681808f78ef845ee3ff1bcd15664b3169e07caee4f56486bca"


@pytest.mark.rfc("9258 §5.1", "each target KDF gets an ImportedIdentity of its own")
def test_imported_psks_are_one_for_each_hash_in_the_order_asked_for() -> None:
    psk = ExternalPsk.imported(b"id", KEY, role=Role.CLIENT, **ENDS)
    found = psk.psks(["sha384", "sha256", "sha384"])
    assert [one.hash_name for one in found] == ["sha384", "sha256"]
    assert len({one.identity for one in found}) == len({one.key for one in found}) == 2
    assert psk.psks([]) == ()
    assert psk.psks(iter(["sha256"])) == (found[1],)
    with pytest.raises(UsageError, match="sha512"):
        psk.psks(["sha512"])


@pytest.mark.rfc("9258 §5.2", "imported PSKs use the binder label 'imp binder'")
def test_binder_labels_tell_the_origins_apart() -> None:
    (imported,) = ExternalPsk.imported(b"id", KEY, role=Role.CLIENT, **ENDS).psks(["sha256"])
    (plain,) = ExternalPsk.plain(b"id", KEY, role=Role.CLIENT).psks(["sha256"])
    assert imported.binder_label == b"imp binder"
    assert plain.binder_label == b"ext binder"


@pytest.mark.rfc("9846 §4.3.11", "an external PSK is for one hash, SHA-256 unless it says otherwise")
def test_plain_psk_is_used_as_it_is_with_its_own_hash() -> None:
    psk = ExternalPsk.plain(b"id", KEY, role=Role.SERVER)
    expected = Psk(identity=b"id", key=KEY, hash_name="sha256", binder_label=b"ext binder")
    assert psk.psks(["sha384", "sha256"]) == (expected,)
    assert psk.psks(["sha384"]) == ()
    assert not psk.is_imported
    (other,) = ExternalPsk.plain(b"id", KEY, role=Role.SERVER, hash_name="sha384").psks(["sha256", "sha384"])
    assert other.hash_name == "sha384"


# ---- reflection ----


def imported(role: Role, client: str, server: str) -> tuple[Psk, ...]:
    return ExternalPsk.imported(b"id", KEY, client=client, server=server, role=role).psks(["sha256", "sha384"])


@pytest.mark.rfc("9258 §A", "the context names client and server, so that nothing a node sends comes back to it")
def test_node_that_is_client_and_server_under_one_key_does_not_know_its_own_offer() -> None:
    offered = imported(Role.CLIENT, client="a", server="b")
    assert imported(Role.SERVER, client="a", server="b") == offered  # what b takes
    taken = imported(Role.SERVER, client="b", server="a")  # what a itself takes
    assert not {psk.identity for psk in offered} & {psk.identity for psk in taken}
    assert not {psk.key for psk in offered} & {psk.key for psk in taken}


@pytest.mark.parametrize(
    ("one", "other"), [(("ab", "c"), ("a", "bc")), (("a", "b"), ("b", "a")), (("a\x01b", "c"), ("a", "b\x01c"))]
)
def test_names_of_the_ends_are_not_mixed_up(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert imported(Role.CLIENT, *one) != imported(Role.CLIENT, *other)


def test_context_is_the_two_names_with_their_lengths() -> None:
    assert ExternalPsk.imported(b"id", KEY, role=Role.CLIENT, **ENDS).context == b"\x09sensor 17\x03hub"


@pytest.mark.parametrize(
    ("client", "server"), [("a", "a"), ("", "b"), ("a", ""), ("a" * 256, "b"), ("a", "ü" * 128), ("\ud800", "b")]
)
def test_names_that_stop_no_reflection_are_refused(client: str, server: str) -> None:
    with pytest.raises(UsageError):
        imported(Role.CLIENT, client, server)


# ---- what is refused ----


@pytest.mark.rfc("9257 §6", "PSKs of low entropy, such as passwords, are not used")
@pytest.mark.parametrize("length", [0, 8, 15])
def test_psk_of_less_than_sixteen_bytes_is_refused(length: int) -> None:
    for make in (
        lambda key: ExternalPsk.plain(b"id", key, role=Role.CLIENT),
        lambda key: ExternalPsk.imported(b"id", key, role=Role.CLIENT, **ENDS),
        lambda key: ExternalPsk.imported_with_context(b"id", key, context=b"", role=Role.CLIENT),
    ):
        assert make(bytes(16))
        with pytest.raises(UsageError, match="not passwords"):
            make(bytes(length))


@pytest.mark.parametrize(
    ("identity", "context"),
    [
        (b"", None),
        (b"", b""),
        (bytes(65_536), None),
        (bytes(65_528), b""),
        (b"id", bytes(65_526)),
        (b"i", bytes(65_527)),
    ],
)
def test_identity_that_does_not_fit_is_refused(identity: bytes, context: bytes | None) -> None:
    with pytest.raises(UsageError, match="identity"):
        ExternalPsk(identity=identity, key=KEY, role=Role.CLIENT, context=context)


@pytest.mark.parametrize(
    ("identity", "context"),
    [(bytes(65_535), None), (bytes(65_527), b""), (b"id", bytes(65_525)), (b"i", bytes(65_526))],
)
def test_largest_identity_fits(identity: bytes, context: bytes | None) -> None:
    (psk,) = ExternalPsk(identity=identity, key=KEY, role=Role.CLIENT, context=context).psks(["sha256"])
    assert len(psk.identity) == 65_535


@pytest.mark.parametrize("changes", [{"hash_name": "md5"}, {"hash_name": "SHA256"}, {"role": "client"}])
def test_psk_for_what_there_is_not_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ExternalPsk.plain(b"id", KEY, **({"role": Role.CLIENT} | changes))


def test_psk_shows_no_key() -> None:
    key = b"secret secret secret secret"
    psk = ExternalPsk.plain(b"id", key, role=Role.CLIENT)
    assert "secret" not in repr(psk) + repr(psk.psks(["sha256"]))
    with pytest.raises(UsageError) as error:
        ExternalPsk.plain(b"id", b"secret", role=Role.CLIENT)
    assert "secret" not in str(error.value)
