"""Keys, signatures and certificates that must not be: attacks D1-D7, D10, D11, D18-D25, F3, F5, F10-F12, F18-F24."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import inspect
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import pellucid
from pellucid import ClientConfig, Connection, Credential, HandshakeComplete, KeyUpdated, UsageError
from pellucid.config import ClientAuthentication
from pellucid.crypto.provider import Verifier
from pellucid.crypto.pyca import PYCA
from pellucid.crypto.signatures import PrivateKeySigner
from pellucid.errors import AlertReceived, InternalError
from pellucid.handshake.authenticate import signed_content
from pellucid.limits import MAX_CERTIFICATES, MAX_SEQUENCE
from pellucid.messages import extensions as x
from pellucid.messages.handshake import (
    HEADER_LENGTH,
    Certificate,
    CertificateEntry,
    CertificateVerify,
    Finished,
    handshake_message,
)
from pellucid.registry import AlertDescription as A
from pellucid.registry import CipherSuite as CS
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.registry import NamedGroup as G
from pellucid.registry import SignatureScheme as S
from pellucid.registry import group_name
from pellucid.testing.ca import CA, Issued, self_signed
from pellucid.trace import Role
from pellucid.verify.report import CertificateRejected, CheckGroup, Failure, Outcome
from tests.illegal.evil import (
    NAME,
    Evil,
    asking_server,
    authority,
    changing_extensions,
    client_config,
    client_with_certificate,
    connected,
    credential,
    drain,
    evil_client,
    evil_server,
    exchange,
    good_client,
    good_server,
    latched,
    message,
    refused,
    replacing,
    server_config,
)

IP, DX, DE, UM, BRM = (
    A.ILLEGAL_PARAMETER,
    A.DECRYPT_ERROR,
    A.DECODE_ERROR,
    A.UNEXPECTED_MESSAGE,
    A.BAD_RECORD_MAC,
)
both = pytest.mark.parametrize("victim", ["client", "server"])
GROUPS = tuple(group.code for group in PYCA.groups)
HYBRIDS = (G.X25519MLKEM768, G.SECP256R1MLKEM768, G.SECP384R1MLKEM1024)
NIST = {G.SECP256R1: 32, G.SECP384R1: 48, G.SECP521R1: 66}


# ---- D1-D6: key shares -----------------------------------------------------------------------------------------------


def with_share(victim: str, group: int, change: Callable[[bytes], bytes]) -> tuple[Connection, Evil]:
    """A pair that uses *group*, the evil peer's share changed."""
    client, server = client_config(groups=(group,), key_shares=(group,)), server_config(groups=(group,))
    client = dataclasses.replace(client, grease=False)

    def clients(extensions: list[Any]) -> list[Any]:
        def changed(e: Any) -> Any:
            if e.extension_type != E.KEY_SHARE:
                return e
            (entry,) = x.KEY_SHARES.codec.decode_all(e.extension_data, "")
            return x.KEY_SHARES.extension((x.KeyShareEntry(group, change(entry.key_exchange)),))

        return list(map(changed, extensions))

    def servers(extensions: list[Any]) -> list[Any]:
        def changed(e: Any) -> Any:
            if e.extension_type != E.KEY_SHARE:
                return e
            entry = x.KEY_SHARE.codec.decode_all(e.extension_data, "")
            return x.KEY_SHARE.extension(x.KeyShareEntry(group, change(entry.key_exchange)))

        return list(map(changed, extensions))

    if victim == "client":
        return good_client(client), evil_server(server, edit=changing_extensions(H.SERVER_HELLO, servers))
    return good_server(server), evil_client(client, edit=changing_extensions(H.CLIENT_HELLO, clients))


P25519 = 2**255 - 19
LOW_ORDER = [
    *(0, 1, P25519 - 1, P25519, P25519 + 1),
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]


