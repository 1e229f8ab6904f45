"""Keeps the known instances of mDNS services, a limited number, so that no announcement displaces one in use."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, count
from math import inf
from typing import Final

import msgspec

from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.mdns.service import Service

MAX_INSTANCES: Final = 256
MAX_PER_HOST: Final = 32
SILENT_S: Final = 60.0
"""An instance keeps its place for this long after its last connection: a busy machine may miss one."""

CONFLICT: Final = re.compile(r"(-| #)\d+$| \(\d+\)$")
"""The suffix that zeroconf, Avahi and Bonjour add to a label that another machine announces too."""

ApprovedUrl = Callable[[str], str | None]
"""Returns the URL of the server that is approved under a name, None if there is none."""


Key = tuple[str, str, int, bool, str]


class Instance(msgspec.Struct, kw_only=True):
    """One server, identified by service name, host and port; another host with the same name is another instance."""

    service: str
    """The full name of the service, in lower case."""
    full_name: str
    """The full name as it was announced."""
    found: Service
    name: str = ""
    """The name under which it is reported; empty until it is reported first."""
    is_answering: bool = False
    """Whether it accepted the last connection."""
    checked_at: float = -inf
    """The time of the last attempt to connect, by the clock of the loop."""
    answered_at: float = -inf
    """The time of the last attempt that succeeded."""

    @property
    def key(self) -> Key:
        """Its identity."""
        return _key(self.service, self.found)

    @property
    def is_silent(self) -> bool:
        """Whether it has not accepted a connection for so long that it may be displaced."""
        return self.checked_at - self.answered_at > SILENT_S if self.checked_at > -inf else False


class Instances:
    """The known instances.

    Any machine on the network can announce a name that is taken, or other addresses of a known host. So an instance
    keeps the address where it accepts connections, an approved one is tried at its approved address first and keeps its
    name, and when there are too many, one that does not accept connections is dropped.
    """

    def __init__(self, approved_url: ApprovedUrl = lambda _: None, before: Iterable[Instance] = ()) -> None:
        """:param before: the instances that are known already."""
        self._approved_url = approved_url
        self._instances: dict[Key, Instance] = {each.key: each for each in before}
        self._services = Counter(key[0] for key in self._instances)
        """The number of instances by service name."""

    def __iter__(self) -> Iterator[Instance]:
        return iter(tuple(self._instances.values()))

    def knows(self, service: str) -> bool:
        """Whether there is an instance of that service name."""
        return service.lower() in self._services

    def add(self, service: str, found: Service) -> bool:
        """Add or update the instance that *service* announces; return whether there is room for it."""
        newcomer = Instance(service=service.lower(), full_name=service, found=found)
        known = self._instances.get(newcomer.key) or self._before(newcomer)
        if known is not None:
            before = known.key
            known.found = found.keeping(self._kept(known))
            if known.key != before:
                self._instances[known.key] = self._instances.pop(before)
            return True
        if not self._make_room(newcomer):
            return False
        self._instances[newcomer.key] = newcomer
        self._services[newcomer.service] += 1
        return True

    def _before(self, newcomer: Instance) -> Instance | None:
        """Return the instance that *newcomer* updates with a new path or TLS, which an approved one does not accept."""
        *place, _, _ = newcomer.key
        same = (each for key, each in self._instances.items() if [*key[:3]] == place)
        return next((each for each in same if self._approved_name(each.found) is None), None)

    def withdraw(self, service: str) -> None:
        """Drop the instances of a service name that is no longer announced.

        An approved one that accepts no connections stays: its machine is down and has not withdrawn it.
        """
        for key, instance in tuple(self._instances.items()):
            is_down = not instance.is_answering and self._approved_name(instance.found) is not None
            if key[0] == service.lower() and not is_down:
                self._drop(instance)

    def is_used(self, instance: Instance) -> bool:
        """Whether it accepts connections, or is approved and may do so again."""
        return instance.is_answering or self._approved_name(instance.found) is not None

    def addresses_of(self, instance: Instance) -> tuple[str, ...]:
        """Return its addresses in the order in which they are tried."""
        found = instance.found
        approved = self._approved_name(found)
        return (
            found.addresses if approved is None else found.preferring(self._approved_address(found, approved)).addresses
        )

    def answering(self) -> tuple[Discovered, ...]:
        """Return those that accept connections, each once and under a unique name, which it keeps."""
        taken: set[str] = set()
        urls: set[str] = set()
        discovered: list[Discovered] = []
        for instance in sorted(self._instances.values(), key=self._naming_rank):
            url = instance.found.url_at(instance.found.address)
            if not instance.name and (not self.is_used(instance) or url in urls):
                continue
            wanted = (self._approved_name(instance.found), instance.name, *names_of(instance.found))
            instance.name = next(
                filter(None, (name for name in chain(wanted, numbered(instance.found)) if name not in taken))
            )
            taken.add(instance.name)
            if instance.is_answering and url not in urls:
                urls.add(url)
                discovered.append(instance.found.discovered(instance.name))
        return tuple(discovered)

    def _naming_rank(self, instance: Instance) -> int:
        """Return when it gets its name: approved ones first, then those that have a name."""
        return 0 if self._approved_name(instance.found) is not None else 1 if instance.name else 2

    def _kept(self, known: Instance) -> tuple[str, ...]:
        """Return the addresses that a new announcement cannot remove."""
        approved = self._approved_name(known.found)
        of_approval = () if approved is None else (self._approved_address(known.found, approved),)
        return (*of_approval, *((known.found.address,) if known.is_answering else ()))

    def _approved_name(self, found: Service) -> str | None:
        names = (*names_of(found), CONFLICT.sub("", found.name))
        return next((name for name in names if self._approved_address(found, name)), None)

    def _approved_address(self, found: Service, name: str) -> str:
        url = self._approved_url(name)
        return "" if url is None else next((a for a in found.addresses if found.url_at(a) == url), "")

    def _make_room(self, newcomer: Instance) -> bool:
        neighbours = [each for each in self._instances.values() if each.found.host == newcomer.found.host]
        if len(neighbours) >= MAX_PER_HOST:
            leaving = self._displaced_by(newcomer, neighbours)
        elif len(self._instances) >= MAX_INSTANCES:
            leaving = self._displaced_by(newcomer, self._instances.values())
        else:
            return True
        if leaving is None:
            return False
        self._drop(leaving)
        return True

    def _drop(self, instance: Instance) -> None:
        del self._instances[instance.key]
        self._services[instance.service] -= 1
        if not self._services[instance.service]:
            del self._services[instance.service]

    def _displaced_by(self, newcomer: Instance, crowd: Collection[Instance]) -> Instance | None:
        """Return one of *crowd* that is silent or, for an approved newcomer, any that is not approved."""
        silent = (each for each in crowd if each.is_silent)
        leaving = next((each for each in silent if self._approved_name(each.found) is None), None)
        if leaving is None and self._approved_name(newcomer.found) is not None:
            leaving = next((each for each in crowd if self._approved_name(each.found) is None), None)
        return leaving


def _key(service: str, found: Service) -> Key:
    return service, found.host, found.port, found.is_tls, found.path


def names_of(found: Service) -> tuple[str, str, str]:
    """Return the names that it may get, in order of preference."""
    return found.name, f"{found.name}-{found.port}", f"{found.name}-{found.host}"


def numbered(found: Service) -> Iterator[str]:
    """Yield further names without end."""
    return (f"{found.name}-{number}" for number in count(2))
