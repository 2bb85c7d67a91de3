"""The codes of certificates that were refused. "The peer" is a server for a client, and the other way round."""

from __future__ import annotations

from typing import Final

from pellucid.explain.diagnosis.code import Code, code

__all__ = ["CERTIFICATES"]

CERTIFICATES: Final[tuple[Code, ...]] = (
    code(
        "X509-EXPIRED",
        "a certificate has expired",
        """A certificate on the path is past its notAfter date. Most often it is the leaf, because its renewal
        failed in silence weeks ago, or because it was renewed and the server was never told to load the new file.
        The checks say which certificate it is and since when.

        If everything looks expired, the CAs too, the clock is the likely reason and the code is X509-CLOCK.""",
        example="✘ dates: the leaf 'example.org' expired on 2026-09-01 00:00:00 UTC; it is 2026-10-01 12:00:00 UTC",
        remedy=(
            "renew the certificate, and have the server load it (certbot renew; systemctl reload nginx)",
            "if it was renewed already, restart or reload whatever holds the old one: each backend, each proxy",
            "check this machine's clock: date -u",
        ),
    ),
    code(
        "X509-NOT-YET-VALID",
        "a certificate is not valid yet",
        """A certificate on the path begins to be valid (notBefore) in the future. Freshly issued certificates are
        mostly dated back an hour for the sake of clocks that are behind; one that is not, met with a clock a little
        behind, looks like this for a few minutes.""",
        example=(
            "✘ dates: the leaf 'example.org' is not valid before 2026-12-01 00:00:00 UTC; it is 2026-11-26 12:00:00 UTC"
        ),
        remedy=(
            "check this machine's clock: date -u",
            "if the clock is right, use the certificate before this one until its time has come",
            "have it issued again, with a notBefore that is past",
        ),
    ),
    code(
        "X509-CLOCK",
        "this machine's clock is wrong, most likely",
        """Dates are refused in a way that a wrong clock explains better than the certificates do: the time here is
        before this version of Pellucid was made; or nothing on the path is valid yet, the trusted root neither; or
        everything on it ended more than three years ago. One expired certificate is a forgotten renewal, and the code
        is X509-EXPIRED.

        Small devices without a battery begin in 1970 or at the date of their firmware, virtual machines wake up in
        the past, and double boots are off by hours.""",
        example="the clock here says 1970-01-01 00:03:12 UTC, and the root is not valid before 2015-06-04",
        remedy=(
            "compare with a clock you trust: date -u",
            "set the clock, and keep it right: timedatectl set-ntp true (or chrony, ntpd)",
            "in a virtual machine or container, set the clock of the host",
        ),
    ),
    code(
        "X509-WRONG-NAME",
        "the certificate is for another name",
        """The certificate may be good, and is not for the host that was asked for: none of its subject alternative
        names matches (RFC 9525). Its common name does not count. Often it is the server's default certificate,
        shown because it has none for this name; or the host was reached by another name, or by its address.

        It is also what somebody in the middle can show who has a good certificate for a host of their own.""",
        example="✘ subject alternative name: the certificate is for a.example, b.example, not for www.example",
        remedy=(
            "use a name that the certificate is for",
            "have the certificate issued again with this name among its subject alternative names",
            "check that the server has a virtual host for this name, and that DNS leads to that server",
        ),
    ),
    code(
        "X509-WILDCARD",
        "a wildcard in the certificate does not reach that far",
        """A wildcard stands for exactly one label, and for the whole of it (RFC 9525 §6.3): *.example.org is for
        www.example.org, not for a.b.example.org and not for example.org. A * inside a label (w*.example.org) or
        below a top-level domain is no wildcard at all.""",
        example="✘ subject alternative name: the certificate is for *.example.org, not for a.b.example.org",
        remedy=(
            "have the certificate issued again with this very name, or a wildcard one level deeper",
            "list the bare domain beside its wildcard: example.org, *.example.org",
            "use a name that is one label below the wildcard's domain",
        ),
    ),
    code(
        "X509-NO-SAN",
        "the certificate names no host at all",
        """The certificate has no subject alternative name. Long ago the common name of the subject was looked at
        instead; no client does so any more (RFC 9525 §2). Certificates made by hand with an old recipe look like
        this.""",
        example=(
            "✘ subject alternative name: the certificate has no subject alternative name, so it is not for example.org"
        ),
        remedy=(
            (
                "have it issued again with a subject alternative name: openssl req -addext "
                "'subjectAltName=DNS:example.org'"
            ),
            "for a test, use a certificate that has one: pellucid serve makes one for itself",
        ),
    ),
    code(
        "X509-UNKNOWN-CA",
        "nobody trusted vouches for the certificate",
        """The path from the certificate leads to a CA that is not among the trusted roots. With a company's or a
        laboratory's own CA that is as it should be: its root has to be given. Elsewhere it is a server that is not
        the one it says it is, or a store of roots that is old or empty.

        Where the certificate itself says that its issuer is an intermediate that can be fetched, the code is
        X509-MISSING-INTERMEDIATE; where the issuer has the name of a product that looks into connections,
        X509-PROXY.""",
        example=(
            "✘ trusted root: 'Example Lab Root', which issued the leaf, is not among the trusted roots (142, certifi)"
        ),
        remedy=(
            "if you know the CA, trust its root certificate: --cacert FILE",
            "check that this is the server you meant",
            "bring the system's roots up to date: update-ca-certificates, or pip install -U certifi",
        ),
    ),
    code(
        "X509-MISSING-INTERMEDIATE",
        "the server does not send its intermediate certificate",
        """A leaf is mostly issued by an intermediate, and the intermediate by a root. Clients have the roots; the
        intermediate has to be sent by the server, and this one does not. Browsers hide the mistake: they remember
        intermediates from elsewhere, or fetch them from the address in the leaf (Authority Information Access). The
        diagnosis names that address.""",
        example=(
            "the intermediate 'Example CA R3', which issued the leaf, was not sent; it is at http://ca.example/r3.crt"
        ),
        remedy=(
            "have the server send the whole chain: with nginx and certbot fullchain.pem instead of cert.pem",
            "fetch the intermediate from the address named, and append it to the server's certificate file",
            "check it: openssl s_client -connect HOST:443 -showcerts",
            "or have the client know it: WebPKIVerifier(trust, intermediates=…), or fetch it: net.aia.AiaVerifier",
        ),
    ),
    code(
        "X509-SELF-SIGNED",
        "the certificate vouches for itself alone",
        """The leaf is signed by its own key, and is not itself trusted. Devices, appliances and development servers
        show such certificates until they get a real one. Nobody but the certificate says who that is: without
        having compared it by another way, it could be anybody's.""",
        example="✘ trusted root: the leaf 'router.local' is self-signed and not trusted",
        remedy=(
            "if you know this very certificate, trust it: --cacert FILE",
            "give the server a certificate of a CA: a public one (ACME), or your own",
            "if you expected a real certificate, somebody else answers: check the address",
        ),
    ),
    code(
        "X509-PROXY",
        "a program in between looks into the connection, most likely",
        """The issuer's name is that of a product that opens TLS connections on the way: a company's firewall, an
        antivirus program on this machine, a debugging proxy. It shows a certificate that it made itself a moment
        ago, for the name that was asked for, and its own CA is not trusted here. The name is evidence, no proof:
        anybody can call a CA like that.

        Browsers on the same machine may work, because the product's CA was put among the system's roots.""",
        example="the certificate was issued by 'Zscaler Intermediate Root CA': that is a product that inspects TLS",
        remedy=(
            (
                "if you expect that product there, have its CA certificate from whoever runs it, and trust it: "
                "--cacert FILE"
            ),
            "if you do not, do not go on: somebody reads along",
            "try from another network, or with the program's HTTPS inspection switched off",
        ),
    ),
    code(
        "X509-WRONG-PURPOSE",
        "the certificate is for another purpose",
        """The certificate's extended key usage does not include what it is used for here: a server shows a
        certificate for clients, a client one for servers, or either one for signing e-mail or code. A CA's own
        certificate shown as a server's is of this kind too.""",
        example="✘ purpose: the leaf 'example.org' is for clientAuth, not for serverAuth",
        remedy=(
            "have it issued again with the extended key usage serverAuth (for a client: clientAuth)",
            "check that the server was given the right file",
        ),
    ),
    code(
        "X509-KEY-USAGE",
        "the certificate's key may not be used like that",
        """The key usage extension says what the key may do. In TLS 1.3 every peer signs the handshake, so a leaf
        needs digitalSignature: one for key encipherment only was enough for the RSA key exchange of old, which is
        gone. A CA needs keyCertSign to sign other certificates.""",
        example="✘ key usage: the leaf 'example.org' has a key usage without digital signature",
        remedy=(
            "have the certificate issued again with digitalSignature in its key usage (a CA: with keyCertSign)",
            "leave the extension out: then nothing is restricted",
        ),
    ),
    code(
        "X509-NOT-A-CA",
        "a certificate was issued by one that is no CA",
        """The path runs over a certificate that is not allowed to issue others: its basicConstraints does not say
        that it is a CA. Whoever has an ordinary certificate could otherwise issue one for any name. Home-made CAs
        are often like that, made with a recipe for leaves.""",
        example="✘ CA flag: certificate 1 'my ca' issued another certificate and is not a CA",
        remedy=(
            "make the CA anew with basicConstraints=critical,CA:TRUE and keyUsage=keyCertSign,cRLSign",
            "if you do not know that certificate, do not go on",
        ),
    ),
    code(
        "X509-PATH-TOO-LONG",
        "there are more intermediates than a CA allows",
        """A CA on the path limits how many intermediates may follow it (pathLenConstraint), and there are more. Or
        the path is longer than anything that is looked at here.""",
        example="✘ path length: certificate 2 'Example Root' allows 0 intermediates below it and has 1",
        remedy=(
            "have the leaf issued directly by the CA that is limited",
            "have that CA's certificate issued again with a pathLenConstraint that fits",
        ),
    ),
    code(
        "X509-NAME-CONSTRAINT",
        "a CA vouches for a name that it may not vouch for",
        """A CA on the path is limited to certain names (name constraints), and the certificate has another one.
        That is how a company's CA is kept to the company's domains: what it says about others does not count.""",
        example="✘ verdict: the path is refused: no permitted name constraints matched SAN",
        remedy=(
            "have the certificate issued by a CA that is not limited to other names",
            "take the names out of the certificate that the CA may not vouch for",
        ),
    ),
    code(
        "X509-WEAK-KEY",
        "a key is too short, or of a kind that can be broken",
        """RSA keys below 2048 bits can be factored by those who want to enough, and exponents like 1 make every
        signature worthless. Keys over 8192 bits are refused as well: they are a way to keep others busy.""",
        example="✘ key strength: the leaf 'example.org' has an RSA key of 1024 bits; 2048 to 8192 are allowed",
        remedy=(
            (
                "make a new key and have a certificate issued for it: openssl genpkey -algorithm EC -pkeyopt "
                "ec_paramgen_curve:P-256"
            ),
        ),
    ),
    code(
        "X509-WEAK-SIGNATURE",
        "a certificate is signed with a broken hash",
        """MD5 and SHA-1 can be made to collide, so that a signature over one certificate is one over another,
        forged one too. Public CAs stopped in 2016; what remains are old devices and private CAs.""",
        example="✘ signature algorithm: the leaf 'example.org' is signed with SHA1, which can be forged",
        remedy=(
            "have the certificate issued again, signed with SHA-256",
            "configure your own CA for SHA-256: default_md = sha256",
        ),
    ),
    code(
        "X509-BAD-SIGNATURE",
        "a certificate's signature is wrong",
        """The certificate says who issued it, that issuer is here, and its key did not make this signature. The
        certificate was damaged or forged, or two CAs have the same name and the wrong one's certificate is there.""",
        example=(
            "✘ signature: the signature of the leaf 'example.org' was not made with the key of certificate 1 "
            "'Example CA'"
        ),
        remedy=(
            "if the CA was made anew with the same name, have the leaf issued again by the new one",
            "check that the files on the server belong together: openssl verify -CAfile chain.pem cert.pem",
            "if neither explains it, do not go on: the certificate is forged",
        ),
    ),
    code(
        "X509-UNKNOWN-CRITICAL",
        "a certificate demands something that nobody here knows",
        """An extension is marked critical, which says: whoever does not understand it must refuse the certificate
        (RFC 5280 §4.2). It is not known here, so the certificate is refused.""",
        example="✘ verdict: the path is refused: certificate contains unaccounted-for critical extensions",
        remedy=("have the certificate issued again without that extension, or with it not critical",),
    ),
    code(
        "X509-UNSUPPORTED",
        "a certificate is of a kind that cannot be used here",
        """The certificate may be right, and has something that TLS 1.3 or this stack has no use for: a key of
        another kind (DSA, a rare curve), a signature algorithm that is not known, or a raw public key where a
        certificate is wanted.""",
        example="✘ key strength: the leaf 'example.org' has a key on the curve secp256k1; secp256r1, … are allowed",
        remedy=("have a certificate issued for a key of a common kind: P-256, RSA of 2048 bits, or Ed25519",),
    ),
    code(
        "X509-MALFORMED",
        "a certificate cannot be read",
        """What was sent as a certificate is none, or breaks the rules of its form: bytes that are not DER, a
        version without extensions, an extension that stands twice, no subject and no critical alternative name.""",
        example="bad_certificate: a certificate cannot be parsed: … (RFC 9846 §4.5.1)",
        remedy=(
            "look at what the server sends: openssl s_client -connect HOST:443 -showcerts",
            "have the certificate issued again with software that is maintained",
        ),
    ),
    code(
        "X509-TOO-LARGE",
        "more certificates were sent than are looked at",
        """A chain is three or four certificates of a kilobyte or two each. There is a bound to what is looked at,
        in number and in bytes, so that nobody can keep this end busy with an endless one. Servers that send their
        whole store of roots run into it.""",
        example="bad_certificate: 20 certificates, at most 16 are looked at (RFC 9846 §4.5.1)",
        remedy=("have the server send the leaf and its intermediates only, without roots",),
    ),
    code(
        "X509-REVOKED",
        "the certificate was withdrawn by its CA",
        """The CA has said, in an OCSP response or a list, that the certificate does not hold any more: its key was
        stolen, it was issued by mistake, or it was replaced. Who holds the key may be anybody.""",
        example="✘ revocation: the leaf 'example.org' was revoked on 2026-09-01 (keyCompromise)",
        remedy=(
            "do not go on",
            "if it is your server, have a new certificate issued for a new key",
        ),
    ),
    code(
        "X509-STAPLE-STALE",
        "the stapled OCSP response is out of date",
        """The server sends (staples) a response of its CA that says whether the certificate holds. This one is past
        the time until which it counts, or from the future. The server fetches it and does not renew it: it cannot
        reach the CA's responder, or the job that does so has died. If the clock here is wrong, it looks the same.""",
        example="✘ revocation: the OCSP response expired on 2026-09-01 00:00:00 UTC; it is 2026-10-01 12:00:00 UTC",
        remedy=(
            "on the server, check that it can reach its CA's OCSP responder, and reload it",
            "check this machine's clock: date -u",
            "without a CA that still answers OCSP, switch stapling off",
        ),
    ),
    code(
        "X509-STAPLE-INVALID",
        "the stapled OCSP response does not count",
        """The response stapled to the certificate cannot be read, is about another certificate, is not signed by
        the CA or by whom it appointed, or says that the responder has no answer. A response that does not count is
        refused rather than ignored: who holds a revoked certificate would send just that.""",
        example="✘ revocation: the OCSP response is about another certificate",
        remedy=(
            (
                "on the server, fetch the response again, for this certificate: openssl ocsp -issuer … -cert … "
                "-respout …"
            ),
            "check that the response file was replaced together with the certificate",
        ),
    ),
    code(
        "X509-STAPLE-MISSING",
        "an OCSP response is demanded, and none was stapled",
        """The certificate itself promises that it always comes with an OCSP response (must-staple, RFC 7633), or
        the policy here demands one, and none came. A server that has just started may not have fetched it yet.""",
        example="✘ revocation: the leaf promises an OCSP response (must-staple), and none was sent",
        remedy=(
            (
                "switch stapling on in the server (nginx: ssl_stapling on), and check that it can reach the CA's "
                "responder"
            ),
            "have the certificate issued without must-staple",
            "if it is the policy here that demands it, do without: no --cert-status",
        ),
    ),
    code(
        "X509-REVOCATION-UNKNOWN",
        "whether the certificate was withdrawn cannot be found out",
        """The policy here demands an answer, and nothing that was given has one: no list covers the certificate's
        issuer, or the lists are out of date.""",
        example="✘ revocation: no CRL is of the issuer of the leaf",
        remedy=(
            "give a list of this CA that is current: --crlfile FILE",
            "have the server staple an OCSP response",
        ),
    ),
    code(
        "X509-UNKNOWN-KEY",
        "the peer's raw public key is not one of those that are known",
        """Raw public keys (RFC 7250) come without a certificate: nobody vouches for them, so each has to be known
        before. This one is not. The server has a new key, or it is another server.""",
        example="✘ trusted key: the raw public key sha256:… is not among the 1 known",
        remedy=(
            "if the peer has a new key, have it by a way that you trust: --pubkey FILE",
            "check that this is the server you meant",
        ),
    ),
    code(
        "X509-NOT-ALLOWED",
        "the certificate or key is none of those that are allowed",
        """The application lists the certificates or the keys that it believes, whoever issued them (AllowCertificate,
        AllowKeys, TrustOnFirstUse with accept_new=False). What the peer shows is not on that list: it has a new
        certificate, or it is somebody else.""",
        example="✘ allowed certificate: the certificate with the SHA-256 5f0c… is not the one allowed",
        remedy=(
            "if the peer has a new certificate, have its SHA-256 by a way that you trust, and allow that",
            "check that this is the peer you meant",
        ),
    ),
    code(
        "X509-KEY-CHANGED",
        "the server has another key than the one that was first seen",
        """The first meeting with this server was remembered (TrustOnFirstUse), and now it shows another key. Its
        operator may have made a new one; or somebody is in between, now or at the first meeting.""",
        example="✘ known key: nas.test:443 shows the key sha256/…; the one known since 2026-03-02 … is sha256/…",
        remedy=(
            "ask the operator, by another way, whether the key is new, and compare its pin",
            "if it is, forget the old one: the store's forget(host, port), or its line in the file",
        ),
    ),
    code(
        "X509-PIN-MISMATCH",
        "the verified path has none of the pinned keys",
        """The certificate is valid, and a trusted CA issued it; but the application demands one of certain keys (pins,
        RFC 7469), and none of them is on the path. The server has a new key or a new CA, or a CA certified somebody
        else: an inspecting proxy, perhaps.""",
        example="✘ pinned key: the verified path has sha256/…, sha256/…, and none of the 2 pins is among them",
        remedy=(
            "if the server has new keys, pin those: the report shows them",
            "if a proxy inspects this connection, go round it; pins are there to refuse it",
        ),
    ),
    code(
        "X509-POLICY",
        "the certificate is valid, and not as strict as is demanded here",
        """What breaks is a rule that the application added: a Strictness (how long certificates may last, how long RSA
        keys must be, …) or names that a root is trusted for (TrustStore.only_for). Others accept this certificate.""",
        example="✘ lifetime: the leaf 'www.test' is valid for 825 days; at most 398 are allowed (max_lifetime_days)",
        remedy=(
            "have a certificate issued that fulfils the rule; the check's line names it",
            "or give the rule up, where the verifier is made",
        ),
    ),
    code(
        "X509-REFUSED",
        "the certificate was refused by a verifier of the application's own",
        """The verifier that judged is not one of Pellucid's, and said no without naming one of the known reasons.
        Its report has what it saw.""",
        example="certificate_unknown: this pin is not ours (RFC 9846 §4.5.1.3)",
        remedy=("look at the report's checks, and at what the application demands of its peers",),
    ),
)
