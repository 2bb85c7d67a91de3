"""Headless Chromium: loads one page, and says over which protocol it came."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from typing import Final

from tests.interop.exchange import PAGE as PAGE
from tests.interop.process import PeerFailed, output_of

LOAD_SECONDS: Final = 60.0
_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class Page:
    """dom: the document after its scripts ran. protocol: "h2", "http/1.1", or None if the page is not PAGE."""

    dom: str = field(repr=False)
    protocol: str | None


def missing() -> str | None:
    """Return why there is no Chromium, with what to install; None if there is one."""
    return None if _program() else "no chromium on the PATH (apt install chromium)"


def version() -> str:
    return output_of([_program() or "chromium", "--version"]).strip().splitlines()[-1]


def load(url: str, spki_sha256: bytes, *, seconds: float = LOAD_SECONDS) -> Page:
    """Return the page at *url*. Raises PeerFailed if there is none, or not in time.

    spki_sha256: of the server's key (CredentialFiles.spki_sha256): Chromium takes a certificate with it although it
                 does not know the CA. With any other there is no page.
    """
    with tempfile.TemporaryDirectory(prefix="pellucid-chromium-", ignore_cleanup_errors=True) as profile:
        command = [
            _program() or "chromium",
            "--headless=new",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--no-proxy-server",
            f"--user-data-dir={profile}",
            f"--ignore-certificate-errors-spki-list={base64.b64encode(spki_sha256).decode()}",
            "--dump-dom",
            url,
        ]
        if os.geteuid() == 0:  # Chromium refuses to run its sandbox as root
            command.insert(1, "--no-sandbox")
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, cwd=profile
            )
        except subprocess.TimeoutExpired as error:
            raise PeerFailed(f"Chromium was not done within {seconds:g} s:\n{_text(error.stderr)}") from None
    dom = _text(done.stdout)
    if done.returncode != 0 or not dom:
        raise PeerFailed(f"Chromium ended with {done.returncode}:\n{_text(done.stderr)}")
    found = re.search(r'<p id="protocol">([^<]*)</p>', dom)
    return Page(dom, found.group(1) if found else None)


def _program() -> str | None:
    return next((path for name in _PROGRAMS if (path := shutil.which(name))), None)


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")
