"""The key schedule alone, over all five traces of RFC 8448: what our handshakes do not derive yet is held here.

Inputs: the messages, the (EC)DHE private keys, and for the resumption the ticket's nonce. The PSK of the resumed trace
is the one that the first trace's ticket leads to.
"""

from __future__ import annotations

from typing import Any

import pytest

from pellucid.registry import CipherSuite, NamedGroup
from pellucid.schedule import (
    EarlySecret,
    HandshakeSecret,
    MainSecret,
    Prf,
    TrafficSecret,
    empty_hash,
    hkdf_label,
    resumption_psk,
)
from pellucid.transcript import Transcript
from tests.support.scripted import exchange_with, suite
from tests.support.vectors import load, message, trace

NAMES = tuple(one["name"] for one in load("rfc8448.json")["traces"])
SUITE = suite(CipherSuite.TLS_AES_128_GCM_SHA256)
GROUPS = {"x25519": NamedGroup.X25519, "secp256r1": NamedGroup.SECP256R1}

Trace = dict[str, Any]


def hashes(trace: Trace) -> dict[str, bytes]:
    """Our transcript hashes of the trace's messages, named as the vectors name them."""
    transcript = Transcript()
    found: dict[str, bytes] = {}
    names = {
        ("server", "ServerHello"): "client_hello_to_server_hello",
        ("server", "Finished"): "client_hello_to_server_finished",
        ("client", "Finished"): "client_hello_to_client_finished",
    }
    for sent in trace["messages"]:
        who = (sent["role"], sent["type"])
        if who == ("server", "HelloRetryRequest"):
            transcript.replace_by_message_hash(SUITE)
        if sent["type"] == "NewSessionTicket":
            continue
        if who[1] == "Finished":
            found[f"before {who[0]} Finished"] = transcript.digest()
        if sent["type"] == "ClientHello" and "psk" in trace:
            prefix = transcript.fork()
            prefix.add(bytes.fromhex(trace["psk"]["client_hello_prefix"]))
            prefix.choose(SUITE)
            found["client_hello_without_binders"] = prefix.digest()
        transcript.add(bytes.fromhex(sent["bytes"]))
        if who == ("client", "ClientHello"):
            whole = transcript.fork()
            whole.choose(SUITE)
            found["client_hello"] = whole.digest()
        if who == ("server", "ServerHello"):
            transcript.choose(SUITE)
        if who in names:
            found[names[who]] = transcript.digest()
    return found


def shared_secret(trace: Trace) -> bytes:
    group = trace["key_exchange_group"]
    keys = {e["role"]: e for e in trace["ephemeral_keys"] if e["group"] == group}
    exchange = exchange_with(GROUPS[group], bytes.fromhex(keys["client"]["private_key"]))
    assert exchange.public.hex() == keys["client"]["public_key"]
    return exchange.finish(bytes.fromhex(keys["server"]["public_key"]))


def psk_of(trace: Trace) -> bytes | None:
    if "psk" not in trace:
        return None
    issued = next(one for one in load("rfc8448.json")["traces"] if one["name"] == trace["resumes"])
    secret = bytes.fromhex(issued["secrets"]["resumption_master_secret"]["secret"])
    psk = resumption_psk(SUITE, secret, bytes.fromhex(issued["new_session_ticket"]["ticket_nonce"]))
    assert psk.hex() == issued["new_session_ticket"]["psk"] == trace["psk"]["psk"]
    return psk


def stages(trace: Trace) -> tuple[EarlySecret, HandshakeSecret, MainSecret]:
    early = EarlySecret.extract(SUITE, psk_of(trace))
    handshake = early.handshake(shared_secret(trace))
    return early, handshake, handshake.main()


