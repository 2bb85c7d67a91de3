"""The codes of what goes wrong below TLS, or before a peer shows that it speaks TLS at all."""

from __future__ import annotations

from typing import Final

from pellucid.explain.diagnosis.code import Code, code

__all__ = ["TRANSPORT"]

TRANSPORT: Final[tuple[Code, ...]] = (
    code(
        "DNS-NOT-FOUND",
        "the host name has no address",
        """The resolver was asked for the addresses of the host and had none to give. Nothing was sent to any
        server.

        Either the name does not exist (a typing error, a domain that has lapsed, a name known inside another
        network only), or the resolver itself could not be asked: then the error says "temporary failure".""",
        example="pellucid get https://no-such-host.invalid/",
        remedy=(
            "check the spelling of the host name",
            "ask the resolver yourself: getent hosts NAME",
            "if the name is known in another network only, connect to that network or its VPN first",
        ),
    ),
    code(
        "DNS-TIMEOUT",
        "the resolver did not answer in time",
        """The time for connecting ran out while the name was still being resolved. The server was never spoken to:
        what does not answer is the resolver, or the way to it.""",
        example=(
            "cannot connect to example.org port 443: nobody answered within 30 s (its name was still being resolved)"
        ),
        remedy=(
            "check that the resolver can be reached: see /etc/resolv.conf, then dig NAME @ADDRESS",
            "try with an address, which needs no resolver: --resolve HOST:PORT:ADDRESS",
        ),
    ),
    code(
        "TCP-REFUSED",
        "nothing listens on that port",
        """The machine answered, and said that nothing listens there (a TCP reset in answer to our SYN). So the
        network works and the machine is up: the service is not running, listens on another port or on another
        address (127.0.0.1 only, say), or a firewall refuses on its behalf.""",
        example="cannot connect to localhost port 8444: 127.0.0.1:8444: Connection refused",
        remedy=(
            "check host and port",
            "on the server, check that the service runs and where it listens: ss -ltn",
            "if it listens on 127.0.0.1 only, have it listen on the address that clients use",
        ),
    ),
    code(
        "TCP-TIMEOUT",
        "nobody answers at that address",
        """Our SYN was sent and nothing came back, not even a refusal. A firewall that drops packets looks like
        that, and so do a machine that is switched off, a wrong address and a route that leads nowhere.""",
        example=(
            "cannot connect to 192.0.2.1 port 443: nobody answered within 30 s (192.0.2.1:443: Connection timed out)"
        ),
        remedy=(
            "check the address and that the machine is up",
            "check the firewalls between here and there: they drop, for a refusal would have been answered",
            "if a VPN or a proxy is needed to get there, use it: HTTPS_PROXY",
        ),
    ),
    code(
        "TCP-UNREACHABLE",
        "there is no way to that address",
        """The system knows no route to the address, or a router on the way said that it knows none. Often the
        address is an IPv6 one and this network has no IPv6, or a VPN is not connected.""",
        example="cannot connect to example.org port 443: [2001:db8::1]:443: Network is unreachable",
        remedy=(
            "check that this machine is connected to a network: ip route",
            "if a VPN is needed to get there, connect it",
            "if only IPv6 addresses failed, try the IPv4 one: --resolve HOST:PORT:ADDRESS",
        ),
    ),
    code(
        "TCP-RESET",
        "the connection was reset",
        """The TCP connection stood, and then a reset (RST) ended it. A TLS peer that gives up sends an alert; a
        reset comes from a program that crashed or was killed, from a listener that closes sockets unread, or from a
        box on the way (a firewall, a censor, a load balancer without a backend) that answers for the server.

        When it comes directly after the ClientHello, something in the ClientHello is the likely reason: often the
        name in server_name.""",
        example="the connection was reset in state WAIT_SH, waiting for ServerHello: Connection reset by peer",
        remedy=(
            "look at the server's log for that moment: did it crash, or close the connection?",
            "try from another network: if it works there, a box on the way resets the connection",
            "behind a load balancer, check that it has a healthy backend for this name",
        ),
    ),
    code(
        "PEER-NOT-TLS",
        "the peer speaks something else than TLS",
        """What came is not a TLS record: its first byte names no record type that there is. The diagnosis shows the
        first bytes and, where they are known, the protocol: SSH says "SSH-2.0-…", mail servers greet with "220 …",
        "+OK" or "* OK", and so on. Such protocols have TLS on a port of its own, or after a command (STARTTLS).""",
        example='the first bytes are "SSH-2.0-OpenSSH_10.0": that is SSH',
        remedy=(
            "check the port",
            "if the protocol begins in plaintext and changes to TLS by a command (STARTTLS), give that command first",
        ),
    ),
    code(
        "PEER-PLAIN-HTTP",
        "the port is for plain HTTP",
        """The peer answered in HTTP without TLS, as web servers do when something that is not HTTP comes to their
        plain port: "HTTP/1.1 400 Bad Request". Seen from a server it is a client that speaks http:// to the port of
        https://.""",
        example='pellucid get https://localhost:80/   # the first bytes are "HTTP/1.1 400 Bad Request"',
        remedy=(
            "use the port of the HTTPS service, mostly 443 or 8443",
            "if there is none, turn TLS on in the server's configuration for this port",
            "if a proxy is on the way, check that it passes TLS through to the right port",
        ),
    ),
    code(
        "PEER-STALLED",
        "the peer fell silent",
        """The connection stands, what we had to say is said, and the peer says nothing more: neither data nor an
        alert nor an end. The diagnosis says in which state, for which message and for how long we waited.

        Silence after the ClientHello is often a box on the way that swallows large ClientHellos (post-quantum key
        shares make them two packets) or a listener that is not TLS and waits for a line. Silence later in the
        handshake is a server that waits for something else: a client certificate prompt, a key service, a full
        queue.""",
        example="the handshake took longer than 10 s: in state WAIT_SH, waiting for ServerHello",
        remedy=(
            "check what the server does at that moment: its log, its load, what it waits for itself",
            "if it fell silent after the ClientHello, try with a smaller one: --groups x25519",
            "if the server is only slow, allow more time: --connect-timeout, --max-time",
        ),
    ),
    code(
        "PEER-TRUNCATED",
        "the peer's data was cut off",
        """The stream ended where no honest end can be: in the middle of a record or of a handshake message, or
        after the handshake without the close_notify that says that nothing is missing (RFC 9846 §6.1). What came
        before is authentic; that it is all cannot be known, so it is not treated as whole.

        It is a process that died, a server that does not bother to say close_notify, or a box on the way that ends
        connections: at a time limit, at a byte limit, or on purpose.""",
        example="the connection ended without close_notify, 3 records into the application data",
        remedy=(
            "look at the server's log: did it crash or close the connection there?",
            (
                "if the length of the content is known by other means (Content-Length), compare it: perhaps "
                "nothing is missing"
            ),
            (
                "if it ends after the same time or the same number of bytes each time, look for a limit in "
                "proxies on the way"
            ),
        ),
    ),
    code(
        "PEER-CLOSED-EARLY",
        "the peer closed the connection during the handshake",
        """The stream ended between two messages of the handshake, without the alert that would say why. The peer
        decided to end it there: a server that has no certificate for this name or no TLS at all on this port, a
        load balancer without a backend, a filter that looks at the server_name. Seen from a server it is often a
        client that did not like the certificate, or a health check that only connects.""",
        example="the connection ended without close_notify during the handshake, in state WAIT_SH",
        remedy=(
            "look at the peer's log: it closed the connection and knows why",
            "check the name that is asked for (server_name): some servers close on names that they do not serve",
            "if it happens in one network only, a filter there closes the connection",
        ),
    ),
    code(
        "TIMEOUT",
        "it took too long, and nobody says what",
        """A library gave up because its time was over, and cancelled what it was waiting for: whether that was the
        connection, the handshake or data is not in its error. asyncio's timeouts are of this kind.

        The connection's record says it: give the configuration a trace, ClientConfig(trace=…), and hand its recorder to
        explain.diagnose(error, recorder=recorder).""",
        example="aiohttp.ConnectionTimeoutError: Connection timeout to host https://example.org/",
        remedy=(
            "ask again with a record: explain.diagnose(error, recorder=recorder)",
            "fetch the same URL with pellucid get, which says where it waits",
            "allow more time, if the server is only slow",
        ),
    ),
    code(
        "PEER-STARTTLS",
        "the server does not go over to TLS",
        """The connection begins in the open, in a protocol such as SMTP or IMAP, and goes over to TLS when the client
        asks for it (STARTTLS). The server refused that, does not offer it, speaks another protocol on this port, or
        sent more in the open once it had agreed: what comes there could be anybody's, and is not taken for the
        server's.""",
        example="STARTTLS over smtp: the server does not offer it",
        remedy=(
            "check that the port is that of the protocol named, and not one where TLS begins at once (465, 993, 995)",
            "on the server, give the service a certificate and turn STARTTLS on",
            "if others are offered it, something between takes the offer away: do not go on in the open",
        ),
    ),
    code(
        "USAGE",
        "the call cannot be made like that",
        """The mistake is the caller's: a value that cannot be, or a call at a moment when it has no meaning.
        Nothing was sent to anybody because of it; the text says what is wrong.""",
        example="pellucid.UsageError: a client names the server: server_name",
        remedy=("change the call as the message says",),
    ),
    code(
        "OK",
        "nothing went wrong",
        """The record is of a connection that completed its handshake, or ended as it should. There is nothing to
        repair.""",
        example="explain.diagnose(recorder).code == 'OK'",
        remedy=("look at the record itself: pellucid get -v",),
    ),
    code(
        "UNKNOWN",
        "an error that is not of TLS",
        """Neither the error nor anything that it was raised from comes from a connection as far as can be seen: no
        exception of Pellucid is inside it, and no error of a socket.""",
        example="explain.diagnose(KeyError('x')).code == 'UNKNOWN'",
        remedy=("read the error's own message and traceback",),
    ),
)
