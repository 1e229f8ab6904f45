"""Derives from the URL of a backend where it is: its address, and whether that is public or a metadata address."""

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from nexus.dialing.metadata import is_metadata

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
"""Names that public name servers do not resolve, or that are private by custom (RFC 6761, 6762, 8375)."""
RESOLVE_S: Final = 2.0
_LOOPBACK: Final = {"localhost": "127.0.0.1", "::1": "127.0.0.1"}


def port_of(url: str) -> int:
    """Return the port of *url*, the default of its scheme if it names none."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def place_of(url: str) -> tuple[str, str, int, str]:
    """Return a key that is equal for all URLs of one server; the names of the loopback address count as one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme, _LOOPBACK.get(host, host), port_of(url), parts.path


def is_public(url: str) -> bool:
    """Whether the host of *url* can be on the Internet: a global address, or a name that public servers may resolve."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(PRIVATE_SUFFIXES)


def names_metadata(url: str) -> bool:
    """Whether the host of *url* is a metadata address of a cloud, in any spelling; names are not resolved."""
    host = _host_of(url)
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return any(is_metadata(str(each[4][0])) for each in found)


async def leads_to_metadata(url: str) -> bool:
    """Whether the host of *url* is a metadata address of a cloud or resolves to one now.

    A name may resolve to another address later, so each connection checks its address again.
    """
    host = _host_of(url)
    try:
        return is_metadata(host)
    except ValueError:
        pass
    try:
        # getaddrinfo also understands addresses that are written as plain numbers.
        found = await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo(host, None), RESOLVE_S)
    except (OSError, UnicodeError, TimeoutError):
        return False
    return any(is_metadata(str(each[4][0])) for each in found)


def _host_of(url: str) -> str:
    # Some resolvers take an address with a trailing dot for a name, others for an address.
    return (urlsplit(url).hostname or "").partition("%")[0].rstrip(".")
