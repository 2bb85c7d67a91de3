"""Views of real handshakes between two ends of ours, and their pages as files: what tests render and people look at.

python -m tests.support.gallery FOLDER     writes every page of the gallery there
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

from pellucid import ClientConfig, ServerConfig
from pellucid.config import ClientAuthentication
from pellucid.explain.recorder import Recorder
from pellucid.integrations.certificate_compression import installed
from pellucid.registry import NamedGroup
from pellucid.trace import Direction, Role, TcpConnected, TcpInfo, TcpPacket
from pellucid.web.page import page
from pellucid.web.view import Action, Exchange, Link, View
from tests.support.pair import Pair, authority, credential, server_config
from tests.support.resuming import early_client, early_server, resuming_client, resuming_server, settle

REQUEST = b"GET / HTTP/1.1\r\nHost: pair.test\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + b"<p>hello</p>" * 400
EXCHANGE = Exchange(
    protocol="HTTP/2",
    request="GET /",
    request_headers=(("host", "pair.test"), ("accept", "text/html"), ("user-agent", "Mozilla/5.0 (X11; Linux)")),
    response="200",
    response_headers=(("content-type", "text/html; charset=utf-8"), ("cache-control", "no-store")),
)
ACTIONS = (
    Action(name="resume", label="Resume this session", url="/again", note="A second connection, without certificates."),
    Action(name="retry", label="Ask for a HelloRetryRequest", url="/retry", note="The server wants another group."),
    Action(name="update", label="Renew the keys", url="/update", note="A KeyUpdate on this very connection."),
)
LINKS = (
    Link(label="Packets (pcapng)", url="/c.pcapng", note="Opens decrypted in Wireshark."),
    Link(label="Events (JSON)", url="/c.json"),
    Link(label="Text", url="/c.txt", note="As curl gets it."),
)


def recorded(client: ClientConfig, server: ServerConfig, *, early: bool = False, first: bool = False) -> Recorder:
    """The server's record of a connection. first: another one came before it, which this one may resume."""
    if first:
        settle(Pair.of(client, server))
    recorder = Recorder()
    _tcp(recorder)
    pair = Pair.of(client, server, server_trace=recorder)
    if early:
        pair.client.send_early_data(REQUEST)
    settle(pair)
    if not early:
        pair.send(pair.client, REQUEST)
    pair.send(pair.server, ANSWER)
    return recorder


def _tcp(recorder: Recorder, *, kept: int = 3) -> None:
    """What a listener tells of the connection it accepted. kept: how many packets of its opening."""
    info = TcpInfo(
        rtt_seconds=0.0213,
        rtt_variance_seconds=0.004,
        send_mss=1448,
        receive_mss=1448,
        path_mtu=1500,
        congestion_window=10,
        receive_window=64256,
        send_window_shift=7,
        receive_window_shift=7,
        sack=True,
        timestamps=True,
        ecn=False,
        syn_data=False,
    )
    options = (("mss", "1460"), ("SACK permitted", ""), ("timestamps", "1 0"), ("window scale", "7"))
    for flags, direction, sequence in (
        (("SYN",), Direction.RECEIVED, 2_843_170_221),
        (("SYN", "ACK"), Direction.SENT, 911_420_007),
        (("ACK",), Direction.RECEIVED, 2_843_170_222),
    )[:kept]:
        recorder(
            TcpPacket(
                direction=direction,
                seconds=None,
                flags=flags,
                sequence=sequence,
                acknowledgment=0,
                window=64240,
                options=options if "SYN" in flags else (),
                source="AF_PACKET",
                raw=bytes(40),
            )
        )
    recorder(
        TcpConnected(
            role=Role.SERVER,
            local_address="192.0.2.1",
            local_port=443,
            peer_address="198.51.100.7",
            peer_port=50722,
            seconds=None,
            info=info,
        )
    )


_TRACED = {"alpn": ("h2", "http/1.1"), "trace_records": True}


def full() -> Recorder:
    groups = (NamedGroup.X25519MLKEM768, NamedGroup.X25519, NamedGroup.SECP256R1)
    return recorded(
        resuming_client(groups=groups, key_shares=groups[:2], certificate_compression=installed(), **_TRACED),
        server_config(tickets=2, **_TRACED),
    )


def retried() -> Recorder:
    """With a HelloRetryRequest, and a compressed certificate."""
    return recorded(
        resuming_client(certificate_compression=installed(), **_TRACED),
        server_config(groups=(NamedGroup.SECP256R1,), certificate_compression=installed(), **_TRACED),
    )


def resumed() -> Recorder:
    """A session resumed, with early data."""
    return recorded(early_client(**_TRACED), early_server(**_TRACED), early=True, first=True)


def resumed_without_early_data() -> Recorder:
    return recorded(resuming_client(**_TRACED), resuming_server(**_TRACED), first=True)


def authenticated() -> Recorder:
    """The client shows a certificate too."""
    return recorded(
        resuming_client(credentials=(credential("p256", "visitor.test"),), **_TRACED),
        server_config(
            client_authentication=ClientAuthentication.REQUIRED, client_trust=authority().trust, tickets=1, **_TRACED
        ),
    )


def renewed() -> Recorder:
    """Keys were renewed by both ends. Of the TCP handshake the first packet alone was kept."""
    recorder = Recorder()
    _tcp(recorder, kept=1)
    pair = Pair.of(resuming_client(**_TRACED), server_config(**_TRACED), server_trace=recorder).connect()
    pair.client.send_key_update(request_peer=True)
    pair.pump()
    pair.send(pair.server, ANSWER)
    pair.send(pair.client, REQUEST)
    return recorder


def refused() -> Recorder:
    """No group in common: it ends with an alert."""
    recorder = Recorder()
    pair = Pair.of(
        resuming_client(groups=(NamedGroup.X25519,), key_shares=(NamedGroup.X25519,)),
        server_config(groups=(NamedGroup.SECP384R1,)),
        server_trace=recorder,
    )
    pair.pump()
    return recorder


GALLERY: dict[str, Callable[[], Recorder]] = {
    "full": full,
    "retried": retried,
    "resumed": resumed,
    "again": resumed_without_early_data,
    "authenticated": authenticated,
    "renewed": renewed,
    "refused": refused,
}


@functools.cache
def recording(name: str) -> Recorder:
    """One of the gallery, made once."""
    return GALLERY[name]()


def view(name: str, *, reveal: bool = True, live: str | None = None) -> View:
    return View(
        recorder=recording(name),
        reveal=reveal,
        exchange=None if name == "refused" else EXCHANGE,
        actions=ACTIONS,
        links=LINKS,
        live=live,
    )


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in GALLERY:
        (folder / f"{name}.html").write_text(page(view(name), standalone=True), encoding="utf-8")


if __name__ == "__main__":
    main()
