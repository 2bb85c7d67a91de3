"""A certificate authority for tests and development: roots, intermediates and leaves of every kind, good or wrong.

Nothing here is for production: keys are made on the spot and handed out unencrypted.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import idna
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from pellucid.errors import UsageError
from pellucid.testing.revocation import Answer, Digest, Revoked, Signing, Status, ocsp_response, revocation_list
from pellucid.verify.trust import TrustStore

KeyKind = Literal[
    "p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096", "ed25519", "ed448", "mldsa44", "mldsa65", "mldsa87"
]
KeyUsage = Literal["digital_signature", "key_encipherment", "key_agreement", "key_cert_sign", "crl_sign"]
Purpose = Literal["server", "client", "any", "code", "ocsp"]

DAY: Final = datetime.timedelta(days=1)
PEER_USAGE: Final[tuple[KeyUsage, ...]] = ("digital_signature",)
_PKCS12_ROUNDS: Final = 20_000
CA_USAGE: Final[tuple[KeyUsage, ...]] = ("digital_signature", "key_cert_sign", "crl_sign")

_PURPOSES: Final = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "code": ExtendedKeyUsageOID.CODE_SIGNING,
    "ocsp": ExtendedKeyUsageOID.OCSP_SIGNING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra:
    """Another extension, for certificates that are out of the ordinary."""

    value: x509.ExtensionType
    critical: bool = False


CRL_NUMBER: Final = Extra(value=x509.CRLNumber(1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that a CA issued, its private key, and the intermediates to send with it.

    key_pem: PKCS #8, unencrypted; empty if only the public key was given.
    """

    certificate: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    key_pem: bytes = field(repr=False)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def private_key(self) -> CertificateIssuerPrivateKeyTypes:
        """The key; raises ValueError if only the public one was given."""
        return load_pem_private_key(self.key_pem, None)  # type: ignore[return-value]  # new_key made it

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        """The leaf and its intermediates, leaf first, without the root."""
        return tuple(one.public_bytes(Encoding.DER) for one in (self.certificate, *self.intermediates))

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def pkcs12(self, name: str, password: str, *authorities: x509.Certificate) -> bytes:
        """Return key, chain and *authorities* as PKCS #12, encrypted. Raises UsageError for a key that it cannot hold.

        PBES2 with AES-256 and an HMAC of SHA-256, which all that is younger than 2018 reads.
        """
        encryption = (
            PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(_PKCS12_ROUNDS)
            .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
            .hmac_hash(hashes.SHA256())
            .build(password.encode())
        )
        try:
            return pkcs12.serialize_key_and_certificates(
                name.encode(),
                self.private_key,  # type: ignore[arg-type]  # of a kind that it does not take: TypeError
                self.certificate,
                (*self.intermediates, *authorities),
                encryption,
            )
        except TypeError as error:
            raise UsageError(f"PKCS #12 cannot hold this kind of key here: {error}") from error

    @property
    def chain_pem(self) -> bytes:
        """What a server's certificate file holds: the leaf and its intermediates, leaf first."""
        return b"".join(one.public_bytes(Encoding.PEM) for one in (self.certificate, *self.intermediates))


