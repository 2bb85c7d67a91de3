"""`pellucid dev-cert`: a certificate and its key, in files, by the development CA; with a fault if that is wanted."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from pellucid.cli.common import CommandFailed
from pellucid.cli.dev_cert_faults import Fault, chosen_fault, fault_lines, wrong
from pellucid.cli.dev_cert_kinds import ALGORITHMS, MAX_DAYS, Made, Names, good, read_names
from pellucid.cli.development_ca import LEAF_DAYS, DevelopmentCA
from pellucid.cli.new_files import NewFile, readers, write_all
from pellucid.cli.output import Output
from pellucid.cli.trust_lines import trust_lines
from pellucid.errors import UsageError
from pellucid.explain.text import Line, Span, line

__all__ = ["SCHEMA", "command"]

SCHEMA: Final = 1
_PASSWORD: Final = "changeit"  # noqa: S105  # what Java and mkcert take too: the file's mode protects it, not this
_STEM: Final = re.compile(r"[^A-Za-z0-9._-]+")


@click.command(short_help="Make a certificate for development, and the local CA that it is from.")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("-a", "--algorithm", type=click.Choice(tuple(ALGORITHMS)), default="ecdsa-p256", show_default=True,
              help="Of the certificate's key.")  # fmt: skip
@click.option(
    "--days", type=click.IntRange(1, MAX_DAYS), default=LEAF_DAYS, show_default=True, help="How long it is valid."
)
@click.option("--client", is_flag=True,
              help="For a client: NAME is a person, a program, a mail address or a URI.")  # fmt: skip
@click.option("--intermediate", is_flag=True, help="By an intermediate CA, made for it alone, as public CAs do.")
@click.option("--any-name", is_flag=True,
              help="By another CA, that may vouch for every name: whoever gets its key can pose as any.")  # fmt: skip
@click.option("--out", "directory", metavar="DIR", default=".", show_default=True,
              type=click.Path(file_okay=False, path_type=Path),
              help="Where the files are made; made itself if need be.")  # fmt: skip
@click.option("--cert-file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="The certificate with its chain, PEM.  [default: NAME.pem]")  # fmt: skip
@click.option("--key-file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
              help="The private key, PEM, mode 0600.  [default: NAME-key.pem]")  # fmt: skip
@click.option("--p12", is_flag=True, help="Make NAME.p12 (PKCS#12) too, for browsers, Java and Windows.")
@click.option("--pass", "password", metavar="PASSWORD", envvar="PELLUCID_PASS", default=_PASSWORD, show_default=True,
              help="The password of the PKCS#12 file.  [env: PELLUCID_PASS]")  # fmt: skip
@click.option("--fault", metavar="CODE", help="With this fault, by name or diagnosis: expired, X509-WEAK-KEY, ...")
@click.option("--list-faults", is_flag=True, help="Print the faults that a certificate can have, and exit.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
def dev_cert(names: tuple[str, ...], **options: Any) -> int:  # Any: click's options, each of its own type
    """Make a certificate for each NAME together: host names, wildcards (*.app.test), IP addresses.

    It is signed by a local CA, made when first needed and kept for this user. That CA may only vouch for names and
    addresses that no site of the Internet has (.test, .localhost, .internal, private networks, this machine's name);
    --any-name takes another one. What is to be typed next is told on standard error.
    """
    output = Output()
    if options["list_faults"]:
        output.facts(fault_lines(client=options["client"]))
        return 0
    if not names:
        raise click.MissingParameter(param_hint="NAME...", param_type="argument")
    read = read_names(names, client=options["client"])
    fault = None if options["fault"] is None else chosen_fault(options["fault"], options)
    authority = DevelopmentCA.open(any_name=options["any_name"])
    authority.check_names(read.hosts)
    made = good(authority, read, options) if fault is None else wrong(authority, read, fault)
    files = _Files.of(read, options)
    new = list(files.contents(made, options))
    write_all(new, overwrite=options["force"])
    if options["as_json"]:
        output.json(_document(files, made, authority, fault, options))
    else:
        for what, written in files.present(made):
            output.fact(line(Span(f"{what:<12}", "name"), str(written)))
    for one in _told(files, made, authority, fault, read, options):
        output.talk(one)
    for text in _hints(new, read):
        output.hint(text)
    return 0


command = dev_cert


# ---- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Files:
    """Where everything goes."""

    certificate: Path
    key: Path
    pkcs12: Path | None
    authority: Path
    """of a root of the fault's own"""
    staple: Path
    revocation_list: Path

    @classmethod
    def of(cls, names: Names, options: dict[str, Any]) -> _Files:
        directory: Path = options["directory"]
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandFailed(f"cannot make the directory {directory}: {error.strerror or error}", code=23) from error
        stem = _stem(names.subject) + ("-client" if options["client"] else "")
        certificate = options["cert_file"] or directory / f"{stem}.pem"
        beside = certificate.with_suffix("")
        return cls(
            certificate=certificate,
            key=options["key_file"] or beside.with_name(f"{beside.name}-key.pem"),
            pkcs12=beside.with_name(f"{beside.name}.p12") if options["p12"] else None,
            authority=beside.with_name(f"{beside.name}-ca.pem"),
            staple=beside.with_name(f"{beside.name}.ocsp"),
            revocation_list=beside.with_name(f"{beside.name}.crl"),
        )

    def contents(self, made: Made, options: dict[str, Any]) -> Iterator[NewFile]:
        yield NewFile(self.key, made.key_pem, private=True)
        yield NewFile(self.certificate, made.chain_pem)
        if self.pkcs12 is not None:
            yield NewFile(self.pkcs12, _pkcs12(made, options["password"]), private=True)
        if made.own_ca_pem:
            yield NewFile(self.authority, made.own_ca_pem)
        if made.staple:
            yield NewFile(self.staple, made.staple)
        if made.crl:
            yield NewFile(self.revocation_list, made.crl)

    def present(self, made: Made) -> Iterator[tuple[str, Path]]:
        """Yield (what it is, where) of all that was written."""
        yield "certificate", self.certificate
        yield "key", self.key
        if self.pkcs12 is not None:
            yield "pkcs12", self.pkcs12
        if made.own_ca_pem:
            yield "ca", self.authority
        if made.staple:
            yield "staple", self.staple
        if made.crl:
            yield "crl", self.revocation_list


def _stem(name: str) -> str:
    return _STEM.sub("-", name.replace("*.", "_wildcard.")).strip("-.")[:64] or "certificate"


def _pkcs12(made: Made, password: str) -> bytes:
    if made.issued is None or made.root is None:
        raise CommandFailed("--p12 does not go with --fault: its certificates are not what they seem", code=2)
    try:
        return made.issued.pkcs12(made.subject, password, made.root)
    except UsageError as error:
        raise CommandFailed(error.reason, code=2, hints=("PKCS#12 is for ECDSA, RSA and EdDSA keys",)) from error


# ---- what is told ----------------------------------------------------------------------------------------------------


def _document(
    files: _Files, made: Made, authority: DevelopmentCA, fault: Fault | None, options: dict[str, Any]
) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "files": {what: str(path) for what, path in files.present(made)},
        "subject": made.subject,
        "names": list(made.names),
        "algorithm": options["algorithm"],
        "purpose": "client" if options["client"] else "server",
        "days": options["days"],
        "certificates": len(made.chain),
        "sha256": made.fingerprint,
        "ca": {
            "file": str(files.authority if made.own_ca_pem else authority.certificate_path),
            "created": authority.created,
            "any_name": authority.any_name,
        },
        "fault": None
        if fault is None
        else {"name": fault.name, "code": fault.code, "summary": fault.summary, "rfc": fault.rfc, "host": made.host},
    }


