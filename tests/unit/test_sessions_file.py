"""Sessions in a file: that they survive, that nobody else reads them, and what a file may not do to a connection."""

from __future__ import annotations

import copy
import os
import pickle
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pellucid.errors import UsageError
from pellucid.limits import MAX_SESSION_FILE
from pellucid.net import private_file
from pellucid.net.session_file import FileSessionStore
from pellucid.sessions import ClientSession, ClientSessionStore
from tests.support.sessions import NOW, client_session, session_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


def numbered(i: int, **changes: object) -> ClientSession:
    return client_session(ticket=b"%d" % i, **changes)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ---- what a store does ----


def test_session_is_there_for_another_store_of_the_same_file(path: Path) -> None:
    store: ClientSessionStore = FileSessionStore(path)
    for i in range(3):
        store.put(session_key(), numbered(i))
    store.put(session_key("other"), numbered(9))
    again = FileSessionStore(str(path))
    assert [again.take(session_key(), NOW) for _ in range(4)] == [numbered(2), numbered(1), numbered(0), None]
    assert FileSessionStore(path).take(session_key("other"), NOW) == numbered(9)
    assert again.problem is None


def test_session_taken_is_gone_from_the_file(path: Path) -> None:
    store = FileSessionStore(path)
    store.put(session_key(), client_session())
    assert client_session().psk in path.read_bytes()
    assert store.take(session_key(), NOW) == client_session()
    assert client_session().psk not in path.read_bytes()


def test_discarded_and_expired_sessions_are_gone_from_the_file(path: Path) -> None:
    store = FileSessionStore(path)
    store.put(session_key(), client_session())
    store.discard(session_key())
    assert client_session().psk not in path.read_bytes()
    store.put(session_key(), client_session(lifetime_seconds=10))
    assert store.take(session_key(), NOW + 10) is None
    assert client_session().psk not in path.read_bytes()


def test_file_keeps_the_newest_sessions_of_the_servers_used_last(path: Path) -> None:
    store = FileSessionStore(path, per_server=2, servers=2)
    for host in ("a", "b", "c"):
        for i in range(3):
            store.put(session_key(host), numbered(i))
    assert store.take(session_key("a"), NOW) is None
    assert [store.take(session_key("b"), NOW) for _ in range(3)] == [numbered(2), numbered(1), None]
    assert store.take(session_key("c"), NOW) == numbered(2)
    with pytest.raises(UsageError):
        FileSessionStore(path, per_server=0)


def test_file_is_bounded_and_forgets_the_server_used_longest_ago(path: Path) -> None:
    store = FileSessionStore(path)
    big = (bytes(60_000),)
    hosts = [f"host{i}" for i in range(MAX_SESSION_FILE // 120_000 + 4)]
    for host in hosts:
        store.put(session_key(host), numbered(0, path=big, intermediates=big))
    assert MAX_SESSION_FILE - 130_000 < path.stat().st_size <= MAX_SESSION_FILE
    assert store.take(session_key(hosts[0]), NOW) is None
    assert store.take(session_key(hosts[-1]), NOW) is not None
    assert store.problem is None


def test_file_store_shows_its_path_and_is_not_copied(path: Path) -> None:
    store = FileSessionStore(path)
    store.put(session_key(), client_session())
    assert repr(store) == f"FileSessionStore({str(path)!r})"
    assert copy.deepcopy(store) is store
    with pytest.raises(TypeError):
        pickle.dumps(store)


# ---- who may read it ----


def test_file_is_for_its_owner_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        store = FileSessionStore(path)
        assert mode(path) == 0o600
        store.put(session_key(), client_session())
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert os.listdir(path.parent) == ["sessions"]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o666, 0o777])
def test_file_open_to_others_is_refused(path: Path, bits: int) -> None:
    path.touch()
    path.chmod(bits)
    with pytest.raises(UsageError, match=f"{bits:04o}"):
        FileSessionStore(path)
    assert path.read_bytes() == b""


def test_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FileSessionStore(path)
    monkeypatch.setattr(private_file.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UsageError, match="another user"):
        FileSessionStore(path)


def test_symbolic_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch(mode=0o600)
    path.symlink_to(target)
    with pytest.raises(UsageError, match="symbolic link"):
        FileSessionStore(path)
    assert target.read_bytes() == b""


def test_file_that_never_was_ours_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="not a file of sessions"):
        FileSessionStore(path)
    assert path.read_bytes() == b"-----BEGIN PRIVATE KEY-----"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path in (tmp_path, fifo, tmp_path / "missing" / "sessions"):
        with pytest.raises(UsageError, match=str(path)):
            FileSessionStore(path)


