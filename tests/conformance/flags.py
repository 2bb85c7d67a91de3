"""The shim's command line: what a test of the runner asks of us, as values for its three phases.

A bare flag counts for all phases; `-on-initial-…` for the first connection, `-on-resume-…` for the later ones,
`-on-retry-…` for what follows a rejection of early data. A flag's kind is its field's type.
"""

from __future__ import annotations

import base64
import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

PHASES: Final = ("initial", "resume", "retry")


class UnknownFlag(Exception):
    """A flag of a feature that is not built: the shim exits with 89, which the runner counts as skipped."""


@dataclass
class CredentialFlags:
    """One credential: the default one, or what follows one `-new-…-credential`."""

    kind: str = "x509"
    cert_file: str = ""
    key_file: str = ""
    signing_prefs: list[int] = field(default_factory=list)
    ocsp_response: bytes = b""
    signed_cert_timestamps: bytes = b""
    must_match_issuer: bool = False
    psk_importer_key: bytes = b""
    psk_importer_identity: bytes = b""
    psk_importer_context: bytes = b""
    psk_importer_sha256: bool = False
    psk_importer_sha384: bool = False


@dataclass
class Flags:
    """What one phase asks for. The names are the flags'."""

    # Where the runner is, and which end we are.
    port: int = 0
    ipv6: bool = False
    shim_id: int = 0
    server: bool = False
    resume_count: int = 0
    is_handshaker_supported: bool = False

    # What is configured.
    default_credential: CredentialFlags = field(default_factory=CredentialFlags)
    credentials: list[CredentialFlags] = field(default_factory=list)
    trust_cert: str = ""
    host_name: str = ""
    min_version: int = 0
    max_version: int = 0
    no_tls1: bool = False
    no_tls11: bool = False
    no_tls12: bool = False
    no_legacy_server_connect: bool = False
    cipher: str = ""
    server_preference: bool = False
    curves: list[int] = field(default_factory=list)
    curves_flags: list[int] = field(default_factory=list)
    key_shares: list[int] | None = None
    verify_prefs: list[int] = field(default_factory=list)
    advertise_alpn: str = ""
    select_alpn: str = ""
    decline_alpn: bool = False
    reject_alpn: bool = False
    select_empty_alpn: bool = False
    allow_unknown_alpn_protos: bool = False
    enable_grease: bool = False
    permute_extensions: bool = False
    max_send_fragment: int = 0
    max_cert_list: int = 0
    no_server_name_ack: bool = False
    require_any_client_certificate: bool = False
    verify_peer: bool = False
    verify_fail: bool = False
    reverify_on_resume: bool = False
    use_custom_verify_callback: bool = False
    use_client_ca_list: str = ""
    enable_ocsp_stapling: bool = False
    enable_signed_cert_timestamps: bool = False
    install_cert_compression_algs: bool = False
    install_one_cert_compression_alg: int = 0
    accepted_peer_cert_types: list[int] = field(default_factory=list)
    available_client_cert_types: list[int] = field(default_factory=list)
    enable_early_data: bool = False
    no_ticket: bool = False
    ticket_key: bytes = b""
    resumption_delay: int = 0

    # What is done.
    asynchronous: bool = False
    implicit_handshake: bool = False
    shim_writes_first: bool = False
    shim_initial_write: str = "hello"
    repeat_shim_initial_write: int = 1
    shim_shuts_down: bool = False
    read_with_unfinished_write: bool = False
    early_write_after_message: int = 0
    read_size: int = 512
    key_update: bool = False
    key_update_before_read: bool = False
    check_close_notify: bool = False
    send_alert: bool = False
    no_op_extra_handshake: bool = False
    export_keying_material: int = 0
    export_label: str = ""
    export_context: str = ""
    use_export_context: bool = False
    export_traffic_secrets: bool = False

    # What must have come of it.
    expect_server_name: str = ""
    expect_alpn: str = ""
    expect_advertised_alpn: str = ""
    expect_cipher: int = 0
    expect_cipher_aes: int = 0
    expect_cipher_no_aes: int = 0
    expect_curve_id: int = 0
    expect_version: int = 0
    expect_hrr: bool = False
    expect_no_hrr: bool = False
    expect_peer_signature_algorithm: int = 0
    expect_peer_verify_pref: list[int] = field(default_factory=list)
    expect_peer_cert_file: str = ""
    expect_no_peer_cert: bool = False
    expect_verify_result: bool = False
    expect_selected_credential: int | None = None
    expect_client_ca_list: str = ""
    expect_ocsp_response: bytes = b""
    expect_signed_cert_timestamps: bytes = b""
    expect_peer_certificate_type: int | None = None
    expect_peer_rpk_sha256: bytes = b""
    expect_session_miss: bool = False
    expect_no_session: bool = False
    expect_no_session_id: bool = False
    expect_ticket_supports_early_data: bool = False
    expect_ticket_age_skew: int = 0
    expect_accept_early_data: bool = False
    expect_reject_early_data: bool = False
    expect_no_offer_early_data: bool = False
    expect_early_data_reason: str = ""


