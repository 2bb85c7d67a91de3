"""curl, the command. A client only."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Mapping

from tests.interop.exchange import check
from tests.interop.names import NO_KEY_UPDATE, NO_PSK, PSKS
from tests.interop.peers import openssl_names
from tests.interop.peers.own import version_tuple
from tests.interop.process import TALK_SECONDS, PeerFailed, output_of, running
from tests.interop.spec import ClientDone, ClientSpec, Facts, Peer, Role


class Curl(Peer):
    name = "curl"

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def version(self) -> str:
        words = output_of(["curl", "--version"]).split()
        return " ".join([*words[:2], *(word for word in words[2:6] if "SSL" in word or "TLS" in word)])

    @functools.cache  # noqa: B019
    def _help(self) -> str:
        return output_of(["curl", "--help", "tls"])

    def missing(self) -> str | None:
        if shutil.which("curl") is None:
            return "no curl on the PATH (apt install curl)"
        return None if "OpenSSL" in self.version() else f"this curl is not built with OpenSSL: {self.version()}"

    def lacks(self, role: Role) -> Mapping[str, str]:
        if role is Role.SERVER:
            return {"role": "curl is a client"}
        reasons = openssl_names.lacks(version_tuple(self.version().split()[-1]))
        reasons["key-update:initiate"] = NO_KEY_UPDATE
        reasons |= dict.fromkeys(PSKS, NO_PSK)
        if "--tls-earlydata" not in self._help():
            reasons["early-data"] = "this curl has no --tls-earlydata: 8.11 brought it"
        return reasons

    def request(self, spec: ClientSpec) -> ClientDone:
        command = ["curl", "--verbose", "--silent", "--show-error", "--fail", "--noproxy", "*"]
        command += ["--max-time", f"{TALK_SECONDS:g}", "--tlsv1.3", "--cacert", str(spec.ca)]
        command += ["--connect-to", f"::127.0.0.1:{spec.port}", "-H", "Expect:"]
        command += ["--http2" if "h2" in spec.alpn else "--http1.1"]
        if not spec.alpn:
            command += ["--no-alpn"]
        if spec.suites:
            command += ["--tls13-ciphers", ":".join(spec.suites)]
            if any("CCM" in suite for suite in spec.suites):
                command += ["--ciphers", "DEFAULT:@SECLEVEL=0"]
        if spec.groups:
            command += ["--curves", openssl_names.group_list(spec.groups)]
        if spec.credential is not None:
            command += ["--cert", str(spec.credential.certificate), "--key", str(spec.credential.key)]
        if spec.early_data is not None:
            command += ["--tls-earlydata"]
        turns = spec.turns * spec.connections  # with "Connection: close" at the end each time, or a new session
        if spec.connections > 1:
            command += ["--header", "Connection: close"]
        for number, turn in enumerate(turns):
            if turn.method == "POST":
                body = spec.workdir / f"body-{number}"
                body.write_bytes(turn.body)
                command += ["--data-binary", f"@{body}"]
            command += ["--output", str(spec.workdir / f"answer-{number}")]
            command += [f"https://{spec.server_name}:{spec.port}{turn.path}"]
        with running(command, cwd=spec.workdir) as program:
            if program.finished(TALK_SECONDS + 5) != 0:
                raise PeerFailed(program.output())
            for number, turn in enumerate(turns):
                check(turn, (spec.workdir / f"answer-{number}").read_bytes())
            return ClientDone(_facts(program.stderr.decode("utf-8", "replace")), program.output())


def _facts(text: str) -> Facts:
    """Return what it says of the last connection."""
    text = text[max(text.rfind("* Connected to "), 0) :]
    suite = re.search(r"SSL connection using TLSv1\.3 / (\S+)(?: / (\S+))?", text)
    alpn = re.search(r"ALPN: server accepted (\S+)", text)
    group = openssl_names.group_name(suite.group(2)) if suite and suite.group(2) else None
    # It names the messages of the handshake.
    resumed = None if "Server hello (2)" not in text else "(IN), TLS handshake, Certificate (11)" not in text
    return Facts(
        suite=suite.group(1) if suite else None,
        group=group,
        alpn=alpn.group(1) if alpn else "",
        resumed=resumed,
    )
