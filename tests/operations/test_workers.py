"""`pellucid serve --workers`: real processes on one port, and what a client sees of their coming and going."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

import pellucid
from pellucid import ClientConfig, Connection
from pellucid.cli.main import main
from pellucid.net.load import load_trust
from pellucid.sessions import ClientSession, MemorySessionStore
from pellucid.testing.ca import CA, Issued
from tests.unit.test_cli_serve import Running, Serve, client, home, starting
from tests.unit.test_reload import write

__all__ = ["home"]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
    pytest.mark.timeout(180),
]

APPLICATION = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": message["type"] + ".complete"})
        return
    early = scope["extensions"]["pellucid"]["early_data"]
    print(scope["path"], os.getpid(), early, flush=True)
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    if scope["path"] == "/gone":
        os._exit(9)
    text = f"{os.getpid()} {early}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})
"""
AUTHORITY = CA("Workers' root")


@pytest.fixture
def serve(tmp_path: Path, home: Path) -> Serve:
    """Start `python -m pellucid serve`: its workers are started as it was."""

    def program(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pellucid", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    return starting(program, tmp_path, home)


@pytest.fixture
def module(tmp_path: Path) -> str:
    (tmp_path / "module.py").write_text(APPLICATION)
    return "module:app"


def config(home: Path, **changes: Any) -> ClientConfig:
    return ClientConfig(trust=load_trust(home / "ca" / "ca.pem"), alpn=("http/1.1",), **{"sessions": None, **changes})


def request(path: str = "/") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def get(server: Running, settings: ClientConfig, path: str = "/") -> tuple[int, bool]:
    """Make a connection, and one request on it; return the worker's process and whether a session was resumed."""
    with pellucid.connect("localhost", server.port, settings) as stream:
        stream.settimeout(20)
        stream.sendall(request(path))
        received = b""
        while data := stream.recv():
            received += data
        assert b"200" in received.split(b"\r\n")[0], received
        return int(received.partition(b"\r\n\r\n")[2].split()[0]), stream.negotiated.resumed


def children(server: Running) -> set[int]:
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError):
        for thread in Path(f"/proc/{server.process.pid}/task").iterdir():
            found |= {int(word) for word in (thread / "children").read_text().split()}
    return found


def until(holds: Callable[[], bool], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# ---- sessions --------------------------------------------------------------------------------------------------------


def test_workers_share_a_port_a_certificate_and_each_others_tickets_and_end_with_their_parent(
    serve: Serve, module: str, home: Path
) -> None:
    with serve(module, "--workers", "2") as server:
        settings = config(home, sessions=MemorySessionStore())
        get(server, settings)
        seen: set[int] = set()
        end = time.monotonic() + 30
        while len(seen) < 2:
            assert time.monotonic() < end
            process, resumed = get(server, settings)
            assert resumed
            seen.add(process)
        assert server.process.pid not in seen
        assert server.printed[0] == server.url + "\n"
        shown = set()
        for _ in range(12):
            with pellucid.connect("localhost", server.port, config(home)) as stream:
                assert stream.peer is not None
                shown.add(stream.peer.leaf.der)
        assert len(shown) == 1
        for process in seen:
            told = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[1:-1]
            assert re.fullmatch(rb"(-P )?-m pellucid\.cli\.serve_worker \d+ \d+ \d+", b" ".join(told))
            environment = Path(f"/proc/{process}/environ").read_bytes()
            assert set(environment.split(b"\0")) == set(
                Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
            )

        # One that dies is replaced, and the other serves meanwhile; when the parent dies, all end.
        victim = min(seen)
        os.kill(victim, signal.SIGKILL)
        for _ in range(5):
            assert get(server, config(home))[0] != victim
        server.wait_for("has ended: SIGKILL; a new one starts", server.said)
        until(lambda: len(children(server)) == 2 and victim not in children(server))
        seen |= children(server)
        assert sum("https://" in line for line in server.printed) == 1
        server.process.kill()
        until(lambda: not any(map(alive, seen)))


ROTATING = """
import functools, sys
from pellucid.cli import serve, workers
from pellucid.cli.main import main
workers.Parent = functools.partial(workers.Parent, rotate_seconds=1, keep_seconds=4)
main(sys.argv[1:])
"""


def test_new_ticket_keys_come_to_all_workers_and_old_ones_go(
    module: str, home: Path, tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rotating.py").write_text(ROTATING)
    popen = subprocess.Popen

    def rotating(command: list[str], **options: Any) -> subprocess.Popen[str]:
        return popen([sys.executable, "rotating.py", *command[3:]], **options)

    monkeypatch.setattr(subprocess, "Popen", rotating)
    with serve(module, "--workers", "2") as server:
        monkeypatch.setattr(subprocess, "Popen", popen)

        def key_names() -> dict[int, bytes]:
            names: dict[int, bytes] = {}
            while len(names) < 2:
                store = MemorySessionStore()
                process, _ = get(server, config(home, sessions=store))
                names[process] = sessions_of(store)[0].ticket[:16]
            return names

        kept = MemorySessionStore()
        get(server, config(home, sessions=kept))
        old = sessions_of(kept)[0]
        until(lambda: all(name != old.ticket[:16] for name in key_names().values()))
        until(lambda: len(set(key_names().values())) == 1)
        resumed: dict[int, bool] = {}
        while len(resumed) < 2:
            process, by_ticket = get(server, config(home, sessions=Holding(old)))
            resumed[process] = by_ticket
        assert all(resumed.values())
        until(lambda: not any(get(server, config(home, sessions=Holding(old)))[1] for _ in range(6)))
        assert server.stop() == 0


def sessions_of(store: MemorySessionStore) -> list[ClientSession]:
    return [session for kept in store._sessions.values() for session in kept]


class Holding(MemorySessionStore):
    """A store that has one session, however often it is taken."""

    def __init__(self, session: ClientSession) -> None:
        super().__init__()
        self.session = session

    def take(self, *_: Any, **__: Any) -> ClientSession:
        return self.session


# ---- early data ------------------------------------------------------------------------------------------------------


def replayed(server: Running, flight: bytes, times: int, answered: Callable[[], bool]) -> Counter[int]:
    """Send *flight* on so many connections at once; return how many each worker has begun to answer.

    answered: whether one of them was taken for the request that it is. They are open until then, for some seconds.
    """
    before = {process: sockets_of(process) for process in children(server)}
    socks = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(times)]
    for sock in socks:
        sock.sendall(flight)
    for sock in socks:
        assert sock.recv(100)
    took = Counter({process: len(sockets_of(process) - kept) for process, kept in before.items()})
    end = time.monotonic() + 5
    while not answered() and time.monotonic() < end:
        time.sleep(0.05)
    for sock in socks:
        sock.close()
    return +took


def sockets_of(process: int) -> set[str]:
    found = set()
    for one in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(one))
    return {one for one in found if one.startswith("socket:")}


