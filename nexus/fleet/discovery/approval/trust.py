"""Whether a server that announced itself may be given requests: decisions only."""

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
"""An address, with its port if need be, a subnet, or a pattern of addresses such as ``192.168.1.*``."""


class Trust(StrEnum):
    """What was decided about a found server."""

    APPROVED = "approved"
    PENDING = "pending"
    """An administrator is to decide."""
    REJECTED = "rejected"


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """An administrator's decision. It holds for one server: with another address or kind, it is asked about again."""

    source: str
    """The discoverer that has found it: another one may give its name to another server."""
    name: str
    """The one that the discoverer gave it."""
    url: str
    kind: str
    """As its answers showed when it was decided."""
    trust: Trust
    decided_unix_s: int

    def holds_for(self, found: Discovered, kind: str | None) -> bool:
        """Whether *found*, whose answers show *kind*, is the server that this was decided about.

        :param kind: None when it has not been recognised; a rejected server stays rejected all the same.
        """
        is_same_kind = self.kind == kind or self.trust is Trust.REJECTED
        return self.name == found.name and self.url == found.url and is_same_kind


def trust_in(
    found: Discovered,
    kind: str | None,
    approval: Approval | None,
    config: DiscoveryConfig,
    *,
    is_place_rejected: bool = False,
) -> Trust:
    """Decide about *found*: an administrator's decision comes first, then ``discovery.trust``.

    :param kind: what its answers show; None when it has not been recognised, and then nothing approves it.
    :param approval: the last decision about its name.
    :param is_place_rejected: whether the last decision about a server at its address, under any name, was to reject it.
    """
    was_rejected = approval is not None and approval.trust is Trust.REJECTED
    is_decided = approval is not None and approval.holds_for(found, kind)
    if approval is not None and is_decided and (was_rejected or not is_place_rejected):
        return approval.trust
    if kind is None or was_rejected or is_place_rejected:
        # A rejected server gets another name or address by itself: only an administrator approves it then.
        return Trust.PENDING
    is_trusted = config.trust == "all" or (config.trust == "allow" and is_listed(found, config.allow))
    return Trust.APPROVED if is_trusted else Trust.PENDING


def is_listed(found: Discovered, allow: Iterable[str]) -> bool:
    """Whether an entry of *allow* is a subnet of the server's address, or a pattern of its name or its host.

    An entry that reads like an address is compared with the address alone: a server can give itself any name, also
    that of a subnet.
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


def is_worth_a_look(found: Discovered) -> bool:
    """Whether the address of a server that announced itself can be one that another machine of the network has.

    An announcement is made by anybody, and a probe goes where it says. It must not reach this machine's own services,
    nor those of a cloud that only this machine can ask, at its link-local addresses.
    """
    host = urlsplit(found.url).hostname or ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return not (host == "localhost" or host.endswith(".localhost"))
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not (mapped.is_loopback or mapped.is_multicast or mapped.is_unspecified or is_metadata(mapped))
