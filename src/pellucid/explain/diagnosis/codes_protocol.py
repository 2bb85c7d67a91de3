"""The codes of handshakes that found no common ground, and of peers that broke a rule of the protocol."""

from __future__ import annotations

from typing import Final

from pellucid.explain.diagnosis.code import Code, code

__all__ = ["PROTOCOL"]

_PEER_BROKEN: Final = (
    "bring the peer's TLS library up to date; if it is, tell its makers: attach the record (--pcapng FILE, or -vv)",
    "check that nothing on the way rewrites the connection: try from another network",
)

PROTOCOL: Final[tuple[Code, ...]] = (
    code(
        "TLS-VERSION",
        "the peer does not speak TLS 1.3",
        """Pellucid speaks TLS 1.3 and nothing older. A server that knows TLS 1.2 at most either answers with a
        ServerHello of that version or with the alert protocol_version; a client shows it by what its ClientHello
        offers.""",
        example="protocol_version: the server chose TLS 1.2; it does not speak TLS 1.3 (RFC 9846 §4.3.1)",
        remedy=(
            "turn TLS 1.3 on at the peer: nginx ssl_protocols TLSv1.2 TLSv1.3, Apache SSLProtocol +TLSv1.3",
            "bring the peer's TLS library up to date: OpenSSL 1.1.1, Java 11, .NET 5 and Go 1.12 or newer have it",
            "if an inspecting proxy is on the way, it may be the one that is old",
        ),
    ),
    code(
        "TLS-NO-COMMON-GROUP",
        "the two ends have no key-exchange group in common",
        """Client and server each have a list of groups (x25519, secp256r1, X25519MLKEM768, …) for the key exchange,
        and no group is on both. Lists that were narrowed by hand are the usual reason, and rules like FIPS that
        take x25519 away.

        A client hears no more than handshake_failure; if it offers fewer groups than it could, that is the likely
        reason, and is named as such.""",
        example="handshake_failure: no group in common: the client offers 0x001d (RFC 9846 §4.2.1)",
        remedy=(
            "offer secp256r1 beside what is offered: every TLS 1.3 implementation must have it (RFC 9846 §9.1)",
            "take back what narrows the list: --groups, or the server's ssl_ecdh_curve, Groups, curves",
        ),
    ),
    code(
        "TLS-NO-COMMON-SUITE",
        "the two ends have no cipher suite in common",
        """TLS 1.3 has five cipher suites, and TLS_AES_128_GCM_SHA256 is one that every implementation must have.
        The two lists do not meet: one of them was narrowed by hand, or the names of TLS 1.2 were meant.""",
        example="handshake_failure: no cipher suite in common: the client offers 0x1303 (RFC 9846 §4.2.1)",
        remedy=(
            "offer TLS_AES_128_GCM_SHA256 at both ends (RFC 9846 §9.1)",
            "take back what narrows the list: --suites, or the server's Ciphersuites",
        ),
    ),
    code(
        "TLS-NO-COMMON-SCHEME",
        "there is no certificate that the other end can verify",
        """A certificate's key signs with certain schemes (rsa_pss_rsae_sha256, ecdsa_secp256r1_sha256, ed25519, …),
        and the other end does not accept any of them: its signature_algorithms lists others. A server with an
        Ed25519 certificate alone meets that with browsers; one with RSA alone with clients that were narrowed.""",
        example="handshake_failure: no credential has a scheme that the client accepts (RFC 9846 §4.3.3)",
        remedy=(
            "give the server a second certificate with a P-256 or RSA key",
            "take back what narrows the list: --sigalgs, or the other end's SignatureAlgorithms",
        ),
    ),
    code(
        "TLS-NO-ALPN",
        "the two ends speak no common application protocol",
        """The client names the protocols that it speaks (ALPN: h2, http/1.1, …) and the server has none of them. A
        client that insists on HTTP/2 and a server without it look like that, and so do services that share a port.""",
        example=(
            "no_application_protocol: no application protocol in common: the client offers spdy/3 (RFC 7301 §3.2)"
        ),
        remedy=(
            "offer a protocol that the server has: for the web h2 and http/1.1",
            "turn the protocol on at the server (nginx: http2 on)",
            "check the port: it may be another service's",
        ),
    ),
    code(
        "TLS-ALPN-NOT-OFFERED",
        "the server chose an application protocol that was not offered",
        """The server answers ALPN with a protocol that the client did not name (RFC 7301 §3.2): it insists on one, or
        does not look at what was offered.""",
        example="illegal_parameter: the server chose an application protocol that was not offered (RFC 7301 §3.2)",
        remedy=("offer the protocol that the server insists on, if the client speaks it", *_PEER_BROKEN),
    ),
    code(
        "TLS-UNKNOWN-NAME",
        "the server does not know the name that it was called by",
        """The name in server_name (SNI) is none that the server serves, and it is set to refuse such
        (unrecognized_name). The name is wrong, DNS leads to the wrong server, or the server has no virtual host for
        it yet.""",
        example="the peer sent the alert unrecognized_name",
        remedy=(
            "check the host name, and that DNS leads to the right server",
            "add a virtual host and a certificate for this name at the server",
        ),
    ),
    code(
        "TLS-CLIENT-CERT-REQUIRED",
        "the server wants a client certificate, and got none",
        """The server asked for a certificate of the client, the client had none that fits, and the server does not
        go on without (mutual TLS). A TLS 1.3 client hears that after its handshake is complete, on the first read.""",
        example="the peer sent the alert certificate_required",
        remedy=(
            "show a certificate: --cert FILE --key FILE (in Python: ClientConfig(credentials=[…]), load_cert_chain)",
            (
                "check that its issuer is one of those that the server asks for: pellucid get -vv shows "
                "CertificateRequest"
            ),
        ),
    ),
    code(
        "TLS-CLIENT-CERT-REFUSED",
        "the client's certificate was refused by the server",
        """The client showed a certificate and the server did not take it: unknown CA, expired, revoked, for another
        purpose, or good and nevertheless not allowed in (access_denied). In TLS 1.3 the client's handshake is
        complete before the server has looked at its certificate, so the alert comes with the first read.""",
        example="the peer sent the alert unknown_ca   # after our Certificate",
        remedy=(
            "check the certificate's dates, purpose (clientAuth) and issuer against what the server trusts",
            "send the intermediates too: the file of --cert holds the leaf first, then the certificates above it",
            "look at the server's log: it knows which check failed",
        ),
    ),
    code(
        "TLS-BAD-FINISHED",
        "the peer's Finished is wrong",
        """Finished is a checksum of the whole handshake under a key that only the two ends have. It is wrong: the
        two ends did not see the same messages, so somebody changed one on the way, or one of the two has a bug in
        its key schedule or transcript.""",
        example="decrypt_error: the server's Finished is wrong (RFC 9846 §4.5.3)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-BAD-CERTIFICATE-VERIFY",
        "the peer does not hold the certificate's private key",
        """CertificateVerify is a signature over the handshake by the key in the certificate. It is wrong: the peer
        shows a certificate and has another key, it signed another conversation, or it has a bug. Somebody who shows
        a certificate that is not theirs looks exactly like this.""",
        example="decrypt_error: CertificateVerify: the ed25519 signature by the server's Ed25519 key … is wrong",
        remedy=(
            (
                "check that the server's key file belongs to its certificate file: compare openssl pkey -pubout "
                "and x509 -pubkey"
            ),
            "do not go on otherwise: who answers has not shown who it is",
        ),
    ),
    code(
        "TLS-SCHEME-NOT-OFFERED",
        "the peer signs with an algorithm that was not offered",
        """CertificateVerify uses a signature scheme that was not in our signature_algorithms, or one that does not
        fit the key in the certificate (RFC 9846 §4.5.2). RSA PKCS#1 and SHA-1 schemes are not allowed there at all.""",
        example="illegal_parameter: CertificateVerify uses rsa_pkcs1_sha256, which was not offered (RFC 9846 §4.5.2)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-SUITE-NOT-OFFERED",
        "the server chose a cipher suite that was not offered, or changed its mind",
        """The suite in ServerHello is none that the ClientHello lists, or is another one than the server's own
        HelloRetryRequest had (RFC 9846 §4.2.3, §4.2.4).""",
        example="illegal_parameter: the server chose TLS_AES_128_CCM_SHA256, which was not offered (RFC 9846 §4.2.3)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-WRONG-GROUP",
        "the server's key share is of another group",
        """The server answers with a share of a group for which the client sent none, or asks in its
        HelloRetryRequest for a group that was not offered, or answers with another than it asked for (RFC 9846
        §4.3.8).""",
        example="illegal_parameter: ServerHello has a share for secp384r1, for which none was sent (RFC 9846 §4.3.8)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-BAD-KEY-SHARE",
        "the peer's key share is no valid public value",
        """A share has a fixed length, has to be a point on its curve, and must not be one of the few that make the
        secret known to everybody (RFC 9846 §4.3.8.2). Who sends such a value has a bug, or tries to find one here.""",
        example="illegal_parameter: the peer's x25519 key share is all zero (RFC 9846 §4.3.8.2)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-SECOND-RETRY",
        "the server sent a second HelloRetryRequest",
        "One HelloRetryRequest is allowed; a second one could go on for ever (RFC 9846 §4.2.4).",
        example="unexpected_message: a second HelloRetryRequest (RFC 9846 §4.2.4)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-POINTLESS-RETRY",
        "the server asks to try again, with nothing to change",
        """A HelloRetryRequest has to lead to another ClientHello: by a group for which no share was sent, or by a
        cookie. This one names neither, or a group whose share was there (RFC 9846 §4.2.4).""",
        example="illegal_parameter: HelloRetryRequest would change nothing (RFC 9846 §4.2.4)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-DOWNGRADE",
        "somebody on the way has the connection use an older version",
        """The server speaks TLS 1.3, for it marked its random value as servers do that do; yet it chose an older
        version, so the ClientHello that reached it did not offer TLS 1.3 (RFC 9846 §4.2.3). Somebody rewrote it, or
        a proxy on the way copies random values that it should make itself.""",
        example=(
            "illegal_parameter: the server speaks TLS 1.3 but chose TLS 1.2: somebody downgraded it (RFC 9846 §4.2.3)"
        ),
        remedy=(
            "try from another network: if it works there, a box on the way changes the handshake",
            "bring the inspecting proxy on the way up to date: old ones copy the server's random value",
        ),
    ),
    code(
        "TLS-DUPLICATE-EXTENSION",
        "a message has the same extension twice",
        "Each extension may stand once in a message (RFC 9846 §4.3): with two nobody can say which one counts.",
        example=(
            "decode_error: EncryptedExtensions has two application_layer_protocol_negotiation extensions (RFC "
            "9846 §4.3)"
        ),
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-UNSOLICITED-EXTENSION",
        "the peer answers something that was not asked",
        """Extensions of a server's messages are answers to the client's. This one answers an extension that was not
        sent (RFC 9846 §4.3).""",
        example=(
            "unsupported_extension: EncryptedExtensions has a max_fragment_length extension that was not asked for"
        ),
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-MISPLACED-EXTENSION",
        "an extension stands in a message where it has no place",
        """RFC 9846 §4.3 lists for each extension the messages in which it may stand: key_share in ServerHello, ALPN
        in EncryptedExtensions. This one is known, and stands elsewhere.""",
        example="illegal_parameter: key_share has no place in EncryptedExtensions (RFC 9846 §4.3)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-MISSING-EXTENSION",
        "an extension is missing that has to be there",
        """TLS 1.3 cannot go on without it: a key_share or a PSK in ServerHello, signature_algorithms and
        supported_groups in ClientHello, signature_algorithms in CertificateRequest (RFC 9846 §9.2).""",
        example="missing_extension: ServerHello has no key_share (RFC 9846 §4.2.3)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-DECODE",
        "a message is not well-formed",
        """Its parts do not fit: a length that runs past the end, bytes that are left over, a list that may not be
        empty and is. The message names the place.""",
        example="decode_error: ServerHello: 3 bytes follow its end (RFC 9846 §6)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-EMPTY-CERTIFICATE",
        "the server shows no certificate at all",
        """A server's Certificate message has at least one certificate (RFC 9846 §4.5.1.3): only clients may say
        that they have none.""",
        example="decode_error: the server's certificate_list is empty (RFC 9846 §4.5.1.3)",
        remedy=("give the server a certificate", *_PEER_BROKEN),
    ),
    code(
        "TLS-UNEXPECTED-MESSAGE",
        "a message came at the wrong moment",
        """The state machine of RFC 9846 App. A says for each state which messages may come. This one may not: it is
        out of order, comes twice, is of the other side, or is of an older TLS.""",
        example="unexpected_message: Finished came in state WAIT_CERT_CR (RFC 9846 §A)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-RECORD-OVERFLOW",
        "a record is longer than allowed",
        """A record has at most 2^14 bytes of content, and less where both ends agreed on less (record_size_limit,
        RFC 8449). This one has more, and was refused before it was read.""",
        example="record_overflow: a record of 18000 bytes (RFC 9846 §5.2)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-BAD-RECORD-MAC",
        "a record was changed on the way, or the keys differ",
        """Every record is sealed. This one does not open: at least one bit is not as it was sealed, records were
        lost or came in another order, or the two ends do not have the same key. TCP's own checksum is weak, and
        broken memory, network cards and boxes on the way do change bits; so do attackers.""",
        example="bad_record_mac: record 4 under the present key does not open (RFC 9846 §5.2)",
        remedy=(
            "try again, from another network too: if it happens in one only, something there changes data",
            "if it is always the same record, the peer's key schedule or KeyUpdate has a bug: bring it up to date",
            "if it happens with many servers, test this machine's memory and network card (offloading)",
        ),
    ),
    code(
        "TLS-KEY-CHANGE",
        "a message runs across a change of keys",
        """After certain messages (ServerHello, Finished, KeyUpdate, …) the next byte is under a new key, so the
        record has to end with the message (RFC 9846 §5.1). Here more follows in the same record, or a message
        begins before the change and ends after it. That is what an attacker does who slips plaintext in.""",
        example="unexpected_message: handshake data runs across a key change, or past a hello (RFC 9846 §5.1)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-KEY-UPDATE-FLOOD",
        "the peer changes its key without end",
        """Each KeyUpdate makes this end derive a key and costs the peer next to nothing. There is a bound to how many
        may come without any data in between (RFC 9846 §4.7.3).""",
        example="unexpected_message: more than 32 KeyUpdates without data (RFC 9846 §4.7.3)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-MESSAGE-FLOOD",
        "the peer sends messages that lead nowhere, without end",
        """Tickets, CertificateRequests, change_cipher_spec records and user_canceled alerts cost their sender little
        and this end work. There is a bound to how many of each may come in a row.""",
        example="unexpected_message: more than 32 tickets in a row (RFC 9846 §4.7.1)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-EMPTY-RECORDS",
        "the peer sends empty records without end",
        """Records without content are allowed, as padding for whoever wants to hide when data flows. There is a
        bound to how many may come in a row: they would keep this end busy for nothing. Empty handshake and alert
        records are not allowed at all (RFC 9846 §5.1).""",
        example="unexpected_message: more than 32 empty records in a row (RFC 9846 §5.1)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-MESSAGE-TOO-LARGE",
        "a handshake message is longer than any honest one",
        """Each handshake message has a bound here, far above what anybody needs and far below the 16 MiB that its
        length field can say: a peer that has proved nothing yet does not get to fill the memory.""",
        example="illegal_parameter: EncryptedExtensions of 200000 bytes, allowed are 16384",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-COMPRESSION-BOMB",
        "a compressed certificate would become far too large",
        """The server compresses its certificate (RFC 8879) and says, or turns out, to need more room for it than
        any honest one does: a few bytes that become gigabytes. It was refused before that.""",
        example="bad_certificate: a compressed certificate of 16777215 bytes, allowed are 131072 (RFC 8879 §5)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-BAD-COMPRESSION",
        "a compressed certificate cannot be decompressed",
        """What came is not what its algorithm makes, has another length than it says, or uses an algorithm that was
        not offered (RFC 8879 §4).""",
        example="bad_certificate: the certificate cannot be decompressed with zlib: … (RFC 8879 §4)",
        remedy=("switch certificate compression off at the server", *_PEER_BROKEN),
    ),
    code(
        "TLS-BAD-PSK",
        "the pre-shared key does not fit",
        """The two ends do not have the same pre-shared key under that name (the binder is wrong), or the server
        chose one that was not offered or does not fit the suite's hash (RFC 9846 §4.3.11).""",
        example="decrypt_error: the binder of PSK identity 0 is wrong (RFC 9846 §4.3.11.2)",
        remedy=(
            "check that both ends have the same key, identity and hash: --psk, --psk-identity",
            "if it is a resumed session, forget it: delete the --session-file",
        ),
    ),
    code(
        "TLS-BAD-RETRY",
        "the second ClientHello does not fit the first",
        """After a HelloRetryRequest the client says its ClientHello again, with the share or the cookie that was
        asked for and nothing else changed (RFC 9846 §4.2.2). Here more is different, or the cookie is not one of
        ours.""",
        example="illegal_parameter: the second ClientHello differs where it must not (RFC 9846 §4.2.2)",
        remedy=(
            "if this server is one of several, give all of them the same cookie_key",
            *_PEER_BROKEN,
        ),
    ),
    code(
        "TLS-EARLY-DATA",
        "early data was sent or taken where it may not be",
        """0-RTT data is bound to the session's suite and protocol and to the size that the ticket allows (RFC 9846
        §4.3.10). More came, or the server says that it accepted what it could not.""",
        example="unexpected_message: more early data than the ticket allows (RFC 9846 §4.7.1)",
        remedy=("do without early data: no --early-data, max_early_data=0", *_PEER_BROKEN),
    ),
    code(
        "TLS-UNPROTECTED",
        "a record came in the open where everything is sealed",
        """From ServerHello on every record is protected. One that is not can be anybody's, so nothing is believed
        of it (RFC 9846 §5.2): somebody slips it in, or the peer lost its keys.""",
        example="unexpected_message: an unprotected handshake record (RFC 9846 §5.2)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-ILLEGAL-PARAMETER",
        "a message holds a value that may not stand there",
        """The message can be read, and one of its values contradicts what was said before or is none of those that
        are allowed. The text names it.""",
        example="illegal_parameter: legacy_session_id_echo is not what was sent (RFC 9846 §4.2.3)",
        remedy=_PEER_BROKEN,
    ),
    code(
        "TLS-INTERNAL",
        "something failed at this end, not at the peer's",
        """Pellucid itself, or something plugged into it (a signer, a verifier, a session store, an observer),
        raised an error that is not about the peer. The peer was told internal_error. The cause stands below the
        error in the traceback.""",
        example="InternalError: KeyError inside the handshake",
        remedy=(
            "look at the error's cause (__cause__): it says what failed",
            "if nothing of yours is plugged in, it is a bug in Pellucid: please tell us, with the traceback",
        ),
    ),
)
