"""The peers, by name. The order is the table's."""

from __future__ import annotations

from typing import Final

from tests.interop.peers.curl import Curl
from tests.interop.peers.gnutls import GnuTLS
from tests.interop.peers.go import Go
from tests.interop.peers.java import Java
from tests.interop.peers.nginx import Nginx
from tests.interop.peers.node import Node
from tests.interop.peers.openssl import OpenSSL
from tests.interop.peers.rustls import Rustls
from tests.interop.peers.ssl_shaped import BoringSSL, Stdlib
from tests.interop.peers.wolfssl import WolfSSL
from tests.interop.spec import Peer

PEERS: Final[dict[str, Peer]] = {
    peer.name: peer
    for peer in (OpenSSL(), Curl(), GnuTLS(), Nginx(), Go(), Node(), Java(), Rustls(), Stdlib(), BoringSSL(), WolfSSL())
}
