"""From flags to our configuration: what the runner's shim asks of its library, asked of ours."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509

from pellucid.config import (
    DEFAULT_SCHEMES,
    ONLY_X509,
    ClientAuthentication,
    ClientConfig,
    ClientHelloInfo,
    Credential,
    ServerConfig,
)
from pellucid.crypto import credentials as own
from pellucid.crypto.certificates import RawPublicKey
from pellucid.crypto.groups import KEMS_ALONE
from pellucid.crypto.provider import PENDING, Pending
from pellucid.crypto.pyca import PYCA
from pellucid.crypto.signatures import PrivateKeySigner, signing_schemes
from pellucid.errors import DecodeError
from pellucid.messages import extensions as x
from pellucid.registry import AlertDescription, CertificateType, NamedGroup
from pellucid.sessions.client import ClientSession, SessionKey
from pellucid.sessions.early_data import StrikeRegister
from pellucid.sessions.psk import ExternalPsk
from pellucid.sessions.server import ServerSession
from pellucid.sessions.tickets import TicketKeys
from pellucid.trace import Role
from pellucid.verify.report import Failure, VerificationReport
from pellucid.verify.request import VerificationRequest
from tests.conformance.compression import compressions
from tests.conformance.flags import CredentialFlags, Flags

DEFAULT_GROUPS: Final = (NamedGroup.X25519MLKEM768, NamedGroup.X25519, NamedGroup.SECP256R1, NamedGroup.SECP384R1)
"""what the runner takes a shim to have that was not told"""
EARLY_DATA_SIZE: Final = 14336
"""what the runner takes a server to accept"""
AGE_SKEW_SECONDS: Final = 60.5
"""how far a ticket's age may be off, for the runner; by default it is less"""
TICKETS: Final = 2
DEFAULT_CREDENTIAL: Final = -1
"""the number of the credential that no `-new-…-credential` began"""


class Refused(Exception):
    """The shim does not take what its flags say; the text is the runner's name for that."""


class Clock:
    """Stands still, so that a ticket has the age that the runner expects, but for `-resumption-delay`."""

    def __init__(self) -> None:
        self._now = time.time()

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


class LastSession:
    """The client's store of sessions: whatever was received last is offered next, as the runner wants it."""

    def __init__(self) -> None:
        self.session: ClientSession | None = None

    def put(self, key: SessionKey, session: ClientSession) -> None:
        self.session = session

    def take(self, key: SessionKey, now: float) -> ClientSession | None:
        session, self.session = self.session, None
        return session if session is not None and session.usable_at(now) else None

    def discard(self, key: SessionKey) -> None:
        self.session = None


class NotedTickets:
    """A server's ticket keys. last: what the ticket redeemed last stands for."""

    single_use: Final = False

    def __init__(self, keys: TicketKeys) -> None:
        self._keys = keys
        self.last: ServerSession | None = None

    def issue(self, session: ServerSession, now: float) -> bytes:
        return self._keys.issue(session, now)

    def redeem(self, ticket: bytes, now: float) -> ServerSession | None:
        self.last = self._keys.redeem(ticket, now)
        return self.last


