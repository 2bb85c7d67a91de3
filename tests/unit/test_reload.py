"""ReloadingConfig: what a server must not start with, and how it goes on when its files change."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from pellucid import ClientAuthentication, ClientConfig, CredentialError, ReloadingConfig, ServerConfig, UsageError
from pellucid.config import Credential
from pellucid.crypto.pyca import PYCA
from pellucid.net import reload as reloading
from pellucid.net.credential_files import pairs_in
from pellucid.net.reload import ExpiryWarning
from pellucid.sessions.client import MemorySessionStore
from pellucid.sessions.tickets import MemoryServerSessions, TicketKeys
from pellucid.testing.ca import CA, Issued
from tests.support.pair import Pair, events_of
from tests.support.resuming import settle

ROOT = CA("Reloading root")
SIGNER = ROOT.intermediate("Reloading intermediate")
OTHER = CA("Another root")
HOST = "reload.test"
DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def issued(*names: str, **changes: Any) -> Issued:
    return SIGNER.issue(*(names or (HOST,)), **changes)


def pem(authority: CA) -> bytes:
    return authority.certificate.public_bytes(Encoding.PEM)


def write(path: Path, data: bytes) -> Path:
    """Replace the file as a careful writer does, and make it look as if that was a while ago."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    os.chmod(new, 0o600)
    os.utime(new, (time.time() - 60, time.time() - 60))
    os.replace(new, path)
    return path


def put(directory: Path, leaf: Issued, name: str = "site") -> tuple[Path, Path]:
    return write(directory / f"{name}.crt", leaf.chain_pem), write(directory / f"{name}.key", leaf.key_pem)


def serials(config: ServerConfig) -> list[int]:
    return [one.leaf.x509.serial_number for one in config.credentials]  # type: ignore[union-attr]


def serial(leaf: Issued) -> int:
    return leaf.certificate.serial_number


def source(cert: Any, key: Any = None, **options: Any) -> ReloadingConfig:
    return ReloadingConfig.from_files(cert, key, **({"check_seconds": 0.0} | options))


