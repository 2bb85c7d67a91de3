"""The numbers and words that OpenSSL has for why a certificate was refused."""

from __future__ import annotations

import pytest

from pellucid.integrations import ssl_errors
from pellucid.verify.report import Failure


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failure_has_a_number_and_words(failure: Failure) -> None:
    code = ssl_errors._VERIFY_CODES.get(failure, ssl_errors._UNSPECIFIED)
    assert code == ssl_errors._NAME_MISMATCH or ssl_errors._VERIFY_MESSAGES[code]
