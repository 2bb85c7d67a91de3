"""`pellucid agent`: the process that holds private keys and signs for TLS servers that cannot read them."""

from __future__ import annotations

import click

from pellucid.cli.common import CommandFailed
from pellucid.cli.output import Output
from pellucid.errors import UsageError
from pellucid.signers.agent import KeyAgent
from pellucid.signers.process import AgentSettings, run_agent

__all__ = ["command"]


@click.command(short_help="Hold private keys in a process of their own, and sign for servers.")
@click.option("--key", "keys", metavar="FILE", multiple=True, required=True,
              help="A private key, PEM or DER, that nobody else may read; may be given again.")  # fmt: skip
@click.option("--socket", "path", metavar="PATH", required=True, help="Where to be asked: a Unix socket.")
@click.option("--user", metavar="NAME",
              help="Become this user, without groups, once the keys are read; to be started by root.")  # fmt: skip
@click.option("--allow", metavar="USER", multiple=True,
              help="Who may ask, a name or a number; may be given again.  [default: who starts it]")  # fmt: skip
@click.option("--role", "roles", type=click.Choice(["server", "client"]), multiple=True,
              help="Sign only as a server, or only as a client.  [default: both]")  # fmt: skip
@click.option("--pass", "password", metavar="PASSWORD", envvar="PELLUCID_PASS",
              help="The private keys' password.  [env: PELLUCID_PASS]")  # fmt: skip
def agent(
    keys: tuple[str, ...],
    path: str,
    user: str | None,
    allow: tuple[str, ...],
    roles: tuple[str, ...],
    password: str | None,
) -> int:
    """Hold private keys, and sign handshakes of TLS 1.3 for whoever may ask, until SIGTERM or SIGINT.

    A server uses them with `pellucid serve --cert FILE --key agent:PATH`. What is signed is a CertificateVerify and
    never anything else; the keys do not leave this process. Standard output has the socket's path once it answers.
    """
    output = Output()

    def ready(running: KeyAgent) -> None:
        output.talk(f"{len(keys)} {'key' if len(keys) == 1 else 'keys'}; {running.who_may_ask()} may ask")
        output.fact(path)

    settings = AgentSettings(path=path, keys=keys, user=user, allow=allow, roles=roles or ("server", "client"))
    try:
        run_agent(settings, password=None if password is None else password.encode(), ready=ready)
    except UsageError as error:
        hints = ("give the private keys' password: --pass",) if "assword" in error.reason and not password else ()
        raise CommandFailed(error.reason, code=58, hints=hints) from error
    return 0


command = agent