class CA:
    """A certificate authority: a root, or an intermediate that another one made.

    key:              what it signs with.
    not_before, not_after: default: a day ago, and ten years from now.
    path_length:      how many intermediates may follow; None: any number.
    ca:               the basicConstraints flag; None leaves the extension out.
    usage:            the keyUsage bits; None leaves the extension out.
    purposes:         extendedKeyUsage; None leaves it out.
    permitted, excluded: name constraints: DNS names, or networks such as "10.0.0.0/8".
    extra:            more extensions.
    aia:              where the leaves of an intermediate say its certificate is; None for nowhere.
    sha:              the hash it signs with, where its key uses one.   pss: whether an RSA key signs with PSS.
    """

    def __init__(
        self,
        name: str = "Pellucid test root",
        *,
        key: KeyKind | CertificateIssuerPrivateKeyTypes = "p256",
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        path_length: int | None = None,
        ca: bool | None = True,
        usage: Sequence[KeyUsage] | None = CA_USAGE,
        purposes: Sequence[Purpose] | None = None,
        permitted: Sequence[str] = (),
        excluded: Sequence[str] = (),
        extra: Sequence[Extra] = (),
        aia: str | None = None,
        sha: Literal[256, 384, 512] = 256,
        pss: bool = False,
        parent: CA | None = None,
    ) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.private_key = new_key(key) if isinstance(key, str) else key
        self.parent = parent
        self.aia = aia
        self._sha = sha
        self._pss = pss
        constraints = _name_constraints(permitted, excluded)
        extensions = [
            *extra,
            *([Extra(value=constraints, critical=True)] if constraints is not None else []),
        ]
        self.certificate = (parent or self)._sign(
            subject=self.name,
            public_key=self.private_key.public_key(),
            not_before=not_before or _now() - DAY,
            not_after=not_after or _now() + 3650 * DAY,
            ca=ca,
            path_length=path_length,
            usage=usage,
            purposes=purposes,
            extra=extensions,
        )

    @property
    def root(self) -> CA:
        """The CA at the top."""
        return self if self.parent is None else self.parent.root

    @property
    def root_der(self) -> bytes:
        return self.root.certificate.public_bytes(Encoding.DER)

    @property
    def root_pem(self) -> bytes:
        """The root's certificate, which those who trust this CA are given."""
        return self.root.certificate.public_bytes(Encoding.PEM)

    @property
    def permitted(self) -> tuple[str, ...]:
        """The DNS names and networks that the certificate itself is limited to; () where there is no limit."""
        try:
            found = self.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            return ()
        return tuple(str(one.value) for one in found.permitted_subtrees or ())

    @property
    def trust(self) -> TrustStore:
        """The store that trusts this CA's root and nobody else."""
        return TrustStore.from_der([self.root_der], origin="test CA")

    @property
    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """This CA's certificate and those above it, without the root: what its leaves are sent with."""
        return () if self.parent is None else (self.certificate, *self.parent.intermediates)

    def intermediate(
        self,
        name: str = "Pellucid test intermediate",
        *,
        key: KeyKind | CertificateIssuerPrivateKeyTypes = "p256",
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        path_length: int | None = None,
        ca: bool | None = True,
        usage: Sequence[KeyUsage] | None = CA_USAGE,
        purposes: Sequence[Purpose] | None = None,
        permitted: Sequence[str] = (),
        excluded: Sequence[str] = (),
        extra: Sequence[Extra] = (),
        aia: str | None = "http://ca.test/intermediate.der",
    ) -> CA:
        """Return a CA whose certificate this one issued; the arguments are those of CA."""
        return CA(
            name,
            key=key,
            not_before=not_before,
            not_after=not_after,
            path_length=path_length,
            ca=ca,
            usage=usage,
            purposes=purposes,
            permitted=permitted,
            excluded=excluded,
            extra=extra,
            aia=aia,
            parent=self,
        )

    def issue(
        self,
        *names: str | x509.GeneralName,
        common_name: str | None = None,
        key: KeyKind | CertificateIssuerPrivateKeyTypes = "p256",
        public_key: CertificatePublicKeyTypes | None = None,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        ca: bool | None = False,
        usage: Sequence[KeyUsage] | None = PEER_USAGE,
        purposes: Sequence[Purpose] | None = ("server", "client"),
        extra: Sequence[Extra] = (),
        critical_names: bool = False,
        must_staple: bool = False,
    ) -> Issued:
        """Return a leaf for *names*: host names (U-labels too), IP and mail addresses, URIs as text; or GeneralNames.

        must_staple: promise that an OCSP response comes with it (RFC 7633).
        public_key: use this key, whose private half nobody needs, instead of making one.
        common_name: the subject; empty for none. Default: the first name.
        not_before, not_after: default: an hour ago, and a year from now.
        """
        private_key = new_key(key) if isinstance(key, str) else key
        alternatives = [_general_name(name) for name in names]
        first = str(alternatives[0].value) if alternatives else "Pellucid test leaf"
        subject = first if common_name is None else common_name
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])] if subject else []
        extensions = list(extra)
        if alternatives:
            critical = critical_names or not subject
            extensions.append(Extra(value=x509.SubjectAlternativeName(alternatives), critical=critical))
        if self.aia is not None:
            extensions.append(Extra(value=_issuer_at(self.aia)))
        if must_staple:
            extensions.append(Extra(value=x509.TLSFeature([x509.TLSFeatureType.status_request])))
        certificate = self._sign(
            subject=x509.Name(attributes),
            public_key=public_key or private_key.public_key(),
            not_before=not_before or _now() - datetime.timedelta(hours=1),
            not_after=not_after or _now() + 365 * DAY,
            ca=ca,
            path_length=None,
            usage=usage,
            purposes=purposes,
            extra=extensions,
        )
        key_pem = b"" if public_key is not None else private_key_pem(private_key)
        return Issued(certificate=certificate, intermediates=self.intermediates, key_pem=key_pem)

    def responder(
        self,
        name: str = "Pellucid test responder",
        *,
        key: KeyKind = "p256",
        no_check: bool = True,
        purposes: Sequence[Purpose] | None = ("ocsp",),
        usage: Sequence[KeyUsage] | None = PEER_USAGE,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        extra: Sequence[Extra] = (),
    ) -> Issued:
        """Return a delegate that may sign OCSP responses for this CA (RFC 6960 §4.2.2.2); the arguments spoil that.

        no_check: whether it is trusted for as long as its certificate is valid.
        """
        return self.issue(
            common_name=name,
            key=key,
            purposes=purposes,
            usage=usage,
            not_before=not_before,
            not_after=not_after,
            extra=(*extra, *((Extra(value=x509.OCSPNoCheck()),) if no_check else ())),
        )

    def ocsp_response(
        self,
        about: Issued,
        *,
        status: Status = "good",
        revoked_at: datetime.datetime | None = None,
        reason: x509.ReasonFlags | None = None,
        this_update: datetime.datetime | None = None,
        next_update: datetime.datetime | Literal["in a week"] | None = "in a week",
        digest: Digest = "sha1",
        serial: int | None = None,
        issuer: CA | None = None,
        signer: Issued | None = None,
        certificates: Sequence[Issued] | None = None,
        by_name: bool = False,
        critical: bool = False,
        extra: Sequence[Extra] = (),
        more: Sequence[Answer] = (),
        sha: Literal["sha1", "sha256"] = "sha256",
        wrong_signature: bool = False,
    ) -> bytes:
        """Return an OCSPResponse, DER, about *about*, as a server staples it (RFC 6960 §4.2.1).

        this_update: default: an hour ago.   next_update: None for none.
        digest:      what the CertID names the issuer with.
        serial, issuer: answer for another number, or another CA, than the certificate's.
        signer:      who signs instead of this CA: one of its responders, or somebody who may not.
        certificates: default: the signer's, if it is not the CA itself.   by_name: name it by name, not by its key.
        critical:    whether the answer has a critical extension that nobody knows.   extra: responseExtensions.
        more:        answers that follow.   sha: of the signature, where the key uses one.
        """
        started = this_update or _now() - datetime.timedelta(hours=1)
        answer = Answer(
            about=about.certificate,
            issuer=(issuer or self).certificate,
            this_update=started,
            next_update=_now() + 7 * DAY if next_update == "in a week" else next_update,
            status=status,
            revoked_at=revoked_at,
            reason=reason,
            digest=digest,
            serial=serial,
            critical=critical,
        )
        key = self.private_key if signer is None else signer.private_key
        if certificates is None:
            certificates = () if signer is None else (signer,)
        return ocsp_response(
            (answer, *more),
            Signing(key=key, sha=sha, pss=self._pss, wrong=wrong_signature),
            self.certificate if signer is None else signer.certificate,
            by_name=by_name,
            certificates=[one.certificate for one in certificates],
            extensions=[(one.value, one.critical) for one in extra],
            produced_at=started,
        )

    def crl(
        self,
        *revoked: Issued | Revoked,
        reason: x509.ReasonFlags | None = None,
        this_update: datetime.datetime | None = None,
        next_update: datetime.datetime | Literal["in a week"] | None = "in a week",
        number: Extra | None = CRL_NUMBER,
        extra: Sequence[Extra] = (),
        key: CertificateIssuerPrivateKeyTypes | None = None,
        sha: Literal["sha1", "sha256"] = "sha256",
    ) -> bytes:
        """Return a CRL, DER, that lists *revoked* (RFC 5280 §5).

        this_update: default: an hour ago, when they were revoked too.   next_update, number: None for none.
        key:         sign with this one instead of the CA's.
        """
        started = this_update or _now() - datetime.timedelta(hours=1)
        entries = [
            one
            if isinstance(one, Revoked)
            else Revoked(serial=one.certificate.serial_number, when=started, reason=reason)
            for one in revoked
        ]
        return revocation_list(
            self.name,
            entries,
            Signing(key=key or self.private_key, sha=sha, pss=self._pss),
            this_update=started,
            next_update=_now() + 7 * DAY if next_update == "in a week" else next_update,
            extensions=[(one.value, one.critical) for one in (*((number,) if number else ()), *extra)],
        )

    def _sign(
        self,
        *,
        subject: x509.Name,
        public_key: CertificatePublicKeyTypes,
        not_before: datetime.datetime,
        not_after: datetime.datetime,
        ca: bool | None,
        path_length: int | None,
        usage: Sequence[KeyUsage] | None,
        purposes: Sequence[Purpose] | None,
        extra: Sequence[Extra],
    ) -> x509.Certificate:
        issuer_key = self.private_key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )
        extensions = [Extra(value=x509.SubjectKeyIdentifier.from_public_key(public_key))]
        extensions.append(Extra(value=x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)))
        if ca is not None:
            extensions.append(Extra(value=x509.BasicConstraints(ca, path_length if ca else None), critical=True))
        if usage is not None:
            extensions.append(Extra(value=_key_usage(usage), critical=True))
        if purposes is not None:
            extensions.append(Extra(value=x509.ExtendedKeyUsage([_PURPOSES[purpose] for purpose in purposes])))
        replaced = {one.value.oid for one in extra}
        for one in (*(one for one in extensions if one.value.oid not in replaced), *extra):
            builder = builder.add_extension(one.value, one.critical)
        algorithm = _hash(self.private_key, self._sha)
        pss = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size) if self._pss and algorithm else None
        return builder.sign(self.private_key, algorithm, rsa_padding=pss)


