"""Addresses at which a cloud tells a machine its own secrets: no backend that is added or found may be at one."""

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "fe80::a9fe:a9fe", "100.100.100.200"))
)
RESOLVE_S: Final = 2.0

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


def is_metadata(address: IPAddress) -> bool:
    """Whether *address* is one of those, or another link-local one of IPv4, in any of its forms."""
    within = _ipv4_in(address)
    return within in METADATA or (within.version == 4 and within.is_link_local)


def names_metadata(url: str) -> bool:
    """Whether the host of *url* is such an address in any spelling; no name is looked up."""
    host = (urlsplit(url).hostname or "").partition("%")[0]
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return any(is_metadata(ipaddress.ip_address(str(each[4][0]).partition("%")[0])) for each in found)


async def leads_to_metadata(url: str) -> bool:
    """Whether the host of *url* is such an address or, as far as names can be looked up now, leads to one."""
    host = (urlsplit(url).hostname or "").partition("%")[0]
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


def _ipv4_in(address: IPAddress) -> IPAddress:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
