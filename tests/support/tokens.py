"""SoftHSM tokens for tests: a folder, one token in it, keys that were imported."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.needs import need, need_module

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
PIN = "5678"
SECONDS = 30


def module() -> str:
    """Return SoftHSM's module; where there is none the test fails in CI and is skipped elsewhere."""
    need_module("pkcs11")
    found = [path for path in MODULES if Path(path).exists()]
    need(None if found else "SoftHSM is not installed")
    return found[0]


class Token:
    """A token named "web" in *folder*, which SOFTHSM2_CONF must say before the module is loaded."""

    def __init__(self, folder: Path) -> None:
        (folder / "tokens").mkdir()
        self.configuration = folder / "softhsm2.conf"
        self.configuration.write_text(
            f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        )
        self._folder = folder
        self._run("--init-token", "--free", "--label", "web", "--so-pin", "1234", "--pin", PIN)
        self.pin_file = folder / "pin"
        self.pin_file.write_text(f"{PIN}\n")
        self.pin_file.chmod(0o600)

    @property
    def environment(self) -> dict[str, str]:
        return {"SOFTHSM2_CONF": str(self.configuration)}

    def add(self, label: str, number: int, key_pem: bytes) -> None:
        """Put a private key into the token."""
        file = self._folder / f"{label}.key"
        file.write_bytes(key_pem)
        self._run("--import", str(file), "--token", "web", "--label", label, "--id", f"{number:02x}", "--pin", PIN)
        file.unlink()

    def uri(self, label: str, *, query: str | None = None) -> str:
        where = f"module-path={module()}&pin-source=file:{self.pin_file}" if query is None else query
        return f"pkcs11:token=web;object={label}?{where}"

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            ["softhsm2-util", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
