"""`pellucid trust` and `untrust`: real stores of certutil and others, in a home of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pellucid.cli.development_ca import DevelopmentCA
from pellucid.cli.main import main
from pellucid.cli.stores import Debian, Java, Root, StoreFailed, chromium, firefox, output_of, pem_certificates, stores
from pellucid.cli.trust import standing_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stores are those of Unix")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any store, and a system's store and Java's that are nobody's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path / "data"))
    (tmp_path / "local").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "share").mkdir()
    (tmp_path / "hooks").mkdir()
    (tmp_path / "ca-certificates.conf").write_text("")
    places = {"localcertsdir": "local", "etccertsdir": "etc", "certsdir": "share", "hooksdir": "hooks"}
    options = [word for name, place in places.items() for word in (f"--{name}", str(tmp_path / place))]
    debian = Debian(
        tmp_path / "local",
        tmp_path / "etc" / "ca-certificates.crt",
        ("update-ca-certificates", *options, "--certsconf", str(tmp_path / "ca-certificates.conf")),
    )
    java = Java(tmp_path / "cacerts")

    def found() -> dict[str, object]:
        return {**stores(), "debian": debian, "java": java}

    monkeypatch.setattr("pellucid.cli.trust.stores", found)
    return tmp_path


def run(command: str, *arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([command, *map(str, arguments)])
    assert isinstance(left.value.code, int)
    return left.value.code


def root() -> Root:
    return Root.read(DevelopmentCA.open().certificate_path)


def other(home: Path) -> Path:
    """Another CA's file, as of an earlier data directory."""
    return DevelopmentCA.open(home / "earlier").certificate_path


# ---- telling ---------------------------------------------------------------------------------------------------------


