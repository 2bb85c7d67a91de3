"""The programs that `pellucid doctor` tries: how each is asked for a URL, and what has it trust a CA.

What is told to help is tried too, in the form in which it is told.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pellucid.cli.stores import Root, StoreFailed, chromium, run
from pellucid.explain.text import escaped

__all__ = ["PROGRAMS", "Attempt", "Program", "attempt"]

_SHOWN: Final = 200  # characters of what a program said
_MEGABYTE: Final = 2**20
_PYTHON: Final = "import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=10).read()"
_NODE: Final = (
    "const https = require('https');"
    "https.get(process.argv[1], r => { r.resume(); r.on('end', () => process.exit(0)) })"
    ".on('error', e => { console.error(`${e.code}: ${e.message}`); process.exit(1) })"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One kind of client.

    program:   what is looked for on the PATH; module: which module its Python must have.
    arguments: after the program, for a URL; input: what it reads, for a URL.
    fix:       arguments that come first for it to trust a CA, None if there are none.
    variable:  what has it trust a CA by the environment; unset: what has to go for `fix` to count.
    line:      what to type, given the CA's file, quoted, and the origin.
    stores:    those of `pellucid trust` that it reads.
    """

    name: str
    program: str
    arguments: Callable[[str], tuple[str, ...]]
    line: Callable[[str, str], str]
    module: str = ""
    input: Callable[[str], str] = lambda _: ""
    fix: Callable[[str, str], tuple[str, ...]] | None = None
    variable: str = ""
    unset: tuple[str, ...] = ()
    stores: tuple[str, ...] = ("debian",)
    seconds: float = 20.0

    def found(self) -> str:
        """Return its path; "" if it is not there."""
        if self.program == "python":
            return shutil.which("python3") or shutil.which("python") or sys.executable
        return shutil.which(self.program) or ""

    def why_missing(self, path: str) -> str:
        """Return why it cannot be tried; "" if it can."""
        if not path:
            return "not installed"
        if not self.module:
            return ""
        looked = (
            "import importlib.util, sys; sys.exit(0 if all(importlib.util.find_spec(m) for m in sys.argv[1:]) else 3)"
        )
        done = _run([path, "-c", looked, self.module], {}, "", 20.0)
        return "" if done[0] == 0 else f"{path} has no {self.module}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of it. said: what the program had to say, bounded and without control characters."""

    code: int | None
    said: str = field(default="")


def attempt(program: Program, path: str, url: str, *, fix_with: Root | None = None) -> Attempt:
    """Have *program* ask for *url*: as it is, or with what it is told to help. The answer is the server's to judge."""
    with tempfile.TemporaryDirectory(prefix="pellucid-doctor-", ignore_cleanup_errors=True) as scratch:
        environment: dict[str, str | None] = dict.fromkeys(_PROXIES)
        command = [path]
        if fix_with is not None:
            environment.update(_fixing(program, fix_with, Path(scratch)))
            if program.fix is not None:
                command += program.fix(str(fix_with.path), url)
        arguments = [one.replace("{scratch}", scratch) for one in program.arguments(url)]
        code, said = _run([*command, *arguments], environment, program.input(url), program.seconds)
    return Attempt(code, said)


_PROXIES: Final = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL")


def _fixing(program: Program, root: Root, scratch: Path) -> dict[str, str | None]:
    changed: dict[str, str | None] = dict.fromkeys(program.unset)
    if program.variable:
        changed[program.variable] = str(root.path)
    if program.name == "chromium":  # it has no variable: a home of its own, where the store has the CA
        try:
            run(chromium(scratch).add(root))
        except StoreFailed as error:
            return {"PELLUCID_DOCTOR": str(error)}
        changed["HOME"] = str(scratch)
    return changed


