"""Every limit is one: named in limits.py, and obeyed somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pellucid
from pellucid import limits
from pellucid.crypto.certificates import parse_certificate
from pellucid.crypto.pyca import PYCA, SUITES
from pellucid.registry import CipherSuite
from pellucid.testing.ca import CA, KeyKind
from pellucid.verify.request import Purpose, VerificationRequest
from pellucid.verify.webpki import WebPKIVerifier

_SOURCE = Path(pellucid.__file__).parent
_NAMES = tuple(name for name in vars(limits) if name.isupper())


def test_every_limit_is_used() -> None:
    text = "\n".join(path.read_text("utf-8") for path in _SOURCE.rglob("*.py") if path.name != "limits.py")
    assert _NAMES
    assert set(_NAMES) - set(re.findall(r"\w+", text)) == set()


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


@pytest.mark.parametrize("key", ["p256", "ed25519"])
def test_a_path_has_eight_intermediates_and_not_one_more(key: KeyKind) -> None:
    """Both ways to a verdict: upstream's, and ours for Edwards issuers."""
    root = CA("Root", key=key)
    authority = root
    for depth in range(1, limits.MAX_PATH_DEPTH + 2):
        authority = authority.intermediate(f"Intermediate {depth}", key=key)
        leaf, *intermediates = authority.issue("deep.example").chain_der
        assert len(intermediates) == depth
        report = WebPKIVerifier(root.trust).verify(
            VerificationRequest(
                leaf=parse_certificate(leaf),
                intermediates=tuple(intermediates),
                purpose=Purpose.SERVER_AUTH,
                server_name="deep.example",
                now=PYCA.now(),
            )
        )
        assert report.accepted is (depth <= limits.MAX_PATH_DEPTH), "\n".join(report.lines())