class Log:
    """What was logged so far."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def __iter__(self) -> Iterator[str]:
        return iter(self._caplog.messages)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with caplog.at_level(logging.INFO, logger="pellucid.reload"):
        yield Log(caplog)


# ---- what a server is not started with -------------------------------------------------------------------------------


def faults() -> dict[str, tuple[str, str, Callable[[Path], dict[str, Path]]]]:
    leaf, stranger = issued(), issued("stranger.test")

    def pair(chain: bytes, key: bytes) -> Callable[[Path], dict[str, Path]]:
        return lambda at: {"cert": write(at / "c.pem", chain), "key": write(at / "k.pem", key)}

    intermediate = leaf.chain_pem.removeprefix(leaf.certificate_pem)
    root = pem(ROOT)
    past = issued(not_before=now() - 20 * DAY, not_after=now() - DAY)
    future = issued(not_before=now() + DAY)
    old = ROOT.intermediate("Old intermediate", not_before=now() - 20 * DAY, not_after=now() - DAY).issue(HOST)
    encipher = SIGNER.issue(HOST, key="rsa2048", usage=("key_encipherment",))
    return {
        "expired": ("expired", "expired on", pair(past.chain_pem, past.key_pem)),
        "not yet valid": ("not-yet-valid", "not valid before", pair(future.chain_pem, future.key_pem)),
        "an expired intermediate": ("expired", "certificate 2 of the chain", pair(old.chain_pem, old.key_pem)),
        "another key": ("unusable", "does not belong", pair(leaf.chain_pem, stranger.key_pem)),
        "leaf last": ("order", "key is that of certificate 2", pair(intermediate + leaf.certificate_pem, leaf.key_pem)),
        "root before intermediate": (
            "order",
            "did not issue the one before it",
            pair(leaf.certificate_pem + root + intermediate, leaf.key_pem),
        ),
        "a foreign intermediate": (
            "intermediate",
            "did not issue the one before it",
            pair(leaf.certificate_pem + pem(OTHER), leaf.key_pem),
        ),
        "a leaf as an issuer": (
            "intermediate",
            "did not issue",
            pair(leaf.certificate_pem + stranger.certificate_pem, leaf.key_pem),
        ),
        "a key that may not sign": (
            "key-usage",
            "does not allow signatures",
            pair(encipher.chain_pem, encipher.key_pem),
        ),
        "no PEM": ("unusable", "is not PEM", pair(b"garbage", leaf.key_pem)),
        "half a certificate": ("unusable", "c.pem", pair(leaf.chain_pem[:300], leaf.key_pem)),
        "no certificate": ("unusable", "no certificate", pair(leaf.key_pem, leaf.key_pem)),
        "no key": ("unusable", "private key cannot be read", pair(leaf.chain_pem, leaf.chain_pem)),
        "no file": (
            "unreadable",
            "k.pem",
            lambda at: {"cert": write(at / "c.pem", leaf.chain_pem), "key": at / "k.pem"},
        ),
        "an empty directory": ("empty", "no certificate with its key", lambda at: {"cert": at}),
    }


FAULTS = faults()


@pytest.mark.parametrize("name", FAULTS)
def test_server_is_not_started_with_files_that_cannot_serve(name: str, tmp_path: Path) -> None:
    fault, why, lay = FAULTS[name]
    with pytest.raises(CredentialError, match=why) as caught:
        source(**lay(tmp_path))
    assert caught.value.fault == fault
    assert caught.value.files
    assert all(str(tmp_path) in file for file in caught.value.files)
    assert any(file in str(caught.value) for file in caught.value.files)
    assert "PRIVATE" not in str(caught.value)


def test_chain_with_its_root_and_one_of_a_root_alone_are_fine(tmp_path: Path) -> None:
    leaf = issued()
    cert = write(tmp_path / "c.pem", leaf.chain_pem + pem(ROOT))
    assert serials(source(cert, write(tmp_path / "k.pem", leaf.key_pem)).current) == [serial(leaf)]
    alone = ROOT.issue(HOST)
    assert source(*put(tmp_path, alone)).status.warnings == ()


def test_what_was_given_must_fit_together(tmp_path: Path) -> None:
    cert, key = put(tmp_path, issued())
    for wrong, why in (
        ({"cert": ()}, "needs a cert"),
        ({"cert": (cert, cert), "key": key}, "one for each"),
        ({"cert": cert, "key": key, "ocsp": (key, key)}, "one for each"),
        ({"cert": tmp_path, "key": key}, "is a directory"),
        ({"cert": cert, "key": key, "credentials": ()}, "credentials"),
        ({"cert": cert, "key": key, "provider": None}, "CryptoProvider"),
        ({"cert": cert, "key": key, "check_seconds": -1.0}, "seconds"),
    ):
        with pytest.raises(UsageError, match=why):
            source(**wrong)


def test_function_whose_credentials_cannot_be_shown_is_refused_and_one_that_gives_nothing() -> None:
    past = issued(not_before=now() - 20 * DAY, not_after=now() - DAY)
    config = ServerConfig(credentials=(Credential.from_pem(past.chain_pem, past.key_pem),))
    with pytest.raises(CredentialError, match=r"reload\.test: the certificate expired"):
        ReloadingConfig(lambda: config)
    with pytest.raises(UsageError, match="NoneType"):
        ReloadingConfig(lambda: None)  # type: ignore[arg-type,return-value]


# ---- forms of files --------------------------------------------------------------------------------------------------


def encrypted(leaf: Issued, password: bytes) -> bytes:
    protection = BestAvailableEncryption(password)
    return leaf.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


def test_password_is_asked_for_at_each_reading_of_an_encrypted_key(tmp_path: Path) -> None:
    leaf = issued()
    cert = write(tmp_path / "c.pem", leaf.chain_pem)
    key = write(tmp_path / "k.pem", encrypted(leaf, b"secret"))
    asked: list[str] = []

    def password(path: str) -> str:
        asked.append(path)
        return "secret"

    found = source(cert, key, password=password)
    found.reload()
    assert asked == [str(key)] * 2
    with pytest.raises(CredentialError, match=r"k\.pem") as caught:
        source(cert, key, password="wrong")
    assert "wrong" not in str(caught.value)
    assert "secret" not in repr(found) + repr(found.__dict__)


def test_key_in_the_file_of_its_certificate_and_pkcs12(tmp_path: Path) -> None:
    leaf = issued()
    both = write(tmp_path / "both.pem", leaf.key_pem + leaf.chain_pem)
    bundle = write(tmp_path / "site.p12", leaf.pkcs12("site", "secret"))
    assert serials(source(both).current) == [serial(leaf)]
    assert serials(source(bundle, password="secret").current) == [serial(leaf)]
    with pytest.raises(CredentialError, match="holds its key itself"):
        source(bundle, both, password="secret")


def test_directory_has_pairs_as_certbot_kubernetes_and_people_lay_them_out(tmp_path: Path) -> None:
    leaves = {name: issued(f"{name}.test") for name in ("certbot", "kubernetes", "plain", "one", "flat", "mkcert")}
    for name, cert, key in (
        ("certbot", "fullchain.pem", "privkey.pem"),
        ("kubernetes", "tls.crt", "tls.key"),
        ("plain", "cert.pem", "key.pem"),
    ):
        (tmp_path / name).mkdir()
        write(tmp_path / name / cert, leaves[name].chain_pem)
        write(tmp_path / name / key, leaves[name].key_pem)
    (tmp_path / "empty").mkdir()
    put(tmp_path, leaves["flat"], "flat")
    write(tmp_path / "one.pem", leaves["one"].chain_pem + leaves["one"].key_pem)
    write(tmp_path / "mkcert.pem", leaves["mkcert"].chain_pem)
    write(tmp_path / "mkcert-key.pem", leaves["mkcert"].key_pem)
    write(tmp_path / "README", b"not a certificate")
    write(tmp_path / "ca.pem", pem(ROOT))
    write(tmp_path / ".hidden.pem", b"half a file")
    found = source(tmp_path)
    assert sorted(serials(found.current)) == sorted(map(serial, leaves.values()))
    files = [one.files for one in found.status.credentials]
    assert (str(tmp_path / "flat.crt"), str(tmp_path / "flat.key")) in files
    assert len(pairs_in(str(tmp_path / "certbot"))) == 1
    with pytest.raises(CredentialError, match="cannot read"):
        pairs_in(str(tmp_path / "nowhere"))
    with pytest.raises(CredentialError, match="of such names as fullchain"):
        pairs_in(str(tmp_path / "empty"))


def test_several_pairs_are_chosen_by_name(tmp_path: Path) -> None:
    one, other = issued("one.test"), issued("other.test")
    first, second = put(tmp_path, one, "one"), put(tmp_path, other, "other")
    found = source((first[0], second[0]), (first[1], second[1]), alpn=("h2",))
    assert serials(found.current) == [serial(one), serial(other)]
    assert found.current.alpn == ("h2",)


# ---- renewal ---------------------------------------------------------------------------------------------------------


def test_renewed_pair_is_in_use_for_the_next_connection(tmp_path: Path, log: Log) -> None:
    before, after = issued(), issued()
    told: list[Any] = []
    found = source(*put(tmp_path, before), on_reload=told.append)
    first = found.current
    assert found.current is first
    put(tmp_path, after)
    assert serials(found.current) == [serial(after)]
    assert serials(first) == [serial(before)]
    assert found.status.reloads == 1
    assert told == [found.status]
    assert found.status.credentials[0].serial == f"{serial(after):x}"
    assert "reloaded: 1 credentials" in log
    assert "1 reloads" in repr(found)


@pytest.mark.parametrize("half", ["certificate first", "key first", "cut", "gone"])
def test_pair_of_which_one_half_is_new_keeps_the_old_and_is_taken_when_it_is_whole(
    half: str, tmp_path: Path, log: Log
) -> None:
    before, after = issued(), issued()
    problems: list[Exception] = []
    cert, key = put(tmp_path, before)
    found = source(cert, key, on_problem=problems.append)
    if half == "certificate first":
        write(cert, after.chain_pem)
    elif half == "key first":
        write(key, after.key_pem)
    elif half == "cut":
        write(cert, after.chain_pem[:400])
    else:
        key.unlink()
    for _ in range(3):
        assert serials(found.current) == [serial(before)]
    assert isinstance(problems[0], CredentialError)
    assert len(problems) == 1
    assert str(tmp_path) in found.status.last_error
    assert (found.status.failures, found.status.reloads) == (1, 0)
    assert any("stays in use" in line for line in log)
    put(tmp_path, after)
    assert serials(found.current) == [serial(after)]
    assert found.status.last_error == ""
    assert found.status.reloads == 1


def test_reload_by_call_raises_what_went_wrong_and_keeps_the_old(tmp_path: Path) -> None:
    before = issued()
    cert, key = put(tmp_path, before)
    found = source(cert, key, check_seconds=None)
    past = issued(not_before=now() - 20 * DAY, not_after=now() - DAY)
    put(tmp_path, past)
    assert serials(found.current) == [serial(before)]
    with pytest.raises(CredentialError, match="expired"):
        found.reload()
    assert serials(found.current) == [serial(before)]
    put(tmp_path, after := issued())
    assert found.reload().reloads == 1
    assert serials(found.current) == [serial(after)]


def test_what_could_not_be_read_is_tried_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    config = source(*put(tmp_path, issued())).current

    def make() -> ServerConfig:
        made.append(1)
        if len(made) in (2, 3):
            raise RuntimeError("the vault is sealed")
        return config

    def later(seconds: float) -> None:
        moment = time.monotonic() + seconds
        monkeypatch.setattr(reloading.time, "monotonic", lambda: moment)

    found = ReloadingConfig(make, check_seconds=0.0)
    with pytest.raises(RuntimeError):
        found.reload()
    assert found.status.last_error == "RuntimeError: the vault is sealed"
    assert found.check() is False
    assert len(made) == 2
    later(10)
    assert found.current is not None
    assert (len(made), found.status.failures) == (3, 1)
    later(20)
    assert found.current is not None
    assert (len(made), found.status.last_error) == (4, "")


def test_one_of_several_that_cannot_be_renewed_holds_up_no_other(tmp_path: Path) -> None:
    one, other = issued("one.test"), issued("other.test")
    put(tmp_path, one, "one")
    put(tmp_path, other, "other")
    found = source(tmp_path)
    new = issued("other.test")
    write(tmp_path / "one.crt", b"garbage")
    put(tmp_path, new, "other")
    write(tmp_path / "third.crt", b"garbage")
    write(tmp_path / "third.key", b"garbage")
    assert serials(found.current) == [serial(one), serial(new)]
    assert "one.crt" in found.status.last_error
    assert "third.crt" in found.status.last_error


def test_pairs_come_and_go_with_their_directory(tmp_path: Path) -> None:
    one, other = issued("one.test"), issued("other.test")
    put(tmp_path, one, "one")
    found = source(tmp_path)
    put(tmp_path, other, "other")
    assert serials(found.current) == [serial(one), serial(other)]
    for name in ("one.crt", "one.key"):
        (tmp_path / name).unlink()
    assert serials(found.current) == [serial(other)]
    for name in ("other.crt", "other.key"):
        (tmp_path / name).unlink()
    assert serials(found.current) == [serial(other)]
    assert "no certificate with its key" in found.status.last_error


def test_symbolic_link_that_is_swapped_is_a_renewal(tmp_path: Path) -> None:
    """As Kubernetes does it: the files are links into ..data, which is a link to the present directory."""
    before, after = issued(), issued()
    for name, leaf in (("..one", before), ("..two", after)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "tls.crt", leaf.chain_pem)
        write(tmp_path / name / "tls.key", leaf.key_pem)
    (tmp_path / "..data").symlink_to("..one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    found = source(tmp_path)
    assert serials(found.current) == [serial(before)]
    (tmp_path / "..new").symlink_to("..two")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    assert serials(found.current) == [serial(after)]


def test_file_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    before, after = issued(), issued()
    cert, key = put(tmp_path, before)
    found = source(cert, key)
    key.write_bytes(after.key_pem)
    cert.write_bytes(after.certificate_pem)  # the intermediate is yet to come
    assert serials(found.current) == [serial(before)]
    assert found.status.failures == 0
    cert.write_bytes(after.chain_pem)
    until = time.monotonic() + 10
    while serials(found.current) == [serial(before)] and time.monotonic() < until:
        time.sleep(0.02)
    assert len(found.current.credentials[0].chain) == 2


def test_files_are_looked_at_no_more_often_than_asked_for(tmp_path: Path) -> None:
    cert, key = put(tmp_path, before := issued())
    for seconds in (3600.0, None):
        found = source(cert, key, check_seconds=seconds)
        put(tmp_path, after := issued())
        assert serials(found.current) == [serial(before)]
        assert found.check()
        assert serials(found.current) == [serial(after)]
        before = after


def test_signal_makes_the_next_use_reload(tmp_path: Path) -> None:
    put(tmp_path, issued())
    found = source(tmp_path, check_seconds=None)
    old = signal.getsignal(signal.SIGHUP)
    try:
        found.reload_on_signal()
        put(tmp_path, after := issued())
        os.kill(os.getpid(), signal.SIGHUP)
        until = time.monotonic() + 10
        while serials(found.current) != [serial(after)] and time.monotonic() < until:
            time.sleep(0.01)
        assert found.status.reloads == 1
    finally:
        signal.signal(signal.SIGHUP, old)


def test_thread_looks_at_the_files_by_itself(tmp_path: Path) -> None:
    put(tmp_path, issued())
    found = source(tmp_path, check_seconds=None)
    with found.watching(0.01) as same:
        assert same is found
        put(tmp_path, after := issued())
        until = time.monotonic() + 10
        while serials(found.current) != [serial(after)] and time.monotonic() < until:
            time.sleep(0.01)
    assert serials(found.current) == [serial(after)]
    assert not [one for one in threading.enumerate() if one.name == "pellucid-reload"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_task_looks_at_the_files_by_itself(backend: str, tmp_path: Path) -> None:
    put(tmp_path, issued())
    found = source(tmp_path, check_seconds=None)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(found.watch, 0.01)
            put(tmp_path, after := issued())
            with anyio.fail_after(10):
                while serials(found.current) != [serial(after)]:
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)


def test_many_threads_ask_while_it_reloads_and_always_get_a_whole_configuration(tmp_path: Path) -> None:
    put(tmp_path, issued())
    found, leaves = source(tmp_path), [issued() for _ in range(20)]
    stop, wrong = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            try:
                assert len(found.current.credentials) == 1
            except BaseException as error:
                wrong.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for leaf in leaves:
        put(tmp_path, leaf)
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert not wrong
    assert found.status.reloads >= 1


def test_directory_that_cannot_be_read_any_more_leaves_everything_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    put(tmp_path / "certs", before := issued())
    config = source(tmp_path / "certs").current
    followed = ReloadingConfig(lambda: config, files=[tmp_path / "certs"], check_seconds=0.0)
    found = source(tmp_path / "certs")
    (tmp_path / "certs").rename(tmp_path / "moved")
    assert serials(found.current) == [serial(before)]
    assert followed.current.credentials == config.credentials
    (tmp_path / "moved").rename(tmp_path / "certs")
    put(tmp_path / "certs", after := issued())
    assert serials(found.current) == [serial(after)]


def test_whatever_the_file_system_raises_whoever_connects_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    found = source(*put(tmp_path, leaf := issued()))

    def broken() -> dict[str, Any]:
        raise OSError("the file system is gone")

    monkeypatch.setattr(found, "_maker", SimpleNamespace(stamps=broken))
    for _ in range(3):
        assert serials(found.current) == [serial(leaf)]
    assert "the file system is gone" in found.status.last_error
    assert len(list(log)) == 1


def test_callback_that_raises_is_logged_and_harms_nothing(tmp_path: Path, log: Log) -> None:
    def broken(_: object) -> None:
        raise RuntimeError

    put(tmp_path, issued())
    found = source(tmp_path, on_reload=broken)
    put(tmp_path, after := issued())
    assert serials(found.current) == [serial(after)]
    assert "broken raised" in log


# ---- OCSP responses --------------------------------------------------------------------------------------------------


def stapled(config: ServerConfig) -> bytes | None:
    response = config.credentials[0].ocsp_response
    return response() if callable(response) else response


def test_staple_follows_its_file_and_is_for_the_certificate_that_is_shown(tmp_path: Path, log: Log) -> None:
    leaf = issued()
    staple = write(tmp_path / "site.ocsp", first := SIGNER.ocsp_response(leaf))
    cert, key = put(tmp_path, leaf)
    found = source(cert, key, ocsp=staple)
    assert stapled(found.current) == first
    write(staple, second := SIGNER.ocsp_response(leaf, this_update=now() - datetime.timedelta(minutes=5)))
    assert stapled(found.current) == second
    put(tmp_path, issued())  # renewed, and the staple is still that of the old one
    assert stapled(found.current) is None
    assert "for another certificate" in found.status.warnings[0]
    assert any("for another certificate" in line for line in log)
    assert source(tmp_path).status.warnings == found.status.warnings


@pytest.mark.parametrize(
    ("what", "why"),
    [("garbage", "no OCSP response"), ("revoked", "good"), ("old", "expired"), ("refusal", "TRY_LATER")],
)
def test_staple_that_says_nothing_good_is_not_stapled(what: str, why: str, tmp_path: Path) -> None:
    leaf = issued()
    data = {
        "garbage": b"garbage",
        "revoked": SIGNER.ocsp_response(leaf, status="revoked", revoked_at=now() - DAY),
        "old": SIGNER.ocsp_response(leaf, this_update=now() - 9 * DAY, next_update=now() - DAY),
        "refusal": b"\x30\x03\x0a\x01\x03",
    }[what]
    found = source(*put(tmp_path, leaf), ocsp=write(tmp_path / "o", data))
    assert stapled(found.current) is None
    assert why in found.status.warnings[0]


def test_staple_is_not_sent_any_more_when_it_is_over(tmp_path: Path) -> None:
    leaf = issued()
    clock = [PYCA.now()]
    provider = dataclasses.replace(PYCA, now=lambda: clock[0])
    found = source(*put(tmp_path, leaf), ocsp=write(tmp_path / "o", SIGNER.ocsp_response(leaf)), provider=provider)
    assert stapled(found.current) is not None
    clock[0] += 8 * 86_400
    assert stapled(found.current) is None


# ---- whose clients, and which sessions -------------------------------------------------------------------------------


def client(**changes: Any) -> ClientConfig:
    return ClientConfig(trust=ROOT.trust, **changes)


def met(ours: ClientConfig, theirs: ServerConfig) -> Any:
    """What a handshake agreed on, tickets and all."""
    pair = Pair.of(ours, theirs, name=HOST)
    settle(pair)
    return pair.server.negotiated


def test_sessions_survive_a_renewal_and_end_when_told_to(tmp_path: Path) -> None:
    found = source(*put(tmp_path, issued()))
    ours = client(sessions=MemorySessionStore())
    assert not met(ours, found.current).resumed
    put(tmp_path, issued())
    assert met(ours, found.current).resumed
    found.reload()
    assert met(ours, found.current).resumed
    found.reload(forget_sessions=True)
    assert not met(ours, found.current).resumed


def test_sessions_are_forgotten_where_nothing_else_can_be_made_anew(tmp_path: Path) -> None:
    """A key was stolen: that its file is gone already keeps no ticket alive."""
    chain, key = put(tmp_path, issued())
    found = source(chain, key)
    ours = client(sessions=MemorySessionStore())
    met(ours, found.current)
    assert met(ours, found.current).resumed
    key.unlink()
    with pytest.raises(CredentialError, match="cannot read"):
        found.reload(forget_sessions=True)
    assert not met(ours, found.current).resumed
    same = ServerConfig(credentials=found.current.credentials, max_early_data=100)
    function = ReloadingConfig(lambda: same)
    before = function.current
    function.reload(forget_sessions=True)
    assert function.current.session_store is not before.session_store
    assert function.current.early_data_guard is not before.early_data_guard


def test_sessions_and_guard_of_a_function_live_on_unless_it_names_its_own(tmp_path: Path) -> None:
    credentials = source(*put(tmp_path, issued())).current.credentials
    found = ReloadingConfig(lambda: ServerConfig(credentials=credentials, max_early_data=100))
    first = found.current
    found.reload()
    assert found.current is not first
    assert found.current.session_store is first.session_store
    assert found.current.early_data_guard is first.early_data_guard
    own = ReloadingConfig(lambda: ServerConfig(credentials=credentials, sessions=MemoryServerSessions()))
    store = own.current.session_store
    own.reload()
    assert own.current.session_store is not store


def test_session_made_under_one_client_ca_is_not_resumed_under_another(tmp_path: Path) -> None:
    """Attacks E7 and E8: a ticket must not carry a client's authority over a change of those who give it."""
    authority = write(tmp_path / "clients.pem", pem(OTHER))
    shown = OTHER.issue("client.test")
    found = source(*put(tmp_path, issued()), client_ca=authority)
    assert found.current.client_authentication is ClientAuthentication.REQUIRED
    ours = client(sessions=MemorySessionStore(), credentials=(Credential.from_pem(shown.chain_pem, shown.key_pem),))
    assert met(ours, found.current).peer is not None
    assert met(ours, found.current).resumed
    write(authority, pem(CA("The CA from now on")))
    pair = Pair.of(ours, found.current, name=HOST)
    pair.pump()
    _, error = events_of(pair.server)
    assert error is not None
    assert not pair.server.handshake_complete
    write(authority, b"garbage")
    kept = found.current.client_trust
    assert "clients.pem" in found.status.last_error
    assert kept is found.current.client_trust is not None


