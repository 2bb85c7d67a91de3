"""Every limit on what a peer may make us do, as named constants in one place.

Each has a test at the limit and one past it. Sizes in bytes, bodies without their 4-byte handshake header.
"""

from __future__ import annotations

from typing import Final

from pellucid.registry import HandshakeType

# Record layer (RFC 9846 §5.1, §5.2)
MAX_PLAINTEXT: Final = 2**14
MAX_INNER_PLAINTEXT: Final = 2**14 + 1
MAX_CIPHERTEXT: Final = 2**14 + 256
MIN_RECORD_SIZE_LIMIT: Final = 64  # RFC 8449 §4
RECORD_HEADER: Final = 5

# The longest beginning of a record that may wait for its end.
RECEIVE_HEADROOM: Final = RECORD_HEADER + MAX_CIPHERTEXT

# Bulk data is worked through in steps of 7 records: its buffers stay under 128 KiB, from where on C libraries map fresh
# pages for every block, at three times the price of encrypting them.
BULK_STEP: Final = 7 * MAX_PLAINTEXT

# The longest record that bulk data is made of: a tag is of 16 bytes, or fewer.
FULL_RECORD: Final = RECORD_HEADER + MAX_INNER_PLAINTEXT + 16

# The largest body of each handshake message; refused from the 4-byte header, before a byte of it is kept.
MAX_HANDSHAKE_BODY: Final = {
    HandshakeType.CLIENT_HELLO: 65_535,
    HandshakeType.SERVER_HELLO: 16_384,
    HandshakeType.ENCRYPTED_EXTENSIONS: 16_384,
    HandshakeType.CERTIFICATE_REQUEST: 32_768,
    HandshakeType.CERTIFICATE: 65_536,
    HandshakeType.COMPRESSED_CERTIFICATE: 65_536,
    HandshakeType.CERTIFICATE_VERIFY: 16_384,
    HandshakeType.FINISHED: 64,
    HandshakeType.NEW_SESSION_TICKET: 65_535,
    HandshakeType.KEY_UPDATE: 1,
    HandshakeType.END_OF_EARLY_DATA: 0,
}

# The peer's certificates, checked while they are counted, before any X.509 is parsed.
MAX_CERTIFICATES: Final = 10
MAX_CERTIFICATE_LIST: Final = 65_536
MAX_PATH_DEPTH: Final = 8
MAX_RAW_PUBLIC_KEY: Final = 4_096  # of SubjectPublicKeyInfo; ML-DSA-87 has 2,614, RSA of 8192 bits some 1,100
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
MAX_CERTIFICATE_AUTHORITIES: Final = 20_000  # bytes of distinguished names in a CertificateRequest

# Revocation (RFC 6960, RFC 5280 §6.3). A staple has 300 to 3,000 bytes; with ML-DSA keys and signatures, 15,000.
MAX_STAPLE: Final = 32_768
MAX_STAPLE_SIGNERS: Final = 4  # certificates in a staple whose signatures are looked at
REVOCATION_CLOCK_SKEW_SECONDS: Final = 300.0  # as `openssl ocsp` allows
REVOCATION_MAX_AGE_SECONDS: Final = 86_400.0  # of a status that does not say when the next one is due

# Verdicts on chains that are remembered (verify/verdicts.py). Chains have 1,500 to 20,000 bytes, the longest of ML-DSA.
VERDICT_CACHE_SECONDS: Final = 600.0
MAX_VERDICT_CACHE_SECONDS: Final = 86_400.0
MAX_VERDICTS: Final = 64  # for one verifier
MAX_VERDICT_BYTES: Final = 32_768  # of certificates, OCSP response and SCTs of one

