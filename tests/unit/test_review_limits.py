"""Every limit is one: named in limits.py, and obeyed somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pellucid
from pellucid import limits
from pellucid.crypto.pyca import SUITES
from pellucid.registry import CipherSuite

_SOURCE = Path(pellucid.__file__).parent
_NAMES = tuple(name for name in vars(limits) if name.isupper())


def test_every_limit_is_used() -> None:
    text = "\n".join(path.read_text("utf-8") for path in _SOURCE.rglob("*.py") if path.name != "limits.py")
    assert _NAMES
    assert [name for name in _NAMES if not re.search(rf"\b{name}\b", text)] == []


def test_every_suite_is_rekeyed_by_a_limit() -> None:
    """CCM's bound is below GCM's; ChaCha20-Poly1305's is past the sequence number's end (RFC 9846 §5.5)."""
    expected = {
        CipherSuite.TLS_AES_128_GCM_SHA256: limits.REKEY_AFTER_RECORDS,
        CipherSuite.TLS_AES_256_GCM_SHA384: limits.REKEY_AFTER_RECORDS,
        CipherSuite.TLS_CHACHA20_POLY1305_SHA256: None,
        CipherSuite.TLS_AES_128_CCM_SHA256: limits.CCM_REKEY_AFTER_RECORDS,
        CipherSuite.TLS_AES_128_CCM_8_SHA256: limits.CCM_REKEY_AFTER_RECORDS,
    }
    assert {suite.code: suite.rekey_after for suite in SUITES} == expected
    assert limits.CCM_REKEY_AFTER_RECORDS < limits.REKEY_AFTER_RECORDS < 2**24.5