def _run(command: list[str], changes: Mapping[str, str | None], text: str, seconds: float) -> tuple[int | None, str]:
    environment = {name: value for name, value in os.environ.items() if name not in changes}
    environment |= {name: value for name, value in changes.items() if value is not None}
    environment |= {"NO_PROXY": "localhost", "no_proxy": "localhost", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(  # noqa: S603  # the programs of the table below, no shell
            command,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"nothing came within {seconds:g} s"
    except OSError as error:
        return None, str(error)
    return done.returncode, _last_words(done.stdout[-_MEGABYTE:] + "\n" + done.stderr[-_MEGABYTE:])


def _last_words(text: str) -> str:
    """Return the line of an error that says most: the last that names a certificate, else the last."""
    lines = [row.strip() for row in text.splitlines() if row.strip()]
    about = [row for row in lines if "certificate" in row.lower() or "cert_" in row.lower()]
    return escaped((about or lines or [""])[-1])[:_SHOWN]


# ---- the table -------------------------------------------------------------------------------------------------------


def _module(name: str, code: str, variable: str, line: Callable[[str, str], str]) -> Program:
    return Program(
        name=name,
        program="python",
        module=name,
        arguments=lambda url: ("-c", f"import sys; {code}", url),
        variable=variable,
        line=line,
    )


def _s_client(url: str) -> tuple[str, ...]:
    host, _, _ = url.removeprefix("https://").partition("/")
    name = host.partition(":")[0]
    verify = ("-verify_return_error", "-verify_hostname", name)
    return ("-quiet", "-connect", host, "-servername", name, *verify)


def _chromium(url: str) -> tuple[str, ...]:
    # The page is our own, and the profile is thrown away; root and many containers have no sandbox.
    quiet = ("--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update")
    rest = ("--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--no-proxy-server", "--disable-quic")
    return ("--headless=new", "--no-sandbox", *quiet, *rest, "--user-data-dir={scratch}/profile", "--dump-dom", url)


def _path(url: str) -> str:
    return "/" + url.split("/", 3)[3]


PROGRAMS: Final = (
    Program(name="curl", program="curl", arguments=lambda url: ("-sS", "-m", "10", "-o", os.devnull, url),
            fix=lambda ca, _: ("--cacert", ca), line=lambda ca, url: f"curl --cacert {ca} {url}"),
    Program(name="wget", program="wget",
            arguments=lambda url: ("-nv", "-t", "1", "-T", "10", "-O", os.devnull, url),
            fix=lambda ca, _: (f"--ca-certificate={ca}",), line=lambda ca, url: f"wget --ca-certificate={ca} {url}"),
    Program(name="git", program="git", arguments=lambda url: ("ls-remote", url), unset=("GIT_SSL_CAINFO",),
            fix=lambda ca, url: ("-c", f"http.{'/'.join(url.split('/')[:3])}/.sslCAInfo={ca}"),
            line=lambda ca, url: f"git config --global http.{url}.sslCAInfo {ca}"),
    Program(name="openssl", program="openssl", arguments=lambda url: ("s_client", *_s_client(url)),
            input=lambda url: f"GET {_path(url)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            variable="SSL_CERT_FILE",
            line=lambda ca, _: f"SSL_CERT_FILE={ca} openssl s_client -verify_return_error -connect HOST:PORT"),
    Program(name="python", program="python", arguments=lambda url: ("-c", _PYTHON, url), variable="SSL_CERT_FILE",
            line=lambda ca, _: f"SSL_CERT_FILE={ca} python your_program.py"),
    _module("requests", "import requests; requests.get(sys.argv[1], timeout=10)", "REQUESTS_CA_BUNDLE",
            lambda ca, _: f"REQUESTS_CA_BUNDLE={ca} python your_program.py"),
    _module("httpx", "import httpx; httpx.get(sys.argv[1], timeout=10)", "SSL_CERT_FILE",
            lambda ca, _: f"SSL_CERT_FILE={ca} python your_program.py"),
    Program(name="pip", program="python", module="pip",
            arguments=lambda url: ("-m", "pip", "download", "--no-deps", "--no-cache-dir", "--retries", "0",
                                   "--timeout", "10", "--disable-pip-version-check", "--no-input", "-d", "{scratch}",
                                   "-i", url, "pellucid-doctor-probe"),
            variable="PIP_CERT", unset=("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
            line=lambda ca, _: f"PIP_CERT={ca} pip install ..."),
    Program(name="node", program="node", arguments=lambda url: ("-e", _NODE, url), variable="NODE_EXTRA_CA_CERTS",
            line=lambda ca, _: f"NODE_EXTRA_CA_CERTS={ca} node your_program.js", stores=()),
    Program(name="chromium", program="chromium", arguments=_chromium, stores=("nss",), seconds=60.0,
            line=lambda _ca, _url: "pellucid trust --apply nss"),
)  # fmt: skip
