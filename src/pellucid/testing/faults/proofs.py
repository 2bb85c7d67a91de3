"""Faults in the proof of who a server is: Certificate as a message, CertificateVerify, Finished (RFC 9846 §4.5)."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Final

from pellucid.config import ClientAuthentication, Credential
from pellucid.crypto.signatures import PrivateKeySigner
from pellucid.handshake.authenticate import signed_content
from pellucid.messages.handshake import HEADER_LENGTH, CompressedCertificate, Extension, handshake_message
from pellucid.registry import AlertDescription as A
from pellucid.registry import CertificateCompressionAlgorithm
from pellucid.registry import ExtensionType as E
from pellucid.registry import HandshakeType as H
from pellucid.registry import SignatureScheme as S
from pellucid.testing.bent import Edit, changing_body, changing_extensions, message, replacing, without
from pellucid.testing.ca import CA
from pellucid.testing.faults.fault import Needs
from pellucid.testing.faults.fault import protocol_fault as _fault
from pellucid.testing.faults.mint import Mint, Shown, good
from pellucid.trace import Role

__all__ = ["PROOFS", "another_key"]

IP: Final = A.ILLEGAL_PARAMETER
_NOBODYS_ALGORITHM: Final = 0x7777
_BOMB: Final = 16 * 2**20


# ---- CertificateVerify -----------------------------------------------------------------------------------------------


class _OtherTranscript(PrivateKeySigner):
    """Signs the transcript of another handshake."""

    def sign(self, scheme: int, data: bytes) -> bytes:
        return PrivateKeySigner.sign(self, scheme, signed_content(Role.SERVER, bytes(32)))


class _OtherRole(PrivateKeySigner):
    """Signs as a client would."""

    def sign(self, scheme: int, data: bytes) -> bytes:
        return PrivateKeySigner.sign(self, scheme, data.replace(b"TLS 1.3, server", b"TLS 1.3, client", 1))


def _signing(kind: type[PrivateKeySigner]) -> Callable[[Mint], Shown]:
    def make(mint: Mint) -> Shown:
        honest = good(mint)
        signer = honest.credential.signer
        if not isinstance(signer, PrivateKeySigner):
            return honest
        bent = kind(signer.key, signer.schemes)
        return dataclasses.replace(honest, credential=dataclasses.replace(honest.credential, signer=bent))

    return make


def another_key(mint: Mint) -> Shown:
    """Return what shows a certificate, and signs with another key."""
    honest, another = good(mint), good(mint)
    credential = dataclasses.replace(honest.credential, signer=another.credential.signer)
    return dataclasses.replace(honest, credential=credential)


def _scheme(code: int) -> Callable[[Shown], Edit]:
    return lambda _: changing_body(H.CERTIFICATE_VERIFY, lambda body: dataclasses.replace(body, algorithm=code))


# ---- Certificate -----------------------------------------------------------------------------------------------------


def _certificate(change: Callable[[bytes], bytes]) -> Callable[[Shown], Edit]:
    return lambda _: replacing(H.CERTIFICATE, lambda raw: change(raw[HEADER_LENGTH:]))


def _compressed(
    body: bytes, data: bytes, *, length: int | None = None, algorithm: int = CertificateCompressionAlgorithm.ZLIB
) -> bytes:
    return handshake_message(CompressedCertificate(algorithm, len(body) if length is None else length, data))


@functools.cache
def _bomb() -> bytes:
    return zlib.compress(bytes(_BOMB))


def _wrong(change: Callable[[bytes], bytes]) -> Callable[[Shown], Edit]:
    return lambda _: replacing(H.FINISHED, change)


def _flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes((raw[-1] ^ 1,))


# ---- client certificates ---------------------------------------------------------------------------------------------


def _strangers_certificate(mint: Mint) -> Shown:
    stranger = CA("Nobody's root").issue("client.test", purposes=("client",))
    pem = stranger.chain_pem + stranger.key_pem
    config = {"credentials": (Credential.from_pem(stranger.chain_pem, stranger.key_pem),)}
    return dataclasses.replace(good(mint), config=config, client_pem=pem)


# ---- the table -------------------------------------------------------------------------------------------------------


_ASKING: Final = {"client_authentication": ClientAuthentication.REQUIRED}
_COMPRESSION = Needs(text="to offer certificate compression with zlib, as by default")
_CERTIFICATE = Needs(text="a certificate that the server does not trust", options=("--cert", "{client}"))
_NONE = Needs(text="to have no certificate")


def _odd_schemes(_: Shown) -> Edit:
    odd = Extension(E.SIGNATURE_ALGORITHMS, b"\x00\x03\x04\x03\x08")
    return changing_extensions(H.CERTIFICATE_REQUEST, lambda present: [odd])


PROOFS: Final = (
    _fault("empty-certificate", "its Certificate message has no certificate",
           "TLS-EMPTY-CERTIFICATE", A.DECODE_ERROR, "9846 §4.5.1.3",
           _certificate(lambda body: message(H.CERTIFICATE, bytes(4)))),
    _fault("certificate-context", "its Certificate message answers a request that nobody made",
           "TLS-ILLEGAL-PARAMETER", IP, "9846 §4.5.1",
           _certificate(lambda body: message(H.CERTIFICATE, b"\x01c" + body[1:]))),
    _fault("missing-certificate", "goes on to Finished without showing who it is",
           "TLS-UNEXPECTED-MESSAGE", A.UNEXPECTED_MESSAGE, "9846 §A.1",
           lambda _: without(H.CERTIFICATE, H.CERTIFICATE_VERIFY)),
    _fault("missing-certificate-verify", "shows a certificate, and leaves out the proof that it is its own",
           "TLS-UNEXPECTED-MESSAGE", A.UNEXPECTED_MESSAGE, "9846 §A.1", lambda _: without(H.CERTIFICATE_VERIFY)),
    _fault("certificate-verify-other-transcript", "signs another handshake than this one",
           "TLS-BAD-CERTIFICATE-VERIFY", A.DECRYPT_ERROR, "9846 §4.5.2", shown=_signing(_OtherTranscript)),
    _fault("certificate-verify-other-role", "signs the handshake as a client would",
           "TLS-BAD-CERTIFICATE-VERIFY", A.DECRYPT_ERROR, "9846 §4.5.2", shown=_signing(_OtherRole)),
    _fault("certificate-verify-other-key", "signs with another key than the certificate's: it is not its own",
           "TLS-BAD-CERTIFICATE-VERIFY", A.DECRYPT_ERROR, "9846 §4.5.2", shown=another_key),
    _fault("certificate-verify-unoffered-scheme", "signs with rsa_pkcs1_sha256, which is not for handshakes",
           "TLS-SCHEME-NOT-OFFERED", IP, "9846 §4.5.2", _scheme(S.RSA_PKCS1_SHA256)),
    _fault("certificate-verify-sha1", "signs with ecdsa_sha1",
           "TLS-SCHEME-NOT-OFFERED", IP, "9846 §4.5.2", _scheme(S.ECDSA_SHA1)),
    _fault("certificate-verify-other-scheme", "says ed25519 of a signature by its ECDSA key",
           "TLS-SCHEME-NOT-OFFERED", IP, "9846 §4.5.2", _scheme(S.ED25519)),
    _fault("wrong-finished", "its Finished is wrong by one bit",
           "TLS-BAD-FINISHED", A.DECRYPT_ERROR, "9846 §4.5.3", _wrong(_flipped)),
    _fault("short-finished", "its Finished is half as long as the hash",
           "TLS-DECODE", A.DECODE_ERROR, "9846 §4.5.3",
           _wrong(lambda raw: message(H.FINISHED, raw[HEADER_LENGTH : HEADER_LENGTH + 16]))),
    _fault("bad-compression", "its compressed certificate is no zlib data",
           "TLS-BAD-COMPRESSION", A.BAD_CERTIFICATE, "8879 §4",
           _certificate(lambda body: _compressed(body, body)), needs=_COMPRESSION),
    _fault("compression-bomb", "its compressed certificate stands for 16 MiB of zeros",
           "TLS-COMPRESSION-BOMB", A.BAD_CERTIFICATE, "8879 §4",
           _certificate(lambda body: _compressed(body, _bomb())), needs=_COMPRESSION),
    _fault("unoffered-compression", "compresses its certificate with an algorithm that was not offered",
           "TLS-BAD-COMPRESSION", IP, "8879 §4",
           _certificate(lambda body: _compressed(body, body, algorithm=_NOBODYS_ALGORITHM)), needs=_COMPRESSION),
    _fault("message-too-large", "announces a Certificate of 16 MiB",
           "TLS-MESSAGE-TOO-LARGE", IP, "9846 §4",
           _certificate(lambda body: bytes((H.CERTIFICATE,)) + b"\xff\xff\xff" + body)),
    _fault("certificate-required", "demands a certificate of the client",
           "TLS-CLIENT-CERT-REQUIRED", None, "9846 §4.5.1.3", config=_ASKING, needs=_NONE),
    _fault("malformed-certificate-request", "its CertificateRequest has one and a half signature schemes",
           "TLS-DECODE", A.DECODE_ERROR, "9846 §4.4.2", _odd_schemes, config=_ASKING),
    _fault("certificate-refused", "demands a certificate of the client, and does not trust the one it gets",
           "TLS-CLIENT-CERT-REFUSED", None, "9846 §4.5.1.3", shown=_strangers_certificate, config=_ASKING,
           needs=_CERTIFICATE),
)  # fmt: skip
