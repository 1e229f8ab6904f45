"""Parses and checks entries of ``[[discovery.hosts]]``: a name, an address or a small subnet, with ports."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from nexus.config.discovery_schema import HostsSourceConfig
from nexus.config.faults import Fault
from nexus.config.quoting import shown

MAX_IN_SUBNET: Final = 256
"""Addresses of one subnet: a /24 of IPv4, a /120 of IPv6."""
MAX_ADDRESSES: Final = 1024
MAX_PORTS: Final = 8192
"""Ports of all addresses in all entries together."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ENTRY: Final = re.compile(
    r"(?:\[(?P<bracketed>[^\[\]]*)\](?P<length>/\d+)?|(?P<plain>[^\[\]:]*)|(?P<ipv6>[^\[\]]*:[^\[\]]*:[^\[\]]*))"
    r"(?::(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?)?",
    re.ASCII,
)
_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?", re.ASCII)
_LIKE_AN_ADDRESS: Final = re.compile(r"[0-9.]+|0[xX].*", re.ASCII)


class ScanPlace(msgspec.Struct, frozen=True):
    """One entry: its hosts, and the ports to try at each."""

    hosts: tuple[str, ...]
    """Names, and addresses without brackets."""
    ports: range
    """Empty to use the ports of the table."""
    is_subnet: bool


def place_in(entry: str) -> ScanPlace:
    """Return the parsed *entry*. :raises ValueError: it is invalid; the text says why."""
    found = _ENTRY.fullmatch(entry.strip()) if "://" not in entry else None
    if found is None:
        raise ValueError("expected a host, an address or a subnet, optionally followed by :port or :first-last")
    ports = range(0)
    if found["first"] is not None:
        first, last = int(found["first"]), int(found["last"] or found["first"])
        if not 0 < first <= last <= 65535:
            raise ValueError("expected ports from 1 to 65535, the lower one first")
        ports = range(first, last + 1)
    host = found["plain"] or found["ipv6"] or f"{found['bracketed'] or ''}{found['length'] or ''}"
    if "/" in host:
        return ScanPlace(_addresses_in(host), ports, is_subnet=True)
    return ScanPlace((_host(host),), ports, is_subnet=False)


def names_in(sources: Iterable[HostsSourceConfig]) -> tuple[str, ...]:
    """Return the hosts of *sources* that are names, without duplicates."""
    hosts = [place.hosts[0] for source in sources for place in map(place_in, source.hosts) if not place.is_subnet]
    return tuple(dict.fromkeys(host for host in hosts if not is_address(host)))


def is_address(host: str) -> bool:
    """Whether *host* is an address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def faults_of(sources: tuple[HostsSourceConfig, ...]) -> Iterator[Fault]:
    """Yield what is wrong with *sources*, the tables of ``[[discovery.hosts]]``."""
    addresses = ports = 0
    for index, source in enumerate(sources):
        path = ("discovery", "hosts", index)
        if not source.hosts:
            yield Fault((*path, "hosts"), "expected at least one host")
        for number, entry in enumerate(source.hosts):
            at = (*path, "hosts", number)
            try:
                place = place_in(entry)
            except ValueError as exc:
                yield Fault(at, f"'{shown(entry)}': {exc}")
                continue
            if place.is_subnet and not _is_of_other_machines(place.hosts[0]):
                hint = "list the addresses instead"
                yield Fault(at, f"'{shown(entry)}' is not a subnet of other machines", hint)
            if not place.ports and not source.ports:
                yield Fault(at, f"'{shown(entry)}' has no port", "append :port, or set ports")
            addresses += len(place.hosts)
            ports += len(place.hosts) * (len(place.ports) or len(source.ports))
            if addresses > MAX_ADDRESSES or ports > MAX_PORTS:
                problem = f"{addresses} addresses with {ports} ports are too many to try: at most {MAX_ADDRESSES} and"
                yield Fault(at, f"{problem} {MAX_PORTS} in all entries", "name fewer; servers can announce themselves")


def _host(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if _LIKE_AN_ADDRESS.fullmatch(host) or not _NAME.fullmatch(host):
            raise ValueError("neither a name nor an address") from None
    return host.lower().rstrip(".")


def _is_of_other_machines(address: str) -> bool:
    """Whether a scan may include *address*.

    Link-local addresses include those of metadata services, which return a machine's secrets; in IPv6 they also need
    an interface.
    """
    parsed = ipaddress.ip_address(address)
    return not (parsed.is_loopback or parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified)


def _addresses_in(text: str) -> tuple[str, ...]:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("no subnet, such as 192.168.1.0/28 or fd00::/120") from None
    if network.num_addresses > MAX_IN_SUBNET:
        largest = 24 if network.version == 4 else 120
        raise ValueError(f"has {network.num_addresses} addresses; the largest subnet that is scanned is a /{largest}")
    return tuple(map(str, network.hosts()))
