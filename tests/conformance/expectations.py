"""What must have come of a connection: the checks that the runner leaves to the shim."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from pellucid.crypto import credentials as own
from pellucid.events import TicketReceived
from pellucid.handshake.actions import EarlyDataOutcome, Negotiated
from pellucid.messages import extensions as x
from pellucid.messages.handshake import CertificateRequest, ClientHello
from pellucid.registry import ExtensionType
from pellucid.sessions.psk import ImportedIdentity
from pellucid.trace import Direction, MessageTraced, SecretDerived, TraceEvent
from tests.conformance.configure import DEFAULT_CREDENTIAL, Memory, Setup
from tests.conformance.flags import Flags


class Mismatch(Exception):
    """Something came out otherwise than the test expects."""


def expect(what: str, got: object, wanted: object) -> None:
    """Raise Mismatch unless *got* is *wanted*."""
    if got != wanted:
        raise Mismatch(f"{what}: got {got!r}, wanted {wanted!r}")


class Witness:
    """The connection's observer: keeps what the peer said, and the secrets that a test asks for."""

    def __init__(self) -> None:
        self.client_hello: ClientHello | None = None
        self.certificate_request: CertificateRequest | None = None
        self._secrets: dict[str, bytes] = {}

    def __call__(self, event: TraceEvent) -> None:
        if isinstance(event, MessageTraced) and event.direction is Direction.RECEIVED:
            if isinstance(event.body, ClientHello):
                self.client_hello = event.body
            elif isinstance(event.body, CertificateRequest):
                self.certificate_request = event.body
        elif isinstance(event, SecretDerived):
            self._secrets[event.name] = event.secret.reveal()

    def traffic_secrets(self, *, server: bool) -> tuple[bytes, bytes]:
        """Return the secrets for reading and writing application data."""
        secrets = [self._secrets[f"{role}_application_traffic_secret_0"] for role in ("server", "client")]
        return (secrets[1], secrets[0]) if server else (secrets[0], secrets[1])

    def peer_schemes(self) -> list[int]:
        """Return the peer's signature_algorithms."""
        message, kind = (self.client_hello, x.M.CH) if self.client_hello else (self.certificate_request, x.M.CR)
        if message is None:
            return []
        return list(x.decode_extensions(kind, message.extensions).get(x.SIGNATURE_ALGORITHMS) or ())

    def authorities(self) -> list[bytes]:
        """Return the CAs that the server named."""
        if self.certificate_request is None:
            return []
        decoded = x.decode_extensions(x.M.CR, self.certificate_request.extensions)
        return list(decoded.get(x.CERTIFICATE_AUTHORITIES) or ())

    def advertised_alpn(self) -> bytes:
        """Return the body of the client's ALPN extension, without its length."""
        extensions = self.client_hello.extensions if self.client_hello else ()
        kind = ExtensionType.APPLICATION_LAYER_PROTOCOL_NEGOTIATION
        return next((e.extension_data[2:] for e in extensions if e.extension_type == kind), b"")


EARLY_DATA_REASONS: Final = {
    EarlyDataOutcome.ACCEPTED: "accept",
    EarlyDataOutcome.DISABLED: "disabled",
    EarlyDataOutcome.NO_SESSION: "no_session_offered",
    EarlyDataOutcome.NOT_ALLOWED: "unsupported_for_session",
    EarlyDataOutcome.NOT_OFFERED: "peer_declined",
    EarlyDataOutcome.RETRIED: "hello_retry_request",
    EarlyDataOutcome.NOT_RESUMED: "session_not_resumed",
    EarlyDataOutcome.DECLINED: "peer_declined",
    EarlyDataOutcome.OTHER_PROTOCOL: "alpn_mismatch",
    EarlyDataOutcome.OTHER_SUITE: "unsupported_for_session",
    EarlyDataOutcome.TICKET_AGE: "ticket_age_skew",
}
"""what the runner calls them"""


def check_handshake(
    flags: Flags,
    setup: Setup,
    memory: Memory,
    witness: Witness,
    negotiated: Negotiated,
    *,
    resumed: bool,
    in_early_data: bool,
) -> None:
    """Raise Mismatch unless the handshake came out as *flags* say. in_early_data: it is still under way."""
    expect("the session resumed", negotiated.resumed, resumed and not flags.expect_session_miss)
    if not in_early_data:
        _check_early_data(flags, memory, witness, negotiated, resumed=resumed)
    expect("ALPN", negotiated.alpn or "", flags.select_alpn if flags.server else flags.expect_alpn)
    if flags.expect_server_name:
        expect("server name", negotiated.server_name, flags.expect_server_name)
    if flags.expect_advertised_alpn:
        expect("the ALPN offered", witness.advertised_alpn(), flags.expect_advertised_alpn.encode())
    for wanted in (flags.expect_cipher, flags.expect_cipher_aes):
        if wanted:
            expect("cipher suite", negotiated.cipher_suite, wanted)
    if flags.expect_curve_id:
        expect("group", negotiated.group, flags.expect_curve_id)
    if flags.expect_hrr or flags.expect_no_hrr:
        expect("HelloRetryRequest", negotiated.retried, flags.expect_hrr)
    if flags.expect_peer_signature_algorithm:
        scheme = negotiated.client_signature_scheme if flags.server else negotiated.signature_scheme
        expect("the peer's signature scheme", scheme, flags.expect_peer_signature_algorithm)
    if flags.expect_peer_verify_pref:
        expect("the peer's signature_algorithms", witness.peer_schemes(), flags.expect_peer_verify_pref)
    if flags.expect_client_ca_list:
        names = [] if flags.expect_client_ca_list == "<EMPTY>" else flags.expect_client_ca_list.split(",")
        expect("the server's CAs", [name.hex() for name in witness.authorities()], names)
    if flags.expect_selected_credential is not None:
        expect("the credential used", _used_credential(flags, setup, negotiated), flags.expect_selected_credential)
    _check_peer(flags, setup, negotiated)


