"""GnuTLS through gnutls-serv and gnutls-cli."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.interop import confined
from tests.interop.exchange import LARGE, TOKEN, Purpose, Turn, check, http_turn, line_turns
from tests.interop.names import HYBRIDS, MLDSA, NO_HYBRID, NO_KEY_UPDATE, NO_MLDSA
from tests.interop.peers.piped import talk
from tests.interop.process import PeerFailed, output_of, running
from tests.interop.spec import ClientDone, ClientSpec, Facts, Peer, Role, RunningServer, ServerSpec

_CIPHERS: Final = {
    "TLS_AES_128_GCM_SHA256": "AES-128-GCM",
    "TLS_AES_256_GCM_SHA384": "AES-256-GCM",
    "TLS_CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    "TLS_AES_128_CCM_SHA256": "AES-128-CCM",
    "TLS_AES_128_CCM_8_SHA256": "AES-128-CCM-8",
}
_GROUPS: Final = {
    "secp256r1": "SECP256R1",
    "secp384r1": "SECP384R1",
    "secp521r1": "SECP521R1",
    "x25519": "X25519",
    "x448": "X448",
    "X25519MLKEM768": "X25519-MLKEM768",
    "SecP256r1MLKEM768": "SECP256R1-MLKEM768",
    "SecP384r1MLKEM1024": "SECP384R1-MLKEM1024",
}


class GnuTLS(Peer):
    name = "gnutls"

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def version(self) -> str:
        return output_of(["gnutls-cli", "--version"]).partition("\n")[0].replace("gnutls-cli", "GnuTLS")

    def missing(self) -> str | None:
        return None if shutil.which("gnutls-serv") else "no gnutls-serv on the PATH (apt install gnutls-bin)"

    @functools.cache  # noqa: B019
    def _list(self) -> str:
        return output_of(["gnutls-cli", "--list"])

    def lacks(self, role: Role) -> Mapping[str, str]:
        known = self._list()
        reasons = {f"group:{group}": NO_HYBRID for group in HYBRIDS if f"GROUP-{_GROUPS[group]}" not in known}
        reasons |= {f"credential:{name}": NO_MLDSA for name in MLDSA if f"ML-DSA-{name[-2:]}" not in known.upper()}
        # HSK_KEY_UPDATE_ASKED in lib/tls13/key_update.c; RFC 9846 §4.7.3 has such messages cross.
        reasons["key-update:cross"] = "GnuTLS takes a KeyUpdate that crosses its own for an illegal_parameter"
        if role is Role.CLIENT:
            reasons["cookie-only"] = "GnuTLS answers a HelloRetryRequest without key_share with illegal_parameter"
        if role is Role.SERVER:
            # In CI it has to work: there the cell fails with what unshare says.
            if (unconfined := confined.missing()) is not None and not os.environ.get("CI"):
                reasons["role"] = f"gnutls-serv binds every interface, and {unconfined}"
            reasons["key-update:initiate"] = NO_KEY_UPDATE
        return reasons

    def turns(self, role: Role, purpose: Purpose) -> tuple[Turn, ...]:
        if role is Role.CLIENT:
            return super().turns(role, purpose)
        if purpose is Purpose.LARGE:
            return line_turns(LARGE)
        if purpose is Purpose.ANSWER_KEY_UPDATE:
            return line_turns(b"one\ntwo\nthree\n")
        return (http_turn("GET", "/hello", TOKEN, last=True),)

    @contextlib.contextmanager
    def serve(self, spec: ServerSpec) -> Iterator[RunningServer]:
        command = ["gnutls-serv", "--port", str(confined.PORT), "--priority", _priority(spec.suites, spec.groups)]
        command += ["--x509certfile", str(spec.credential.certificate), "--x509keyfile", str(spec.credential.key)]
        if spec.client_authentication == "none":
            command += ["--disable-client-cert"]
        else:
            command += ["--x509cafile", str(spec.ca), "--verify-client-cert"]
            command += ["--require-client-cert"] if spec.client_authentication == "required" else []
        for name in spec.alpn:
            command += ["--alpn", name]
        if spec.purpose in (Purpose.LARGE, Purpose.ANSWER_KEY_UPDATE):
            command += ["--echo"]
        else:
            (spec.workdir / "hello").write_bytes(TOKEN)
            command += ["--http", "--httpdata", str(spec.workdir / "hello")]
        with confined.confined(command, cwd=spec.workdir) as (program, port):
            program.wait_for(rb"IPv4 .*done")
            yield RunningServer(port, lambda: _facts(program.output()), program.output, pid=program.pid)

    def request(self, spec: ClientSpec) -> ClientDone:
        log = spec.workdir / "gnutls-cli.log"
        command = ["gnutls-cli", "--priority", _priority(spec.suites, spec.groups), "--port", str(spec.port)]
        command += ["--x509cafile", str(spec.ca), "--logfile", str(log)]
        command += ["--sni-hostname", spec.server_name, "--verify-hostname", spec.server_name]
        if len(spec.groups) > 1:
            command += ["--single-key-share"]
        if spec.credential is not None:
            command += ["--x509certfile", str(spec.credential.certificate), "--x509keyfile", str(spec.credential.key)]
        for name in spec.alpn:
            command += ["--alpn", name]
        if spec.purpose in (Purpose.INITIATE_KEY_UPDATE, Purpose.CROSS_KEY_UPDATES):
            command += ["--inline-commands"]
        command += ["127.0.0.1"]
        with running(command, cwd=spec.workdir) as program:

            def between(number: int) -> None:
                if number == 1 and spec.purpose in (Purpose.INITIATE_KEY_UPDATE, Purpose.CROSS_KEY_UPDATES):
                    # The log, where it says that it did so, is only written at its end.
                    program.write(b"^rekey^\n")

            try:
                for turn, answer in zip(spec.turns, talk(program, spec.turns, between), strict=True):
                    check(turn, answer)
            except PeerFailed as error:
                raise PeerFailed(f"{error}\n{_text(log)}") from None
            program.close_input()
            return ClientDone(_facts(_text(log)), program.output() + "\n" + _text(log))


def _text(log: Path) -> str:
    return log.read_text("utf-8", "replace") if log.exists() else ""


def _priority(suites: tuple[str, ...], groups: tuple[str, ...]) -> str:
    words = ["NORMAL", "-VERS-ALL", "+VERS-TLS1.3"]
    if suites:
        words += ["-CIPHER-ALL", *(f"+{_CIPHERS[suite]}" for suite in suites)]
    if groups:
        words += ["-GROUP-ALL", *(f"+GROUP-{_GROUPS[group]}" for group in groups)]
    return ":".join(words)


def _facts(text: str) -> Facts:
    """Return what the last `- Description: (TLS1.3-X.509)-(ECDHE-X25519)-(…)-(AES-256-GCM)` says."""
    found = re.findall(r"^- Description: \(TLS1\.3[^)]*\)-\(([^)]+)\)-\([^)]+\)-\(([^)]+)\)", text, re.MULTILINE)
    if not found:
        return Facts()
    key_exchange, cipher = found[-1]
    groups = {spelling: name for name, spelling in _GROUPS.items()}
    suites = {spelling: name for name, spelling in _CIPHERS.items()}
    alpn = re.findall(r"^- Application protocol: (\S+)", text, re.MULTILINE)
    return Facts(
        suite=suites.get(cipher),
        group=groups.get(key_exchange.removeprefix("ECDHE-").removeprefix("HYBRID-")),
        alpn=alpn[-1] if alpn else None,
    )
