"""`pellucid dev-cert`: what it makes works with other programs, is its owner's alone, and poses as no real site."""

from __future__ import annotations

import base64
import datetime
import json
import os
import re
import socket
import ssl
import stat
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

import pellucid
from pellucid.cli.common import CommandFailed
from pellucid.cli.dev_cert_faults import faults
from pellucid.cli.dev_cert_kinds import ALGORITHMS, read_names
from pellucid.cli.development_ca import DevelopmentCA, development_issuer
from pellucid.cli.main import main
from pellucid.config import ClientAuthentication, ClientConfig, Credential, ServerConfig
from pellucid.explain import diagnose
from pellucid.integrations.ssl_context import SSLContext
from pellucid.net.load import load_trust
from pellucid.testing.bent import BentConnection
from pellucid.testing.ca import CA, private_key_pem
from pellucid.testing.faults import FAULTS
from pellucid.testing.faults.fault import Recipe, chain_edit
from pellucid.testing.faults.mint import Mint, Shown, shown
from pellucid.verify.revocation import RevocationPolicy
from pellucid.verify.trust import TrustStore
from tests.illegal.evil import drain, exchange

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of the test's own, and the directory where the files are made."""
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PELLUCID_PASS", raising=False)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    return tmp_path / "home"


def run(*arguments: object) -> int:
    """Run `pellucid dev-cert`, return its exit code."""
    with pytest.raises(SystemExit) as left:
        main(["dev-cert", *map(str, arguments)])
    assert isinstance(left.value.code, int)
    return left.value.code


