"""Whether a server stands in the open Internet, as far as its address tells without asking anybody."""

import ipaddress
from typing import Final
from urllib.parse import urlsplit

PRIVATE_SUFFIXES: Final = (
    ".corp",
    ".home",
    ".home.arpa",
    ".internal",
    ".intranet",
    ".lan",
    ".local",
    ".localdomain",
    ".localhost",
    ".private",
    ".svc",
    ".test",
)
"""Names that no public name server answers for, or that are by custom the house's own (RFC 6761, 6762, 8375)."""


def is_public(url: str) -> bool:
    """Whether the host of *url* can be in the Internet: a global address, or a name that public servers may know."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(PRIVATE_SUFFIXES)
