"""Resumed only where everything is as it was: all 2^n cells of {what a session is bound to} × {same, changed}.

At the server the ticket is shown whatever the client thinks of it; at the client it is looked at what is offered.
Run with -s to see a table (attacks E7, E8).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pellucid import ClientConfig, RevocationPolicy, ServerConfig, TrustStore
from pellucid.config import ClientAuthentication
from pellucid.messages import extensions as x
from pellucid.messages.handshake import HEADER_LENGTH, ClientHello
from pellucid.sessions import MemoryServerSessions, MemorySessionStore, SessionKey, TicketKeys
from pellucid.testing.ca import CA
from tests.support import pair
from tests.support.meetings import asking, begin, client, meet, psks, server

OTHER_NAME = "other.test"
BOTH = pair.credential("p256", pair.NAME, OTHER_NAME)
OTHER_KEY = b"another key, as long as it has to be"

Changes = dict[str, dict[str, Any]]


def two_authorities() -> TrustStore:
    """The tests' CA and one more: whoever was trusted is still, but it is not the same any more."""
    return TrustStore.from_pem(pair.authority().root_pem + CA("Somebody else's root").root_pem)


def cells(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every set of things that are changed, none first."""
    for count in range(len(names) + 1):
        yield from itertools.combinations(names, count)


def show(title: str, names: tuple[str, ...], resumed: dict[tuple[str, ...], bool]) -> None:
    """A row for each thing changed alone, and one for each number of things changed."""
    print(f"\n{title}: {len(resumed)} cells")
    for cell in [(), *((name,) for name in names)]:
        print(f"  {(cell[0] if cell else 'all the same'):28} {'resumed' if resumed[cell] else 'full handshake'}")
    of_size = Counter(len(cell) for cell in resumed)
    yes = Counter(len(cell) for cell, done in resumed.items() if done)
    for size in range(2, len(names) + 1):
        print(f"  {f'{size} of them changed':28} {yes[size]} of {of_size[size]} resumed")


# ---- the server's side -----------------------------------------------------------------------------------------------


SERVER: Changes = {
    "SNI": {},
    "ALPN": {"alpn": ("http/1.1", "h2")},
    "client CA": {"client_trust": two_authorities()},
    "authentication mode": {"client_authentication": ClientAuthentication.OPTIONAL},
    "revocation policy": {"revocation": RevocationPolicy(max_age_seconds=3600.0)},
    "reverify": {"reverify_on_resumption": True},
    "external PSKs": {"external_psks": (psks(key=OTHER_KEY)[1],)},
    "ticket key": {},
}


@pytest.mark.parametrize("store", [TicketKeys, lambda: MemoryServerSessions(single_use=False)], ids=["sealed", "kept"])
@pytest.mark.rfc("9846 §4.7.1", "a ticket is good only for a connection like the one it was issued on")
def test_e7_server_resumes_only_where_all_is_the_same(store: Callable[[], Any]) -> None:
    names = tuple(SERVER)
    own, other = store(), store()
    settings: dict[str, Any] = {"alpn": ("h2", "http/1.1"), "credentials": (BOTH,)}
    first = asking(sessions=own, **settings)
    kept = MemorySessionStore()
    ours = client(alpn=("h2", "http/1.1"), credentials=(pair.credential(),), sessions=kept)
    assert not meet(ours, first).resumed
    ((key, sessions),) = kept.items()
    resumed = {}
    for cell in cells(names):
        changes = {name: value for change in cell for name, value in SERVER[change].items()}
        theirs = asking(**settings | {"sessions": other if "ticket key" in cell else own} | changes)
        host = OTHER_NAME if "SNI" in cell else pair.NAME
        kept.discard(key)
        kept.put(SessionKey(host=host, port=0, scope=key.scope), sessions[0])  # it is shown, wherever it is from
        met = meet(ours, theirs, name=host)
        resumed[cell] = met.resumed
        assert met.server.negotiated is not None
        assert met.server.negotiated.peer is not None
        assert met.server.negotiated.server_name == host
        met.speak()
        kept.discard(SessionKey(host=host, port=0, scope=key.scope))
    show("server", names, resumed)
    assert [cell for cell, done in resumed.items() if done] == [()]
    assert len(resumed) == 2 ** len(names) == 256


# ---- the client's side -----------------------------------------------------------------------------------------------


CLIENT: Changes = {
    "host": {},
    "port": {},
    "ALPN": {"alpn": ("h2",)},
    "SNI sent": {"send_server_name": False},
    "CA": {"trust": two_authorities()},
    "client certificate": {"credentials": (pair.credential("ed25519"),)},
    "revocation policy": {"revocation": RevocationPolicy(max_age_seconds=3600.0)},
    "staple asked for": {"request_ocsp": False},
    "reverify": {"reverify_on_resumption": True},
    "signature schemes": {"signature_schemes": (0x0403, 0x0807)},
    "external PSKs": {"external_psks": (psks(key=OTHER_KEY)[0],)},
}


def offers_session(config: ClientConfig, name: str, port: int) -> bool:
    met = begin(config, server(), name=name, port=port)
    flight = met.client.data_to_send()
    hello = ClientHello.decode(flight[5 + HEADER_LENGTH : 5 + int.from_bytes(flight[3:5], "big")])
    offered = x.decode_extensions(x.M.CH, hello.extensions).get(x.OFFERED_PSKS)
    return offered is not None and any(len(one.identity) > 100 for one in offered.identities)


@pytest.mark.rfc("9846 §4.7.1", "a session is resumed only by a configuration that could have made it (attack E8)")
def test_e8_client_offers_a_session_only_where_all_is_the_same() -> None:
    names = tuple(CLIENT)
    store = MemorySessionStore()
    settings: dict[str, Any] = {"alpn": ("h2", "http/1.1"), "credentials": (pair.credential(),), "sessions": store}
    theirs: ServerConfig = asking(alpn=("h2",), credentials=(BOTH,))
    assert not meet(client(**settings), theirs, port=443).resumed
    ((key, sessions),) = store.items()
    offered = {}
    for cell in cells(names):
        changes = {name: value for change in cell for name, value in CLIENT[change].items()}
        config = client(**settings | changes)
        store.discard(key)
        store.put(key, sessions[0])
        host, port = OTHER_NAME if "host" in cell else pair.NAME, 8443 if "port" in cell else 443
        offered[cell] = offers_session(config, host, port)
    show("client", names, offered)
    assert [cell for cell, done in offered.items() if done] == [()]
    assert len(offered) == 2 ** len(names) == 2048
    store.put(key, sessions[1])
    assert meet(client(**settings), theirs, port=443).resumed


@pytest.mark.parametrize("change", CLIENT)
def test_e8_what_is_changed_and_changed_back_resumes_again(change: str) -> None:
    """The other configuration has taken nothing away."""
    if change in {"host", "port"}:
        return
    store = MemorySessionStore()
    settings: dict[str, Any] = {"alpn": ("h2", "http/1.1"), "credentials": (pair.credential(),), "sessions": store}
    theirs = asking(alpn=("h2",), credentials=(BOTH,))
    config = client(**settings)
    meet(config, theirs)
    changed = dataclasses.replace(config, **CLIENT[change])
    assert changed.session_scope != config.session_scope
    meet(changed, theirs)
    assert meet(config, theirs).resumed