# ---- what may happen to it ----


def test_file_that_others_may_read_from_now_on_gives_and_takes_nothing(path: Path) -> None:
    store = FileSessionStore(path)
    store.put(session_key(), client_session())
    before = path.read_bytes()
    path.chmod(0o644)
    assert store.take(session_key(), NOW) is None
    assert store.problem is not None and "0644" in store.problem
    assert store.problem.count(str(path)) == 1
    store.put(session_key(), numbered(2))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-1], ""),
        (lambda data: data + b"\0", "follow"),
        (lambda data: data[:18], "version"),
        (lambda data: data[:18] + b"\x02" + data[19:], "version"),
        (lambda data: data.replace(b"\x0bexample.org", b"\x0b\xff\xfeample.org"), "damaged"),
        (lambda data: data.replace(b"\x0bexample.org", b"\x0b\x00xample.org"), "damaged"),
        (lambda data: data + bytes(MAX_SESSION_FILE), str(MAX_SESSION_FILE)),
    ],
)
def test_damaged_file_counts_as_empty_until_the_next_session(path: Path, damage, words: str) -> None:
    FileSessionStore(path).put(session_key(), client_session())
    path.write_bytes(damage(path.read_bytes()))
    store = FileSessionStore(path)
    assert store.problem is not None and words in store.problem and "\n" not in store.problem
    assert store.take(session_key(), NOW) is None
    store.put(session_key(), numbered(7))
    assert FileSessionStore(path).problem is None
    assert FileSessionStore(path).take(session_key(), NOW) == numbered(7)


def test_every_damaged_byte_leaves_a_store_that_works(path: Path) -> None:
    FileSessionStore(path).put(session_key(), client_session())
    good = path.read_bytes()
    for i in range(18, len(good)):
        path.write_bytes(good[:i] + bytes((good[i] ^ 0x41,)) + good[i + 1 :])
        store = FileSessionStore(path)
        store.take(session_key(), NOW)
        store.put(session_key("new"), numbered(7))
        assert store.take(session_key("new"), NOW) == numbered(7)


def test_session_is_not_used_where_the_file_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileSessionStore(path)
    store.put(session_key(), client_session())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(private_file.os, "replace", full)
    assert store.take(session_key(), NOW) is None
    assert store.problem is not None and "No space" in store.problem
    assert os.listdir(path.parent) == ["sessions"]  # the unfinished one is gone
    monkeypatch.undo()
    assert store.take(session_key(), NOW) == client_session()


def test_file_that_was_removed_is_made_again(path: Path) -> None:
    store = FileSessionStore(path)
    path.unlink()
    assert store.take(session_key(), NOW) is None
    store.put(session_key(), client_session())
    assert mode(path) == 0o600
    assert store.take(session_key(), NOW) == client_session()


def test_file_that_another_process_keeps_locked_costs_the_session_and_no_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(private_file, "_LOCK_SECONDS", 0.05)
    store = FileSessionStore(path)
    store.put(session_key(), client_session())
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert store.take(session_key(), NOW) is None
        assert store.problem is not None and "locked" in store.problem
    assert store.take(session_key(), NOW) == client_session()


def test_system_without_locks_has_a_store_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_file, "_LOCKS", False)
    store = FileSessionStore(path)
    store.put(session_key(), client_session())
    assert store.take(session_key(), NOW) == client_session()
    assert store.take(session_key(), NOW) is None


# ---- several at once ----


def test_threads_with_stores_of_their_own_use_each_ticket_once(path: Path) -> None:
    store = FileSessionStore(path)
    for i in range(8):
        store.put(session_key(), numbered(i))
    taken: list[ClientSession | None] = []

    def take() -> None:
        own = FileSessionStore(path)
        taken.extend(own.take(session_key(), NOW) for _ in range(3))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(session.ticket for session in taken if session) == [b"%d" % i for i in range(8)]
    assert len(taken) == 18


TAKE = """
import sys
from pellucid.net.session_file import FileSessionStore
from pellucid.sessions import SessionKey
store = FileSessionStore(sys.argv[1])
sys.stdin.readline()
for _ in range(20):
    session = store.take(SessionKey(host="example.org", port=443, scope=b"s" * 32), float(sys.argv[2]))
    if session is not None:
        print(session.ticket.decode())
assert store.problem is None, store.problem
"""


def test_processes_use_each_ticket_once(path: Path) -> None:
    store = FileSessionStore(path)
    for i in range(8):
        store.put(session_key(), numbered(i))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE, str(path), str(NOW)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    tickets: list[str] = []
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        tickets += output.split()
    assert sorted(tickets, key=int) == [str(i) for i in range(8)]