class Memory:
    """What one test's connections share."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.provider = dataclasses.replace(PYCA, now=self.clock.now, groups=(*PYCA.groups, *KEMS_ALONE))
        self.client_sessions = LastSession()
        self.server_sessions = NotedTickets(TicketKeys(self.provider))
        # It has been there for a day: a new one takes no early data at first.
        self.replay_guard = StrikeRegister(self.clock.now() - 86_400, window_seconds=AGE_SKEW_SECONDS)


@dataclass(frozen=True, eq=False)
class NumberedSigner:
    """A private key that notes when it is used; in asynchronous tests it makes the connection pause."""

    number: int
    key: PrivateKeySigner
    pending: bool
    used: list[int] = field(default_factory=list)

    @property
    def schemes(self) -> tuple[int, ...]:
        return self.key.schemes

    def sign(self, scheme: int, data: bytes) -> bytes | Pending:
        return PENDING if self.pending else self.answer(scheme, data)

    def answer(self, scheme: int, data: bytes) -> bytes:
        self.used.append(self.number)
        return self.key.sign(scheme, data)


class Judge:
    """The shim's verifier: takes every chain, or none with -verify-fail. In asynchronous tests it makes us pause."""

    session_identity: Final = b"the shim's judge: what it says is for each connection's flags"

    def __init__(self, flags: Flags, authorities: tuple[bytes, ...] = ()) -> None:
        self.authorities = authorities
        self.flags = flags
        self.retry: Flags | None = None
        """what the flags are once it has been asked for the first time: for early data, which is then rejected"""
        self.failed = False
        """what the runner calls the verify result: a shim that demands nothing goes on all the same"""

    def verify(self, request: VerificationRequest) -> VerificationReport | Pending:
        return PENDING if self.flags.asynchronous else self.answer(request)

    def answer(self, request: VerificationRequest) -> VerificationReport:
        flags, path = self.flags, (request.leaf.der, *request.intermediates)
        self.failed = flags.verify_fail
        self.flags, self.retry = self.retry or flags, None
        if isinstance(request.leaf, RawPublicKey):
            return self._raw(request.leaf)
        if not _may_sign(request.leaf.x509):
            return VerificationReport(
                accepted=False,
                summary="the leaf has a key usage without digital signature",
                failure=Failure.WRONG_PURPOSE,
                alert=AlertDescription.UNSUPPORTED_CERTIFICATE,
            )
        demanding = flags.verify_peer or flags.require_any_client_certificate or flags.use_custom_verify_callback
        if not self.failed or not demanding:
            return VerificationReport(accepted=True, summary="the shim takes every chain", path=path)
        # The runner's two kinds of callbacks end in different alerts.
        custom = flags.use_custom_verify_callback
        return VerificationReport(
            accepted=False,
            summary="-verify-fail",
            failure=Failure.UNKNOWN_CA,
            alert=AlertDescription.CERTIFICATE_UNKNOWN if custom else AlertDescription.HANDSHAKE_FAILURE,
        )

    def _raw(self, key: RawPublicKey) -> VerificationReport:
        """The runner's shim takes the one key that it is told of, whatever else it demands."""
        if hashlib.sha256(key.der).digest() == self.flags.expect_peer_rpk_sha256:
            return VerificationReport(accepted=True, summary="the key that was expected", path=(key.der,))
        return VerificationReport(accepted=False, summary="not the key that was expected", failure=Failure.UNKNOWN_KEY)


def _may_sign(certificate: x509.Certificate) -> bool:
    """Whether keyUsage, if there is one, has digitalSignature (RFC 9846 §4.5.1.2): the one check that the runner's
    tests want of us which our stack leaves to the verifier."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    return usage.digital_signature


@dataclass
class Setup:
    """One connection's configuration, and what tells afterwards what was done with it."""

    config: ClientConfig | ServerConfig
    judge: Judge
    used_credentials: list[int]
    server_name: str = "test"


def setup(flags: Flags, memory: Memory) -> Setup:
    """Return the configuration that *flags* ask for. Raises UsageError where ours cannot be that way."""
    return _server(flags, memory) if flags.server else _client(flags, memory)


def _client(flags: Flags, memory: Memory) -> Setup:
    judge = Judge(flags)
    used: list[int] = []
    groups = tuple(flags.curves) or DEFAULT_GROUPS
    credentials = _credentials(flags, used)

    # Whoever has PSKs and demands no certificate wants none.
    only_psks = bool(_psks(flags, Role.CLIENT)) and not flags.verify_peer
    config = ClientConfig(
        provider=memory.provider,
        external_psks=_psks(flags, Role.CLIENT),
        reverify_on_resumption=flags.reverify_on_resume,
        sessions=memory.client_sessions,
        early_data=flags.enable_early_data,
        verifier=None if only_psks else judge,
        groups=groups,
        key_shares=default_shares(groups) if flags.key_shares is None else tuple(flags.key_shares),
        signature_schemes=tuple(flags.verify_prefs) or DEFAULT_SCHEMES,
        alpn=protocols(flags.advertise_alpn),
        credentials=credentials,
        certificate_compression=compressions(flags),
        request_ocsp=flags.enable_ocsp_stapling,
        request_scts=flags.enable_signed_cert_timestamps,
        server_certificate_types=tuple(flags.accepted_peer_cert_types) or ONLY_X509,
        client_certificate_types=tuple(flags.available_client_cert_types) or None,
        insist_on_credential=True,  # the runner wants an error where we would send an empty Certificate
        send_server_name=bool(flags.host_name),
        grease=flags.enable_grease,
        permute_extensions=flags.permute_extensions,
    )
    return Setup(config, judge, used, flags.host_name or "test")


