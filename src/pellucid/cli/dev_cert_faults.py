"""The faults that a certificate in a file can have, for `pellucid dev-cert --fault`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Final

from pellucid.cli.common import CommandFailed
from pellucid.cli.dev_cert_kinds import Made, Names
from pellucid.cli.development_ca import DevelopmentCA
from pellucid.explain.text import Line, Span, escaped, line
from pellucid.testing.faults import FAULTS, Kind
from pellucid.testing.faults.fault import Fault
from pellucid.testing.faults.mint import Mint
from pellucid.trace import Role

__all__ = ["Fault", "chosen_fault", "fault_lines", "faults", "wrong"]

_NOT_IN_A_FILE: Final = frozenset({"--pubkey", "--cert-status"})
"""what a victim needs for faults that are in no certificate: an unknown raw key, a staple that is left out"""
_ONLY_WITHOUT: Final = (("algorithm", "ecdsa-p256"), ("intermediate", False), ("p12", False), ("days", 90))
_SOMEBODY: Final = "client.test"


def faults(*, client: bool) -> tuple[Fault, ...]:
    """Return the faults that a certificate of a server, or a client, can have."""
    side = Role.CLIENT if client else Role.SERVER
    return tuple(
        fault
        for fault in FAULTS.values()
        if fault.side is side and fault.kind is Kind.X509 and not _NOT_IN_A_FILE & set(fault.needs.options)
    )


def fault_lines(*, client: bool) -> Iterator[Line]:
    """Yield a line for each fault: its name, the diagnosis of a peer that notices, what is wrong."""
    found = faults(client=client)
    names, codes = (max(len(text) for text in texts) for texts in zip(*((f.name, f.code) for f in found), strict=True))
    for fault in found:
        yield line(
            Span(f"{fault.name:<{names}}  ", "name"), Span(f"{fault.code:<{codes}}", "warn"), f"  {fault.summary}"
        )


def chosen_fault(name: str, options: dict[str, Any]) -> Fault:
    """Return the fault with this name, else the first with this diagnosis. Raises CommandFailed (2)."""
    for option, default in _ONLY_WITHOUT:
        if options[option] != default:
            raise CommandFailed(f"--{option} does not go with --fault, which makes certificates of its own", code=2)
    found = faults(client=options["client"])
    for fault in found:
        if name in {fault.name, fault.name.removeprefix("client-")}:
            return fault
    for fault in found:
        if name.upper() == fault.code:
            return fault
    words = [word for fault in found for word in (fault.name, fault.code)]
    near = dict.fromkeys(
        difflib.get_close_matches(name, words, n=3) + difflib.get_close_matches(name.upper(), words, n=1)
    )
    meant = f": did you mean {', '.join(near)}?" if near else ""
    hint = f"pellucid dev-cert --list-faults{' --client' if options['client'] else ''}"
    raise CommandFailed(f"a certificate cannot have the fault {escaped(name)!r}{meant}", code=2, hints=(hint,))


def wrong(authority: DevelopmentCA, names: Names, fault: Fault) -> Made:
    """Return a certificate with *fault*; by the development CA unless the fault is in the CA."""
    host = names.alternatives[0] if names.alternatives else _SOMEBODY
    asked = host if fault.recipe.host == "localhost" else fault.recipe.host
    shown = fault.recipe.shown(Mint(authority.authority, asked, names.alternatives[1:]))
    return Made(
        chain=shown.chain,
        key_pem=shown.key_pem,
        subject=names.subject,
        names=names.alternatives or (_SOMEBODY,),
        host=asked,
        own_ca_pem=b"" if shown.ca_pem == authority.authority.root_pem else shown.ca_pem,
        staple=_staple(shown.credential.ocsp_response),
        crl=shown.crl,
    )


def _staple(response: object) -> bytes:
    return response if isinstance(response, bytes) else b""
