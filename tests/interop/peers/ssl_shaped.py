"""Libraries with the shape of Python's ssl module: ssl itself (OpenSSL), utls (BoringSSL); rtls is in `rustls`."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.interop.names import (
    CCM,
    GROUPS,
    NO_CCM,
    NO_EARLY_DATA,
    NO_ED448,
    NO_HYBRID,
    NO_KEY_UPDATE,
    NO_PSK,
    NO_RSASSA_PSS,
    NO_X448,
    PSKS,
)
from tests.interop.peers import openssl_names
from tests.interop.peers.own import requested, serving, version_tuple
from tests.interop.process import output_of
from tests.interop.spec import ClientDone, ClientSpec, Peer, Role, RunningServer, ServerSpec


class SSLShaped(Peer):
    """module: what the program imports; title: what it is a binding of; package: what pip calls it."""

    module = ""
    title = ""
    package = ""

    @functools.cache  # noqa: B019 - one instance of each class, for as long as the process lives
    def version(self) -> str:
        text = output_of([sys.executable, "-c", f"import {self.module} as m; print(m.OPENSSL_VERSION)"]).strip()
        return f"{self.title}: {text}"

    def missing(self) -> str | None:
        if importlib.util.find_spec(self.module) is None:
            return f"the package {self.package} is not installed (pip install {self.package})"
        return None

    def serve(self, spec: ServerSpec) -> contextlib.AbstractContextManager[RunningServer]:
        return serving([*self._command(), *self._words(spec, Role.SERVER)], spec, env=self._environment(spec))

    def request(self, spec: ClientSpec) -> ClientDone:
        return requested([*self._command(), *self._words(spec, Role.CLIENT)], spec, env=self._environment(spec))

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "tests.interop.programs.python.ssl_shaped", f"module={self.module}"]

    def _words(self, spec: ServerSpec | ClientSpec, role: Role) -> list[str]:
        return []

    def _environment(self, spec: ServerSpec | ClientSpec) -> dict[str, str]:
        return {}


class Stdlib(SSLShaped):
    name = "stdlib"
    module = "ssl"
    title = f"Python {sys.version_info.major}.{sys.version_info.minor} ssl"

    def lacks(self, role: Role) -> Mapping[str, str]:
        reasons = openssl_names.lacks(version_tuple(self.version().rpartition("OpenSSL")[2]))
        reasons["key-update:initiate"] = NO_KEY_UPDATE
        reasons |= {"early-data": NO_EARLY_DATA, **dict.fromkeys(PSKS, NO_PSK)}
        return reasons

    def _words(self, spec: ServerSpec | ClientSpec, role: Role) -> list[str]:
        return ["middlebox=no"] if isinstance(spec, ClientSpec) and not spec.middlebox_compatibility else []

    def _environment(self, spec: ServerSpec | ClientSpec) -> dict[str, str]:
        """Return where OpenSSL finds its defaults: before Python 3.15 the module has no call for these."""
        lines = ["MinProtocol = TLSv1.3"]
        if spec.suites:
            lines.append(f"Ciphersuites = {':'.join(spec.suites)}")
            if any("CCM" in suite for suite in spec.suites):
                lines.append("CipherString = DEFAULT:@SECLEVEL=0")
        if spec.groups:
            lines.append(f"Groups = {openssl_names.group_list(spec.groups)}")
        return {"OPENSSL_CONF": str(_openssl_configuration(spec.workdir, lines))}


def _openssl_configuration(directory: Path, lines: list[str]) -> Path:
    path = directory / f"openssl-{abs(hash(tuple(lines))):x}.cnf"
    head = "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = defaults\n[defaults]\n"
    path.write_text(head + "\n".join(lines) + "\n")
    return path


# What BoringSSL can verify. By default its client leaves out P-521, Ed25519 and ML-DSA.
_BORINGSSL_SCHEMES: Final = (
    *(0x0403, 0x0804, 0x0503, 0x0805, 0x0603, 0x0806, 0x0807),
    *(0x0904, 0x0905, 0x0906),
)


class BoringSSL(SSLShaped):
    name = "boringssl"
    module = "utls"
    title = "utls"
    package = "utls"

    def lacks(self, role: Role) -> Mapping[str, str]:
        reasons = {f"suite:{suite}": NO_CCM for suite in CCM}
        reasons |= {"group:x448": NO_X448, "group:SecP256r1MLKEM768": NO_HYBRID, "group:SecP384r1MLKEM1024": NO_HYBRID}
        reasons |= {"credential:ed448": NO_ED448, "credential:rsa-pss": NO_RSASSA_PSS}
        reasons["key-update:initiate"] = NO_KEY_UPDATE
        reasons |= {"early-data": NO_EARLY_DATA, **dict.fromkeys(PSKS, NO_PSK)}
        if role is Role.CLIENT:
            reasons["resume"] = "utls gives out the session as it was before there was a ticket"
        if role is Role.SERVER:
            reasons["client-credential:ed25519"] = (
                "BoringSSL's server does not take Ed25519 unless told to; utls cannot"
            )
        return reasons

    def _words(self, spec: ServerSpec | ClientSpec, role: Role) -> list[str]:
        if role is Role.CLIENT:
            return [
                f"hello_groups={','.join(str(GROUPS[group]) for group in spec.groups)}",
                f"hello_schemes={','.join(map(str, _BORINGSSL_SCHEMES))}",
            ]
        return [f"curves={openssl_names.group_list(spec.groups)}"]