def early_flight(settings: ClientConfig, path: str) -> bytes:
    early = Connection.client(settings, "localhost")
    early.start()
    early.send_early_data(request(path))
    return early.data_to_send()


@pytest.mark.rfc("9846 §8", "an instance of a server accepts 0-RTT for the same 0-RTT handshake at most once")
def test_e11_early_flight_is_accepted_once_by_all_workers_together(serve: Serve, module: str, home: Path) -> None:
    with serve(module, "--workers", "2", "--early-data") as server:
        store = MemorySessionStore()
        get(server, config(home, sessions=store))
        (second, *_) = sessions_of(store)

        def times(path: str) -> int:
            return sum(line.startswith(f"{path} ") for line in server.printed)

        # On a busy machine the register's answer may come too late: then a flight is not taken at all.
        for path in ("/early1", "/early2", "/early3"):
            store = MemorySessionStore()
            get(server, config(home, sessions=store))
            flight = early_flight(config(home, sessions=Holding(sessions_of(store)[0]), early_data=True), path)
            end = time.monotonic() + 40
            took: Counter[int] = Counter()
            while len(took) < 2:
                assert time.monotonic() < end, "one of the workers has seen no replay"
                took += replayed(server, flight, 10, lambda path=path: times(path) > 0)  # type: ignore[misc]
            if times(path):
                break
        assert times(path) == 1

        # Where the parent does not answer there is no early data, and the request is answered all the same.
        server.process.send_signal(signal.SIGSTOP)
        try:
            settings = config(home, sessions=Holding(second))
            with pellucid.connect("localhost", server.port, settings, early_data=request("/late")) as stream:
                assert stream.early_data is not pellucid.EarlyDataOutcome.ACCEPTED
                stream.sendall(request("/late"))
                assert b"False" in b"".join(iter(stream.recv, b""))
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert server.stop() == 0
        assert times(path) == 1


# ---- coming and going ------------------------------------------------------------------------------------------------


