"""`pellucid serve`: a directory or an ASGI application over HTTPS, by hypercorn over Pellucid."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import click

from pellucid.cli.common import CommandFailed, keylog_option, keylog_path, pcapng_option, pcapng_writer
from pellucid.cli.files import StaticFiles
from pellucid.cli.listening import ConnectionWatches, announce, listen, quiet_logger, run_server, url_of
from pellucid.cli.output import Output
from pellucid.cli.raw_keys import verifier_of
from pellucid.cli.reloading import reloading
from pellucid.cli.server_credentials import server_credentials
from pellucid.cli.tls_options import server_changes, server_tls_options
from pellucid.cli.workers import run_workers, worker_count
from pellucid.config import ClientAuthentication, Credential, ServerConfig
from pellucid.errors import UsageError
from pellucid.explain.ladder import WORK
from pellucid.integrations.asgi import Recorders, wants_recorder
from pellucid.integrations.certificate_compression import installed
from pellucid.integrations.early_requests import MAX_EARLY_DATA, EarlyGate
from pellucid.integrations.serving import Listening, Server
from pellucid.net.load import load_trust
from pellucid.net.reload import ReloadingConfig

__all__ = ["Prepared", "application_at", "command", "prepared"]

_ALPN: Final = ("h2", "http/1.1")
_WITH_FAULT: Final = frozenset({"target", "fault", "port", "keylog", "pcapng", "verbose"})


@click.command(short_help="Serve a directory or an ASGI application over HTTPS.")
@click.argument("target", metavar="DIR|MODULE:APP", required=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address or name to listen on.")
@click.option("-p", "--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--cert", metavar="FILE", multiple=True,
              help="The certificate chain: PEM or PKCS#12. Of several, each client is shown the first for the name it "
              "asked for that it can verify.  [default: a development one]")  # fmt: skip
@click.option("--key", metavar="KEY", multiple=True,
              help="The private key, where --cert does not hold it: a file, agent:SOCKET of `pellucid agent`, or a "
              "pkcs11: URI; as many as --cert, in the same order.")  # fmt: skip
@click.option("--pass", "password", metavar="PASSWORD", envvar="PELLUCID_PASS",
              help="The private key's password.  [env: PELLUCID_PASS]")  # fmt: skip
@click.option("--ocsp", metavar="FILE",
              help="Staple the OCSP response (DER) in FILE; it is read again when it changes.")  # fmt: skip
@click.option("--raw-public-key", is_flag=True,
              help="Show clients that take one the key itself (RFC 7250); with --key alone nothing else.")  # fmt: skip
@click.option("--client-ca", metavar="FILE", help="Ask clients for a certificate by one of these CAs.")
@click.option("--client-pubkey", metavar="FILE", help="Ask clients for one of the raw public keys in FILE (RFC 7250).")
@click.option("--client-auth", type=click.Choice(["optional", "required"]),
              help="Whether a client may do without.  [default: required]")  # fmt: skip
@click.option("--early-data", is_flag=True,
              help="Answer GET, HEAD and OPTIONS that come with the ClientHello; they may be replays.")  # fmt: skip
@click.option("--no-listing", is_flag=True, help="Do not list directories.")
@click.option("--grace", default=5.0, show_default=True, metavar="SECONDS", type=click.FloatRange(0),
              help="How long requests may still run when the server is stopped.")  # fmt: skip
@click.option("--workers", default="1", show_default=True, metavar="N|auto",
              help="How many processes serve; auto: one for each CPU.")  # fmt: skip
@click.option("-v", "--verbose", count=True, help="Draw each connection's handshake; -vv and -vvv in more detail.")
@click.option("--fault", metavar="NAME",
              help="Misbehave in this way instead, against whoever connects, to see what a client makes of it; "
              "'list' shows the ways.")  # fmt: skip
@server_tls_options
@keylog_option
@pcapng_option
def serve(target: str | None, **options: Any) -> int:  # Any: click's options, each of its own type
    """Serve a directory, or the ASGI application APP in MODULE, over TLS 1.3: HTTP/2 and HTTP/1.1.

    Without --cert a development certificate is made, by a CA that is kept for this user; how to have programs trust
    it is told on standard error. The server's URL is printed on standard output once it listens.
    Clients that come again resume their sessions until the server is started anew, with whichever of the workers.
    The files of --cert, --key, --keylog and --pcapng are not served, should they lie in DIR.
    The files given are read again when they change and on SIGHUP, without a connection dropped: what cannot be used
    leaves in place what was there, and standard error says so.
    SIGINT and SIGTERM stop it when the running requests are done; a second one ends them.
    With --workers, SIGHUP replaces the workers one by one, without a connection refused.
    """
    if options["fault"]:
        _check_fault_alone(target)
        # Only now: what cheats is not even loaded by those who serve.
        code: int = importlib.import_module("pellucid.cli.serve_fault").serve_fault(options["fault"], options)
        return code
    if target is None:
        raise click.MissingParameter(param_hint="DIR|MODULE:APP", param_type="argument")
    output = Output()
    count = worker_count(options.pop("workers"))
    if count > 1:
        if not os.path.isdir(target):
            _module_and_name(target)
        run_workers(count, target, options, output)
        return 0
    application = application_at(target, options)
    credentials, authority = server_credentials(options)

    def shown(again: bool) -> tuple[Credential, ...]:
        return server_credentials(options, again=True)[0] if again and authority is None else credentials

    with prepared(application, options, output, shown) as (application, config, recorder, keep_syn):
        sock = listen(options["host"], options["port"], keep_syn=keep_syn)
        try:
            url = url_of(options["host"], sock.getsockname()[1])
            ready = functools.partial(announce, output, url, authority, credentials)
            listeners = [Listening(sock=sock, config=config, recorder=recorder)]
            server = Server(application, listeners, grace=options["grace"], ready=ready, logger=quiet_logger())
            run_server(server, reloads=config)
        finally:
            sock.close()
    return 0


command = serve


def _check_fault_alone(target: str | None) -> None:
    """Raise CommandFailed where what was given beside --fault would be passed over."""
    context = click.get_current_context()
    given = [] if target is None else [target]
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is click.core.ParameterSource.COMMANDLINE and parameter.name not in _WITH_FAULT:
            given.append(parameter.opts[0])
    if given:
        raise CommandFailed(
            f"--fault takes nothing but --port, --keylog, --pcapng and -v beside it, not {given[0]}",
            code=2,
            hints=("a faulty server has certificates of its own, and is for this machine alone",),
        )


# ---- what is served ------------------------------------------------------------------------------------------------


class Prepared(NamedTuple):
    """What a server is made of. keep_syn: whether the kernel is to keep each client's SYN, for those who look."""

    application: Any  # an ASGI application is any callable
    config: ReloadingConfig
    recorder: Recorders | None
    keep_syn: bool


