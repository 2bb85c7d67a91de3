"""`pellucid page`: a page that shows each visitor its own TLS connection."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import replace
from typing import Any, Final

import click

from pellucid.cli.common import CommandFailed, keylog_option, keylog_path, pcapng_option, pcapng_writer
from pellucid.cli.listening import ConnectionWatches, announce, listen, quiet_logger, run_server, url_of
from pellucid.cli.output import Output
from pellucid.cli.reloading import reloading
from pellucid.cli.server_credentials import server_credentials
from pellucid.config import ConfigSource, Credential, ServerConfig
from pellucid.explain.text import Span, line
from pellucid.integrations.asgi import Recorders
from pellucid.integrations.certificate_compression import installed
from pellucid.integrations.serving import Listening, Server
from pellucid.registry import NamedGroup
from pellucid.web.asgi import application

__all__ = ["command"]

_ALPN: Final = ("h2", "http/1.1")
_KEEP_ALIVE_SECONDS: Final = 300.0  # somebody reads, and then presses a button: on the same connection, if it is there
_RETRY_GROUPS: Final = (NamedGroup.SECP384R1, NamedGroup.SECP521R1)
"""What browsers and others know, and send no key share of at once."""


@click.command(short_help="Show each visitor of a page its own TLS connection.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address or name to listen on.")
@click.option("-p", "--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--hrr-port", metavar="PORT", type=click.IntRange(0, 65535),
              help="Where browsers have to try again (HelloRetryRequest).  [default: a free one]")  # fmt: skip
@click.option("--no-hrr", is_flag=True, help="Do without that port.")
@click.option("--public/--secrets", default=None,
              help="Whether visitors are not shown the secrets of their connections.  "
              "[default: shown to this machine alone]")  # fmt: skip
@click.option("--cert", metavar="FILE", multiple=True,
              help="The certificate chain: PEM or PKCS#12.  [default: a development one]")  # fmt: skip
@click.option("--key", metavar="FILE", multiple=True, help="The private key, where --cert does not hold it.")
@click.option("--pass", "password", metavar="PASSWORD", envvar="PELLUCID_PASS",
              help="The private key's password.  [env: PELLUCID_PASS]")  # fmt: skip
@click.option("--grace", default=1.0, show_default=True, metavar="SECONDS", type=click.FloatRange(0),
              help="How long requests may still run when the server is stopped.")  # fmt: skip
@click.option("-v", "--verbose", count=True, help="Draw each connection's handshake; -vv and -vvv in more detail.")
@keylog_option
@pcapng_option
def page(**options: Any) -> int:  # Any: click's options, each of its own type
    """Serve a page on which each visitor sees its own TLS 1.3 connection, message by message.

    Browsers get the page, curl text, and those who ask for application/json JSON. Nobody sees another's connection.
    Without --cert a development certificate is made, as `pellucid serve` does; as there, the files given are read again
    when they change and on SIGHUP. The URL is printed on standard output once the server listens.
    """
    if options["no_hrr"] and options["hrr_port"] is not None:
        raise CommandFailed("--hrr-port and --no-hrr exclude each other", code=2)
    output = Output()
    shown = {**options, "raw_public_key": False, "ocsp": None}
    credentials, authority = server_credentials(shown)
    secrets = _is_loopback(options["host"]) if options["public"] is None else not options["public"]
    with pcapng_writer(options["pcapng"]) as pcapng, contextlib.ExitStack() as opened:
        watches = ConnectionWatches(output, options["verbose"], keylog_path(options["keylog"]), pcapng)

        def make(again: bool) -> ServerConfig:
            present = server_credentials(shown, again=True)[0] if again and authority is None else credentials
            return _server_config(present, watches)

        config = opened.enter_context(reloading(make, options, output))
        configs: list[ConfigSource] = [config] if options["no_hrr"] else [config, _Retrying(config)]
        asked = (options["port"], options["hrr_port"] or 0)
        recorders = Recorders()
        sockets = [
            opened.enter_context(listen(options["host"], port, keep_syn=True))
            for port, _ in zip(asked, configs, strict=False)
        ]
        port, *others = (sock.getsockname()[1] for sock in sockets)
        retry = url_of(options["host"], others[0]) if others else None
        server = Server(
            application(secrets=secrets, port=port, retry_port=others[0] if others else None),
            [Listening(sock=sock, config=one, recorder=recorders) for sock, one in zip(sockets, configs, strict=True)],
            grace=options["grace"],
            ready=lambda: _ready(output, secrets, retry, url_of(options["host"], port), authority, credentials),
            keep_alive=_KEEP_ALIVE_SECONDS,
            logger=quiet_logger(),
        )
        run_server(server, reloads=config)
    return 0


command = page


class _Retrying:
    """The same server, which asks every client again: it takes groups that clients have no share for."""

    def __init__(self, source: ConfigSource) -> None:
        self._source = source
        self._made: tuple[ServerConfig, ServerConfig] | None = None

    @property
    def current(self) -> ServerConfig:
        config, made = self._source.current, self._made
        if made is None or made[0] is not config:
            made = self._made = config, replace(config, groups=_RETRY_GROUPS)
        return made[1]


def _server_config(credentials: tuple[Credential, ...], watches: ConnectionWatches) -> ServerConfig:
    return ServerConfig(
        credentials=credentials,
        alpn=_ALPN,
        certificate_compression=installed(),
        trace=watches.observer,
        trace_records=True,
    )


def _ready(output: Output, secrets: bool, retry: str | None, *announcement: Any) -> None:  # Any: what `announce` takes
    if secrets:
        output.talk(line("Each visitor sees the ", Span("secrets", "secret"), " of its own connection."))
    else:
        output.talk("Secrets are not shown.")
    if retry is not None:
        output.talk(line("With a HelloRetryRequest: ", Span(retry, "name")))
    announce(output, *announcement)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
