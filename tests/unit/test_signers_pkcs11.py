"""Keys in a PKCS#11 token, tried with SoftHSM."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pellucid
from pellucid.crypto.signatures import VERIFIERS
from pellucid.errors import UsageError
from pellucid.handshake.authenticate import signed_content
from pellucid.registry import SignatureScheme as S
from pellucid.signers import credential_at
from pellucid.testing.ca import CA
from pellucid.trace import Role
from tests.support.tokens import PIN, Token, module

AUTHORITY = CA("token")
LEAVES = {kind: AUTHORITY.issue("localhost", key=kind) for kind in ("p256", "p384", "rsa2048", "ed25519")}  # type: ignore[arg-type]
DATA = signed_content(Role.SERVER, bytes(32))
pytestmark = pytest.mark.program("softhsm2-util")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    module()
    made = Token(tmp_path_factory.mktemp("softhsm"))
    for number, (kind, leaf) in enumerate(LEAVES.items(), 1):
        made.add(kind, number, leaf.key_pem)
    os.environ |= made.environment  # SoftHSM reads it once, when it is loaded into this process
    yield made


def pkcs11() -> Any:  # Any: a module that needs an extra
    from pellucid.signers import pkcs11

    return pkcs11


@pytest.mark.parametrize("kind", list(LEAVES))
def test_token_signs_with_each_scheme_of_its_key(token: Token, kind: str) -> None:
    credential = credential_at(token.uri(kind), LEAVES[kind].chain_pem)
    assert credential.schemes
    for scheme in credential.schemes:
        signature = credential.signer.sign(scheme, DATA)
        assert isinstance(signature, bytes)
        assert next(one for one in VERIFIERS if one.code == scheme).verify(credential.leaf, signature, DATA)
    with pytest.raises(UsageError, match="does not sign with"):
        credential.signer.sign(S.MLDSA65, DATA)


def test_key_is_found_by_id_and_by_label(token: Token) -> None:
    uri = f"pkcs11:token=web;id=%01?module-path={module()}&pin-value={PIN}"
    assert credential_at(uri, LEAVES["p256"].chain_pem).schemes == (S.ECDSA_SECP256R1_SHA256,)
    with pytest.raises(UsageError, match="more than one private key"):
        credential_at(f"pkcs11:token=web?module-path={module()}&pin-value={PIN}", LEAVES["p256"].chain_pem)


@pytest.mark.parametrize(
    ("label", "leaf", "query", "match"),
    [
        ("p256", "p384", None, "does not"),
        ("rsa2048", "p256", None, "does not fit a certificate for EC secp256r1"),
        ("nothing", "p256", None, "no private key"),
        ("p256", "p256", "module-path=/nowhere.so", "cannot be loaded"),
        ("p256", "p256", "module-path={module}&pin-source=file:/nowhere", "the PIN in /nowhere cannot be read"),
        ("p256", "p256", "module-path={module}&pin-source=%7Cecho%201234", "not had from a command"),
        ("p256", "p256", "", "which PKCS#11 module"),
    ],
)
def test_token_that_does_not_fit_is_refused_at_the_start(
    token: Token, label: str, leaf: str, query: str | None, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PKCS11_MODULE_PATH", raising=False)
    uri = token.uri(label, query=None if query is None else query.format(module=module()))
    with pytest.raises(UsageError, match=match):
        credential_at(uri, LEAVES[leaf].chain_pem)


def test_another_key_of_the_same_kind_is_refused_at_the_start(token: Token) -> None:
    with pytest.raises(UsageError, match="does not belong to the certificate"):
        credential_at(token.uri("p256"), AUTHORITY.issue("localhost").chain_pem)


def test_wrong_pin_is_refused_in_a_process_of_its_own(token: Token, tmp_path: Path) -> None:
    # The login is a process's: here others have logged in already.
    said = refusal_of_a_process(token.uri("p256", query=f"module-path={module()}&pin-value=9999"), tmp_path)
    first, second = said.splitlines()
    assert first.startswith("UsageError")
    assert "PinIncorrect" in first
    # A reload that is tried every few seconds would have a token lock itself.
    assert "not tried again" in second
    assert "9999" not in said


def test_without_a_pin_it_is_said_that_one_is_missing(token: Token, tmp_path: Path) -> None:
    said = refusal_of_a_process(token.uri("p256", query=f"module-path={module()}"), tmp_path)
    assert "no private key in the token" in said
    assert "without a PIN (pin-source) most tokens show none" in said


def refusal_of_a_process(uri: str, folder: Path) -> str:
    """Return what a process of its own prints of the errors that *uri* is refused with, twice."""
    script = (
        "import sys, pathlib; from pellucid.signers import credential_at\n"
        "for _ in range(2):\n"
        "    try: credential_at(sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes())\n"
        "    except Exception as error: print(type(error).__name__, error)"
    )
    chain = folder / "chain.pem"
    chain.write_bytes(LEAVES["p256"].chain_pem)
    done = subprocess.run(
        [sys.executable, "-c", script, uri, str(chain)], check=False, timeout=60, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("file:key", "begins with pkcs11:"),
        ("pkcs11:token", "name=value"),
        ("pkcs11:color=red", "'color'"),
        ("pkcs11:token=%ff", "UTF-8"),
    ],
)
def test_uri_that_is_none_is_refused(token: Token, uri: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        pkcs11().Pkcs11Uri.parse(uri, module="/x.so")


def test_uri_is_read_as_rfc_7512_has_it(token: Token) -> None:
    uri = pkcs11().Pkcs11Uri.parse(
        "pkcs11:token=The%20token;object=a%3Bb;id=%01%ff;type=private?module-path=/x.so&pin-value=%20secret"
    )
    assert (uri.token, uri.label, uri.key_id, uri.module, uri.pin) == (
        "The token",
        "a;b",
        b"\x01\xff",
        "/x.so",
        " secret",
    )
    assert "secret" not in repr(uri)


def test_token_serves_many_threads(token: Token) -> None:
    credential = credential_at(token.uri("p256"), LEAVES["p256"].chain_pem)
    verifier = next(one for one in VERIFIERS if one.code == S.ECDSA_SECP256R1_SHA256)
    wrong: list[int] = []

    def work(number: int) -> None:
        data = signed_content(Role.SERVER, bytes([number]) * 32)
        for _ in range(10):
            signature = credential.signer.sign(S.ECDSA_SECP256R1_SHA256, data)
            if not isinstance(signature, bytes) or not verifier.verify(credential.leaf, signature, data):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_session_that_was_ended_is_opened_anew(token: Token) -> None:
    credential = credential_at(token.uri("p256"), LEAVES["p256"].chain_pem)
    signer: Any = credential.signer
    assert signer.sign(S.ECDSA_SECP256R1_SHA256, DATA)
    signer._opened[0].close()
    assert signer.sign(S.ECDSA_SECP256R1_SHA256, DATA)


def test_signer_that_is_collected_waits_for_no_other_signature(token: Token) -> None:
    """An event loop's thread may be the one that collects it, while another has the token sign."""
    kept = credential_at(token.uri("p384"), LEAVES["p384"].chain_pem)
    signers: list[Any] = [credential_at(token.uri("p256"), LEAVES["p256"].chain_pem).signer]
    session = signers[0]._opened[0]
    collecting = threading.Thread(target=signers.clear, daemon=True)
    with kept.signer._lock:  # type: ignore[attr-defined]  # the token is signing
        collecting.start()
        collecting.join(10)
        assert not collecting.is_alive()
    assert list(pkcs11()._ABANDONED[module(), os.getpid()]) == [session]
    assert kept.signer.sign(S.ECDSA_SECP384R1_SHA384, DATA)
    assert not pkcs11()._ABANDONED[module(), os.getpid()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_token_is_of_use_after_a_fork(token: Token, tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from pellucid.signers import credential_at\n"
        "from pellucid.handshake.authenticate import signed_content; from pellucid.trace import Role\n"
        "c = credential_at(sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes())\n"
        "child = os.fork()\n"
        "ok = bool(c.signer.sign(c.schemes[0], signed_content(Role.SERVER, bytes(32))))\n"
        "if child == 0: os._exit(0 if ok else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or not ok)"
    )
    chain = tmp_path / "chain.pem"
    chain.write_bytes(LEAVES["p256"].chain_pem)
    done = subprocess.run(
        [sys.executable, "-c", script, token.uri("p256"), str(chain)], check=False, timeout=60, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_signer_shows_no_pin_and_is_not_pickled(token: Token) -> None:
    uri = token.uri("p256", query=f"module-path={module()}&pin-value={PIN}")
    signer = credential_at(uri, LEAVES["p256"].chain_pem).signer
    assert PIN not in repr(signer)
    with pytest.raises(TypeError):
        pickle.dumps(signer)


def test_handshake_with_a_key_in_the_token(token: Token) -> None:
    credential = credential_at(token.uri("rsa2048"), LEAVES["rsa2048"].chain_pem)
    server = pellucid.Connection.server(pellucid.ServerConfig(credentials=(credential,)))
    client = pellucid.Connection.client(pellucid.ClientConfig(trust=AUTHORITY.trust), "localhost")
    source, sink = client, server
    while data := source.data_to_send():
        sink.receive_data(data)
        while sink.next_event() is not pellucid.NEED_DATA:
            pass
        source, sink = sink, source
    assert client.handshake_complete and server.handshake_complete
