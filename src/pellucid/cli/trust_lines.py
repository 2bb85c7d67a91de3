"""What to type so that a program trusts a CA's certificate: one line for each kind of client."""

from __future__ import annotations

import shlex
from pathlib import Path

__all__ = ["all_trust_lines", "trust_lines"]


def trust_lines(certificate: Path, url: str) -> tuple[tuple[str, str], ...]:
    """Return (program, what to type) for trusting *certificate*, for the kinds of client that most people have."""
    path, target = shlex.quote(str(certificate)), shlex.quote(url)
    return (
        ("pellucid", f"pellucid get --cacert {path} {target}"),
        ("curl", f"curl --cacert {path} {target}"),
        ("requests", f"REQUESTS_CA_BUNDLE={path} python your_program.py"),
        ("httpx", f"httpx.Client(verify=ssl.create_default_context(cafile={str(certificate)!r}))"),
        ("node", f"NODE_EXTRA_CA_CERTS={path} node your_program.js"),
        ("browsers", f"import {path} as an authority, in their settings for certificates"),
    )


def all_trust_lines(certificate: Path, url: str) -> tuple[tuple[str, str], ...]:
    """Return the lines of `trust_lines`, and those of programs that fewer people have to ask about."""
    path, target = shlex.quote(str(certificate)), shlex.quote(url)
    site = shlex.quote(f"http.{url}.sslCAInfo")
    copied = "/usr/local/share/ca-certificates/development-ca.crt"
    return (
        *(one for one in trust_lines(certificate, url) if one[0] != "browsers"),
        ("python", f"SSL_CERT_FILE={path} python your_program.py"),
        ("pip", f"pip install --cert {path} ..."),
        ("git", f"git config --global {site} {path}"),
        ("wget", f"wget --ca-certificate={path} {target}"),
        ("openssl", f"openssl s_client -CAfile {path} -verify_return_error -connect HOST:PORT"),
        ("go", f"SSL_CERT_FILE={path} your_program"),
        ("docker", f"COPY ca.pem {copied}, then RUN update-ca-certificates; or: docker run -v {path}:{copied}:ro ..."),
    )
