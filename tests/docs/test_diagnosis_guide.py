"""docs/guides/diagnosis.md: its code runs against peers with the faults that it speaks of, and its codes are codes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

import pellucid
from pellucid import explain
from pellucid.testing.ca import CA
from pellucid.testing.faults import FaultyServer
from tests.support.needs import need_module
from tests.support.pair import client_config, credential

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "diagnosis.md").read_text(encoding="utf-8")
ERRORS, LIBRARIES, ADAPTER, SERVERS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def run(text: str, **names: Any) -> dict[str, Any]:
    known = {"pellucid": pellucid, "explain": explain, "dataclasses": dataclasses, "httpx2": httpx2, **names}
    exec(compile(text, "guide", "exec"), known)
    return known


def test_every_error_has_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyServer("self-signed") as server:
        known = run(ERRORS, host=server.address, port=server.port)
    assert known["code"] == "X509-SELF-SIGNED"
    assert "error[X509-SELF-SIGNED]" in capsys.readouterr().out


def test_error_of_a_library_leads_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    with FaultyServer("expired") as server:
        known = run(LIBRARIES, config=server.client_config, url=server.url)
    assert known["diagnosis"].code == "X509-EXPIRED"
    assert capsys.readouterr().out.startswith("X509-EXPIRED\nThe leaf 'localhost' expired on")


def test_error_of_requests_leads_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    need_module("requests")
    import requests

    with FaultyServer("expired") as server:
        run(ADAPTER, config=server.client_config, url=server.url, requests=requests)
    assert capsys.readouterr().out == "X509-EXPIRED: a certificate has expired\n"


def test_server_tells_what_its_clients_did_not_like(capsys: pytest.CaptureFixture[str]) -> None:
    config = pellucid.ServerConfig(credentials=(credential("p256", "localhost"),))
    found: list[str] = []
    with pellucid.listen("127.0.0.1", 0, config) as listener:
        port = listener.address[1]

        def clients() -> Any:
            import threading

            strangers = dataclasses.replace(client_config(), trust=CA("another").trust)

            def meet() -> None:
                with pytest.raises(pellucid.CertificateRejected):
                    pellucid.connect("127.0.0.1", port, strangers, server_name="localhost")

            thread = threading.Thread(target=meet)
            thread.start()
            yield next(iter(listener))
            thread.join(10)

        run(SERVERS, listener=clients(), found=found)
    assert found == ["TLS-ALERT-UNKNOWN-CA"]
    assert capsys.readouterr().out == "TLS-ALERT-UNKNOWN-CA: the client does not trust our CA\n"


def test_codes_of_the_guide_are_codes() -> None:
    named = set(re.findall(r"`((?:X509|TLS|TCP|DNS|PEER)-[A-Z0-9-]+|TIMEOUT)`", GUIDE))
    assert len(named) > 20 and named <= set(explain.CODES)
