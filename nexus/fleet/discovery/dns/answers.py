"""What follows from the answers of name servers: decisions only."""

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
"""After a look-up that failed."""
DENIALS_TO_BELIEVE: Final = 2
"""In a row, before a name without records counts as one without servers."""
MAX_SERVERS: Final = 256
"""Of one name."""
FIRST_PRIORITY: Final = 50
LAST_PRIORITY: Final = 100
"""A backend's priority where its SRV record has the lowest priority of all, and the highest of several."""
WEIGHTLESS: Final = 0.01
"""What the weight 0 of an SRV record counts as: such a server is hardly ever asked while others are (RFC 2782)."""


class NoSuchName(NexusError):
    """A name server says that there are no such records."""


class LookupFailed(NexusError):
    """No name server has given an answer that can be used; the text says why."""


class Record(msgspec.Struct, frozen=True):
    """One record of an answer."""

    host: str
    """An address, or the target of an SRV record without its final dot."""
    ttl_s: int
    port: int | None = None
    priority: int = 0
    weight: int = 0
    """Of an SRV record: its part of the work of those with the same priority."""
    address: str = ""
    """That of the target, where it is known; empty: its name is looked up when a connection is made."""


class NameState(msgspec.Struct, frozen=True):
    """What is known of one name."""

    found: tuple[Discovered, ...] = ()
    is_known: bool = False
    """Whether any look-up has ever succeeded, or was certainly denied."""
    failure: str | None = None
    """Why the last look-up failed: what is found may be out of date."""
    denials: int = 0
    pause_s: float = RETRY_S
    """Until it is looked up again."""

    @property
    def servers(self) -> tuple[Discovered, ...]:
        """What the fleet is told: what is found, and whether it may be out of date."""
        if self.failure is None:
            return self.found
        return tuple(msgspec.structs.replace(found, is_stale=True) for found in self.found)

    def answered(self, found: tuple[Discovered, ...], ttl_s: float) -> "NameState":
        """Return what follows from an answer."""
        return NameState(found, is_known=True, pause_s=min(MAX_TTL_S, max(MIN_TTL_S, ttl_s)))

    def failed(self, reason: str) -> "NameState":
        """Return what follows when no name server answers: all stays as it was."""
        return msgspec.structs.replace(self, failure=reason, pause_s=RETRY_S)

    def without_records(self) -> "NameState":
        """Return what follows when a name server denies the name: a single denial may be a mistake of a moment."""
        denials = self.denials + 1
        found = self.found if denials < DENIALS_TO_BELIEVE else ()
        return NameState(found, is_known=True, denials=denials, pause_s=MIN_TTL_S)


def servers_of(source: DnsSourceConfig, records: Iterable[Record]) -> tuple[Discovered, ...]:
    """Return the servers that *records* of *source* lead to, each once."""
    usable = [record for record in records if record.host and is_plain_name(record.host)][:MAX_SERVERS]
    priorities = _backend_priorities(record.priority for record in usable)
    heaviest: dict[int, int] = {}
    for record in usable:
        heaviest[record.priority] = max(record.weight, heaviest.get(record.priority, 0))
    found: dict[str, Discovered] = {}
    for record in sorted(usable, key=lambda r: (r.priority, r.host, r.port or 0)):
        port = record.port or source.port
        # A certificate is for the name; an address saves a look-up at servers that may not know the name.
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
    """Return the priority of a backend by that of its SRV record.

    The lowest counts as usual; the others keep their order, and are as far behind it as there is room.
    """
    first, *others = sorted(set(of_records)) or [0]
    behind = {each: max(FIRST_PRIORITY + 1, LAST_PRIORITY - at) for at, each in enumerate(reversed(others))}
    return {first: FIRST_PRIORITY, **behind}


def _share(weight: int, heaviest: int) -> float:
    """Return the share of a server by its weight: 1 for the heaviest of its priority, and for all when none has any."""
    return max(weight, WEIGHTLESS) / heaviest if heaviest else 1.0
