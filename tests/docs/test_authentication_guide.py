"""docs/guides/authentication.md: its code runs, each block against the other end that it speaks of."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

import pellucid
from pellucid.cli.get import command as get_command
from pellucid.cli.serve import command as serve_command
from pellucid.registry import SignatureScheme
from pellucid.testing.ca import CA
from tests.docs.test_resumption_guide import answer, served

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "authentication.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
REVOCATION, STAPLING, SEVERAL, RAW_KEYS, PSK, LATER = BLOCKS
AUTHORITY = CA("guide to authentication")


def run(text: str, **names: Any) -> dict[str, Any]:
    known = {"pellucid": pellucid, "dataclasses": dataclasses, "trust": AUTHORITY.trust, "host": "localhost", **names}
    exec(compile(text, "guide", "exec"), known)
    return known


def spoken(port: int, config: pellucid.ClientConfig) -> pellucid.Negotiated:
    with pellucid.connect("localhost", port, config) as stream:
        stream.sendall(b"hello")
        assert stream.recv() == b"answer"
        return stream.negotiated


def test_guide_revocation_is_asked_by_staple_and_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leaf = AUTHORITY.issue("localhost")
    (tmp_path / "staple").write_bytes(AUTHORITY.ocsp_response(leaf))
    credential = pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)
    server = run(STAPLING, credential=credential, staple_path=tmp_path / "staple")["server"]
    with served(answer, server) as port:
        run(REVOCATION, crl=AUTHORITY.crl(), port=port)
        assert "the CRL" in capsys.readouterr().out
        with pytest.raises(pellucid.CertificateRejected):
            run(REVOCATION, crl=AUTHORITY.crl(leaf), port=port)
    without = pellucid.ServerConfig(credentials=(credential,))
    with served(answer, without) as port, pytest.raises(pellucid.CertificateRejected, match="stapled"):
        run(REVOCATION, crl=AUTHORITY.crl(), port=port)


def test_guide_several_certificates_suit_several_clients() -> None:
    ecdsa, rsa = (
        pellucid.Credential.from_pem(leaf.chain_pem, leaf.key_pem)
        for leaf in (AUTHORITY.issue("localhost"), AUTHORITY.issue("localhost", key="rsa2048"))
    )
    ours = SignatureScheme.ECDSA_SECP256R1_SHA256
    with served(answer, run(SEVERAL, ecdsa=ecdsa, rsa=rsa)["server"]) as port:
        for scheme in (ours, SignatureScheme.RSA_PSS_RSAE_SHA256):
            config = pellucid.ClientConfig(
                trust=AUTHORITY.trust, signature_schemes=(scheme,), signature_algorithms_cert=(ours,)
            )
            assert spoken(port, config).signature_scheme == scheme


def test_guide_raw_keys_and_pre_shared_keys_do_without_certificates() -> None:
    key = AUTHORITY.issue("whoever").key_pem
    public = load_pem_private_key(key, None).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ends = run(RAW_KEYS, key_pem=key, public_key_pem=public)
    with served(answer, ends["server"]) as port:
        peer = spoken(port, ends["config"]).peer
        assert peer is not None
        assert peer.certificate_type == pellucid.CertificateType.RAW_PUBLIC_KEY
    ends = run(PSK, key=os.urandom(32))
    with served(answer, ends["hub"]) as port:
        assert spoken(port, ends["sensor"]).peer is None


def test_guide_client_is_asked_later() -> None:
    server, client = AUTHORITY.issue("localhost"), AUTHORITY.issue("client.test", purposes=("client",))
    credential, mine = (pellucid.Credential.from_pem(one.chain_pem, one.key_pem) for one in (server, client))
    ends = run(LATER, credential=credential, mine=mine)
    with served(ends["handle"], ends["server"]) as port, pellucid.connect("localhost", port, ends["config"]) as stream:
        answers = []
        for _ in range(2):
            stream.sendall(b"please")
            answers.append(stream.recv())
    assert answers == [b"who are you? ask again", b"as you wish"]


def test_guide_commands_have_the_options_they_are_given() -> None:
    commands = re.findall(r"^pellucid (get|serve) ([^#\n]*)", GUIDE, re.MULTILINE)
    assert len(commands) == 9
    for name, rest in commands:
        command: click.Command = {"get": get_command, "serve": serve_command}[name]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest.split() if word.startswith("--")} <= known