_RENAMED: Final = {"async": "asynchronous"}
_NEW_CREDENTIAL: Final = {
    "new_x509_credential": "x509",
    "new_rpk_credential": "raw public key",
    "new_psk_credential": "psk",
}
_KINDS: Final[dict[type, dict[str, Any]]] = {kind: typing.get_type_hints(kind) for kind in (Flags, CredentialFlags)}


@dataclass
class Phases:
    """One `Flags` a phase."""

    initial: Flags = field(default_factory=Flags)
    resume: Flags = field(default_factory=Flags)
    retry: Flags = field(default_factory=Flags)


def parse(arguments: Sequence[str]) -> Phases:
    """Return the flags of the three phases. Raises UnknownFlag, ValueError."""
    phases = Phases()
    rest = iter(arguments)
    for argument in rest:
        name = argument.removeprefix("-on-shim")
        targets = [phases.initial, phases.resume, phases.retry]
        for phase in PHASES:
            if name.startswith(f"-on-{phase}-"):
                name = name.removeprefix(f"-on-{phase}")
                targets = [getattr(phases, phase)]
        key = _RENAMED.get(found := name.removeprefix("-").replace("-", "_"), found)
        value = next(rest, None) if _takes_value(key) else None
        for target in targets:
            _set(target, key, value)
    return phases


def _takes_value(key: str) -> bool:
    if key in _NEW_CREDENTIAL or key == "no_key_shares":
        return False
    kind = _KINDS[Flags].get(key, _KINDS[CredentialFlags].get(key))
    if kind is None or key in {"credentials", "default_credential", "kind"}:
        raise UnknownFlag(key)
    return kind is not bool


def _set(flags: Flags, key: str, value: str | None) -> None:
    if key == "no_key_shares":
        flags.key_shares = []
    elif key in _NEW_CREDENTIAL:
        flags.credentials.append(CredentialFlags(_NEW_CREDENTIAL[key]))
    elif key in _KINDS[CredentialFlags]:
        # These are stateful: they are of the credential that was begun last.
        _store(flags.credentials[-1] if flags.credentials else flags.default_credential, key, value)
    else:
        _store(flags, key, value)


def _store(owner: Flags | CredentialFlags, key: str, value: str | None) -> None:
    kind = _KINDS[type(owner)][key]
    if kind is bool:
        setattr(owner, key, True)
    elif value is None:
        raise ValueError(f"-{key} needs a value")
    elif kind is str:
        setattr(owner, key, value)
    elif kind is bytes:
        setattr(owner, key, base64.b64decode(value, validate=True))
    elif kind in {int, int | None}:
        setattr(owner, key, int(value))
    else:
        setattr(owner, key, [*(getattr(owner, key) or []), int(value)])


def flag_names() -> frozenset[str]:
    """Return every flag that is understood, for the tests."""
    names = {f.name for kind in (Flags, CredentialFlags) for f in dataclasses.fields(kind)}
    return frozenset(names - {"kind", "credentials", "default_credential"} | set(_NEW_CREDENTIAL) | {"no_key_shares"})
