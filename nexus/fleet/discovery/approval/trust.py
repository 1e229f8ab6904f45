"""Decides whether a server that announced itself is trusted with requests."""

import ipaddress
import re
from collections.abc import Iterable
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import urlsplit

import msgspec

from nexus.config.discovery_schema import DiscoveryConfig
from nexus.dialing.metadata import is_metadata
from nexus.fleet.discovery.discoverer import Discovered

_ADDRESS: Final = re.compile(r"(?=.*\d)([\d.*?]*\.[\d.*?]*(:[\d*?]+)?|[\da-f.*?\[\]%]*:[\da-f:.*?\[\]%]*)(/.*)?")
"""An address, with or without a port, a subnet, or a pattern of addresses such as ``192.168.1.*``."""


class Trust(StrEnum):
    """The decision about a found server."""

    APPROVED = "approved"
    PENDING = "pending"
    """An administrator must decide."""
    REJECTED = "rejected"


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """An administrator's decision about one server; with another address or kind the server is pending again."""

    source: str
    """The discoverer that found it; another one may use the same name for another server."""
    name: str
    """The name that the discoverer gave it."""
    url: str
    kind: str
    """As detected at the time of the decision."""
    trust: Trust
    decided_unix_s: int

    def holds_for(self, found: Discovered, kind: str | None) -> bool:
        """Whether *found* is the server that this decision is about.

        :param kind: its detected kind; None if unknown. A rejected server stays rejected whatever its kind.
        """
        is_same_kind = self.kind == kind or self.trust is Trust.REJECTED
        return self.name == found.name and self.url == found.url and is_same_kind


def decide_trust(
    found: Discovered,
    kind: str | None,
    approval: Approval | None,
    config: DiscoveryConfig,
    *,
    is_place_rejected: bool = False,
) -> Trust:
    """Decide about *found*: an administrator's decision comes first, then ``discovery.trust``.

    :param kind: its detected kind; None if unknown, and then it is never approved.
    :param approval: the last decision about its name.
    :param is_place_rejected: whether the last decision about a server at its address, under any name, was to reject it.
    """
    was_rejected = approval is not None and approval.trust is Trust.REJECTED
    is_decided = approval is not None and approval.holds_for(found, kind)
    if approval is not None and is_decided and (was_rejected or not is_place_rejected):
        return approval.trust
    if kind is None or was_rejected or is_place_rejected:
        # A rejected server can choose another name or address itself, so only an administrator can approve it then.
        return Trust.PENDING
    is_trusted = config.trust == "all" or (config.trust == "allow" and is_allowed(found, config.allow))
    return Trust.APPROVED if is_trusted else Trust.PENDING


def is_allowed(found: Discovered, allow: Iterable[str]) -> bool:
    """Whether an entry of *allow* is a subnet of the server's address, or a pattern of its name or its host.

    An entry that looks like an address is compared with addresses only, since a server can choose any name, even that
    of a subnet.
    """
    host = (urlsplit(found.url).hostname or "").partition("%")[0]
    names = {name.lower().rstrip(".") for name in (found.name, found.host, host) if name}
    return any(_matches(entry.lower(), found, names) for entry in allow)


def _matches(entry: str, found: Discovered, names: Iterable[str]) -> bool:
    parts = urlsplit(found.url)
    host = (parts.hostname or "").partition("%")[0]
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    if _ADDRESS.fullmatch(entry):
        names = {host, parts.netloc.lower()} if _is_address(host) else ()
    return entry in names or any(fnmatchcase(name, entry) for name in names)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def may_be_probed(found: Discovered) -> bool:
    """Whether the address of a server that announced itself can belong to another machine of the network.

    Any machine can send an announcement, and probes go to the address in it. They must not reach services of this
    machine, or link-local ones by which a cloud serves this machine only.
    """
    host = urlsplit(found.url).hostname or ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return not (host == "localhost" or host.endswith(".localhost"))
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not (mapped.is_loopback or mapped.is_multicast or mapped.is_unspecified or is_metadata(str(mapped)))
