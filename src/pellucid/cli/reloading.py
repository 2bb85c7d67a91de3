"""`pellucid serve` follows its files: on SIGHUP and when they change, without a connection dropped."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from pellucid.cli.common import CommandFailed, OutputClosed
from pellucid.cli.output import Output
from pellucid.config import ServerConfig
from pellucid.errors import UsageError
from pellucid.explain.text import Span, escaped, line
from pellucid.net.reload import CredentialError, ExpiryWarning, ReloadingConfig, ReloadStatus

__all__ = ["reloading"]

_HINTS: Final = {
    "expired": "renew it, or leave --cert out for a development certificate",
    "not-yet-valid": "check this machine's clock",
    "order": "a chain's file has the server's certificate first, then each one's issuer",
    "intermediate": "a chain's file has the server's certificate first, then each one's issuer",
    "key-usage": "have a certificate issued whose key usage has digitalSignature",
}


@contextlib.contextmanager
def reloading(
    make: Callable[[bool], ServerConfig], options: Mapping[str, Any], output: Output, *, worker: int = 0
) -> Iterator[ReloadingConfig]:
    """Give the configuration that *make* makes, again when the files in *options* change. Tells *output* of it.

    make: is told whether it is called again. Raises CommandFailed (58) for a chain that must not be shown; what fails
          later leaves in use what was there.
    worker: the number of the process among several, which is told too; 0: it is alone.
    """
    begun = False

    def made() -> ServerConfig:
        try:
            return make(begun)
        except CommandFailed as failure:
            if not begun:
                raise
            raise UsageError(str(failure)) from failure

    told = _Told(output, f"worker {worker}: " if worker else "")
    with _quiet():
        try:
            config = ReloadingConfig(
                made,
                files=_files(options),
                on_reload=told.reloaded,
                on_problem=told.problem,
                on_expiry_warning=told.expiry,
            )
        except CredentialError as error:
            hint = _HINTS.get(error.fault)
            raise CommandFailed(error.reason, code=58, hints=(hint,) if hint else ()) from error
        begun = True
        for text in config.status.warnings:
            told.warn(text)
        yield config


def _files(options: Mapping[str, Any]) -> list[str]:
    """Return what is watched; a key may be where no file is."""
    given = (*options["cert"], *options["key"], *map(options.get, ("ocsp", "client_ca", "client_pubkey")))
    return [path for path in given if path and os.path.exists(path)]


class _Told:
    """What the operator is told."""

    def __init__(self, output: Output, who: str) -> None:
        self._output = output
        self._who = who

    def reloaded(self, status: ReloadStatus) -> None:
        shown = [", ".join(one.names[:3]) or one.key_algorithm for one in status.credentials]
        self._talk("good", f"reloaded: {'; '.join(shown)}" if shown else "reloaded")

    def problem(self, error: Exception) -> None:
        why = error.reason if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        self.warn(f"not reloaded, what was there before stays in use: {why}")

    def expiry(self, warning: ExpiryWarning) -> None:
        self.warn(str(warning))

    def warn(self, text: str) -> None:
        self._talk("warn", text)

    def _talk(self, style: str, text: str) -> None:
        """Say it, unless whoever listened has gone: the server goes on without."""
        with contextlib.suppress(OutputClosed):
            self._output.talk(line(Span(f"{self._who}{escaped(text)}", style)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Have the library's own log of reloads not say everything again."""
    log, handler = logging.getLogger("pellucid.reload"), logging.NullHandler()
    before, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.propagate = before
        log.removeHandler(handler)