@contextlib.contextmanager
def prepared(
    application: Any,
    options: dict[str, Any],
    output: Output,
    shown: Callable[[bool], tuple[Credential, ...]],
    *,
    worker: int = 0,
    sharing: Mapping[str, Any] | None = None,
) -> Iterator[Prepared]:
    """Give what *application* is served with, by one process or by a worker of several.

    shown:   the credentials; is told whether they are wanted again, for a reload.
    worker:  the number of this one, 0 for none.   sharing: what of the configuration all workers have in common.
    """
    gated = EarlyGate(application) if options["early_data"] else application
    with pcapng_writer(options["pcapng"]) as pcapng:
        watches = ConnectionWatches(output, options["verbose"], keylog_path(options["keylog"]), pcapng, worker)
        recorder = Recorders() if wants_recorder(application) else None
        shows = recorder is not None or pcapng is not None

        def make(again: bool) -> ServerConfig:
            return _server_config(shown(again), options, watches, records=shows, sharing=sharing or {})

        with reloading(make, options, output, worker=worker) as config:
            yield Prepared(gated, config, recorder, shows)


def application_at(target: str, options: dict[str, Any]) -> Any:  # Any: an ASGI application is any callable
    """Return the application that serves *target*, a directory or MODULE:APP. Raises CommandFailed (2)."""
    if os.path.isdir(target):
        secrets = [*options["cert"], *options["key"], keylog_path(options["keylog"]), options["pcapng"]]
        return StaticFiles(target, listing=not options["no_listing"], withheld=[one for one in secrets if one])
    module, attribute = _module_and_name(target)
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise CommandFailed(f"cannot import {module!r}: {error}", code=2) from error
    except Exception as error:  # whatever a module may raise
        traceback.print_exc()
        raise CommandFailed(f"cannot import {module!r}: {type(error).__name__}: {error}", code=2) from error
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise CommandFailed(f"{module!r} has no {attribute!r}", code=2) from None
    if not callable(found):
        raise CommandFailed(f"{target!r} is not an application: it cannot be called", code=2)
    return found


def _module_and_name(target: str) -> tuple[str, str]:
    module, colon, attribute = target.partition(":")
    if not colon or not module or not attribute or os.path.exists(target):
        raise CommandFailed(
            f"{target!r} is neither a directory nor MODULE:APP",
            code=2,
            hints=("pellucid serve .  serves the present directory",),
        )
    return module, attribute


# ---- how -----------------------------------------------------------------------------------------------------------


def _server_config(
    credentials: tuple[Credential, ...],
    options: dict[str, Any],
    watches: ConnectionWatches,
    *,
    records: bool,
    sharing: Mapping[str, Any],
) -> ServerConfig:
    trust = None
    if options["client_ca"]:
        try:
            trust = load_trust(options["client_ca"])
        except UsageError as error:
            raise CommandFailed(error.reason, code=77) from error
    elif options["client_auth"] and not options["client_pubkey"]:
        text = "--client-auth needs --client-ca or --client-pubkey: nobody's certificates would be trusted"
        raise CommandFailed(text, code=2)
    wanted = ClientAuthentication.NONE
    changes = server_changes(options)
    if trust is not None or options["client_pubkey"]:
        wanted = ClientAuthentication(options["client_auth"] or "required")
    if options["client_pubkey"]:
        verifier, types = verifier_of(options["client_pubkey"], trust, changes.pop("revocation", None))
        changes |= {"verifier": verifier, "client_certificate_types": types}
    return ServerConfig(
        credentials=credentials,
        alpn=_ALPN,
        certificate_compression=installed(),
        client_authentication=wanted,
        client_trust=trust,
        max_early_data=MAX_EARLY_DATA if options["early_data"] else 0,
        trace=watches.observer,
        trace_records=options["verbose"] >= WORK or records,
        **changes,
        **sharing,
    )