def self_signed(
    *names: str | x509.GeneralName,
    key: KeyKind = "p256",
    ca: bool | None = False,
    usage: Sequence[KeyUsage] | None = PEER_USAGE,
    purposes: Sequence[Purpose] | None = ("server",),
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
) -> Issued:
    """Return a certificate that vouches for itself, as a development server's."""
    alternatives = [_general_name(name) for name in names]
    authority = CA(
        str(alternatives[0].value)[:64],
        key=key,
        ca=ca,
        usage=usage,
        purposes=purposes,
        not_before=not_before,
        not_after=not_after,
        extra=[Extra(value=x509.SubjectAlternativeName(alternatives))],
    )
    return Issued(certificate=authority.certificate, intermediates=(), key_pem=private_key_pem(authority.private_key))


def new_key(kind: KeyKind) -> CertificateIssuerPrivateKeyTypes:
    """Return a new private key of *kind*."""
    match kind:
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "p521":
            return ec.generate_private_key(ec.SECP521R1())
        case "rsa2048" | "rsa3072" | "rsa4096":
            return rsa.generate_private_key(65537, int(kind[3:]))
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
        case "mldsa44":
            return mldsa.MLDSA44PrivateKey.generate()
        case "mldsa65":
            return mldsa.MLDSA65PrivateKey.generate()
        case "mldsa87":
            return mldsa.MLDSA87PrivateKey.generate()