def _server(flags: Flags, memory: Memory) -> Setup:
    names = () if flags.use_client_ca_list in {"<NULL>", "<EMPTY>"} else flags.use_client_ca_list.split(",")
    judge = Judge(flags, tuple(bytes.fromhex(name) for name in names if name))
    used: list[int] = []
    authentication = ClientAuthentication.NONE
    if flags.require_any_client_certificate:
        authentication = ClientAuthentication.REQUIRED
    if flags.verify_peer:
        authentication = ClientAuthentication.OPTIONAL
    config = ServerConfig(
        provider=memory.provider,
        external_psks=_psks(flags, Role.SERVER),
        reverify_on_resumption=flags.reverify_on_resume,
        sessions=memory.server_sessions,
        max_early_data=EARLY_DATA_SIZE if flags.enable_early_data else 0,
        replay_guard=memory.replay_guard,
        tickets=0 if flags.no_ticket else TICKETS,
        tickets_on_resumption=0 if flags.no_ticket else TICKETS,
        verifier=judge,
        client_authentication=authentication,
        client_certificate_types=tuple(flags.accepted_peer_cert_types) or ONLY_X509,
        certificate_compression=compressions(flags),
        client_certificate_compression=compressions(flags),
        groups=tuple(flags.curves) or DEFAULT_GROUPS,
        signature_schemes=tuple(flags.verify_prefs) or DEFAULT_SCHEMES,
        alpn=("no such protocol",) if flags.reject_alpn else (flags.select_alpn,) if flags.select_alpn else (),
        credentials=_credentials(flags, used),
        credential_resolver=_pending_resolver if flags.asynchronous else None,
    )
    return Setup(config, judge, used)


def _pending_resolver(_: ClientHelloInfo) -> Pending:
    return PENDING


def default_shares(groups: tuple[int, ...]) -> tuple[int, ...]:
    """Return the first group and the first of the other kind, post-quantum or not: what the runner expects."""
    resistant = {group.code for group in (*PYCA.groups, *KEMS_ALONE) if group.post_quantum}
    other = next((code for code in groups[1:] if (code in resistant) is not (groups[0] in resistant)), None)
    return groups[:1] if other is None else (groups[0], other)


def protocols(wire: str) -> tuple[str, ...]:
    """Return the ALPN names in the runner's wire format: each after a byte of its length."""
    names, at = [], 0
    while at < len(wire):
        stop = at + 1 + ord(wire[at])
        names.append(wire[at + 1 : stop])
        at = stop
    return tuple(names)


def _psks(flags: Flags, role: Role) -> tuple[ExternalPsk, ...]:
    return tuple(
        ExternalPsk.imported_with_context(
            one.psk_importer_identity,
            one.psk_importer_key,
            context=one.psk_importer_context,
            role=role,
            hash_name="sha384" if one.psk_importer_sha384 else "sha256",
        )
        for one in flags.credentials
        if one.kind == "psk"
    )


def _credentials(flags: Flags, used: list[int]) -> tuple[Credential, ...]:
    built = [
        _credential(flags, credential, number, used)
        for number, credential in enumerate(flags.credentials)
        if credential.kind != "psk"
    ]
    if flags.default_credential.cert_file:
        # The default one is tried last.
        built.append(_credential(flags, flags.default_credential, DEFAULT_CREDENTIAL, used))
    return tuple(built)


def _credential(flags: Flags, credential: CredentialFlags, number: int, used: list[int]) -> Credential:
    key = own.private_key_from_pem(Path(credential.key_file).read_bytes())
    kind = CertificateType.RAW_PUBLIC_KEY if credential.kind == "raw public key" else CertificateType.X509
    chain: tuple[bytes, ...] = (own.spki_of(key),)
    if kind == CertificateType.X509:
        chain = own.certificates_from_pem(Path(credential.cert_file).read_bytes())
    signer = PrivateKeySigner(key, signing_schemes(own.parse_own(chain, kind)))
    return Credential(
        chain=chain,
        certificate_type=kind,
        signer=NumberedSigner(number, signer, flags.asynchronous, used),
        ocsp_response=credential.ocsp_response or None,
        scts=_scts(credential.signed_cert_timestamps),
        signature_schemes=tuple(credential.signing_prefs) or None,
        must_match_issuer=credential.must_match_issuer,
    )


def _scts(serialized: bytes) -> tuple[bytes, ...]:
    if not serialized:
        return ()
    try:
        return x.SCTS.codec.decode_all(serialized, "the SCT list")
    except DecodeError as error:
        raise Refused(":INVALID_SCT_LIST:") from error