def test_restart_under_load_fails_no_request_on_new_connections_and_on_kept_ones(
    serve: Serve, module: str, home: Path, tmp_path: Path
) -> None:
    with serve(module, "--workers", "2") as server:
        before = children(server)
        assert len(before) == 2
        settings = config(home, sessions=MemorySessionStore())
        over = threading.Event()
        served: Counter[int] = Counter()
        wrong: list[Exception] = []

        def load() -> None:
            while not over.is_set():
                try:
                    served[get(server, settings)[0]] += 1
                except Exception as error:
                    wrong.append(error)
                time.sleep(0.02)  # a stream of connections, and room for the workers to start in

        def load_on_a_kept_connection(http2: bool) -> None:
            root = home / "ca" / "ca.pem"
            with httpx2.Client(verify=client(root), http2=http2, trust_env=False, timeout=20) as kept:
                while not over.is_set():
                    try:
                        served[int(kept.get(server.url).text.split()[0])] += 1
                    except Exception as error:
                        wrong.append(error)
                    time.sleep(0.01)

        threads = [threading.Thread(target=load) for _ in range(3)]
        threads += [threading.Thread(target=load_on_a_kept_connection, args=(http2,)) for http2 in (False, True)]
        for thread in threads:
            thread.start()
        try:
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("restarted: 2 workers", server.said)
            until(lambda: bool(served.keys() - before) and not any(map(alive, before)))
            for line in (server.said, server.printed):
                line.clear()
            server.process.send_signal(signal.SIGHUP)
            server.wait_for("restarted: 2 workers", server.said)
        finally:
            over.set()
            for thread in threads:
                thread.join(30)
        assert not wrong
        assert len(served) >= 3

        # What cannot be started leaves what is there.
        until(lambda: len(children(server)) == 2)
        before = children(server)
        (tmp_path / "module.py").write_text("import no_such_module\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("not restarted, what was there before goes on: cannot import 'module'", server.said)
        assert children(server) == before
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(get(server, config(home), "/slow")[0]))
        thread.start()
        server.wait_for("/slow", server.printed)
        assert server.stop(signal.SIGINT) == 0
        thread.join(20)
        assert found and set(found) <= before
        assert not any(map(alive, before))


def test_stopping_refuses_new_connections_at_once_and_answers_the_requests_that_run(
    serve: Serve, module: str, home: Path
) -> None:
    """What nobody accepts any more must not wait in a queue for the last request to end, and be reset then."""
    with serve(module, "--workers", "2") as server:
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(get(server, config(home), "/slow")[0]))
        thread.start()
        server.wait_for("/slow", server.printed)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), 5).close()
        assert not found, "the request has not ended"
        thread.join(20)
        assert len(found) == 1
        assert server.process.wait(20) == 0


def test_every_worker_follows_its_files(serve: Serve, module: str, tmp_path: Path) -> None:
    def put(leaf: Issued) -> None:
        write(tmp_path / "site.crt", leaf.chain_pem)
        write(tmp_path / "site.key", leaf.key_pem)

    before, after = AUTHORITY.issue("localhost"), AUTHORITY.issue("localhost")
    put(before)
    with serve(module, "--workers", "2", "--cert", "site.crt", "--key", "site.key") as server:
        put(after)
        for number in (1, 2):
            server.wait_for(f"worker {number}: reloaded: localhost", server.said)
        settings = ClientConfig(trust=AUTHORITY.trust, sessions=None)
        for _ in range(6):
            with pellucid.connect("localhost", server.port, settings) as stream:
                assert stream.peer is not None and stream.peer.leaf.der == after.der
        assert server.stop() == 0


# ---- what cannot be --------------------------------------------------------------------------------------------------


def started(tmp_path: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pellucid", "serve", "--port", "0", *arguments],
        cwd=tmp_path,
        env=os.environ | {"PELLUCID_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        ("import os\nos._exit(3)\n", 1, "no worker could be started: 5 have ended before they served, the last one by"),
        ("import no_such_module\n", 2, "cannot import 'module': No module named 'no_such_module'"),
    ],
)
def test_workers_that_cannot_start_are_given_up_with_their_reason(
    source: str, code: int, told: str, tmp_path: Path, home: Path
) -> None:
    (tmp_path / "module.py").write_text(source)
    found = started(tmp_path, home, "module:app", "--workers", "2")
    assert (found.returncode, found.stdout) == (code, "")
    assert told in found.stderr
    assert "Traceback" not in found.stderr or "no_such_module" in found.stderr


@pytest.mark.parametrize("workers", ["0", "257", "many", "-1"])
def test_number_of_workers_that_cannot_be_is_refused(
    workers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["serve", str(tmp_path), f"--workers={workers}"])
    assert left.value.code == 2
    assert "--workers is a number from 1 to 256, or auto" in capsys.readouterr().err


def test_capture_file_is_of_one_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["serve", str(tmp_path), "--workers=2", "--pcapng", str(tmp_path / "x.pcapng")])
    assert left.value.code == 2
    assert "--pcapng and --workers exclude each other" in capsys.readouterr().err


def test_windows_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pellucid.cli.workers.sys.platform", "win32")
    with pytest.raises(SystemExit) as left:
        main(["serve", str(tmp_path), "--workers=2"])
    monkeypatch.undo()
    assert left.value.code == 2
    assert "--workers: on Windows a listening socket is not handed to other processes" in capsys.readouterr().err
