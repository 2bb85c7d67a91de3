"""`pellucid`: the group of commands. Each is imported when it is called, so that `--help` is fast."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Final

from pellucid import __version__

try:
    import click
except ImportError as error:  # an installation without the extra: say what is missing, in a line
    print(f"pellucid: the command line needs {error.name}\nhint: pip install 'pellucid[cli]'", file=sys.stderr)
    raise SystemExit(2) from None

from pellucid.cli.common import CommandFailed, fail

COMMANDS: Final = {
    "agent": "Hold private keys in a process of their own, and sign for servers.",
    "demo": "Tell the whole story of one HTTPS request, in six steps.",
    "dev-cert": "Make a certificate for development, and the local CA that it is from.",
    "doctor": "Try whether the programs on this machine trust the development CA, and tell what helps.",
    "explain": "Tell what a code of a diagnosis means, and what can be done.",
    "get": "Fetch a URL, and see the connection it came over.",
    "inspect": "Examine servers: what they accept, how they behave, what that is worth.",
    "page": "Show each visitor of a page its own TLS connection.",
    "serve": "Serve a directory or an ASGI application over HTTPS.",
    "trust": "Have other programs trust the development CA.",
    "untrust": "Take the development CA out of other programs' stores again.",
}
"""name → one line of help. The command is `command` in pellucid.cli.<name>, with "_" for "-"; one that is not there is
not listed."""


class LazyGroup(click.Group):
    """A group whose commands are modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if _exists(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS or not _exists(cmd_name):
            return None
        try:
            module = importlib.import_module(_module(cmd_name))
        except ImportError as error:
            if (error.name or "").partition(".")[0] == "pellucid":
                raise
            raise CommandFailed(
                f"`pellucid {cmd_name}` needs {error.name}", code=2, hints=("pip install 'pellucid[cli]'",)
            ) from error
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # click would take it for our standard output and leave in silence; Output tells that by OutputClosed.
            raise CommandFailed(f"the connection broke: {error.strerror}", code=56) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _module(name: str) -> str:
    return f"pellucid.cli.{name.replace('-', '_')}"


def _exists(name: str) -> bool:
    return importlib.util.find_spec(_module(name)) is not None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", package_name="pellucid", message="pellucid %(version)s")
def cli() -> None:
    """TLS 1.3 you can see through.

    Facts go to standard output, talk and errors to standard error. Exit codes are curl's.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    try:
        code = cli.main(args=arguments, prog_name="pellucid", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except Exception as error:  # noqa: BLE001  # whatever it was, it is told in a line and by the exit code
        sys.exit(fail(error))
    except KeyboardInterrupt:
        sys.exit(fail(KeyboardInterrupt()))
    sys.exit(code if isinstance(code, int) else 0)
