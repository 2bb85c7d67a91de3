"""rustls: through rtls, shaped like Python's ssl module; for sessions, of which that says nothing, programs/rust."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.interop.exchange import Purpose
from tests.interop.names import CCM, NO_CCM, NO_ED448, NO_HYBRID, NO_KEY_UPDATE, NO_PSK, NO_RSASSA_PSS, NO_X448, PSKS
from tests.interop.peers.build import built
from tests.interop.peers.own import PROGRAMS, requested, serving, version_tuple
from tests.interop.peers.ssl_shaped import SSLShaped
from tests.interop.process import output_of
from tests.interop.spec import ClientDone, ClientSpec, Role, RunningServer, ServerSpec

_SESSIONS: Final = (Purpose.RESUME, Purpose.EARLY_DATA)
_LOCK: Final = PROGRAMS / "rust" / "Cargo.lock"
_CARGO: Final = (1, 78)  # reads the lock file


class Rustls(SSLShaped):
    name = "rustls"
    module = "rtls"
    title = "rtls"
    package = "rtls"

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def version(self) -> str:
        locked = re.search(r'^name = "rustls"\nversion = "([\d.]+)"$', _LOCK.read_text(), re.MULTILINE)
        sessions = f"; for sessions {locked.group(1)} with ring" if locked and self._has_cargo() else ""
        return super().version() + sessions

    def lacks(self, role: Role) -> Mapping[str, str]:
        reasons = {f"suite:{suite}": NO_CCM for suite in CCM}
        reasons |= {"group:x448": NO_X448, "group:SecP384r1MLKEM1024": NO_HYBRID}
        for group in ("SecP256r1MLKEM768", "secp521r1"):
            reasons[f"group:{group}"] = "rustls leaves it out by default, and rtls cannot choose groups"
        reasons |= {"credential:ed448": NO_ED448, "credential:rsa-pss": NO_RSASSA_PSS}
        reasons["key-update:initiate"] = NO_KEY_UPDATE
        reasons |= dict.fromkeys(PSKS, NO_PSK)
        if not self._has_cargo():
            reasons["resume"] = (
                f"rtls says nothing of sessions, and there is no cargo {_CARGO[0]}.{_CARGO[1]} for rustls"
            )
        if role is Role.SERVER:
            reasons["client-authentication"] = "rtls's server asks for no certificate, whatever its verify_mode"
        return reasons

    def retry(self, role: Role) -> tuple[str, str]:
        # rtls cannot choose suites or groups: we do. Its client shares x25519; ask its server for what it has not.
        return ("x25519", "secp384r1") if role is Role.CLIENT else ("x448", "secp256r1")

    def prepare(self, purpose: Purpose) -> None:
        if purpose in _SESSIONS:
            self._program()

    def serve(self, spec: ServerSpec) -> contextlib.AbstractContextManager[RunningServer]:
        if spec.purpose in _SESSIONS:
            return serving([self._program(), *_early(spec)], spec)
        return super().serve(spec)

    def request(self, spec: ClientSpec) -> ClientDone:
        if spec.purpose in _SESSIONS:
            return requested([self._program(), *_early(spec)], spec)
        return super().request(spec)

    @functools.cache  # noqa: B019 - one instance, for as long as the process lives
    def _cargo(self) -> str:
        return output_of(["cargo", "--version"]) if shutil.which("cargo") else ""

    def _has_cargo(self) -> bool:
        return version_tuple(self._cargo()) >= _CARGO

    def _program(self) -> Path:
        sources = [_LOCK.with_name("Cargo.toml"), _LOCK, _LOCK.parent / "src" / "main.rs"]
        command = ["cargo", "build", "--quiet", "--locked", "--manifest-path", str(sources[0]), "--target-dir"]
        return built("rust", self._cargo(), sources, lambda to: [*command, str(to)]) / "debug" / "peer"


def _early(spec: ServerSpec | ClientSpec) -> list[str]:
    return ["early=1"] if spec.early_data is not None else []
