"""A CA and one end-entity certificate of each key type, written as PEM files that every peer can read."""

from __future__ import annotations

import base64
import datetime
import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.interop.names import CREDENTIALS

# AlgorithmIdentifier of the key: rsaEncryption with NULL, and id-RSASSA-PSS without parameters (RFC 4055 §3.1).
_RSA_ENCRYPTION: Final = bytes.fromhex("300d06092a864886f70d0101010500")
_RSASSA_PSS: Final = bytes.fromhex("300b06092a864886f70d01010a")

_KEYS: Final[dict[str, Callable[[], PrivateKeyTypes]]] = {
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-pss": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "mldsa44": mldsa.MLDSA44PrivateKey.generate,
    "mldsa65": mldsa.MLDSA65PrivateKey.generate,
    "mldsa87": mldsa.MLDSA87PrivateKey.generate,
}


_SERVER_NAMES: Final[tuple[x509.GeneralName, ...]] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
)


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """Paths of a PEM chain, end-entity first, and its unencrypted PKCS#8 key."""

    certificate: Path
    key: Path

    def spki_sha256(self) -> bytes:
        """Return the SHA-256 of the leaf's SubjectPublicKeyInfo: how Chromium names a certificate to trust."""
        leaf = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        encoded = leaf.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(encoded).digest()


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the cells use. servers: by name in CREDENTIALS, for localhost and 127.0.0.1, but for "other-name".

    "intermediate" is P-256 under a CA of its own under ours, which is in the file; "other-name" is P-256.
    """

    ca: Path
    servers: dict[str, CredentialFiles]
    clients: dict[str, CredentialFiles]


def make_certificates(directory: Path) -> Certificates:
    """Return a fresh CA and its certificates, written into *directory*. Valid from a day ago for thirty days."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = _Authority()
    ca = directory / "ca.pem"
    ca.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    intermediate = _Authority(authority)
    servers = {name: authority.issue(directory, f"server-{name}", name, _SERVER_NAMES) for name in CREDENTIALS}
    servers["intermediate"] = intermediate.issue(directory, "server-intermediate", "ecdsa-p256", _SERVER_NAMES)
    servers["other-name"] = authority.issue(
        directory, "server-other", "ecdsa-p256", [x509.DNSName("elsewhere.example")]
    )
    clients = {
        name: authority.issue(directory, f"client-{name}", name) for name in ("ecdsa-p256", "rsa-2048", "ed25519")
    }
    clients["intermediate"] = intermediate.issue(directory, "client-intermediate", "ecdsa-p256")
    return Certificates(ca=ca, servers=servers, clients=clients)


class _Authority:
    """A CA: ours, or, under it, an intermediate one, which what it issues comes along with."""

    def __init__(self, issuer: _Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        common_name = "Pellucid interop CA" if issuer is None else "Pellucid interop intermediate CA"
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = _builder(self.name, issuer.name if issuer else self.name, self.key)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None if issuer is None else 0), critical=True
        )
        builder = builder.add_extension(_key_usage(ca=True), critical=True)
        if issuer is not None:
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
            )
        self.certificate = builder.sign(issuer.key if issuer else self.key, hashes.SHA256())
        self.sent = b"" if issuer is None else self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, directory: Path, file: str, kind: str, server_names: Sequence[x509.GeneralName] = ()
    ) -> CredentialFiles:
        """Return a new certificate of *kind*: a server's if there are *server_names*, else a client's."""
        key = _KEYS[kind]()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"interop {file}")])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server_names else ExtendedKeyUsageOID.CLIENT_AUTH
        names = server_names or [x509.DNSName("client.example")]
        builder = _builder(subject, self.name, key)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(ca=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        certificate = builder.sign(self.key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        encoded = certificate.public_bytes(serialization.Encoding.DER)
        if kind == "rsa-pss":
            encoded = self._as_rsassa_pss(certificate)
            private = _substituted(private)
        files = CredentialFiles(directory / f"{file}.pem", directory / f"{file}.key")
        files.certificate.write_bytes(_pem("CERTIFICATE", encoded) + self.sent)
        files.key.write_bytes(_pem("PRIVATE KEY", private))
        files.key.chmod(0o600)
        return files

    def _as_rsassa_pss(self, certificate: x509.Certificate) -> bytes:
        """Return *certificate* with an id-RSASSA-PSS key, signed anew: `cryptography` only writes rsaEncryption."""
        body = _substituted(certificate.tbs_certificate_bytes)
        algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
        signature = self.key.sign(body, ec.ECDSA(hashes.SHA256()))
        return _tlv(0x30, body + algorithm + _tlv(0x03, b"\0" + signature))


def _builder(subject: x509.Name, issuer: x509.Name, key: PrivateKeyTypes) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


# ---- just enough DER to change one AlgorithmIdentifier ----------------------------------------------------------


def _substituted(der: bytes) -> bytes:
    """Return *der* with its one rsaEncryption made id-RSASSA-PSS, the lengths of what is around it adjusted."""
    if der == _RSA_ENCRYPTION:
        return _RSASSA_PSS
    if _RSA_ENCRYPTION not in der or der[0] != 0x30:
        return der
    return _tlv(0x30, b"".join(_substituted(item) for item in _items(_content(der))))


def _items(content: bytes) -> list[bytes]:
    items = []
    while content:
        size = _header(content) + _length(content)
        items.append(content[:size])
        content = content[size:]
    return items


def _content(der: bytes) -> bytes:
    return der[_header(der) : _header(der) + _length(der)]


def _header(der: bytes) -> int:
    return 2 if der[1] < 0x80 else 2 + (der[1] & 0x7F)


def _length(der: bytes) -> int:
    return der[1] if der[1] < 0x80 else int.from_bytes(der[2 : _header(der)], "big")


def _tlv(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _pem(label: str, der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label.encode(), b"\n".join(lines), label.encode())