def test_client_authentication_may_be_optional_and_cas_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "cas").mkdir()
    write(tmp_path / "cas" / "one.pem", pem(OTHER))
    more = write(tmp_path / "more.pem", pem(ROOT))
    found = source(
        *put(tmp_path, issued()),
        client_ca=(tmp_path / "cas", more),
        client_authentication=ClientAuthentication.OPTIONAL,
    )
    assert found.current.client_authentication is ClientAuthentication.OPTIONAL
    assert found.current.client_trust is not None
    assert len(found.current.client_trust.roots) == 2
    write(tmp_path / "cas" / "two.pem", pem(CA("third")))
    trust = found.current.client_trust
    assert trust is not None
    assert len(trust.roots) == 3


def test_ticket_keys_of_a_file_are_shared_and_follow_it(tmp_path: Path) -> None:
    one = TicketKeys()
    keys = write(tmp_path / "tickets", one.export_keys())
    here, there = (source(*put(tmp_path, issued()), ticket_keys=keys) for _ in range(2))
    ours = client(sessions=MemorySessionStore())
    met(ours, here.current)
    assert met(ours, there.current).resumed
    one.rotate()
    write(keys, one.export_keys())
    assert met(ours, here.current).resumed
    assert met(ours, there.current).resumed
    write(keys, b"garbage")
    assert met(ours, here.current).resumed
    assert "tickets" in here.status.last_error
    with pytest.raises(CredentialError, match="tickets"):
        source(*put(tmp_path, issued()), ticket_keys=keys)
    write(keys, TicketKeys().export_keys())
    here.reload(forget_sessions=True)
    assert not met(ours, here.current).resumed