def _told(
    files: _Files,
    made: Made,
    authority: DevelopmentCA,
    fault: Fault | None,
    names: Names,
    options: dict[str, Any],
) -> Iterator[Line]:
    if authority.created:
        limits = "for every name" if authority.any_name else "for names that no site of the Internet has"
        yield line("A development CA was made, ", limits, f": {authority.certificate_path}")
        yield line(f"Its key is yours alone: whoever else gets {authority.key_path} can pose as others to you.")
    certificate, key = (shlex.quote(str(path)) for path in (files.certificate, files.key))
    if fault is not None:
        yield line(Span(fault.name, "title"), f": {fault.summary}")
        asked = f", where it is asked for {made.host}" if made.host != names.subject and not options["client"] else ""
        yield line(f"A peer that notices gives {fault.code}{asked}: pellucid explain {fault.code}")
        if fault.needs.text and not options["client"]:
            yield line(f"It needs, to notice, {fault.needs.text}.")
        root = files.authority if made.own_ca_pem else authority.certificate_path
        yield line(f"Have it trust {root}, or all that it notices is an unknown CA.")
        return
    if options["p12"]:
        shown = "is " + _PASSWORD if options["password"] == _PASSWORD else "is the one that you gave"
        yield line(f"The password of {files.pkcs12} {shown}.")
    if options["client"]:
        ca = shlex.quote(str(authority.certificate_path))
        yield line("  ", Span("ask for it", "name"), f"  pellucid serve . --client-ca {ca}")
        yield line(
            "  ", Span("show it   ", "name"), f"  pellucid get --cert {certificate} --key {key} https://localhost:8443/"
        )
        return
    yield line("  ", Span("serve", "name"), f"  pellucid serve . --cert {certificate} --key {key}")
    url = f"https://{_url_host(names)}:8443/"
    yield line("To have programs trust it (pellucid trust tells of more, pellucid doctor tries them):")
    for program, text in trust_lines(authority.certificate_path, url):
        yield line("  ", Span(f"{program:<9}", "name"), text)


def _url_host(names: Names) -> str:
    host = names.hosts[0].replace("*.", "www.", 1)
    return f"[{host}]" if ":" in host else host


def _hints(files: Sequence[NewFile], names: Names) -> Iterator[str]:
    for file in files:
        if file.private and (who := readers(file.path)):
            yield f"{who} can read {file.path}: the file system keeps no modes; put it elsewhere"
    private = next(file.path for file in files if file.private)
    if (repository := _repository(private)) is not None:
        yield f"{private.name} lies in the repository {repository}: keep it out of commits (.gitignore)"
    for host in names.hosts:
        if host.startswith("*.") and host.count(".") == 1:
            yield f"few programs believe {host}, a wildcard directly below a top-level domain: try *.app{host[1:]}"
        elif not _resolves_by_itself(host):
            yield f"where nobody resolves {host}: echo '127.0.0.1 {host}' | sudo tee -a /etc/hosts"


def _resolves_by_itself(host: str) -> bool:
    if host.startswith("*.") or host == "localhost" or host.endswith((".localhost", ".local")):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _repository(path: Path) -> Path | None:
    return next((one for one in path.resolve().parents if (one / ".git").exists()), None)