def _check_early_data(flags: Flags, memory: Memory, witness: Witness, negotiated: Negotiated, *, resumed: bool) -> None:
    if flags.expect_accept_early_data or flags.expect_reject_early_data:
        accepted = negotiated.early_data is EarlyDataOutcome.ACCEPTED
        expect("early data accepted", accepted, flags.expect_accept_early_data)
    if flags.expect_early_data_reason:
        reason = EARLY_DATA_REASONS.get(negotiated.early_data)
        # Where several things are true, the runner may name another one first.
        if flags.server and negotiated.early_data in {EarlyDataOutcome.NOT_OFFERED, EarlyDataOutcome.RETRIED}:
            if not flags.enable_early_data:
                reason = "disabled"
            elif not negotiated.resumed:
                retried = negotiated.early_data is EarlyDataOutcome.RETRIED
                reason = "session_not_resumed" if retried else "no_session_offered"
        expect("what became of early data", reason, flags.expect_early_data_reason)
    if flags.expect_ticket_age_skew and resumed:
        expect("ticket age skew", _ticket_age_skew(memory, witness), flags.expect_ticket_age_skew)


def _ticket_age_skew(memory: Memory, witness: Witness) -> int | None:
    """Return by how many seconds the client's age of the ticket is ahead of ours."""
    session, hello = memory.server_sessions.last, witness.client_hello
    if session is None or hello is None:
        return None
    offered = x.decode_extensions(x.M.CH, hello.extensions).get(x.OFFERED_PSKS)
    if offered is None:
        return None
    claimed = (offered.identities[0].obfuscated_ticket_age - session.age_add) % 2**32 / 1000
    return round(claimed - (memory.clock.now() - session.issued_at))


def _used_credential(flags: Flags, setup: Setup, negotiated: Negotiated) -> int:
    """Return the number of the PSK used, or else of the credential that signed."""
    if negotiated.psk_identity is None:
        return setup.used_credentials[-1] if setup.used_credentials else DEFAULT_CREDENTIAL
    imported = ImportedIdentity.decode(negotiated.psk_identity)
    names = [credential.psk_importer_identity for credential in flags.credentials]
    return names.index(imported.external_identity)


def _check_peer(flags: Flags, setup: Setup, negotiated: Negotiated) -> None:
    peer = negotiated.peer
    if flags.expect_no_peer_cert or negotiated.psk_identity is not None:
        expect("the peer's certificate", peer, None)
    elif (not flags.server or flags.require_any_client_certificate) and peer is None:
        raise Mismatch("there is no peer certificate")
    if flags.expect_peer_certificate_type is not None:
        expect("the peer's type", None if peer is None else peer.certificate_type, flags.expect_peer_certificate_type)
    if flags.expect_peer_rpk_sha256:
        shown = None if peer is None else hashlib.sha256(peer.leaf.der).digest()
        expect("SHA-256 of the peer's key", shown, flags.expect_peer_rpk_sha256)
    if flags.expect_peer_cert_file:
        with open(flags.expect_peer_cert_file, "rb") as file:
            expect("the peer's chain", None if peer is None else peer.chain, own.certificates_from_pem(file.read()))
    if flags.expect_ocsp_response:
        expect("the OCSP response", negotiated.peer_ocsp_response, flags.expect_ocsp_response)
    if flags.expect_signed_cert_timestamps:
        expect("the SCTs", x.SCTS.codec.encode(negotiated.peer_scts), flags.expect_signed_cert_timestamps)
    if flags.expect_verify_result and not negotiated.resumed:
        expect("the verifier's failure", setup.judge.failed, flags.verify_fail)


def check_end(flags: Flags, tickets: Sequence[TicketReceived]) -> None:
    """Raise Mismatch unless the client has received the tickets that it should have."""
    if flags.server:
        return
    expect("a ticket received", bool(tickets), not flags.expect_no_session and not flags.shim_shuts_down)
    if tickets:
        extensions = x.decode_extensions(x.M.NST, tickets[-1].ticket.extensions)
        early = bool(extensions.get(x.MAX_EARLY_DATA_SIZE))
        expect("early data with the ticket", early, flags.expect_ticket_supports_early_data)
