"""What to type so that a program trusts a CA's certificate: one line for each kind of client."""

from __future__ import annotations

import shlex
from pathlib import Path

__all__ = ["trust_lines"]


def trust_lines(certificate: Path, url: str) -> tuple[tuple[str, str], ...]:
    """Return (program, what to type) for trusting *certificate*, one for each kind of client."""
    path, target = shlex.quote(str(certificate)), shlex.quote(url)
    return (
        ("pellucid", f"pellucid get --cacert {path} {target}"),
        ("curl", f"curl --cacert {path} {target}"),
        ("requests", f"REQUESTS_CA_BUNDLE={path} python your_program.py"),
        ("httpx", f"httpx.Client(verify=ssl.create_default_context(cafile={str(certificate)!r}))"),
        ("node", f"NODE_EXTRA_CA_CERTS={path} node your_program.js"),
        ("browsers", f"import {path} as an authority, in their settings for certificates"),
    )
