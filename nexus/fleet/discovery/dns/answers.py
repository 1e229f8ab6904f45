"""Decides which servers follow from the answers of name servers."""

from collections.abc import Iterable
from typing import Final

import msgspec

from nexus.config.discovery_schema import DnsSourceConfig
from nexus.errors import NexusError
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.untrusted import is_plain_name

MIN_TTL_S: Final = 5.0
MAX_TTL_S: Final = 300.0
RETRY_S: Final = 5.0
"""After a lookup that failed."""
DENIALS_TO_BELIEVE: Final = 2
"""Consecutive ones, before a name without records counts as one without servers."""
MAX_SERVERS: Final = 256
"""Per name."""
FIRST_PRIORITY: Final = 50
LAST_PRIORITY: Final = 100
"""The priorities of backends whose SRV records have the lowest and, of several, the highest priority."""
WEIGHTLESS: Final = 0.01
"""Used for the weight 0 of an SRV record: such a server is rarely chosen while there are others (RFC 2782)."""


class NoSuchName(NexusError):
    """A name server reports that there are no such records."""


class LookupFailed(NexusError):
    """No name server gave a usable answer; the text says why."""


class Record(msgspec.Struct, frozen=True):
    """One record of an answer."""

    host: str
    """An address, or the target of an SRV record without its trailing dot."""
    ttl_s: int
    port: int | None = None
    priority: int = 0
    weight: int = 0
    """Of an SRV record: its share among those with the same priority."""
    address: str = ""
    """The address of the target, if known; empty: its name is resolved when a connection is made."""


class NameState(msgspec.Struct, frozen=True):
    """The servers of one name, and the result of the last lookup."""

    found: tuple[Discovered, ...] = ()
    is_known: bool = False
    """Whether a lookup has ever succeeded, or the name was denied."""
    failure: str | None = None
    """Why the last lookup failed, so that the servers may be out of date."""
    denials: int = 0
    pause_s: float = RETRY_S
    """Until the next lookup."""

    @property
    def servers(self) -> tuple[Discovered, ...]:
        """The servers, marked as stale if the last lookup failed."""
        if self.failure is None:
            return self.found
        return tuple(msgspec.structs.replace(found, is_stale=True) for found in self.found)

    def answered(self, found: tuple[Discovered, ...], ttl_s: float) -> "NameState":
        """Return the state after an answer."""
        return NameState(found, is_known=True, pause_s=min(MAX_TTL_S, max(MIN_TTL_S, ttl_s)))

    def failed(self, reason: str) -> "NameState":
        """Return the state after a lookup that failed: the servers stay."""
        return msgspec.structs.replace(self, failure=reason, pause_s=RETRY_S)

    def without_records(self) -> "NameState":
        """Return the state after a denial of the name; a single one may be a temporary error."""
        denials = self.denials + 1
        found = self.found if denials < DENIALS_TO_BELIEVE else ()
        return NameState(found, is_known=True, denials=denials, pause_s=MIN_TTL_S)


def servers_of(source: DnsSourceConfig, records: Iterable[Record]) -> tuple[Discovered, ...]:
    """Return the servers in *records*, each once."""
    usable = [record for record in records if record.host and is_plain_name(record.host)][:MAX_SERVERS]
    priorities = _backend_priorities(record.priority for record in usable)
    heaviest: dict[int, int] = {}
    for record in usable:
        heaviest[record.priority] = max(record.weight, heaviest.get(record.priority, 0))
    found: dict[str, Discovered] = {}
    for record in sorted(usable, key=lambda r: (r.priority, r.host, r.port or 0)):
        port = record.port or source.port
        # With TLS, the certificate is for the name; without, an address saves a lookup that may fail elsewhere.
        place = record.host if source.tls else record.address or record.host
        host = f"[{place}]" if ":" in place else place
        server = Discovered(
            name=f"{record.host}:{port}",
            url=f"{'https' if source.tls else 'http'}://{host}:{port}{source.path.rstrip('/')}",
            kind=source.type,
            priority=None if record.port is None else priorities[record.priority],
            share=_share(record.weight, heaviest[record.priority]),
        )
        found.setdefault(server.name, server)
    return tuple(found.values())


def _backend_priorities(of_records: Iterable[int]) -> dict[int, int]:
    """Map the priorities of SRV records to those of backends.

    The lowest becomes ``FIRST_PRIORITY``; the others keep their order and end at ``LAST_PRIORITY``.
    """
    first, *others = sorted(set(of_records)) or [0]
    behind = {each: max(FIRST_PRIORITY + 1, LAST_PRIORITY - at) for at, each in enumerate(reversed(others))}
    return {first: FIRST_PRIORITY, **behind}


def _share(weight: int, heaviest: int) -> float:
    """Return the share of a server by its weight: 1 for the heaviest of its priority, and for all if none has any."""
    return max(weight, WEIGHTLESS) / heaviest if heaviest else 1.0
