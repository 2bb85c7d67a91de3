"""Roots from files, the environment and the system."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pellucid.config import ClientConfig
from pellucid.errors import UsageError
from pellucid.net import load
from pellucid.net.load import load_trust, ocsp_file, read_pem, system_trust
from pellucid.net.setup import with_system_trust
from pellucid.sessions import ExternalPsk
from pellucid.testing.ca import CA
from pellucid.trace import Role


@pytest.fixture(scope="module")
def one() -> CA:
    return CA("one")


@pytest.fixture(scope="module")
def two() -> CA:
    return CA("two")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setattr(load, "_cached", {})


def test_file_in_pem_and_in_der_is_loaded(tmp_path: Path, one: CA, two: CA) -> None:
    pem, der = tmp_path / "a.pem", tmp_path / "a.der"
    pem.write_bytes(one.root_pem + two.root_pem)
    der.write_bytes(two.root_der)
    assert load_trust(pem).roots == (one.root_der, two.root_der)
    assert load_trust(str(der)).roots == (two.root_der,)
    assert load_trust(pem).origin == str(pem)


def test_directory_is_loaded_by_suffix_and_hash(tmp_path: Path, one: CA, two: CA) -> None:
    (tmp_path / "a.crt").write_bytes(one.root_pem)
    (tmp_path / "5ad8a5d6.0").write_bytes(two.root_pem)
    (tmp_path / "README").write_bytes(CA("not read").root_pem)
    (tmp_path / "broken.pem").write_bytes(b"junk")
    (tmp_path / "sub.pem").mkdir()
    trust = load_trust(tmp_path)
    assert set(trust.roots) == {one.root_der, two.root_der}
    assert len(trust.skipped) == 1 and "broken.pem" in trust.skipped[0]


@pytest.mark.parametrize("content", [None, b"", b"junk", b"-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----"])
def test_unusable_file_is_a_usage_error_that_names_it(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "roots.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_trust(path)
    assert str(path) in str(caught.value)


def test_directory_without_a_root_is_a_usage_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=tmp_path.name):
        load_trust(tmp_path)


def test_read_pem_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_MAX_FILE", 100)
    path = tmp_path / "x"
    path.write_bytes(b"x" * 100)
    assert read_pem(path) == b"x" * 100
    path.write_bytes(b"x" * 101)
    with pytest.raises(UsageError, match="larger than 100 bytes"):
        read_pem(path)
    with pytest.raises(UsageError, match="cannot read"):
        read_pem(tmp_path)


def test_environment_comes_first_file_and_directory_together(
    tmp_path: Path, one: CA, two: CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, directory = tmp_path / "file.pem", tmp_path / "dir"
    directory.mkdir()
    file.write_bytes(one.root_pem)
    (directory / "two.pem").write_bytes(two.root_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert system_trust().roots == (one.root_der,)
    assert system_trust().origin == f"SSL_CERT_FILE={file}"
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join([str(directory), str(tmp_path / "missing")]))
    trust = system_trust()
    assert trust.roots == (one.root_der, two.root_der)
    assert trust.origin == f"SSL_CERT_FILE={file} + SSL_CERT_DIR={directory}"
    assert len(trust.skipped) == 1 and "missing" in trust.skipped[0]
    monkeypatch.delenv("SSL_CERT_FILE")
    assert system_trust().roots == (two.root_der,)


def test_environment_that_cannot_be_read_is_a_usage_error_and_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(missing))
    with pytest.raises(UsageError, match=r"missing\.pem"):
        system_trust()
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(missing))
    with pytest.raises(UsageError, match=r"missing\.pem"):
        system_trust()


def test_system_trust_is_read_once_until_the_file_changes(
    tmp_path: Path, one: CA, two: CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file.pem"
    file.write_bytes(one.root_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    first = system_trust()
    assert system_trust() is first
    file.write_bytes(two.root_pem)
    os.utime(file, ns=(1, 1))
    assert system_trust().roots == (two.root_der,)


def test_system_store_then_bundle_then_certifi_then_usage_error(
    tmp_path: Path, one: CA, two: CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fake:
        roots: tuple[bytes, ...] = (one.root_der,)

        @classmethod
        def root_der_certificates(cls) -> list[bytes]:
            return list(cls.roots)

        @staticmethod
        def where() -> str:
            return str(tmp_path / "certifi.pem")

    (tmp_path / "bundle.crt").write_bytes(two.root_pem)
    (tmp_path / "certifi.pem").write_bytes(one.root_pem)
    monkeypatch.setitem(sys.modules, "wassima", Fake)
    monkeypatch.setitem(sys.modules, "certifi", Fake)
    monkeypatch.setattr(load, "_BUNDLES", (str(tmp_path / "none"), str(tmp_path / "bundle.crt")))
    assert system_trust().origin == "operating system (wassima)"
    load._cached.clear()
    Fake.roots = ()
    assert system_trust().origin == str(tmp_path / "bundle.crt")
    load._cached.clear()
    monkeypatch.setattr(load, "_BUNDLES", ())
    assert system_trust().origin == "certifi"
    load._cached.clear()
    monkeypatch.setitem(sys.modules, "wassima", None)
    monkeypatch.setitem(sys.modules, "certifi", None)
    with pytest.raises(UsageError, match="no trusted roots"):
        system_trust()


# ---- OCSP responses ------------------------------------------------------------------------------------------------


def staple(size: int) -> bytes:
    """A DER SEQUENCE of *size* bytes in all."""
    return b"\x30\x82" + (size - 4).to_bytes(2, "big") + bytes(size - 4)


def test_ocsp_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "staple.der"
    path.write_bytes(staple(400))
    current = ocsp_file(path)
    assert current() == staple(400)
    path.write_bytes(staple(500))
    assert current() == staple(500)


def test_ocsp_file_is_not_read_when_it_has_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "staple.der"
    path.write_bytes(staple(400))
    current = ocsp_file(path)
    monkeypatch.setattr(load, "read_pem", lambda path: pytest.fail("it is read again"))
    assert current() == current() == staple(400)


@pytest.mark.parametrize(
    "content", [None, b"", b"\x30", staple(500)[:-1], staple(500) + b"\0", b"-----BEGIN X-----", staple(65_536)],
    ids=["gone", "empty", "one-byte", "half-written", "too-long", "text", "past-the-limit"],
)  # fmt: skip
def test_ocsp_file_that_becomes_unusable_leaves_the_last_good_response(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "staple.der"
    path.write_bytes(staple(400))
    current = ocsp_file(path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert current() == current() == staple(400)
    path.unlink(missing_ok=True)
    path.write_bytes(staple(65_535))
    assert current() == staple(65_535)


@pytest.mark.parametrize(
    "content", [None, b"", b"\x04\x00", b"-----BEGIN X-----"], ids=["none", "empty", "other", "text"]
)
def test_ocsp_file_without_a_response_to_begin_with_is_a_usage_error_that_names_it(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "staple.der"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"staple\.der"):
        ocsp_file(path)


def test_a_configuration_with_a_psk_alone_is_given_no_roots() -> None:
    """The PSK is the only way for its server then: no public CA's certificate stands in for it."""
    psk = ExternalPsk.plain(b"identity", b"k" * 32, role=Role.CLIENT)
    config = ClientConfig(external_psks=(psk,))
    assert with_system_trust(config) is config