# Fetching issuers' certificates, which is off unless asked for (RFC 5280 §4.2.2.1).
ISSUER_FETCHES: Final = 4  # for one verification
MAX_ISSUER_REPLY: Final = 65_536
ISSUER_FETCH_SECONDS: Final = 3.0  # all fetches of one verification together: less than a handshake may take
ISSUER_REDIRECTS: Final = 2
ISSUER_CACHE: Final = 256  # addresses
ISSUER_CACHE_SECONDS: Final = 86_400.0

# Floods: how many in a row without progress.
MAX_EMPTY_RECORDS: Final = 32
MAX_USER_CANCELED_ALERTS: Final = 4
MAX_CHANGE_CIPHER_SPECS: Final = 2  # one for each ClientHello
MAX_KEY_UPDATES: Final = 32  # between two records of application data
MAX_TICKETS: Final = 32  # NewSessionTickets in a row
MAX_CERTIFICATE_REQUESTS: Final = 16  # after the handshake, in a row: each may cost a signature
MAX_OPEN_CERTIFICATE_REQUESTS: Final = 8  # not answered yet, or their answers not judged

# Keys (RFC 9846 §5.3, §5.5, §4.7.3)
REKEY_AFTER_RECORDS: Final = 2**24
CCM_REKEY_AFTER_RECORDS: Final = 2**20  # §5.5 gives no figure for CCM; its confidentiality bound is below GCM's
MAX_SEQUENCE: Final = 2**64 - 1
MAX_EPOCH: Final = 2**48 - 1

# HelloRetryRequest
MAX_COOKIE: Final = 16_384  # a larger one in a HelloRetryRequest cannot be echoed in a ClientHello of sane size
COOKIE_LIFETIME_SECONDS: Final = 60

# Sessions (RFC 9846 §4.7.1)
MAX_TICKET: Final = 2**16 - 1  # opaque ticket<1..2^16-1>
MAX_ISSUED_TICKET: Final = 32_768  # with a larger one a ClientHello could pass its own limit
MAX_TICKET_LIFETIME_SECONDS: Final = 604_800  # §4.7.1: 7 days, for servers and for clients
TICKET_LIFETIME_SECONDS: Final = 86_400
AUTHENTICATION_LIFETIME_SECONDS: Final = 604_800  # since CertificateVerify, however often tickets were renewed
TICKETS_PER_HANDSHAKE: Final = 2
TICKETS_ON_RESUMPTION: Final = 1
MAX_TICKETS_PER_HANDSHAKE: Final = 16
TICKET_KEY_ROTATION_SECONDS: Final = 43_200
TICKET_KEY_KEEP_SECONDS: Final = 86_400  # after it was replaced
MAX_TICKET_KEYS: Final = 8
MAX_SERVER_SESSIONS: Final = 20_480  # kept in memory, where tickets are not sealed
MAX_SESSIONS_PER_SERVER: Final = 8  # a client's store
MAX_SESSION_SERVERS: Final = 256
MAX_SESSION_FILE: Final = 4 * 2**20
MAX_PSK_IDENTITIES: Final = 5  # looked at in a ClientHello; one binder is computed
MIN_EXTERNAL_PSK: Final = 16  # RFC 9257 §6: 128 bits of entropy
CLOCK_STEP_SECONDS: Final = 5.0  # by which two clocks, or one that is set, may differ

# 0-RTT (RFC 9846 §8)
EARLY_DATA_WINDOW_SECONDS: Final = 10.0  # a ClientHello is fresh within ± this (§8.3)
MAX_EARLY_DATA: Final = 16_384
MAX_SKIPPED_EARLY_DATA: Final = MAX_EARLY_DATA  # rejected, without what protects it
STRIKE_REGISTER_CAPACITY: Final = 65_536

# Time (net/)
HANDSHAKE_TIMEOUT_SECONDS: Final = 10.0
CLOSE_TIMEOUT_SECONDS: Final = 5.0
CONNECT_TIMEOUT_SECONDS: Final = 30.0
CONNECTION_ATTEMPT_DELAY_SECONDS: Final = 0.25  # RFC 8305 §5