@pytest.mark.program("certutil")
def test_trust_tells_what_to_type_and_typing_it_helps(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trust", "nss", "--json") == 60
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == 1
    (store,) = told["stores"]
    assert (store["name"], store["trusted"]) == ("nss", False)
    for text in store["commands"]:
        subprocess.run(text, shell=True, check=True, timeout=30, env=os.environ | {"HOME": str(home)})
    assert run("trust", "nss") == 0
    assert "✔ nss" in capsys.readouterr().out


def test_trust_without_stores_tells_of_all_and_of_programs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trust") == 0
    out = capsys.readouterr().out
    path = home / "data" / "ca" / "ca.pem"
    assert path.exists()
    for text in (
        f"curl --cacert {path} https://localhost:8443/",
        f"NODE_EXTRA_CA_CERTS={path} node",
        f"pip install --cert {path}",
        f"git config --global http.https://localhost:8443/.sslCAInfo {path}",
        f"docker run -v {path}:",
        "firefox",
    ):
        assert text in out


def test_trust_apply_wants_stores_that_are_there(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert run("trust", "--apply") == 2
    assert "--apply needs the stores" in capsys.readouterr().err
    assert run("trust", "--apply", "firefox") == 23
    assert "no profile here" in capsys.readouterr().err
    assert run("trust", "--ca", home / "nowhere.pem") == 77
    (home / "garbage.pem").write_text("garbage")
    assert run("trust", "--ca", home / "garbage.pem") == 77
    assert "no certificate in it" in capsys.readouterr().err


def test_trust_under_sudo_makes_no_ca_of_roots(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUDO_USER", "nobody")
    assert run("trust", "nss") == 58
    assert "name yours: --ca ca.pem" in capsys.readouterr().err
    assert not (home / "data").exists()
    assert run("trust", "nss", "--ca", other(home)) == 60


def test_trust_of_the_ca_for_every_name_is_warned_of(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert run("trust", "--any-name") == 0
    said = capsys.readouterr()
    assert "can pose as any site to you" in said.err
    assert str(home / "data" / "ca-any-name" / "ca.pem") in said.out


# ---- doing, and undoing ----------------------------------------------------------------------------------------------


@pytest.mark.program("certutil")
def test_trust_nss_is_done_and_undone_exactly(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    output_of(("certutil", "-N", "--empty-password", "-d", f"sql:{database}"))
    bystander = other(home)
    output_of(("certutil", "-A", "-d", f"sql:{database}", "-t", "C,,", "-n", "Somebody else's", "-i", str(bystander)))
    before = output_of(("certutil", "-L", "-d", f"sql:{database}"))
    assert run("trust", "--apply", "nss") == 0
    assert standing_of(chromium(home), root()).trusted is True
    assert run("trust", "--apply", "nss") == 0
    assert "has the CA already" in capsys.readouterr().err
    assert run("untrust", "--apply", "nss") == 0
    assert standing_of(chromium(home), root()).trusted is False
    assert output_of(("certutil", "-L", "-d", f"sql:{database}")) == before
    assert run("untrust", "nss") == 0
    assert "no development CA is there" in capsys.readouterr().err


@pytest.mark.program("certutil")
def test_trust_entry_without_trust_for_servers_does_not_count(home: Path) -> None:
    assert run("trust", "--apply", "nss") == 0
    database = f"sql:{home / '.pki' / 'nssdb'}"
    name = f"Pellucid development CA {root().tag}"
    output_of(("certutil", "-M", "-d", database, "-n", name, "-t", ",,"))
    assert standing_of(chromium(home), root()).trusted is False


@pytest.mark.program("certutil")
def test_trust_firefox_is_every_profile(home: Path) -> None:
    profiles = [home / ".mozilla" / "firefox" / f"{name}.default" for name in ("one", "two")]
    for profile in profiles:
        profile.mkdir(parents=True)
        output_of(("certutil", "-N", "--empty-password", "-d", f"sql:{profile}"))
    assert firefox(home).directories == tuple(profiles)
    assert run("trust", "--apply", "firefox") == 0
    assert len(firefox(home).entries()) == 2
    output_of(("certutil", "-D", "-d", f"sql:{profiles[0]}", "-n", f"Pellucid development CA {root().tag}"))
    assert standing_of(firefox(home), root()).trusted is False
    assert run("untrust", "--apply") == 0
    assert firefox(home).entries() == {}


@pytest.mark.program("update-ca-certificates")
@pytest.mark.program("openssl")
def test_trust_debian_is_done_and_undone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(other(home), home / "local" / "somebody.crt")
    assert run("trust", "--apply", "debian") == 0
    bundle = home / "etc" / "ca-certificates.crt"
    assert root().der in pem_certificates(bundle.read_bytes())
    leaf = DevelopmentCA.open().authority.issue("localhost")
    (home / "leaf.pem").write_bytes(leaf.chain_pem)
    subprocess.run(
        ["openssl", "verify", "-CAfile", str(bundle), str(home / "leaf.pem")],
        check=True,
        timeout=20,
        capture_output=True,
    )
    capsys.readouterr()
    assert run("untrust", "debian", "--apply", "--json") == 0
    (done,) = json.loads(capsys.readouterr().out)["stores"]
    assert (done["found"], done["removed"]) == ([root().tag], True)
    assert sorted(path.name for path in (home / "local").iterdir()) == ["somebody.crt"]
    left = pem_certificates(bundle.read_bytes())
    assert left == [Root.read(home / "local" / "somebody.crt").der]


@pytest.mark.program("certutil")
def test_untrust_finds_those_of_earlier_homes_or_one_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = other(home)
    assert run("trust", "--apply", "nss") == 0
    assert run("trust", "--apply", "nss", "--ca", earlier) == 0
    assert len(chromium(home).entries()) == 2
    assert run("untrust", "nss") == 0  # only told
    assert len(chromium(home).entries()) == 2
    assert run("untrust", "nss", "--apply", "--ca", earlier) == 0
    assert list(chromium(home).entries().values()) == [root().tag]
    assert run("untrust", "nss", "--apply") == 0
    assert chromium(home).entries() == {}


@pytest.mark.program("keytool")
def test_trust_java_is_done_and_undone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")  # it starts in half the time
    make = ("keytool", "-genkeypair", "-alias", "own", "-keyalg", "EC", "-dname", "CN=own", "-storetype", "PKCS12")
    output_of((*make, "-keystore", str(home / "cacerts"), "-storepass", "changeit"))
    java = Java(home / "cacerts")
    assert standing_of(java, root()).trusted is False
    assert run("trust", "--apply", "java") == 0
    assert standing_of(java, root()).trusted is True
    assert run("untrust", "--apply", "java") == 0
    assert standing_of(java, root()).trusted is False


def test_store_that_is_not_ours_is_told_not_changed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Debian, "needs_root", True)
    monkeypatch.setattr(Debian, "missing", "")
    (home / "etc" / "ca-certificates.crt").write_text("")
    assert run("trust", "--apply", "debian") == 23
    said = capsys.readouterr().err
    assert f"hint: sudo install -m 644 {home / 'data' / 'ca' / 'ca.pem'}" in said
    assert list((home / "local").iterdir()) == []


@pytest.mark.program("certutil")
def test_store_that_cannot_be_read_says_why(home: Path) -> None:
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    (database / "cert9.db").write_bytes(b"no database")
    standing = standing_of(chromium(home), root())
    assert standing.trusted is None
    assert "certutil" in standing.problem
    with pytest.raises(StoreFailed):
        output_of(("certutil", "-L", "-d", f"sql:{home / 'nowhere'}"))


def test_trust_bundle_has_the_systems_roots_and_the_ca(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = other(home)
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    assert run("trust", "--bundle", home / "bundle.pem") == 0
    held = pem_certificates((home / "bundle.pem").read_bytes())
    assert held == [root().der, Root.read(system).der]
    assert run("trust", "--bundle", home / "bundle.pem") == 23
    assert run("trust", "--bundle", home / "bundle.pem", "--force") == 0