# ---- what is told ----------------------------------------------------------------------------------------------------


def test_expiry_is_warned_of_at_the_start_and_daily_and_at_the_end(tmp_path: Path, log: Log) -> None:
    clock = [PYCA.now()]
    provider = dataclasses.replace(PYCA, now=lambda: clock[0])
    told: list[ExpiryWarning] = []
    leaf = issued(not_after=now() + 3 * DAY, not_before=now() - 87 * DAY)
    found = source(*put(tmp_path, leaf), provider=provider, on_expiry_warning=told.append)
    assert len(told) == 1
    assert "expires in 3 days" in str(told[0])
    (line,) = log
    assert "reload.test" in line
    assert str(tmp_path) in line
    for hours, count in ((1, 1), (24.1, 2), (25, 2), (70, 3), (72.5, 4), (80, 4)):
        clock[0] = told[0].credential.not_after - 3 * 86_400 + hours * 3600
        assert serials(found.current) == [serial(leaf)]
        assert len(told) == count, hours
    assert "expired on" in str(told[-1])
    assert told[-1].seconds_left <= 0
    put(tmp_path, issued())
    clock[0] = PYCA.now()
    assert found.current
    assert len(told) == 4


def test_expiry_of_short_lived_certificates_is_warned_of_in_their_last_quarter(tmp_path: Path) -> None:
    told: list[ExpiryWarning] = []
    source(*put(tmp_path, issued(not_before=now() - DAY, not_after=now() + 5 * DAY)), on_expiry_warning=told.append)
    assert not told
    source(*put(tmp_path, issued(not_before=now() - 5 * DAY, not_after=now() + DAY)), on_expiry_warning=told.append)
    assert "hours" in str(told[0])
    source(*put(tmp_path, issued()), warn_days=1000, on_expiry_warning=told.append)
    assert len(told) == 2


