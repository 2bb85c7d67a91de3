"""Three libraries with the shape of Python's ssl module: ssl itself (OpenSSL), rtls (rustls), utls (BoringSSL)."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.interop.names import CCM, GROUPS
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
        reasons = openssl_names.lacks(version_tuple(self.version().rpartition("OpenSSL")[2]), self.version())
        reasons["key-update:initiate"] = "Python's ssl has no call that sends a KeyUpdate"
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


class Rustls(SSLShaped):
    name = "rustls"
    module = "rtls"
    title = "rtls"
    package = "rtls"

    def lacks(self, role: Role) -> Mapping[str, str]:
        reasons = {f"suite:{suite}": "rustls has no CCM suites" for suite in CCM}
        reasons |= {f"group:{group}": f"rustls has no {group}" for group in ("x448", "SecP384r1MLKEM1024")}
        reasons["group:SecP256r1MLKEM768"] = "rustls leaves SecP256r1MLKEM768 out, and rtls cannot choose groups"
        reasons["group:secp521r1"] = "rustls leaves secp521r1 out, and rtls cannot choose groups"
        reasons["credential:ed448"] = "rustls has no Ed448"
        reasons["credential:rsa-pss"] = "rustls does not take id-RSASSA-PSS keys"
        reasons["key-update:initiate"] = "rtls does not expose rustls's refresh_traffic_keys"
        if role is Role.SERVER:
            reasons["client-authentication"] = "rtls's server asks for no certificate, whatever its verify_mode"
        return reasons

    def retry(self, role: Role) -> tuple[str, str]:
        # rtls cannot choose suites or groups: we do. Its client shares x25519; ask its server for what it has not.
        return ("x25519", "secp384r1") if role is Role.CLIENT else ("x448", "secp256r1")


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
        reasons = {f"suite:{suite}": "BoringSSL has no CCM suites in TLS 1.3" for suite in CCM}
        reasons |= {
            f"group:{group}": f"BoringSSL has no {group}"
            for group in ("x448", "SecP256r1MLKEM768", "SecP384r1MLKEM1024")
        }
        reasons["credential:ed448"] = "BoringSSL has no Ed448"
        reasons["credential:rsa-pss"] = "BoringSSL does not parse id-RSASSA-PSS keys"
        reasons["key-update:initiate"] = "utls does not expose SSL_key_update"
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
