"""A certificate as a dictionary is what CPython makes of it: over all certificates that its own tests have."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from pellucid.crypto.certificates import parse_certificate
from pellucid.integrations.ssl_certificate import certificate_dict
from tests.cpython.run import module_file
from tests.support.needs import need

TEST_SSL = module_file("test.test_ssl")
UNREADABLE = {"talos-2019-0758.pem"}  # an extension that is no DER: pyca reads none of the others then


def certificates() -> dict[str, tuple[bytes, dict[str, Any]]]:
    """File name → (DER, the dictionary that `_ssl` makes of it)."""
    found = {}
    files = [] if TEST_SSL is None else [*TEST_SSL.parent.rglob("*.pem"), *TEST_SSL.parent.rglob("capath/*.0")]
    for file in sorted(files):
        text = file.read_text(encoding="latin-1")
        _head, begin, rest = text.partition("-----BEGIN CERTIFICATE-----")
        body, end, _ = rest.partition("-----END CERTIFICATE-----")
        try:
            expected = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined]
        except ssl.SSLError:  # a key, a list of revoked ones, something broken on purpose
            continue
        found[file.name] = ssl.PEM_cert_to_DER_cert(begin + body + end), expected
    return found


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_certificate_as_dictionary_is_what_cpython_makes_of_it() -> None:
    need(None if TEST_SSL is not None else "this Python came without its tests: libpython3.x-testsuite on Debian")
    known = certificates()
    assert {"allsans.pem", "nullbytecert.pem", "idnsans.pem", "nokia.pem", "keycert3.pem"} <= set(known)
    for name, (der, expected) in known.items():
        ours = certificate_dict(parse_certificate(der))
        if name in UNREADABLE:
            assert ours.items() <= expected.items(), name
        else:
            assert ours == expected, name
