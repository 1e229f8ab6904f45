"""Whether a URL leads to where a cloud tells a machine its own secrets, before a backend is added there."""

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

from nexus.dialing.metadata import is_metadata

RESOLVE_S: Final = 2.0


def names_metadata(url: str) -> bool:
    """Whether the host of *url* is such an address in any spelling; no name is looked up."""
    host = _host_of(url)
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return any(is_metadata(ipaddress.ip_address(str(each[4][0]).partition("%")[0])) for each in found)


async def leads_to_metadata(url: str) -> bool:
    """Whether the host of *url* is such an address or, as far as names can be looked up now, leads to one.

    A name may lead elsewhere later: each connection looks at the address that it goes to.
    """
    host = _host_of(url)
    try:
        return is_metadata(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        # This knows the spellings too by which an address is a plain number.
        found = await asyncio.wait_for(asyncio.get_running_loop().getaddrinfo(host, None), RESOLVE_S)
    except (OSError, UnicodeError, TimeoutError):
        return False
    return any(is_metadata(ipaddress.ip_address(str(each[4][0]).partition("%")[0])) for each in found)


def _host_of(url: str) -> str:
    # With a dot at its end, an address is read as a name by some, and as an address by others.
    return (urlsplit(url).hostname or "").partition("%")[0].rstrip(".")