def made(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    assert run(*arguments, "--json") == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def leaf(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(Path(path).read_bytes())[0]


# ---- files -----------------------------------------------------------------------------------------------------------


def test_dev_cert_prints_files_and_tells_the_next_steps(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert run("localhost", "127.0.0.1") == 0
    out, err = capsys.readouterr()
    assert out.split() == ["certificate", "localhost.pem", "key", "localhost-key.pem"]
    assert "pellucid serve . --cert localhost.pem --key localhost-key.pem" in err
    assert f"curl --cacert {home / 'ca' / 'ca.pem'} https://localhost:8443/" in err
    assert "A development CA was made" in err
    assert stat.S_IMODE(Path("localhost-key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(Path("localhost.pem").stat().st_mode) == 0o644
    assert sorted(os.listdir()) == ["localhost-key.pem", "localhost.pem"]


def test_dev_cert_replaces_nothing_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("localhost") == 0
    before = Path("localhost.pem").read_bytes()
    capsys.readouterr()
    assert run("localhost") == 23
    assert "is there already\nhint: have it replaced: --force" in capsys.readouterr().err
    assert Path("localhost.pem").read_bytes() == before
    assert run("localhost", "--force") == 0
    assert Path("localhost.pem").read_bytes() != before
    assert stat.S_IMODE(Path("localhost-key.pem").stat().st_mode) == 0o600
    assert len(os.listdir()) == 2


@pytest.mark.parametrize("places", [("a.pem", "./a.pem"), ("a.pem", "a.p12")])
def test_dev_cert_writes_no_two_files_to_one_place(places: tuple[str, str], tmp_path: Path) -> None:
    """The certificate would have taken the place of the key, and the command said that all was well."""
    certificate, key = places
    assert run("app.test", "--cert-file", certificate, "--key-file", key, "--p12", "--force") == 2
    assert list((tmp_path / "out").iterdir()) == []


def test_dev_cert_follows_no_link_that_waits_for_it(tmp_path: Path) -> None:
    Path("localhost-key.pem").symlink_to(tmp_path / "elsewhere")
    assert run("localhost") == 23
    assert not (tmp_path / "elsewhere").exists()
    assert run("localhost", "--force") == 0  # the link itself is replaced, not what it leads to
    assert not (tmp_path / "elsewhere").exists()
    assert not Path("localhost-key.pem").is_symlink()


def test_dev_cert_places_are_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "certs").mkdir()
    found = made(capsys, "*.app.test", "--out", tmp_path / "certs", "--key-file", tmp_path / "k.pem", "--p12")
    assert found["files"] == {
        "certificate": str(tmp_path / "certs" / "_wildcard.app.test.pem"),
        "key": str(tmp_path / "k.pem"),
        "pkcs12": str(tmp_path / "certs" / "_wildcard.app.test.p12"),
    }
    assert run("localhost", "--out", tmp_path / "made" / "on the way") == 0
    assert sorted(os.listdir(tmp_path / "made" / "on the way")) == ["localhost-key.pem", "localhost.pem"]
    assert run("localhost", "--out", tmp_path / "k.pem" / "below a file") == 23
    assert run("localhost", "--cert-file", tmp_path / "nowhere" / "x.pem") == 23
    assert sorted(os.listdir()) == []


def test_dev_cert_in_a_repository_says_to_keep_the_key_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out" / ".git").mkdir()
    assert run("localhost") == 0
    assert "keep it out of commits" in capsys.readouterr().err


# ---- what is in them -------------------------------------------------------------------------------------------------


def test_dev_cert_names_are_host_names_wildcards_and_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    found = made(capsys, "App.test", "*.app.test", "bücher.test", "127.0.0.1", "::1", "[::1]", "--days", 7)
    assert found["names"] == ["app.test", "*.app.test", "xn--bcher-kva.test", "127.0.0.1", "::1"]
    certificate = leaf("app.test.pem")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == found["names"]
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < datetime.timedelta(days=8)
    assert "text" not in Path("app.test-key.pem").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "NAME"),
        (("a b",), 2, "is no host name"),
        (("alice@example.org",), 2, "--client"),
        (("x_y.test",), 2, "underscore"),
        (("www.bank.com",), 58, "may not vouch for www.bank.com"),
        (("8.8.8.8",), 58, "may not vouch for 8.8.8.8"),
        (("localhost", "test.evil.org"), 58, "test.evil.org"),
        (("localhost", "-a", "ml-dsa-44", "--p12"), 2, "PKCS #12"),
        (("localhost", "--fault", "expird"), 2, "did you mean expired"),
        (("localhost", "--fault", "expired", "--p12"), 2, "--p12 does not go with --fault"),
        (("localhost", "--fault", "no-staple"), 2, "cannot have the fault"),
        (("Alice", "Bob", "--client"), 2, "one subject"),
        (("x\x1b[2J", "--client"), 2, "cannot be a subject"),
    ],
)
def test_dev_cert_refuses(
    arguments: tuple[str, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    said = capsys.readouterr()
    assert words in said.err
    assert "\x1b" not in said.err
    assert os.listdir() == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_dev_cert_of_each_algorithm_serves_a_handshake(algorithm: str, home: Path) -> None:
    assert run("localhost", "-a", algorithm, "--intermediate") == 0
    credential = Credential.from_pem(Path("localhost.pem").read_bytes(), Path("localhost-key.pem").read_bytes())
    assert len(credential.chain) == 2
    server = SSLContext(ServerConfig(credentials=(credential,)))
    client = SSLContext(ClientConfig(trust=load_trust(str(home / "ca" / "ca.pem"))))
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=lambda: server.wrap_socket(theirs, server_side=True).close())
    thread.start()
    with client.wrap_socket(ours, server_hostname="localhost") as sock:
        assert sock.version() == "TLSv1.3"
    thread.join(10)


@pytest.mark.program("openssl")
def test_dev_cert_chain_and_pkcs12_are_what_openssl_takes(home: Path) -> None:
    assert run("app.test", "10.1.2.3", "--intermediate", "--p12", "--pass", "geheim") == 0
    verify = ("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "app.test")
    files = ("-CAfile", str(home / "ca" / "ca.pem"), "-untrusted", "app.test.pem", "app.test.pem")
    subprocess.run([*verify, *files], check=True, timeout=20, capture_output=True)
    subprocess.run(
        ["openssl", "pkcs12", "-in", "app.test.p12", "-passin", "pass:geheim", "-noout"],
        check=True,
        timeout=20,
        capture_output=True,
    )
    key, certificate, more = pkcs12.load_key_and_certificates(Path("app.test.p12").read_bytes(), b"geheim")
    assert key is not None
    assert certificate == leaf("app.test.pem")
    assert len(more) == 2  # the intermediate and the root


def test_dev_cert_of_a_client_is_taken_by_a_server(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = made(capsys, "Alice Example", "alice@example.org", "spiffe://cluster.test/alice", "--client")
    assert (found["subject"], found["purpose"]) == ("Alice Example", "client")
    assert found["names"] == ["alice@example.org", "spiffe://cluster.test/alice"]
    assert run("localhost") == 0
    server = SSLContext(
        ServerConfig(
            credentials=(_credential("localhost"),),
            client_authentication=ClientAuthentication.REQUIRED,
            client_trust=load_trust(str(home / "ca" / "ca.pem")),
        )
    )
    client = ssl.create_default_context(cafile=home / "ca" / "ca.pem")
    client.load_cert_chain("Alice-Example-client.pem", "Alice-Example-client-key.pem")
    ours, theirs = socket.socketpair()
    seen: list[object] = []

    def serve() -> None:
        with server.wrap_socket(theirs, server_side=True) as sock:
            seen.append(sock.getpeercert())
            sock.sendall(b"welcome")

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(ours, server_hostname="localhost") as sock:
        assert sock.recv(7) == b"welcome"
    thread.join(10)
    (certificate,) = seen
    assert isinstance(certificate, dict)
    assert ("email", "alice@example.org") in certificate["subjectAltName"]


def _credential(stem: str) -> Credential:
    return Credential.from_pem(Path(f"{stem}.pem").read_bytes(), Path(f"{stem}-key.pem").read_bytes())


# ---- the CA is no danger ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["www.bank.com", "*.bank.com", "8.8.8.8"])
def test_dev_cert_stolen_key_of_the_ca_poses_as_no_real_site(name: str, home: Path, tmp_path: Path) -> None:
    stolen = DevelopmentCA.open().authority
    forged = stolen.intermediate("no limits here").issue(name)  # what `check_names` would not have let through
    asked = name.replace("*", "www")
    error = _met(ClientConfig(trust=stolen.trust), asked, shown(Mint(stolen, "localhost"), forged))
    assert diagnose(error).code == "X509-NAME-CONSTRAINT"
    (tmp_path / "chain.pem").write_bytes(forged.chain_pem)
    kind = "-verify_ip" if asked[0].isdigit() else "-verify_hostname"
    files = ("-CAfile", str(home / "ca" / "ca.pem"), "-untrusted", str(tmp_path / "chain.pem"))
    done = subprocess.run(
        ["openssl", "verify", kind, asked, *files, str(tmp_path / "chain.pem")],
        capture_output=True,
        encoding="utf-8",
        timeout=20,
        check=False,
    )
    assert done.returncode != 0
    assert "permitted subtree violation" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("machine", "permitted"),
    [("dev", False), ("app", False), ("xn--p1ai", False), ("box-7", True), ("build.office.example.org", True)],
)
def test_dev_cert_name_of_the_machine_lets_its_ca_vouch_for_no_top_level_domain(
    machine: str, permitted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constraint to "dev" is one to every site in .dev."""
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    authority = DevelopmentCA.open()
    assert (machine in authority.authority.permitted) is permitted
    if permitted:
        authority.check_names([machine])
        return
    with pytest.raises(CommandFailed, match="may not vouch for web"):
        authority.check_names([f"web.{machine}"])


def test_dev_cert_any_name_is_another_ca(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = made(capsys, "www.bank.com", "--any-name")
    assert found["ca"] == {"file": str(home / "ca-any-name" / "ca.pem"), "created": True, "any_name": True}
    assert not (home / "ca").exists()
    assert development_issuer([leaf("www.bank.com.pem").public_bytes(Encoding.DER)]) == home / "ca-any-name" / "ca.pem"


def test_dev_cert_ends_no_later_than_its_ca(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pellucid.cli.development_ca._ROOT_DAYS", 200)
    assert run("localhost", "--days", 300) == 2
    assert "the CA itself is valid for " in capsys.readouterr().err


def test_dev_cert_ca_without_limits_of_an_older_pellucid_is_put_aside(home: Path) -> None:
    DevelopmentCA.open()
    old = CA("Pellucid development CA (older)", path_length=0, usage=("key_cert_sign", "crl_sign"))
    (home / "ca" / "ca.pem").write_bytes(old.root_pem)
    (home / "ca" / "ca-key.pem").write_bytes(private_key_pem(old.private_key))
    again = DevelopmentCA.open()
    assert again.created
    assert again.authority.permitted
    assert [path.name for path in home.glob(".expired-*/*")] == ["ca"]


def test_dev_cert_unreadable_ca_is_refused(home: Path) -> None:
    DevelopmentCA.open()
    (home / "ca" / "ca-key.pem").chmod(0o644)
    assert run("localhost") == 58
    with pytest.raises(CommandFailed, match="others may read"):
        DevelopmentCA.existing()


def test_serve_on_an_address_of_the_internet_wants_a_certificate(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["serve", ".", "--host", "8.8.8.8", "--port", "0"])
    assert left.value.code == 58
    assert "hint: or have another CA, without that limit, do it: pellucid dev-cert --any-name 8.8.8.8" in (
        capsys.readouterr().err
    )


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_dev_cert_lists_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list-faults") == 0
    listed = [row.split()[0] for row in capsys.readouterr().out.splitlines()]
    assert listed == [fault.name for fault in faults(client=False)]
    assert len(listed) >= 30
    assert run("--list-faults", "--client") == 0
    assert "client-certificate-expired" in capsys.readouterr().out


@pytest.mark.parametrize("name", [fault.name for fault in faults(client=False)])
def test_dev_cert_fault_is_the_one_that_is_diagnosed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = made(capsys, "localhost", "--fault", name)
    files = found["files"]
    fault = found["fault"]
    assert isinstance(files, dict)
    assert isinstance(fault, dict)
    extra = {what: Path(files[what]).read_bytes() for what in ("ca", "staple", "crl") if what in files}
    authority = DevelopmentCA.open().authority
    trust = TrustStore.from_pem(extra["ca"]) if "ca" in extra else authority.trust
    policy = RevocationPolicy(crls=(extra["crl"],)) if "crl" in extra else RevocationPolicy()
    error = _met(
        ClientConfig(trust=trust, revocation=policy),
        fault["host"],
        shown(
            Mint(authority, "localhost"),
            replace(authority.issue("localhost"), key_pem=Path(files["key"]).read_bytes()),
            chain=_blocks(Path(files["certificate"])),
            staple=extra.get("staple"),
        ),
    )
    assert diagnose(error).code == FAULTS[name].code


def _met(config: ClientConfig, host: str, served: Shown) -> Exception:
    """What a client says to a server that shows these certificates."""
    client = pellucid.Connection.client(config, host)
    own = ServerConfig(credentials=(served.credential,), certificate_compression=())
    server = BentConnection.bent_server(own, edit=chain_edit(Recipe(), served))
    exchange(client, server)
    _, error = drain(client)
    assert isinstance(error, pellucid.TLSError)
    return error


def _blocks(path: Path) -> tuple[bytes, ...]:
    """The certificates of a PEM file, whatever is in them."""
    found = re.findall(rb"-----BEGIN CERTIFICATE-----\n(.*?)-----END", path.read_bytes(), re.DOTALL)
    return tuple(base64.b64decode(one) for one in found)


def test_dev_cert_fault_by_code_of_a_client(capsys: pytest.CaptureFixture[str]) -> None:
    found = made(capsys, "Alice", "--client", "--fault", "x509-expired")
    assert isinstance(found["fault"], dict)
    assert found["fault"]["name"] == "client-certificate-expired"
    assert leaf("Alice-client.pem").not_valid_after_utc < datetime.datetime.now(datetime.UTC)


def test_read_names_takes_the_first_as_subject() -> None:
    assert read_names(["b.test", "a.test", "b.test"], client=False).subject == "b.test"
    assert read_names(["device1.test", "Alice"], client=True).subject == "Alice"
