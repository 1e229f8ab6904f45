"""Recognises metadata addresses, at which clouds give a machine its secrets: only configured backends may use one."""

import ipaddress
from typing import Final

METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "fe80::a9fe:a9fe", "100.100.100.200"))
)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_ENDING_IN_IPV4: Final = tuple(map(ipaddress.IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")))
"""IPv4-compatible addresses (RFC 4291) and those of NAT64 (RFC 6052, RFC 8215)."""


class MetadataAddressError(OSError):
    """A host has metadata addresses only."""

    def __init__(self, host: str, address: str) -> None:
        place = host if host == address else f"{host} leads to {address}"
        super().__init__(
            f"{place}, a link-local address, where clouds keep a machine's secrets; only the configuration file may"
            " name one"
        )


def is_metadata(address: str) -> bool:
    """Whether *address* is a metadata address or a link-local one of IPv4, in any notation and with any scope.

    :raises ValueError: it is not an address.
    """
    within = _ipv4_in(ipaddress.ip_address(address.partition("%")[0]))
    return within in METADATA or (within.version == 4 and within.is_link_local)


def _ipv4_in(address: IPAddress) -> IPAddress:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in network for network in _ENDING_IN_IPV4):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
