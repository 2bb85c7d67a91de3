"""The key agent and its signer: what is signed and what never is, who may ask, and what happens when it goes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pellucid
from pellucid.crypto.signatures import VERIFIERS
from pellucid.errors import InternalError, UsageError
from pellucid.handshake.authenticate import signed_content, signing_role
from pellucid.registry import SignatureScheme as S
from pellucid.signers import (
    AgentProcess,
    AgentSigner,
    InThread,
    KeyAgent,
    agent_credential,
    credential_at,
    is_location,
    signers_of,
    signers_of_keys,
)
from pellucid.signers.agent import MAX_CONNECTIONS
from pellucid.signers.messages import HEADER, MAX_BODY, Kind, SignRequest, frame, header
from pellucid.signers.process import bind_socket
from pellucid.testing.ca import CA, Issued
from pellucid.trace import Role

AUTHORITY = CA("key agent")
LEAF = AUTHORITY.issue("localhost")
SERVER = signed_content(Role.SERVER, bytes(32))
CLIENT = signed_content(Role.CLIENT, bytes(48))
ECDSA = S.ECDSA_SECP256R1_SHA256
SECONDS = 20


class Running:
    """A KeyAgent in a thread of this process."""

    def __init__(self, agent: KeyAgent, path: Path) -> None:
        self.agent = agent
        self.path = str(path)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)

    async def _run(self) -> None:
        with bind_socket(self.path) as listening:
            serving = asyncio.create_task(self.agent.serve(listening))
            self._ready.set()
            await self._stop.wait()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(SECONDS)
        self._loop.close()


def agent_of(leaf: Issued = LEAF, **options: object) -> KeyAgent:
    return KeyAgent(signers_of_keys([leaf.key_pem]), **options)  # type: ignore[arg-type]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(agent_of(), tmp_path / "s") as one:
        yield one


def verifies(leaf: bytes, scheme: int, signature: bytes, data: bytes) -> bool:
    parsed = pellucid.PYCA.parse_certificate(leaf)
    return next(one for one in VERIFIERS if one.code == scheme).verify(parsed, signature, data)


# ---- what is signed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "ed25519"])
def test_agent_signs_with_each_scheme_of_its_key(tmp_path: Path, kind: str) -> None:
    leaf = AUTHORITY.issue("localhost", key=kind)  # type: ignore[arg-type]
    with Running(agent_of(leaf), tmp_path / "s") as one:
        credential = agent_credential(one.path, leaf.chain_pem)
        assert credential.schemes
        for scheme in credential.schemes:
            for data in (SERVER, CLIENT):
                signature = credential.signer.sign(scheme, data)
                assert isinstance(signature, bytes)
                assert verifies(credential.chain[0], scheme, signature, data)


@pytest.mark.rfc("9846 §4.5.2", "the content of a CertificateVerify is 64 octets of 32, a context string, 0, the hash")
@pytest.mark.parametrize(
    "data",
    [
        b"anything",
        SERVER[1:],
        SERVER[:-1],
        SERVER + b"\0",
        b"\x20" * 64 + b"TLS 1.3, server Finished\0" + bytes(32),
        signed_content(Role.SERVER, bytes(64)),
        bytes(len(SERVER)),
    ],
)
def test_agent_refuses_what_is_no_certificate_verify(running: Running, data: bytes) -> None:
    signer = AgentSigner(running.path, agent_credential(running.path, LEAF.chain_pem).chain[0])
    with pytest.raises(InternalError, match="not what a CertificateVerify"):
        signer.sign(ECDSA, data)
    assert (running.agent.signed, running.agent.refused) == (0, 1)
    assert signing_role(data) is None
    signer.close()


def test_agent_for_servers_signs_no_client(tmp_path: Path) -> None:
    with Running(agent_of(roles=[Role.SERVER]), tmp_path / "s") as one:
        signer = agent_credential(one.path, LEAF.chain_pem).signer
        assert signer.sign(ECDSA, SERVER)
        with pytest.raises(InternalError, match="no client's CertificateVerify"):
            signer.sign(ECDSA, CLIENT)


def test_agent_refuses_schemes_and_keys_that_it_lacks(running: Running) -> None:
    signer = agent_credential(running.path, LEAF.chain_pem).signer
    with pytest.raises(InternalError, match="does not sign with ed25519"):
        signer.sign(S.ED25519, SERVER)
    other = AUTHORITY.issue("localhost")
    with pytest.raises(UsageError, match="does not have the certificate's key"):
        agent_credential(running.path, other.chain_pem)


@pytest.mark.parametrize("kind", [InternalError, ValueError, KeyError], ids=lambda kind: kind.__name__)
def test_agent_answers_for_any_signer_and_tells_nothing_of_its_failure(tmp_path: Path, kind: type[Exception]) -> None:
    class Broken:
        schemes = (ECDSA,)

        async def sign(self, scheme: int, data: bytes) -> bytes:
            raise kind("the token in slot 4 of rack 7 is warm")

    credential = pellucid.Credential.from_pem(LEAF.chain_pem, LEAF.key_pem)
    digest = next(iter(signers_of([credential])))
    with Running(KeyAgent({digest: Broken()}), tmp_path / "s") as one:  # type: ignore[dict-item]
        signer = agent_credential(one.path, LEAF.chain_pem).signer
        with pytest.raises(InternalError, match=rf"could not be used: {kind.__name__}\n"):
            signer.sign(ECDSA, SERVER)


# ---- who may ask, and hostile callers --------------------------------------------------------------------------------


def test_agent_turns_others_away(tmp_path: Path) -> None:
    with (
        Running(agent_of(users=[os.geteuid() + 1]), tmp_path / "s") as one,
        pytest.raises(UsageError, match="does not answer"),
    ):
        agent_credential(one.path, LEAF.chain_pem)
    assert one.agent.refused >= 1


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frame(Kind.SIGN, b"short"),
        frame(Kind.IDENTITIES),
        frame(Kind.LIST, b"x"),
        bytes([Kind.SIGN]) + (MAX_BODY).to_bytes(3, "big"),
        bytes([Kind.SIGN]) + (2**24 - 1).to_bytes(3, "big"),
        bytes([9, 0, 0, 0]),
    ],
)
def test_agent_closes_on_what_it_cannot_read_and_serves_others(running: Running, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(SECONDS)
        sock.connect(running.path)
        sock.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    assert agent_credential(running.path, LEAF.chain_pem).signer.sign(ECDSA, SERVER)


def test_agent_bounds_its_connections(running: Running) -> None:
    kept = []
    try:
        for _ in range(MAX_CONNECTIONS + 1):
            sock = socket.socket(socket.AF_UNIX)
            kept.append(sock)
            sock.settimeout(SECONDS)
            sock.connect(running.path)
            answered = False
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(frame(Kind.LIST))
                answered = bool(sock.recv(HEADER))
            assert answered == (len(kept) <= MAX_CONNECTIONS)
    finally:
        for sock in kept:
            sock.close()


def test_header_bounds_what_is_read() -> None:
    with pytest.raises(pellucid.PeerError):
        header(bytes([Kind.LIST]) + (MAX_BODY + 1).to_bytes(3, "big"))
    assert len(SignRequest(bytes(32), ECDSA, CLIENT).encode()) < 512


# ---- the signer's side -----------------------------------------------------------------------------------------------


def test_signer_finds_an_agent_that_was_started_anew(tmp_path: Path) -> None:
    with Running(agent_of(), tmp_path / "s") as one:
        signer = agent_credential(one.path, LEAF.chain_pem).signer
        assert signer.sign(ECDSA, SERVER)
    with pytest.raises(InternalError, match="does not answer"):
        signer.sign(ECDSA, SERVER)
    with Running(agent_of(), tmp_path / "s"):
        assert signer.sign(ECDSA, SERVER)


def test_signer_gives_up_on_an_agent_that_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        begin = time.monotonic()
        with pytest.raises(UsageError, match="does not answer: timed out"):
            agent_credential(path, LEAF.chain_pem, timeout=0.2)
        assert time.monotonic() - begin < 5


def test_signer_refuses_answers_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "s"
    answers = [frame(Kind.SIGNED, b"x"), frame(Kind.IDENTITIES, b"\xff\xff"), b"\xff" * 8, frame(Kind.LIST)]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            for one in answers:
                with listening.accept()[0] as sock:
                    sock.recv(HEADER)
                    sock.sendall(one)
                    with contextlib.suppress(ConnectionResetError):
                        sock.recv(1)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        for _ in answers:
            with pytest.raises(UsageError, match="key agent at"):
                agent_credential(path, LEAF.chain_pem, timeout=2)
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_signer_serves_many_threads(running: Running) -> None:
    credential = agent_credential(running.path, LEAF.chain_pem)
    wrong: list[object] = []

    def work(number: int) -> None:
        data = signed_content(Role.SERVER, bytes([number]) * 32)
        for _ in range(20):
            signature = credential.signer.sign(ECDSA, data)
            if not isinstance(signature, bytes) or not verifies(credential.chain[0], ECDSA, signature, data):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert wrong == []
    assert running.agent.signed == 240


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_signer_is_of_use_on_both_sides_of_a_fork(running: Running) -> None:
    credential = agent_credential(running.path, LEAF.chain_pem)
    script = (
        "import os, sys; from pellucid.signers import agent_credential; from pellucid.handshake.authenticate import "
        "signed_content; from pellucid.trace import Role; import pathlib\n"
        "c = agent_credential(sys.argv[1], pathlib.Path(sys.argv[2]).read_bytes())\n"
        "data = signed_content(Role.SERVER, bytes(32))\n"
        "c.signer.sign(c.schemes[0], data)\n"
        "child = os.fork()\n"
        "ok = all(c.signer.sign(c.schemes[0], data) for _ in range(50))\n"
        "if child == 0: os._exit(0 if ok else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) or not ok)"
    )
    chain = Path(running.path).with_name("chain.pem")
    chain.write_bytes(LEAF.chain_pem)
    done = subprocess.run([sys.executable, "-c", script, running.path, str(chain)], check=False, timeout=60)
    assert done.returncode == 0
    assert credential.signer.sign(ECDSA, SERVER)


def test_signer_shows_no_secret_and_is_not_pickled(running: Running) -> None:
    signer = agent_credential(running.path, LEAF.chain_pem).signer
    assert running.path in repr(signer)
    with pytest.raises(TypeError):
        pickle.dumps(signer)


def test_handshakes_end_with_internal_error_when_the_agent_has_gone(tmp_path: Path) -> None:
    with Running(agent_of(), tmp_path / "s") as one:
        credential = agent_credential(one.path, LEAF.chain_pem)
    server = pellucid.Connection.server(pellucid.ServerConfig(credentials=(credential,)))
    client = pellucid.Connection.client(pellucid.ClientConfig(trust=AUTHORITY.trust), "localhost")
    server.receive_data(client.data_to_send())
    with pytest.raises(InternalError, match="does not answer"):
        server.next_event()
    client.receive_data(server.data_to_send())
    with pytest.raises(pellucid.AlertReceived, match="internal_error"):
        while client.next_event() is not pellucid.NEED_DATA:
            pass


def test_in_thread_lets_the_event_loop_go_on() -> None:
    class Slow:
        schemes = (ECDSA,)

        def sign(self, scheme: int, data: bytes) -> bytes:
            assert threading.current_thread() is not threading.main_thread()
            time.sleep(0.2)
            return b"signature"

    async def main() -> int:
        turns = 0
        signing = asyncio.ensure_future(InThread(Slow()).sign(ECDSA, SERVER))  # type: ignore[arg-type]
        while not signing.done():
            turns += 1
            await asyncio.sleep(0.01)
        assert signing.result() == b"signature"
        return turns

    assert asyncio.run(main()) > 5


def test_in_thread_works_under_trio() -> None:
    trio = pytest.importorskip("trio")
    signer = pellucid.Credential.from_pem(LEAF.chain_pem, LEAF.key_pem).signer

    async def main() -> bytes:
        signature: bytes = await InThread(signer).sign(ECDSA, SERVER)
        return signature

    chain = pellucid.Credential.from_pem(LEAF.chain_pem, LEAF.key_pem).chain
    assert verifies(chain[0], ECDSA, trio.run(main), SERVER)


# ---- the process -----------------------------------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    path.write_bytes(LEAF.key_pem)
    path.chmod(0o600)
    return path


def test_agent_process_signs_and_is_gone_with_its_socket(key_file: Path) -> None:
    with AgentProcess([key_file]) as agent:
        credential = agent_credential(agent.path, LEAF.chain_pem)
        assert verifies(credential.chain[0], ECDSA, credential.signer.sign(ECDSA, SERVER), SERVER)  # type: ignore[arg-type]
        assert stat.S_IMODE(os.stat(agent.path).st_mode) == 0o600
        pid = agent.pid
        assert pid is not None
    assert not os.path.exists(agent.path)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_agent_process_cannot_be_looked_into_and_becomes_somebody_else(key_file: Path) -> None:
    root = os.geteuid() == 0
    with AgentProcess([key_file], user="nobody" if root else None) as agent:
        status = Path(f"/proc/{agent.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["NoNewPrivs"] == "1"
        if root:
            assert "0" not in fields["Uid"].split()
            assert fields["Groups"].split() == []
            assert fields["CapEff"] == "0" * 16
        # Not dumpable: what is in /proc of it belongs to root.
        assert os.stat(f"/proc/{agent.pid}/mem").st_uid == 0
        assert agent_credential(agent.path, LEAF.chain_pem).signer.sign(ECDSA, SERVER)


@pytest.mark.skipif(os.geteuid() != 0 if hasattr(os, "geteuid") else True, reason="only root can become others")
def test_agent_process_answers_those_who_are_allowed_and_no_others(key_file: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; chain = Path(sys.argv[2]).read_bytes()\n"
        "from pellucid.signers import agent_credential\n"
        "os.setgroups([]); os.setuid(int(sys.argv[3]))\n"
        "try: agent_credential(sys.argv[1], chain)\n"
        "except Exception as error: print(error); sys.exit(3)"
    )
    chain = key_file.with_name("chain.pem")
    chain.write_bytes(LEAF.chain_pem)
    chain.chmod(0o644)
    with AgentProcess([key_file], user="nobody", allow=["daemon"]) as agent:
        codes = {}
        for name, uid in {"daemon": 1, "bin": 2}.items():
            command = [sys.executable, "-c", script, agent.path, str(chain), str(uid)]
            codes[name] = subprocess.run(command, check=False, timeout=60, capture_output=True).returncode
        assert codes == {"daemon": 0, "bin": 3}


@pytest.mark.skipif(os.geteuid() != 0 if hasattr(os, "geteuid") else True, reason="only root can become others")
def test_agent_process_is_ended_by_a_starter_that_has_become_another_user(key_file: Path) -> None:
    """It is to be started before the TLS process gives up its rights: then no signal of it may reach the agent."""
    script = (
        "import os, sys; from pellucid.signers import AgentProcess\n"
        "with AgentProcess([sys.argv[1]], user='nobody', allow=['daemon']) as agent:\n"
        "    print(agent.pid, flush=True)\n"
        "    os.setgroups([]); os.setgid(1); os.setuid(1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(key_file)], check=False, timeout=60, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_agent_process_ends_when_its_starter_is_just_gone(key_file: Path) -> None:
    script = (
        "import sys, os; from pellucid.signers import AgentProcess\n"
        "agent = AgentProcess([sys.argv[1]]).__enter__(); print(agent.pid, flush=True); os._exit(1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(key_file)], check=False, timeout=60, capture_output=True, text=True
    )
    pid = int(done.stdout)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and " Z " in Path(f"/proc/{pid}/stat").read_text():
            return  # nobody is there to bury it
        time.sleep(0.05)
    os.kill(pid, 9)
    pytest.fail("the agent went on")


def test_agent_process_says_why_it_does_not_start(tmp_path: Path, key_file: Path) -> None:
    key_file.chmod(0o644)
    with pytest.raises(UsageError, match="others may read or change"), AgentProcess([key_file]):
        pass
    key_file.chmod(0o600)
    with pytest.raises(UsageError, match="No such file"), AgentProcess([tmp_path / "none"]):
        pass
    with pytest.raises(UsageError, match="no user 'nemo'"), AgentProcess([key_file], allow=["nemo"]):
        pass
    key_file.write_bytes(b"-----BEGIN nothing")
    with pytest.raises(UsageError, match="cannot be read"), AgentProcess([key_file]):
        pass


def test_socket_of_a_living_agent_and_other_files_are_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bind_socket(str(path)), pytest.raises(UsageError, match="an agent is running there"), bind_socket(str(path)):
        pass
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with bind_socket(str(path)):
        assert stat.S_ISSOCK(path.stat().st_mode)
    with pytest.raises(InternalError, match="in the block"), bind_socket(str(path)):
        raise InternalError("in the block")
    assert not path.exists()
    path.write_text("something")
    with pytest.raises(UsageError, match="is no socket"), bind_socket(str(path)):
        pass
    assert path.read_text() == "something"


def test_location_names_an_agent_or_a_token(running: Running) -> None:
    assert is_location("agent:/run/x") and is_location("pkcs11:token=x") and not is_location("key.pem")
    assert credential_at(f"agent:{running.path}", LEAF.chain_pem).signer.sign(ECDSA, SERVER)
    with pytest.raises(UsageError, match="agent:SOCKET or pkcs11:"):
        credential_at("key.pem", LEAF.chain_pem)
