"""docs/guides/verification.md: every row of its table believes whom it says, and nobody else; its code runs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import pellucid
from pellucid import ClientConfig, Credential, ServerConfig
from pellucid.net.setup import with_system_trust
from pellucid.testing.ca import CA, Issued, self_signed
from pellucid.verify import Strictness, spki_pin
from tests.docs.test_resumption_guide import answer, served
from tests.support.pair import NAME, Pair, events_of

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "verification.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
IMPORTS, CLIENTS, PINS, KNOWN, AIA, OWN = BLOCKS
ROWS = [
    (row[1], row[2].replace("\\|", "|"))
    for row in re.finditer(r"^\| ([^|`]+) \| `(ClientConfig\(.*\))` \|$", GUIDE, re.MULTILINE)
]

SYSTEM = CA("a system's root")
PRIVATE = CA("private root")
MIDDLE = SYSTEM.intermediate("forgotten intermediate")
PUBLIC_LEAF = SYSTEM.issue(NAME)
PRIVATE_LEAF = PRIVATE.issue(NAME)
CORP_LEAF = PRIVATE.issue("www.corp.example")
DEVICE = self_signed(NAME)
UNNAMED = self_signed("whatever.test")
STRANGER = CA().issue(NAME)
SHORT = SYSTEM.issue(NAME, key="rsa2048")
OTHERS_NAME = SYSTEM.issue("other.test")
BARE = dataclasses.replace(MIDDLE.issue(NAME), intermediates=())

Case = tuple[list[Issued], list[Issued], str]
"""whom the row believes, whom it does not, whom the client means"""


def case(good: list[Issued], bad: list[Issued], host: str = NAME) -> Case:
    return good, bad, host


BELIEVED: dict[str, Case] = {
    "one of the system's CAs vouches for it": case([PUBLIC_LEAF], [PRIVATE_LEAF, STRANGER, OTHERS_NAME]),
    "a private CA does, and no other": case([PRIVATE_LEAF], [PUBLIC_LEAF, STRANGER]),
    "the system's or the private one": case([PUBLIC_LEAF, PRIVATE_LEAF], [STRANGER, DEVICE]),
    "the private one, for its own names alone": case([CORP_LEAF], [PRIVATE_LEAF], "www.corp.example"),
    "a CA does, and a key on the path is pinned": case([PUBLIC_LEAF], [DEVICE, SHORT]),
    "it shows one certificate, self-signed or not": case([DEVICE], [PUBLIC_LEAF, STRANGER, self_signed(NAME)]),
    "it does, whatever name is in it": case([UNNAMED], [DEVICE, PUBLIC_LEAF]),
    "a CA does, or it is that certificate": case([PUBLIC_LEAF, DEVICE], [STRANGER, self_signed(NAME)]),
    "it has a key that is known, whoever certified it": case([PUBLIC_LEAF], [STRANGER, SHORT]),
    "it has the key that it had the first time, as with ssh": case([STRANGER], [DEVICE, PUBLIC_LEAF]),
    "a CA does, and the key never changes": case([PUBLIC_LEAF], [SHORT, STRANGER]),
    "a CA does, it is not revoked, and it is pinned": case([PUBLIC_LEAF], [SHORT, STRANGER]),
    "a CA does, over an intermediate that it forgets to send": case([BARE], [STRANGER]),
    "a CA does, and more strictly than usual": case([PUBLIC_LEAF], [SHORT, STRANGER]),
    "a CA does, whatever name is in the certificate": case([PUBLIC_LEAF, OTHERS_NAME], [STRANGER]),
    "it answers: anybody can pose as it": case([STRANGER, DEVICE, OTHERS_NAME], []),
}


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    Path("ca.pem").write_bytes(PRIVATE.root_pem)
    Path("system.pem").write_bytes(SYSTEM.root_pem)
    Path("device.pem").write_bytes(DEVICE.certificate_pem)
    Path("intermediate.pem").write_bytes(MIDDLE.certificate.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    known: dict[str, Any] = {
        "trust": SYSTEM.trust,
        "pin": spki_pin(PUBLIC_LEAF.der),
        "pin_in_reserve": spki_pin(CA("reserve").root_der),
        "fingerprint": hashlib.sha256(DEVICE.der).hexdigest(),
        "crl": SYSTEM.crl(),
    }
    exec(compile(IMPORTS, "guide", "exec"), known)
    return known


def server(leaf: Issued) -> ServerConfig:
    return ServerConfig(credentials=(Credential.from_pem(leaf.chain_pem, leaf.key_pem),), tickets=0)


def meets(config: ClientConfig, leaf: Issued, host: str) -> BaseException | None:
    client = with_system_trust(config)
    pair = Pair(pellucid.Connection.client(client, host), pellucid.Connection.server(server(leaf)))
    pair.pump()
    return events_of(pair.client)[1]


def test_the_table_has_a_row_for_each_case_and_a_case_for_each_row() -> None:
    assert [want for want, _ in ROWS] == list(BELIEVED)


@pytest.mark.parametrize(("want", "code"), ROWS, ids=[want for want, _ in ROWS])
def test_a_row_believes_whom_it_says_and_nobody_else(want: str, code: str, names: dict[str, Any]) -> None:
    good, bad, host = BELIEVED[want]
    if "fingerprint, hosts" in code:
        names["fingerprint"] = hashlib.sha256(UNNAMED.der).hexdigest()
    config = dataclasses.replace(eval(code, names), sessions=None)
    for leaf in good:
        assert meets(config, leaf, host) is None
    for leaf in bad:
        assert isinstance(meets(config, leaf, host), pellucid.CertificateRejected)


def test_a_server_knows_its_clients_by_their_keys(names: dict[str, Any]) -> None:
    alice, bob, eve = (self_signed(name, purposes=("client",)) for name in ("alice", "bob", "eve"))
    names |= {
        "credential": Credential.from_pem(PUBLIC_LEAF.chain_pem, PUBLIC_LEAF.key_pem),
        "pin_of_alice": spki_pin(alice.der),
        "pin_of_bob": spki_pin(bob.der),
    }
    exec(compile(CLIENTS, "guide", "exec"), names)
    for client, known in ((alice, True), (bob, True), (eve, False)):
        config = ClientConfig(trust=SYSTEM.trust, credentials=(Credential.from_pem(client.chain_pem, client.key_pem),))
        pair = Pair(pellucid.Connection.client(config, NAME), pellucid.Connection.server(names["server"]))
        pair.pump()
        assert (events_of(pair.server)[1] is None) is known


def test_pins_are_read_from_files_and_connections(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    leaf = SYSTEM.issue("localhost")
    with served(answer, server(leaf)) as port:
        names |= {"host": "localhost", "port": port, "config": ClientConfig(trust=SYSTEM.trust)}
        exec(compile(PINS, "guide", "exec"), names)
    first, second = capsys.readouterr().out.splitlines()
    assert first == spki_pin(DEVICE.der)
    assert second == str((spki_pin(leaf.der), spki_pin(SYSTEM.root_der)))


def test_known_servers_are_listed_and_forgotten(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    store = names["FileKnownPeers"]("known-servers")
    config = ClientConfig(verifier=names["TrustOnFirstUse"](store))
    with served(answer, server(SYSTEM.issue("localhost"))) as port:
        pellucid.connect("localhost", port, config).close()
        names |= {"host": "localhost", "port": port}
        exec(compile(KNOWN, "guide", "exec"), names)
    assert capsys.readouterr().out == f"localhost {port}\n"
    assert store.peers() == ()


def test_fetching_verifiers_are_made_as_it_says(names: dict[str, Any]) -> None:
    exec(compile(AIA, "guide", "exec"), names)
    for config in (names["config"], names["waiting"]):
        assert config.session_store is not None


@pytest.mark.parametrize("blocked", [True, False])
def test_a_requirement_of_ones_own_is_awaited(names: dict[str, Any], blocked: bool) -> None:
    async def ask(certificate: bytes) -> bool:
        await asyncio.sleep(0)
        return blocked

    names["ask_our_service"] = ask
    exec(compile(OWN, "guide", "exec"), names)
    config: ClientConfig = names["config"]
    assert config.session_store is not None
    with served(answer, server(SYSTEM.issue("localhost"))) as port:

        async def speak() -> bytes:
            async with await pellucid.aio.connect("localhost", port, config) as stream:
                await stream.send(b"hello")
                return await stream.receive()

        refused = pytest.raises(pellucid.CertificateRejected, match="block list")
        with refused if blocked else contextlib.nullcontext():
            assert asyncio.run(speak()) == b"answer"
        with pytest.raises(pellucid.UsageError):  # what blocks says that it cannot await
            pellucid.connect("localhost", port, dataclasses.replace(config, sessions=None))


def test_every_strictness_is_in_its_table() -> None:
    documented = re.findall(r"^\| `([a-z0-9_]+)` \| [^|]+ \|$", GUIDE, re.MULTILINE)
    assert documented == [one.name for one in dataclasses.fields(Strictness)]


def test_every_check_that_there_is_stands_in_the_guide() -> None:
    """The names that the sources give their checks, as far as they are written there as they are."""
    source = Path(pellucid.__file__).parent
    texts = [
        path.read_text(encoding="utf-8") for path in (*(source / "verify").glob("*.py"), source / "net" / "aia.py")
    ]
    patterns = (
        r'about\.(?:ok|bad|skip)\(\s*"([A-Za-z0-9 ]+)"',
        r'\bname="([a-zA-Z0-9 ]+)",\s*outcome',
        r'_(?:check|bad)\((?:CheckGroup\.\w+|leaf|about), "([A-Za-z0-9 ]+)"',
        r'_refusal\("([a-z ]+)"',
        r'judge_directly\([^"]*"([a-z ]+)"',
    )
    found = {name for text in texts for pattern in patterns for name in re.findall(pattern, text)}
    section = GUIDE.partition("## What the report says")[2]
    documented = set(re.findall(r"`([A-Za-z0-9 ]+)`", section))
    assert len(found) > 25
    assert found <= documented, found - documented