def traffic_secrets(trace: Trace) -> dict[str, TrafficSecret]:
    early, handshake, main = stages(trace)
    at = hashes(trace)
    hellos, finished = at["client_hello_to_server_hello"], at["client_hello_to_server_finished"]
    return {
        "client_early": early.client_early_traffic_secret(at["client_hello"]),
        "client_handshake": handshake.client_handshake_traffic_secret(hellos),
        "server_handshake": handshake.server_handshake_traffic_secret(hellos),
        "client_application": main.client_application_traffic_secret(finished),
        "server_application": main.server_application_traffic_secret(finished),
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.rfc("9846 §4.1", "the transcript hash, after a HelloRetryRequest too")
def test_transcript_hashes(name: str) -> None:
    ours = hashes(trace(name))
    shown = trace(name)["transcript_hashes"]
    assert {key: ours[key].hex() for key in shown} == shown


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.rfc("9846 §7.1", "the key schedule: every secret of RFC 8448's traces")
def test_every_secret(name: str) -> None:
    one = trace(name)
    at = hashes(one)
    early, handshake, main = stages(one)
    traffic = traffic_secrets(one)
    finished = at["client_hello_to_server_finished"]
    ours = {
        "early_secret": early.value,
        "client_early_traffic_secret": traffic["client_early"].value,
        "early_exporter_master_secret": early.early_exporter_secret(at["client_hello"]),
        "derived_handshake": early.derived(),
        "handshake_secret": handshake.value,
        "client_handshake_traffic_secret": traffic["client_handshake"].value,
        "server_handshake_traffic_secret": traffic["server_handshake"].value,
        "derived_master": handshake.derived(),
        "master_secret": main.value,
        "client_application_traffic_secret_0": traffic["client_application"].value,
        "server_application_traffic_secret_0": traffic["server_application"].value,
        "exporter_master_secret": main.exporter_secret(finished),
        "resumption_master_secret": main.resumption_secret(at["client_hello_to_client_finished"]),
    }
    shown = {key: value["secret"] for key, value in one["secrets"].items() if key != "resumption_psk"}
    assert {key: ours[key].hex() for key in shown} == shown


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.rfc("9846 §7.1", "HKDF-Expand-Label and its HkdfLabel structure")
def test_every_label_and_extraction(name: str) -> None:
    for value in trace(name)["secrets"].values():
        if "label" in value:
            context = bytes.fromhex(value["context"])
            prf = Prf(SUITE, bytes.fromhex(value["prk"]))
            assert hkdf_label(value["label"].encode(), context, 32).hex() == value["info"]
            assert prf.expand_label(value["label"].encode(), context, 32).hex() == value["secret"]
        else:
            assert Prf(SUITE, bytes.fromhex(value["salt"])).hmac(bytes.fromhex(value["ikm"])).hex() == value["secret"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.rfc("9846 §7.3", "traffic keys and IVs")
def test_every_traffic_key(name: str) -> None:
    ours = traffic_secrets(trace(name))
    for key, value in trace(name)["traffic_keys"].items():
        assert ours[key].value.hex() == value["secret"]
        keys = ours[key].keys()
        assert (keys.key.hex(), keys.iv.hex()) == (value["key"], value["iv"])
        assert hkdf_label(b"key", b"", 16).hex() == value["key_info"]
        assert hkdf_label(b"iv", b"", 12).hex() == value["iv_info"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.rfc("9846 §4.5.3", "verify_data is an HMAC under the finished key over the transcript before it")
def test_both_finished(name: str) -> None:
    one = trace(name)
    at, secrets = hashes(one), traffic_secrets(one)
    for role in ("client", "server"):
        shown = one["finished"][role]
        secret = secrets[f"{role}_handshake"]
        assert secret.value.hex() == shown["base_key"]
        assert secret.expand_label(b"finished", b"", 32).hex() == shown["finished_key"]
        verify_data = secret.verify_data(at[f"before {role} Finished"])
        assert verify_data.hex() == shown["verify_data"]
        assert message(one, role, "Finished") == b"\x14\x00\x00\x20" + verify_data


@pytest.mark.rfc("9846 §4.3.11.2", "a PSK binder is a Finished over the ClientHello up to the binders")
def test_binder() -> None:
    one = trace("resumed_0rtt")
    shown = one["psk"]
    binder_hash = hashes(one)["client_hello_without_binders"]
    assert binder_hash.hex() == shown["binder_hash"]
    key = EarlySecret.extract(SUITE, psk_of(one)).binder_key(b"res binder")
    assert key.hex() == shown["binder_key"]
    assert key != EarlySecret.extract(SUITE, psk_of(one)).binder_key(b"ext binder")
    finished_key = Prf(SUITE, key).expand_label(b"finished", b"", 32)
    assert finished_key.hex() == shown["finished_key"]
    assert Prf(SUITE, finished_key).hmac(binder_hash).hex() == shown["binder"]
    assert message(one, "client", "ClientHello").hex().endswith(shown["binder"])


def test_no_psk_is_as_a_psk_of_zeros() -> None:
    zeros = EarlySecret.extract(SUITE, bytes(32))
    known = EarlySecret.extract(SUITE)
    assert zeros.value == known.value
    assert zeros.derived() == known.derived()
    assert zeros.handshake(b"shared").value == known.handshake(b"shared").value
    assert empty_hash(SUITE).hex() == trace("simple_1rtt")["secrets"]["derived_handshake"]["context"]
