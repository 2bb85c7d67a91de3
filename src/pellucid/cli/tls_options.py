"""Options of `pellucid get` and `serve` that are about TLS alone, and what they change in a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from pellucid.cli.common import CommandFailed
from pellucid.errors import AlertReceived, UsageError
from pellucid.limits import MAX_INNER_PLAINTEXT, MIN_RECORD_SIZE_LIMIT
from pellucid.net.load import read_pem
from pellucid.registry import AlertDescription as A
from pellucid.sessions.psk import ExternalPsk
from pellucid.trace import Role
from pellucid.verify.pins import SpkiPins, spki_pin
from pellucid.verify.revocation import RevocationPolicy

__all__ = ["client_changes", "client_tls_options", "explained", "server_changes", "server_tls_options"]

Command = TypeVar("Command", bound=Callable[..., Any])
_IDENTITY: Final = "Client_identity"  # what OpenSSL's commands call a key that is given no name

_PSK = (
    click.option(
        "--psk",
        metavar="HEX",
        envvar="PELLUCID_PSK",
        help="An external pre-shared key, 32 hex digits or more, used as it is with SHA-256 suites.  "
        "[env: PELLUCID_PSK]",
    ),
    click.option("--psk-identity", metavar="NAME", help=f"What the key is called.  [default: {_IDENTITY}]"),
)
_RECORD_SIZE_LIMIT = click.option(
    "--record-size-limit",
    metavar="BYTES",
    type=click.IntRange(MIN_RECORD_SIZE_LIMIT, MAX_INNER_PLAINTEXT),
    help="Take no larger records (RFC 8449).",
)
_CLIENT = (
    click.option("--crlfile", metavar="FILE", help="Refuse what the CRLs in FILE (PEM or DER) list, or do not cover."),
    click.option(
        "--pinnedpubkey",
        metavar="PINS",
        help="Refuse a server whose own key is none of PINS: sha256//BASE64, several with ; between them, or a file "
        "with a certificate or a public key. Its certificate must be right, too.",
    ),
    click.option("--cert-status", is_flag=True, help="Refuse a server that staples no OCSP response."),
    click.option("--reverify", is_flag=True, help="Judge the certificates of a resumed session again."),
    click.option(
        "--post-handshake-auth",
        is_flag=True,
        help="Let the server ask for the certificate later too; HTTP/2 is not offered then.",
    ),
    _RECORD_SIZE_LIMIT,
    *_PSK,
)
_SERVER = (
    click.option("--crlfile", metavar="FILE", help="Refuse clients that the CRLs in FILE list, or do not cover."),
    _RECORD_SIZE_LIMIT,
    *_PSK,
)


def client_tls_options(command: Command) -> Command:
    """Add the options of `get`."""
    return _added(command, _CLIENT)


def server_tls_options(command: Command) -> Command:
    """Add the options of `serve`."""
    return _added(command, _SERVER)


def _added(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def client_changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options of `get` change in a ClientConfig. Raises CommandFailed."""
    changes = _changes(options, Role.CLIENT)
    policy: dict[str, Any] = _lists(options)
    if options["cert_status"]:
        policy["require_staple"] = True
    if policy:
        changes["revocation"] = _policy(policy, options)
    if options["pinnedpubkey"]:
        changes["requirements"] = (_pins(options["pinnedpubkey"]),)
    return changes | {
        "reverify_on_resumption": options["reverify"],
        "post_handshake_auth": options["post_handshake_auth"],
    }


def _pins(text: str) -> SpkiPins:
    """Return the pins of the server's own key, as curl's option has them: of the leaf, never of a CA."""
    try:
        if text.lower().startswith("sha256/"):
            return SpkiPins(text, leaf_only=True)
        return SpkiPins(spki_pin(read_pem(text)), leaf_only=True)
    except UsageError as error:
        raise CommandFailed(f"--pinnedpubkey: {error.reason}", code=2) from error


def explained(error: Exception, options: Mapping[str, Any]) -> Exception:
    """Return *error* with what can be done about it, where that depends on the options of `get`."""
    hint = None
    if isinstance(error, AlertReceived):
        otherwise = options["cacert"] or options["pubkey"]
        if options["psk"] and error.description == A.DECRYPT_ERROR:
            hint = "the server has another key by this name: check --psk and --psk-identity"
        elif options["psk"] and not otherwise and error.description in {A.MISSING_EXTENSION, A.HANDSHAKE_FAILURE}:
            hint = "the server does not know the key by this name; to take its certificate then: --cacert FILE"
        elif options["pubkey"] and not options["cacert"] and error.description == A.UNSUPPORTED_CERTIFICATE:
            hint = "the server has no raw public key to show; to take its certificate then: --cacert FILE"
    if hint is None:
        return error
    failed = CommandFailed(str(error), code=35, hints=(hint,))
    failed.__cause__ = error
    return failed


def server_changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options of `serve` change in a ServerConfig. Raises CommandFailed."""
    changes = _changes(options, Role.SERVER)
    if options["crlfile"] and not options["client_ca"]:
        raise CommandFailed("--crlfile needs --client-ca: nobody is asked for a certificate", code=2)
    if policy := _lists(options):
        changes["revocation"] = _policy(policy, options)
    return changes


def _changes(options: Mapping[str, Any], role: Role) -> dict[str, Any]:
    changes: dict[str, Any] = {"record_size_limit": options["record_size_limit"]}
    if options["psk"]:
        try:
            key = bytes.fromhex(options["psk"])
        except ValueError:
            raise CommandFailed("--psk: the key is written in hex digits, two for each byte", code=2) from None
        name = (options["psk_identity"] or _IDENTITY).encode()
        try:
            changes["external_psks"] = (ExternalPsk.plain(name, key, role=role),)
        except UsageError as error:
            raise CommandFailed(f"--psk: {error.reason}", code=2) from error
    elif options["psk_identity"]:
        raise CommandFailed("--psk-identity needs --psk", code=2)
    return changes


def _lists(options: Mapping[str, Any]) -> dict[str, Any]:
    if not options["crlfile"]:
        return {}
    try:
        return {"crls": (read_pem(options["crlfile"]),)}
    except UsageError as error:
        raise CommandFailed(error.reason, code=82) from error


def _policy(policy: dict[str, Any], options: Mapping[str, Any]) -> RevocationPolicy:
    try:
        return RevocationPolicy(**policy)
    except UsageError as error:
        raise CommandFailed(f"{options['crlfile']}: {error.reason}", code=82) from error