def test_status_has_what_metrics_want(tmp_path: Path) -> None:
    leaf = issued("one.test", "two.test")
    cert, key = put(tmp_path, leaf)
    status = source(cert, key).status
    (one,) = status.credentials
    assert one.names == ("one.test", "two.test")
    assert one.files == (str(cert), str(key))
    assert one.not_after == status.not_after == leaf.certificate.not_valid_after_utc.timestamp()
    assert one.key_algorithm == "EC secp256r1"
    assert (status.reloads, status.failures, status.last_error, status.last_error_at) == (0, 0, "", None)
    raw = Credential.raw_public_key(leaf.key_pem)
    found = ReloadingConfig(lambda: ServerConfig(credentials=(raw,))).status
    assert (found.credentials[0].serial, found.not_after) == ("", float("inf"))


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX'")
def test_key_that_everybody_can_read_and_a_chain_without_its_intermediate_are_warned_of(
    tmp_path: Path, log: Log
) -> None:
    told = ROOT.intermediate("With an address", aia="http://ca.test/i.der").issue(HOST)
    cert, key = write(tmp_path / "c.pem", told.certificate_pem), write(tmp_path / "k.pem", told.key_pem)
    os.chmod(key, 0o644)
    warnings = source(cert, key).status.warnings
    assert len(warnings) == 2
    assert "no intermediate" in warnings[0]
    assert "read by every user" in warnings[1]
    assert "0644" in warnings[1]
    assert set(warnings) <= set(log)
    leaf = issued()
    tickets, clients = tmp_path / "tickets", write(tmp_path / "clients.pem", pem(OTHER))
    write(tickets, TicketKeys().export_keys())
    os.chmod(tickets, 0o644)
    os.chmod(clients, 0o666)
    found = source(*put(tmp_path, leaf), ticket_keys=tickets, client_ca=clients).status.warnings
    assert [("tickets" in text, "clients.pem" in text) for text in found] == [(True, False), (False, True)]
    assert "written by every user" in found[1]


def test_nothing_that_is_logged_or_shown_has_a_key_in_it(tmp_path: Path, log: Log) -> None:
    leaf = issued()
    cert, key = put(tmp_path, leaf)
    found = source(cert, key, password="a password")
    write(key, leaf.key_pem[:100])
    with contextlib.suppress(CredentialError):
        found.reload()
    shown = "\n".join((*log, repr(found), repr(found.status), repr(found.current), repr(found._maker)))
    for line in (*leaf.key_pem.decode().splitlines()[1:-1], "a password"):
        assert line not in shown