def private_key_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """Return *key* as PKCS #8 PEM, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _hash(
    key: CertificateIssuerPrivateKeyTypes, bits: Literal[256, 384, 512]
) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        return None
    match bits:
        case 256:
            return hashes.SHA256()
        case 384:
            return hashes.SHA384()
        case 512:
            return hashes.SHA512()


def _general_name(name: str | x509.GeneralName) -> x509.GeneralName:
    if isinstance(name, x509.GeneralName):
        return name
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name if name.isascii() else idna.encode(name, uts46=True).decode("ascii"))


def _issuer_at(url: str) -> x509.AuthorityInformationAccess:
    location = x509.UniformResourceIdentifier(url)
    return x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, location)])


def _name_constraints(permitted: Sequence[str], excluded: Sequence[str]) -> x509.NameConstraints | None:
    if not permitted and not excluded:
        return None
    return x509.NameConstraints([_subtree(name) for name in permitted] or None, [_subtree(n) for n in excluded] or None)


def _subtree(text: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_network(text)) if "/" in text else x509.DNSName(text)


def _key_usage(bits: Sequence[KeyUsage]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="digital_signature" in bits,
        content_commitment=False,
        key_encipherment="key_encipherment" in bits,
        data_encipherment=False,
        key_agreement="key_agreement" in bits,
        key_cert_sign="key_cert_sign" in bits,
        crl_sign="crl_sign" in bits,
        encipher_only=False,
        decipher_only=False,
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)
