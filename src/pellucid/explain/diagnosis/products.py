"""Names by which products that look into TLS connections call their CAs. A name is evidence, not proof."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["interceptor"]

_PRODUCTS: Final = {
    # companies' gateways
    "zscaler": "Zscaler",
    "netskope": "Netskope",
    "goskope": "Netskope",
    "fortinet": "Fortinet FortiGate",
    "fortigate": "Fortinet FortiGate",
    "palo alto": "a Palo Alto Networks firewall",
    "blue coat": "Blue Coat (Symantec)",
    "bluecoat": "Blue Coat (Symantec)",
    "proxysg": "Blue Coat (Symantec)",
    "cisco umbrella": "Cisco Umbrella",
    "umbrella root": "Cisco Umbrella",
    "cisco secure web": "Cisco Secure Web Appliance",
    "forcepoint": "Forcepoint",
    "websense": "Forcepoint",
    "mcafee web gateway": "McAfee Web Gateway",
    "skyhigh": "Skyhigh Security",
    "check point": "Check Point",
    "checkpoint": "Check Point",
    "barracuda": "Barracuda",
    "sonicwall": "SonicWall",
    "watchguard": "WatchGuard",
    "sophos": "Sophos",
    "untangle": "Untangle",
    "smoothwall": "Smoothwall",
    "securly": "Securly",
    "lightspeed": "Lightspeed",
    "contentkeeper": "ContentKeeper",
    "menlo security": "Menlo Security",
    "iboss": "iboss",
    "cloudflare gateway": "Cloudflare Gateway",
    "gateway ca - cloudflare": "Cloudflare Gateway",
    "cloudflare for teams": "Cloudflare Gateway",
    "cato networks": "Cato Networks",
    "trend micro": "Trend Micro",
    "squid": "a Squid proxy",
    "opnsense": "OPNsense",
    "pfsense": "pfSense",
    # programs on the same machine
    "kaspersky": "Kaspersky",
    "avast": "Avast",
    "avg web": "AVG",
    "eset ssl filter": "ESET",
    "bitdefender": "Bitdefender",
    "dr.web": "Dr.Web",
    "adguard": "AdGuard",
    "netfilter": "a NetFilter SDK program",
    "superfish": "Superfish, which is malware",
    "edellroot": "eDellRoot, which is malware",
    # tools of developers
    "mitmproxy": "mitmproxy",
    "portswigger": "Burp Suite",
    "charles proxy": "Charles",
    "do_not_trust_fiddlerroot": "Fiddler",
    "fiddler": "Fiddler",
    "owasp zap": "ZAP",
    "owasp root": "ZAP",
    "proxyman": "Proxyman",
    "http toolkit": "HTTP Toolkit",
}
"""part of an issuer's name, in lower case → what to call the product"""
_WORDS: Final = re.compile(r"(?<![a-z])(?:" + "|".join(map(re.escape, _PRODUCTS)) + r")(?![a-z])")


def interceptor(issuer: str) -> str | None:
    """Return the product whose CA is called like *issuer* (a whole name), None if it is none of those known."""
    found = _WORDS.search(issuer.lower())
    return None if found is None else _PRODUCTS[found.group()]