@both
@pytest.mark.rfc("9846 §7.4.2", "an all-zero X25519 or X448 result ends the handshake")
@pytest.mark.parametrize("high_bit", [0, 1])
@pytest.mark.parametrize("point", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_d1_low_order_x25519_points_are_refused(victim: str, point: int, high_bit: int) -> None:
    share = (point | high_bit << 255).to_bytes(32, "little")
    refused(*with_share(victim, G.X25519, lambda _: share), IP)


@both
@pytest.mark.parametrize("point", [0, 1, 2**448 - 2**224 - 2, 2**448 - 2**224 - 1, 2**448 - 2**224], ids=range(5))
def test_d1_low_order_x448_points_are_refused(victim: str, point: int) -> None:
    refused(*with_share(victim, G.X448, lambda _: point.to_bytes(56, "little")), IP)


@both
def test_d1_low_order_points_inside_a_hybrid_are_refused(victim: str) -> None:
    refused(*with_share(victim, G.X25519MLKEM768, lambda share: share[:-32] + bytes(32)), IP)


def _compressed(share: bytes) -> bytes:
    half = len(share) // 2
    return bytes((2 + (share[-1] & 1),)) + share[1 : 1 + half]


BAD_POINTS: dict[str, Callable[[bytes], bytes]] = {
    "compressed": _compressed,
    "compressed-padded": lambda share: _compressed(share).ljust(len(share), b"\0"),
    "hybrid-form": lambda share: bytes((6 + (share[-1] & 1),)) + share[1:],
    "infinity": lambda share: b"\0",
    "infinity-padded": lambda share: bytes(len(share)),
    "not-on-curve": lambda share: share[:-1] + bytes((share[-1] ^ 1,)),
    "origin": lambda share: b"\x04" + bytes(len(share) - 1),
    "x-too-large": lambda share: b"\x04" + b"\xff" * (len(share) // 2) + share[1 + len(share) // 2 :],
    "raw-without-04": lambda share: share[1:],
}


@both
@pytest.mark.rfc("9846 §4.3.8.2", "the peer's point is uncompressed and on the curve")
@pytest.mark.parametrize("group", NIST, ids=group_name)
@pytest.mark.parametrize("what", BAD_POINTS)
def test_d2_invalid_points_are_refused(victim: str, group: int, what: str) -> None:
    refused(*with_share(victim, group, BAD_POINTS[what]), IP)


@both
@pytest.mark.parametrize("group", [G.SECP256R1MLKEM768, G.SECP384R1MLKEM1024], ids=group_name)
@pytest.mark.parametrize("what", ["not-on-curve", "origin", "hybrid-form"])
def test_d2_invalid_points_inside_a_hybrid_are_refused(victim: str, group: int, what: str) -> None:
    size = 65 if group == G.SECP256R1MLKEM768 else 97
    refused(*with_share(victim, group, lambda share: BAD_POINTS[what](share[:size]) + share[size:]), IP)


@both
@pytest.mark.rfc("9846 §4.3.8", "a key share has exactly its group's length")
@pytest.mark.parametrize("group", GROUPS, ids=group_name)
def test_d3_short_and_long_shares_are_refused(victim: str, group: int) -> None:
    for change in (
        lambda share: share[:-1],
        lambda share: share[1:],
        lambda share: share + b"\0",
        lambda share: b"\0" + share,
        lambda share: share[:1],
        lambda share: share * 2,
    ):
        refused(*with_share(victim, group, change), IP)
    connected(*with_share(victim, group, lambda share: share))


@pytest.mark.parametrize("group", HYBRIDS, ids=group_name)
@pytest.mark.parametrize("coefficient", ["q", "largest"])
def test_d4_an_encapsulation_key_not_reduced_modulo_q_is_refused(group: int, coefficient: str) -> None:
    """D4: FIPS 203 §7.2: a coefficient of 3329 or of 4095, the first one of the key."""
    start = {G.X25519MLKEM768: 0, G.SECP256R1MLKEM768: 65, G.SECP384R1MLKEM1024: 97}[group]
    first = 3329 if coefficient == "q" else 4095

    def change(share: bytes) -> bytes:
        low, high = first & 0xFF, (share[start + 1] & 0xF0) | first >> 8
        return share[:start] + bytes((low, high)) + share[start + 2 :]

    refused(*with_share("server", group, change), IP)


@pytest.mark.parametrize("group", HYBRIDS, ids=group_name)
def test_d5_a_garbled_ciphertext_shows_only_when_the_next_record_does_not_open(group: int) -> None:
    """D5: implicit rejection: no error of its own, no other alert than bad_record_mac, whatever byte is flipped."""
    size = 1568 if group == G.SECP384R1MLKEM1024 else 1088
    start = {G.X25519MLKEM768: 0, G.SECP256R1MLKEM768: 65, G.SECP384R1MLKEM1024: 97}[group]
    for at in (*range(0, size, 97), size - 1):

        def change(share: bytes, at: int = start + at) -> bytes:
            return share[:at] + bytes((share[at] ^ 1,)) + share[at + 1 :]

        client, evil = with_share("client", group, change)
        exchange(client, evil, rounds=4)
        _, error = drain(client)
        assert getattr(error, "alert", None) == BRM
        assert error is not None
        latched(client, error)


@pytest.mark.parametrize("group", HYBRIDS, ids=group_name)
@both
def test_d6_the_halves_of_a_hybrid_in_the_other_order_are_refused(victim: str, group: int) -> None:
    dhe = {G.X25519MLKEM768: 32, G.SECP256R1MLKEM768: 65, G.SECP384R1MLKEM1024: 97}[group]
    dhe_first = group != G.X25519MLKEM768

    def swap(share: bytes) -> bytes:
        return share[dhe:] + share[:dhe] if dhe_first else share[-dhe:] + share[:-dhe]

    good, evil = with_share(victim, group, swap)
    exchange(good, evil, rounds=4)
    _, error = drain(good)
    # x25519 takes any 32 bytes and ML-KEM any ciphertext: then the keys differ, and nothing opens.
    assert getattr(error, "alert", None) in ({IP, BRM} if victim == "client" else {IP})


@pytest.mark.rfc("9846 §4.3.8", "a key share is never used for two connections")
def test_d7_a_thousand_hellos_share_nothing() -> None:
    """D7: randoms, session ids and shares of 1,000 clients, and the answers of 100 servers, are all distinct."""
    config = client_config()
    seen: dict[str, set[bytes]] = {"random": set(), "session": set(), "share": set()}
    for _ in range(1000):
        phase: Any = (client := good_client(config))._handshake.phase
        assert phase is None
        client.start()
        offer = client._handshake.phase.offer  # type: ignore[attr-defined]
        seen["random"].add(offer.hello.random)
        seen["session"].add(offer.hello.legacy_session_id)
        seen["share"].add(offer.exchanges[G.X25519].public)
    assert {name: len(values) for name, values in seen.items()} == {"random": 1000, "session": 1000, "share": 1000}
    hello = good_client(config).data_to_send()
    answers = set()
    for _ in range(100):
        server = good_server()
        server.receive_data(hello)
        answer = server.data_to_send()
        answers.add(answer[11:43])
        answers.add(answer[5 + 4 + 84 : 5 + 4 + 84 + 32])
    assert len(answers) >= 200


@pytest.mark.rfc("9846 §4.3.8", "a retried hello has a fresh share")
def test_d7_a_retry_has_a_share_of_its_own() -> None:
    shares = set()
    for _ in range(50):
        client = good_client(client_config(groups=(G.SECP256R1, G.X25519), key_shares=(G.X25519,)))
        server = good_server(server_config(groups=(G.SECP256R1,)))
        server.receive_data(client.data_to_send())
        client.receive_data(server.data_to_send())
        shares.add(client._handshake.phase.offer.exchanges[G.SECP256R1].public)  # type: ignore[attr-defined]
    assert len(shares) == 50


_FORKING = """
import os, sys
from pellucid import ClientConfig, Connection
from pellucid.verify import dangerous_accept_any
config = ClientConfig(verifier=dangerous_accept_any())
children = []
for _ in range(8):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        for _ in range(4):
            os.write(write, Connection.client(config, "a.test").data_to_send()[11:76].hex().encode() + b" ")
        os._exit(0)
    os.close(write)
    children.append((child, read))
for child, read in children:
    with os.fdopen(read, "rb") as pipe:
        sys.stdout.write(pipe.read().decode())
    os.waitpid(child, 0)
"""


def test_d9_forked_workers_share_no_randomness() -> None:
    """D9: 8 workers forked after import and configuration: every random and session id is its own."""
    done = subprocess.run([sys.executable, "-c", _FORKING], capture_output=True, timeout=60, check=True, text=True)
    hellos = done.stdout.split()
    assert len(hellos) == 32
    assert len({hello[:64] for hello in hellos}) == 32
    assert len({hello[66:] for hello in hellos}) == 32


# ---- D10, D11: limits of a key ---------------------------------------------------------------------------------------


def rekeying(limit: int) -> Any:
    suites = tuple(dataclasses.replace(suite, rekey_after=limit) for suite in PYCA.suites)
    return dataclasses.replace(PYCA, suites=suites)


@both
@pytest.mark.rfc("9846 §5.5", "keys are updated before the AEAD's limit is reached")
def test_d10_a_key_is_updated_before_its_limit_with_the_peer_silent(victim: str) -> None:
    """D10: a limit of 8 records: 7 of data and the KeyUpdate. The peer never answers, and need not."""
    provider = rekeying(8)
    client, server = good_client(client_config(provider=provider)), good_server(server_config(provider=provider))
    connected(client, server)
    sender, receiver = (client, server) if victim == "client" else (server, client)
    for i in range(100):
        sender.send_data(bytes((i,)))
        assert sender._writer._keys is not None
        assert sender._writer._keys.sequence <= 8
    receiver.receive_data(sender.data_to_send())
    seen, error = drain(receiver)
    assert error is None
    assert b"".join(e.data for e in seen if not isinstance(e, KeyUpdated)) == bytes(range(100))
    assert [e.generation for e in seen if isinstance(e, KeyUpdated)] == list(range(1, 15))
    assert receiver.data_to_send() == b""


@both
def test_d10_bulk_data_is_cut_at_the_limit_too(victim: str) -> None:
    provider = rekeying(8)
    client, server = good_client(client_config(provider=provider)), good_server(server_config(provider=provider))
    connected(client, server)
    sender, receiver = (client, server) if victim == "client" else (server, client)
    data = random.Random(1).randbytes(40 * 2**14 + 5)
    sender.send_data(data)
    receiver.receive_data(sender.data_to_send())
    seen, error = drain(receiver)
    assert error is None
    assert b"".join(e.data for e in seen if not isinstance(e, KeyUpdated)) == data
    assert sum(isinstance(e, KeyUpdated) for e in seen) >= 5


@both
@pytest.mark.rfc("9846 §5.3", "sequence numbers do not wrap")
def test_d10_the_last_sequence_number_is_not_passed(victim: str) -> None:
    """With a suite that sets no limit of its own, at 2^64 - 2 one record is left."""
    config = {"suites": (CS.TLS_CHACHA20_POLY1305_SHA256,)}
    client, server = good_client(client_config(**config)), good_server(server_config(**config))
    connected(client, server)
    sender, receiver = (client, server) if victim == "client" else (server, client)
    for keys in (sender._writer._keys, receiver._reader._keys):
        assert keys is not None
        keys.sequence = MAX_SEQUENCE - 2
    sent = [b"the last but one", b"the next", b"x" * 100_000]
    for data in sent:
        sender.send_data(data)
    receiver.receive_data(sender.data_to_send())
    seen, error = drain(receiver)
    assert error is None
    assert b"".join(e.data for e in seen if not isinstance(e, KeyUpdated)) == b"".join(sent)
    assert [e.generation for e in seen if isinstance(e, KeyUpdated)] == [1]


@both
def test_d10_beyond_the_last_number_nothing_can_be_sealed(victim: str) -> None:
    """Whatever path leads there: the writer itself refuses, and no record comes of it."""
    client, server = good_client(), good_server()
    connected(client, server)
    writer = (client if victim == "client" else server)._writer
    assert writer._keys is not None
    writer._keys.sequence = MAX_SEQUENCE
    for size in (1, 5000, 100_000):
        with pytest.raises(UsageError):
            writer.application_data(bytes(size))
    with pytest.raises(UsageError):
        writer.alert(2, A.INTERNAL_ERROR)
    assert writer.take() == b""


class _Recorder:
    """An AEAD that notes every nonce it seals with."""

    def __init__(self, aead: Any, key: bytes, used: list[tuple[bytes, bytes]]) -> None:
        self._aead, self._key, self._used = aead, key, used
        self.decrypt, self.decrypt_into = aead.decrypt, aead.decrypt_into

    def encrypt(self, nonce: bytes, data: Any, associated: Any) -> bytes:
        self._used.append((self._key, bytes(nonce)))
        return self._aead.encrypt(nonce, data, associated)

    def encrypt_into(self, nonce: bytes, data: Any, associated: Any, buf: Any) -> int:
        self._used.append((self._key, bytes(nonce)))
        return self._aead.encrypt_into(nonce, data, associated, buf)


@pytest.mark.rfc("9846 §5.3", "the per-record nonce is unique for a key")
@pytest.mark.parametrize("seed", range(6))
def test_d11_no_nonce_is_used_twice_under_a_key(seed: int) -> None:
    """D11: random sends, sizes, updates and padding, on both ends."""
    chance = random.Random(seed)
    used: list[tuple[bytes, bytes]] = []
    suites = tuple(
        dataclasses.replace(suite, rekey_after=20, aead=lambda key, make=suite.aead: _Recorder(make(key), key, used))
        for suite in PYCA.suites
    )
    provider = dataclasses.replace(PYCA, suites=suites)

    def pad(content_type: int, length: int) -> int:
        return chance.randrange(min(300, 2**14 - length) + 1)

    padding = pad if seed % 2 else None
    client = good_client(client_config(provider=provider, padding=padding))
    server = good_server(server_config(provider=provider, padding=padding))
    connected(client, server)
    for _ in range(800):
        end = chance.choice((client, server))
        match chance.randrange(5):
            case 0:
                end.send_key_update(request_peer=chance.random() < 0.5)
            case 1:
                end.send_data(bytes(chance.randrange(40_000)))
            case 2:
                exchange(client, server)
            case _:
                end.send_data(bytes(chance.randrange(100)))
    client.close()
    server.close()
    assert len(used) > 800
    assert len(set(used)) == len(used)


# ---- D18: Finished ---------------------------------------------------------------------------------------------------


@both
@pytest.mark.rfc("9846 §4.5.3", "a wrong Finished is decrypt_error")
def test_d18_every_byte_of_finished_flipped_is_refused(victim: str) -> None:
    for at in range(32):

        def flip(raw: bytes, at: int = HEADER_LENGTH + at) -> bytes:
            return raw[:at] + bytes((raw[at] ^ 0x01,)) + raw[at + 1 :]

        good, evil = _pair(victim, replacing(H.FINISHED, flip))
        refused(good, evil, DX)
        assert not good.handshake_complete


@both
@pytest.mark.parametrize("size", [0, 1, 12, 31, 33, 48, 64])
def test_d18_a_finished_of_the_wrong_length_is_refused(victim: str, size: int) -> None:
    def resize(raw: bytes) -> bytes:
        return message(H.FINISHED, raw[HEADER_LENGTH:].ljust(size, b"\0")[:size])

    refused(*_pair(victim, replacing(H.FINISHED, resize)), DE)


@both
def test_d18_the_peers_own_finished_reflected_is_refused(victim: str) -> None:
    """D18: each side has a key of its own: what the victim sent is no Finished of its peer."""
    if victim == "server":
        seen: list[bytes] = []

        def reflect(kind: int, raw: bytes) -> bytes:
            return evil.received if kind == H.FINISHED else raw

        evil = evil_client(edit=reflect)
        refused(good_server(), evil, DX)
        assert seen == []
    else:
        edit = replacing(H.FINISHED, lambda raw: handshake_message(Finished(bytes(32))))
        refused(good_client(), evil_server(edit=edit), DX)


def _pair(victim: str, edit: Any, kind: str = "p256") -> tuple[Connection, Evil]:
    """Both authenticate; the evil peer's credential is of *kind*."""
    if victim == "client":
        return good_client(client_with_certificate()), evil_server(
            asking_server(credentials=(credential(kind),)), edit=edit
        )
    config = client_config(credentials=(credential(kind),))
    return good_server(asking_server()), evil_client(config, edit=edit)


# ---- D19-D25: CertificateVerify --------------------------------------------------------------------------------------


@functools.cache
def issued(kind: str) -> Issued:
    return authority().issue(NAME, key=kind)  # type: ignore[arg-type]


@functools.cache
def own_credential(kind: str) -> tuple[Any, Credential]:
    """The private key of `issued`, and it as a credential: to load an RSA key takes 12 ms."""
    made = issued(kind)
    return load_pem_private_key(made.key_pem, None), Credential.from_pem(made.chain_pem, made.key_pem)


def resigned(victim: str, kind: str, make: Callable[[Any, bytes], tuple[int, bytes]]) -> tuple[Connection, Evil]:
    """A pair whose evil peer's CertificateVerify is (scheme, signature) = make(private key, content to sign)."""
    peer_role = Role.SERVER if victim == "client" else Role.CLIENT
    key, own = own_credential(kind)

    def edit(this: int, raw: bytes) -> bytes:
        if this != H.CERTIFICATE_VERIFY:
            return raw
        content = signed_content(peer_role, evil._context.transcript.digest())
        return handshake_message(CertificateVerify(*make(key, content)))

    if victim == "client":
        good, evil = good_client(), evil_server(server_config(credentials=(own,)), edit=edit)
    else:
        good, evil = good_server(asking_server()), evil_client(client_config(credentials=(own,)), edit=edit)
    return good, evil


SHA256 = hashes.SHA256()
ECDSA = ec.ECDSA(SHA256)


def _pss(salt: int, mgf: hashes.HashAlgorithm = SHA256) -> padding.PSS:
    return padding.PSS(padding.MGF1(mgf), salt)


@both
@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_d19_the_right_scheme_signed_by_hand_is_accepted(victim: str, kind: str) -> None:
    """The refusals below are not for the hand that signs."""

    def make(key: Any, content: bytes) -> tuple[int, bytes]:
        if kind == "p256":
            return S.ECDSA_SECP256R1_SHA256, key.sign(content, ECDSA)
        return S.RSA_PSS_RSAE_SHA256, key.sign(content, _pss(32), SHA256)

    connected(*resigned(victim, kind, make))


WRONG_FOR_EC = {
    "p384": (S.ECDSA_SECP384R1_SHA384, ec.ECDSA(hashes.SHA384())),
    "p521": (S.ECDSA_SECP521R1_SHA512, ec.ECDSA(hashes.SHA512())),
    "sha1": (S.ECDSA_SHA1, ec.ECDSA(hashes.SHA1())),
    "ed25519": (S.ED25519, ECDSA),
    "rsa": (S.RSA_PSS_RSAE_SHA256, ECDSA),
    "mldsa": (S.MLDSA65, ECDSA),
    "zero": (0, ECDSA),
    "grease": (0x0A0A, ECDSA),
}


@both
@pytest.mark.rfc("9846 §4.5.2", "the scheme of CertificateVerify was offered and fits the key")
@pytest.mark.parametrize("scheme", WRONG_FOR_EC)
def test_d19_a_scheme_that_is_not_the_keys_is_refused(victim: str, scheme: str) -> None:
    code, algorithm = WRONG_FOR_EC[scheme]
    refused(*resigned(victim, "p256", lambda key, content: (code, key.sign(content, algorithm))), IP)


WRONG_FOR_RSA = {
    "pkcs1-sha256": (S.RSA_PKCS1_SHA256, padding.PKCS1v15(), SHA256),
    "pkcs1-sha384": (S.RSA_PKCS1_SHA384, padding.PKCS1v15(), hashes.SHA384()),
    "pkcs1-sha512": (S.RSA_PKCS1_SHA512, padding.PKCS1v15(), hashes.SHA512()),
    "pkcs1-sha1": (S.RSA_PKCS1_SHA1, padding.PKCS1v15(), hashes.SHA1()),
    "pss-key-scheme": (S.RSA_PSS_PSS_SHA256, _pss(32), SHA256),
}


@both
@pytest.mark.rfc("9846 §4.3.3", "RSASSA-PKCS1-v1_5 and SHA-1 do not sign handshakes")
@pytest.mark.parametrize("scheme", WRONG_FOR_RSA)
def test_d19_pkcs1_sha1_and_pss_schemes_of_another_key_are_refused(victim: str, scheme: str) -> None:
    """D19, D20: NSS CVE-2019-11727; rsae and pss are told apart by the certificate's OID."""
    code, pad, algorithm = WRONG_FOR_RSA[scheme]
    refused(*resigned(victim, "rsa2048", lambda key, content: (code, key.sign(content, pad, algorithm))), IP)


@both
def test_d19_a_scheme_that_was_not_offered_is_refused(victim: str) -> None:
    """The key could, the victim did not offer it."""
    offered = {"signature_schemes": (S.RSA_PSS_RSAE_SHA256,)}
    if victim == "client":
        good = good_client(client_config(**offered))
        evil = evil_server(edit=None)
        evil._handshake.context.config = server_config()
    else:
        good = good_server(asking_server(signature_schemes=(S.ED25519, S.ECDSA_SECP256R1_SHA256)))
        rsa_credential = credential("rsa2048")
        evil = evil_client(client_config(credential_resolver=lambda _: rsa_credential))
    # Both evil peers would find no scheme in common: let them see an offer that the victim did not make.
    every = x.SIGNATURE_ALGORITHMS.extension(tuple(v.code for v in PYCA.verifiers))
    kind = H.CLIENT_HELLO if victim == "client" else H.CERTIFICATE_REQUEST
    receive = evil._handshake.receive

    def lied_to(raw: bytes) -> Any:
        if raw[0] != kind:
            return receive(raw)
        edit = changing_extensions(
            kind, lambda ext: [every if e.extension_type == E.SIGNATURE_ALGORITHMS else e for e in ext]
        )
        forged = edit(kind, raw)
        before = evil._context.transcript.add
        evil._context.transcript.add = lambda r: before(raw if r == forged else r)  # type: ignore[method-assign]
        return receive(forged)

    evil._handshake.receive = lied_to  # type: ignore[method-assign]
    if victim == "client":
        evil.edit = None
    refused(good, evil, IP)


@both
@pytest.mark.rfc("9846 §4.3.3", "the PSS salt is as long as the digest, the MGF's hash is the signature's")
@pytest.mark.parametrize(
    ("salt", "mgf"), [(0, "SHA256"), (20, "SHA256"), (31, "SHA256"), (33, "SHA256"), (222, "SHA256"), (32, "SHA384")]
)
def test_d20_another_salt_length_or_mgf_is_refused(victim: str, salt: int, mgf: str) -> None:
    scheme = _pss(salt, getattr(hashes, mgf)())
    refused(
        *resigned(victim, "rsa2048", lambda k, content: (S.RSA_PSS_RSAE_SHA256, k.sign(content, scheme, SHA256))), DX
    )


N256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BAD_NUMBERS: dict[str, Callable[[int], int]] = {
    "zero": lambda _: 0,
    "order": lambda _: N256,
    "plus-order": lambda value: value + N256,
    "huge": lambda value: value + (1 << 4000),
    "negative": lambda value: -value,
}


@both
@pytest.mark.parametrize("s", [*BAD_NUMBERS, "right"])
@pytest.mark.parametrize("r", [*BAD_NUMBERS, "right"])
def test_d21_psychic_signatures_are_refused(victim: str, r: str, s: str) -> None:
    """D21: CVE-2022-21449: r and s zero, the order, past it, huge, negative."""

    def make(key: Any, content: bytes) -> tuple[int, bytes]:
        good_r, good_s = decode_dss_signature(key.sign(content, ECDSA))
        bad_r = BAD_NUMBERS[r](good_r) if r != "right" else good_r
        bad_s = BAD_NUMBERS[s](good_s) if s != "right" else good_s
        return S.ECDSA_SECP256R1_SHA256, _der_pair(bad_r, bad_s)

    if (r, s) == ("right", "right"):
        connected(*resigned(victim, "p256", make))
    else:
        refused(*resigned(victim, "p256", make), DX)


def _der_pair(r: int, s: int) -> bytes:
    if 0 <= r < 2**256 and 0 <= s < 2**256:
        return encode_dss_signature(r, s)

    def number(value: int) -> bytes:
        body = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
        return b"\x02" + _der_length(len(body)) + body

    both_numbers = number(r) + number(s)
    return b"\x30" + _der_length(len(both_numbers)) + both_numbers


def _der_length(size: int) -> bytes:
    return bytes((size,)) if size < 128 else b"\x82" + size.to_bytes(2, "big")


BAD_DER: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda sig: b"",
    "garbage": lambda sig: b"\xff" * 70,
    "trailing": lambda sig: sig + b"\0",
    "truncated": lambda sig: sig[:-1],
    "raw-r-s": lambda sig: b"".join(n.to_bytes(32, "big") for n in decode_dss_signature(sig)),
    "long-form-length": lambda sig: b"\x30\x81" + sig[1:],
    "flipped": lambda sig: sig[:-1] + bytes((sig[-1] ^ 1,)),
    "65535-bytes": lambda sig: sig.ljust(16_000, b"\0"),
}


@both
@pytest.mark.rfc("9846 §4.5.2", "a signature that does not verify is decrypt_error")
@pytest.mark.parametrize("what", BAD_DER)
def test_d21_malformed_signatures_are_refused(victim: str, what: str) -> None:
    def make(key: Any, content: bytes) -> tuple[int, bytes]:
        return S.ECDSA_SECP256R1_SHA256, BAD_DER[what](key.sign(content, ECDSA))

    refused(*resigned(victim, "p256", make), DX)


@both
@pytest.mark.parametrize("kind", ["rsa2048", "ed25519", "ed448", "mldsa44"])
@pytest.mark.parametrize("size", [0, 1, 64, 300, 16_000])
def test_d21_signatures_of_any_length_are_refused_and_not_raised(victim: str, kind: str, size: int) -> None:
    scheme = PrivateKeySignerOf(kind).schemes[0]
    refused(*resigned(victim, kind, lambda key, content: (scheme, bytes(size))), DX)


def PrivateKeySignerOf(kind: str) -> PrivateKeySigner:  # a function that reads as what it returns
    signer = credential(kind).signer
    assert isinstance(signer, PrivateKeySigner)
    return signer


def _fake_rsa(bits: int) -> rsa.RSAPublicKey:
    modulus = random.Random(bits).getrandbits(bits) | 1 << bits - 1 | 1
    return rsa.RSAPublicNumbers(65537, modulus).public_key()


@both
@pytest.mark.parametrize("bits", [1024, 2047, 8193, 16_384])
def test_d22_rsa_keys_too_small_or_too_large_are_refused_unverified(victim: str, bits: int) -> None:
    """D22: Go CVE-2023-29409. The leaf's key is never computed with: at once, whatever its size."""
    leaf = authority().issue(NAME, public_key=_fake_rsa(bits))
    raw = handshake_message(Certificate(b"", (CertificateEntry(leaf.der, ()),)))

    def edit(kind: int, own: bytes) -> bytes:
        if kind == H.CERTIFICATE:
            return raw
        if kind == H.CERTIFICATE_VERIFY:
            return handshake_message(CertificateVerify(S.RSA_PSS_RSAE_SHA256, bytes(bits // 8)))
        return own

    computed: list[int] = []

    def counted(verifier: Verifier) -> Verifier:
        def verify(*arguments: Any) -> bool:
            computed.append(verifier.code)
            return verifier.verify(*arguments)

        return dataclasses.replace(verifier, verify=verify)

    provider = dataclasses.replace(PYCA, verifiers=tuple(map(counted, PYCA.verifiers)))
    _, evil = _pair(victim, edit)
    if victim == "client":
        good = good_client(client_config(provider=provider, credentials=(credential(),)))
    else:
        good = good_server(asking_server(provider=provider))
    error = refused(good, evil, A.BAD_CERTIFICATE)
    assert f"RSA key of {bits} bits" in str(error)
    assert isinstance(error, CertificateRejected)
    assert error.verification.failure is Failure.WEAK_KEY
    assert error.verification.outcome(CheckGroup.SIGNATURE) is Outcome.NOT_CHECKED
    assert computed == []


@both
@pytest.mark.rfc("9846 §4.5.2", "the context string tells the roles apart")
def test_d23_the_other_roles_context_string_is_refused(victim: str) -> None:
    wrong_role = Role.CLIENT if victim == "client" else Role.SERVER

    def make(key: Any, content: bytes) -> tuple[int, bytes]:
        mixed = signed_content(wrong_role, content[-32:])
        assert mixed != content
        return S.ECDSA_SECP256R1_SHA256, key.sign(mixed, ECDSA)

    refused(*resigned(victim, "p256", make), DX)


@both
@pytest.mark.parametrize("prefix", [b"", b"\x20" * 63, b"\x20" * 65], ids=len)
def test_d23_another_prefix_is_refused(victim: str, prefix: bytes) -> None:
    def make(key: Any, content: bytes) -> tuple[int, bytes]:
        return S.ECDSA_SECP256R1_SHA256, key.sign(prefix + content[64:], ECDSA)

    refused(*resigned(victim, "p256", make), DX)


@both
def test_d23_a_signature_replayed_from_another_connection_is_refused(victim: str) -> None:
    old: list[bytes] = []

    def note(kind: int, raw: bytes) -> bytes:
        if kind == H.CERTIFICATE_VERIFY:
            old.append(raw)
        return raw

    connected(*_pair(victim, note))
    refused(*_pair(victim, replacing(H.CERTIFICATE_VERIFY, lambda raw: old[0])), DX)


class FaultySigner:
    """A key whose computations go wrong in one bit: what leaks an RSA-CRT key."""

    def __init__(self, kind: str) -> None:
        self._signer = PrivateKeySignerOf(kind)
        self.schemes = self._signer.schemes

    def sign(self, scheme: int, data: bytes) -> bytes:
        signature = bytearray(self._signer.sign(scheme, data))
        signature[-1] ^= 1
        return bytes(signature)


@pytest.mark.rfc("9846 §C.3", "a faulty signature must not leave")
@pytest.mark.parametrize("kind", ["rsa2048", "p256", "ed25519", "mldsa44"])
@pytest.mark.parametrize("role", ["client", "server"])
def test_d24_a_faulty_signature_never_leaves(role: str, kind: str) -> None:
    """D24: nothing of the CertificateVerify is sent, only internal_error."""
    faulty = Credential(chain=credential(kind).chain, signer=FaultySigner(kind))
    if role == "server":
        faulted, peer = good_server(server_config(credentials=(faulty,))), evil_client()
    else:
        faulted, peer = good_client(client_config(credentials=(faulty,))), evil_server(asking_server())
    exchange(faulted, peer)
    _, error = drain(faulted)
    assert isinstance(error, InternalError)
    _, heard = drain(peer)
    assert isinstance(heard, AlertReceived)
    assert heard.description == A.INTERNAL_ERROR
    assert peer.received[:1] != bytes((H.CERTIFICATE_VERIFY,))
    latched(faulted, error)


def test_d24_a_fault_in_our_own_rsa_key_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signer is ours, the fault is in the machine."""
    right = PrivateKeySigner.sign

    def sign(self: PrivateKeySigner, scheme: int, data: bytes) -> bytes:
        signature = right(self, scheme, data)
        return signature[:-1] + bytes((signature[-1] ^ 1,))

    monkeypatch.setattr(PrivateKeySigner, "sign", sign)
    server = good_server(server_config(credentials=(credential("rsa2048"),)))
    exchange(server, evil_client())
    assert isinstance(drain(server)[1], InternalError)


@pytest.mark.parametrize("answer", [None, b"", 7, "text"], ids=repr)
def test_d24_a_signer_that_answers_nonsense_is_our_fault_and_not_the_peers(answer: Any) -> None:
    class Nonsense:
        schemes = PrivateKeySignerOf("p256").schemes

        def sign(self, scheme: int, data: bytes) -> Any:
            return answer

    server = good_server(server_config(credentials=(Credential(chain=credential().chain, signer=Nonsense()),)))
    exchange(server, evil_client())
    _, error = drain(server)
    assert isinstance(error, InternalError)
    latched(server, error)


@both
def test_d25_an_ed25519_key_of_small_order_is_refused(victim: str) -> None:
    """D25: under the identity, R = identity and S = 0 signs anything; a CA of ours even vouches for it here."""
    identity = b"\x01" + bytes(31)
    leaf = authority().issue(NAME, public_key=ed25519.Ed25519PublicKey.from_public_bytes(identity))
    raw = handshake_message(Certificate(b"", (CertificateEntry(leaf.der, ()),)))
    forged = handshake_message(CertificateVerify(S.ED25519, identity + bytes(32)))

    def edit(kind: int, own: bytes) -> bytes:
        return {H.CERTIFICATE: raw, H.CERTIFICATE_VERIFY: forged}.get(kind, own)

    refused(*_pair(victim, edit), DX)


# ---- F: certificates in the handshake --------------------------------------------------------------------------------


@both
def test_f3_ten_thousand_certificates_are_refused_before_any_is_parsed(victim: str) -> None:
    entries = tuple(CertificateEntry(b"x", ()) for _ in range(10_000))
    raw = handshake_message(Certificate(b"", entries))
    refused(*_pair(victim, replacing(H.CERTIFICATE, lambda _: raw)), A.BAD_CERTIFICATE)


@both
def test_f3_the_number_of_certificates_has_an_exact_limit(victim: str) -> None:
    leaf, extra = credential("p256").chain[0], authority().root_der
    for count, fits in ((MAX_CERTIFICATES, True), (MAX_CERTIFICATES + 1, False)):
        chain = (leaf, *(extra,) * (count - 1))
        raw = handshake_message(Certificate(b"", tuple(CertificateEntry(der, ()) for der in chain)))
        good, evil = _pair(victim, replacing(H.CERTIFICATE, lambda _, raw=raw: raw))
        if fits:
            connected(good, evil)
        else:
            refused(good, evil, A.BAD_CERTIFICATE)


@both
def test_f3_a_certificate_of_65_kilobytes_is_refused(victim: str) -> None:
    for size in (65_000, 65_600):
        raw = handshake_message(Certificate(b"", (CertificateEntry(bytes(size), ()),)))
        refused(*_pair(victim, replacing(H.CERTIFICATE, lambda _, raw=raw: raw)), A.BAD_CERTIFICATE, IP)


def test_f5_a_client_without_trust_or_name_is_not_made() -> None:
    with pytest.raises(UsageError, match="trust"):
        Connection.client(ClientConfig(), NAME)
    for name in ("", ".", "a..b", "-" * 300, "white space.test", "nul\0.test"):
        with pytest.raises(UsageError):
            Connection.client(client_config(), name)


def _credential_of(made: Issued) -> Credential:
    credential = Credential.from_pem(made.chain_pem, made.key_pem)
    object.__setattr__(credential, "may_sign", True)  # an evil peer shows it whatever its key usage says
    return credential


FAULTS: dict[str, Callable[[], Issued]] = {
    "expired": lambda: authority().issue(NAME, not_before=_days(-20), not_after=_days(-10)),
    "not-yet": lambda: authority().issue(NAME, not_before=_days(10), not_after=_days(20)),
    "unknown-ca": lambda: CA("somebody else").issue(NAME),
    "self-signed": lambda: self_signed(NAME, purposes=("server", "client")),
    "server-purpose": lambda: authority().issue(NAME, purposes=("server",)),
    "client-purpose": lambda: authority().issue(NAME, purposes=("client",)),
    "code-purpose": lambda: authority().issue(NAME, purposes=("code",)),
    "no-signature-usage": lambda: authority().issue(NAME, usage=("key_encipherment",)),
    "wrong-name": lambda: authority().issue("other.test"),
    "no-name": lambda: authority().issue(),
}
ALERTS = {
    "expired": A.CERTIFICATE_EXPIRED,
    "not-yet": A.CERTIFICATE_EXPIRED,
    "unknown-ca": A.UNKNOWN_CA,
    "self-signed": A.UNKNOWN_CA,
    "server-purpose": A.UNSUPPORTED_CERTIFICATE,
    "client-purpose": A.UNSUPPORTED_CERTIFICATE,
    "code-purpose": A.UNSUPPORTED_CERTIFICATE,
    "no-signature-usage": A.UNSUPPORTED_CERTIFICATE,
    "wrong-name": A.BAD_CERTIFICATE,
    "no-name": A.BAD_CERTIFICATE,
}


def _days(count: int) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=count)


@pytest.mark.rfc("9846 §6.2", "the alert says what was wrong with the certificate")
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "server-purpose"])
def test_f10_f11_f12_a_bad_server_certificate_is_refused_with_its_alert(fault: str) -> None:
    evil = evil_server(server_config(credentials=(_credential_of(FAULTS[fault]()),)))
    error = refused(good_client(), evil, ALERTS[fault])
    assert error.verification is not None


@pytest.mark.parametrize("mode", [ClientAuthentication.OPTIONAL, ClientAuthentication.REQUIRED], ids=lambda m: m.value)
@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in {"client-purpose", "wrong-name", "no-name"}])
def test_f10_f22_a_bad_client_certificate_is_never_taken_for_none(fault: str, mode: ClientAuthentication) -> None:
    """F22: optional means that none is fine; a bad one is refused all the same, and the client is told why (F18)."""
    server = good_server(asking_server(client_authentication=mode))
    evil = evil_client(client_config(credentials=(_credential_of(FAULTS[fault]()),)))
    refused(server, evil, ALERTS[fault])


@pytest.mark.parametrize("fault", ["client-purpose", "wrong-name", "no-name"])
def test_f10_what_is_no_fault_of_a_client_is_accepted(fault: str) -> None:
    connected(good_server(asking_server()), good_client(client_config(credentials=(_credential_of(FAULTS[fault]()),))))
    connected(good_client(), good_server(server_config(credentials=(_credential_of(FAULTS["server-purpose"]()),))))


@both
@pytest.mark.parametrize(("edge", "offset", "good"), [(0, -1, False), (0, 0, True), (1, 0, True), (1, 1, False)])
def test_f11_the_dates_are_exact_by_the_providers_clock(victim: str, edge: int, offset: int, good: bool) -> None:
    root = CA("dated root", not_before=_days(-2000), not_after=_days(2000))
    begin, end = _days(-100), _days(-50)
    made = _credential_of(root.issue(NAME, not_before=begin, not_after=end))
    now = (begin, end)[edge].timestamp() + offset
    provider = dataclasses.replace(PYCA, now=lambda: now)
    if victim == "client":
        verifying: Connection = good_client(client_config(trust=root.trust, provider=provider))
        other: Connection = evil_server(server_config(credentials=(made,)))
    else:
        verifying = good_server(asking_server(client_trust=root.trust, provider=provider))
        other = evil_client(client_config(credentials=(made,)))
    if good:
        connected(verifying, other)
    else:
        refused(verifying, other, A.CERTIFICATE_EXPIRED)


def test_f18_a_refused_client_sees_the_alert_and_not_an_end_of_stream() -> None:
    """F18: its handshake was complete: the refusal is what the next read raises, after the event."""
    client = good_client(client_config(credentials=(_credential_of(FAULTS["unknown-ca"]()),)))
    server = good_server(asking_server())
    exchange(client, server)
    seen, error = drain(client)
    assert [type(event) for event in seen] == [HandshakeComplete]
    assert isinstance(error, AlertReceived)
    assert error.description == A.UNKNOWN_CA


def test_f19_a_chain_in_any_order_with_strangers_in_it_is_accepted() -> None:
    root = CA("long root")
    first = root.intermediate("first")
    second = first.intermediate("second")
    made = second.issue(NAME)
    leaf, *others = _credential_of(made).chain
    strangers = [CA("stranger").root_der, authority().root_der, root.root_der]
    chance = random.Random(19)
    for _ in range(6):
        rest = [*others, *strangers, others[0]]
        chance.shuffle(rest)
        raw = handshake_message(Certificate(b"", tuple(CertificateEntry(der, ()) for der in (leaf, *rest))))
        edit = replacing(H.CERTIFICATE, lambda _, raw=raw: raw)
        evil = evil_server(server_config(credentials=(_credential_of(made),)), edit=edit)
        connected(good_client(client_config(trust=root.trust)), evil)


@pytest.mark.rfc("9846 §4.5.1", "the end-entity certificate is the first of the list")
def test_f19_a_leaf_that_is_not_first_is_refused() -> None:
    leaf, *_ = credential().chain
    raw = handshake_message(Certificate(b"", tuple(CertificateEntry(der, ()) for der in (authority().root_der, leaf))))
    refused(good_client(), evil_server(edit=replacing(H.CERTIFICATE, lambda _: raw)), DX)


@pytest.mark.rfc("9846 §4.5.1", "a client without a suitable certificate sends an empty list")
@pytest.mark.parametrize("why", ["none", "scheme", "resolver"])
def test_f21_a_client_without_a_fitting_certificate_sends_an_empty_list(why: str) -> None:
    config = {
        "none": client_config(),
        "scheme": client_config(credentials=(credential("ed25519"),)),
        "resolver": client_config(credentials=(credential(),), credential_resolver=lambda _: None),
    }[why]
    schemes = (S.ECDSA_SECP256R1_SHA256,)
    server = asking_server(client_authentication=ClientAuthentication.OPTIONAL, signature_schemes=schemes)
    seen: list[bytes] = []

    def note(kind: int, raw: bytes) -> bytes:
        seen.append(raw)
        return raw

    client = evil_client(config, edit=note)
    connected(client, good_server(server))
    assert message(H.CERTIFICATE, bytes(4)) in seen
    assert client.negotiated is not None
    assert client.negotiated.local_certificates == ()


def test_f21_a_client_that_is_not_asked_shows_nothing() -> None:
    seen: list[int] = []

    def note(kind: int, raw: bytes) -> bytes:
        seen.append(kind)
        return raw

    connected(evil_client(client_with_certificate(), edit=note), good_server())
    assert seen == [H.CLIENT_HELLO, H.FINISHED]


@pytest.mark.rfc("9846 §C.5", "nobody goes unverified without asking for it by name")
def test_f24_verification_is_off_only_by_a_name_that_says_so() -> None:
    """F24: no flag, no None, no empty store turns it off; what does is called dangerous_, and reports that it is."""
    names = {*inspect.signature(ClientConfig).parameters, *inspect.signature(pellucid.ServerConfig).parameters}
    names -= {"reverify_on_resumption"}  # it only ever adds a verification
    assert not {name for name in names if "verify" in name or "check" in name or "insecure" in name}
    assert ClientConfig(verifier=None).peer_verifier is None
    with pytest.raises(UsageError):
        Connection.client(ClientConfig(verifier=None), NAME)
    with pytest.raises(UsageError):
        pellucid.ServerConfig(credentials=(credential(),), client_authentication=ClientAuthentication.OPTIONAL)
    from pellucid.verify import dangerous_accept_any

    client = good_client(client_config(verifier=dangerous_accept_any()))
    connected(client, good_server(server_config(credentials=(_credential_of(FAULTS["expired"]()),))))
    assert client.negotiated is not None
    assert client.negotiated.peer is not None
    assert client.negotiated.peer.report.dangerous


def test_f24_the_dangerous_verifier_still_demands_the_key() -> None:
    """Even then CertificateVerify and Finished are checked."""
    from pellucid.verify import dangerous_accept_any

    def flip(raw: bytes) -> bytes:
        return raw[:-1] + bytes((raw[-1] ^ 1,))

    for kind in (H.CERTIFICATE_VERIFY, H.FINISHED):
        client = good_client(client_config(verifier=dangerous_accept_any()))
        refused(client, evil_server(edit=replacing(kind, flip)), DX)
