"""The instances of mDNS services that are known: so many at most, and one that is used is displaced by no other."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, count
from math import inf
from typing import Final

import msgspec

from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.mdns.service import Announced

MAX_INSTANCES: Final = 256
MAX_PER_HOST: Final = 32
SILENT_S: Final = 60.0
"""One that has answered keeps its place for so long when it does not: a busy machine misses a connection."""

CONFLICT: Final = re.compile(r"(-| #)\d+$| \(\d+\)$")
"""What an announcing machine adds to a label that another one announces: zeroconf, Avahi and Bonjour."""

ApprovedUrl = Callable[[str], str | None]
"""Given a name, returns the URL of the server that is approved under it, None when none is."""


Key = tuple[str, str, int, bool, str]


class Instance(msgspec.Struct, kw_only=True):
    """One server: a service name, a host and a port. Another host that announces the name is another instance."""

    service: str
    """The full name of the service, in lower case."""
    full_name: str
    """The same as it was announced."""
    found: Announced
    name: str = ""
    """Under which it was told, and is again; empty of one that never was."""
    is_answering: bool = False
    """Whether it accepted the last connection."""
    checked_at: float = -inf
    """When it was last connected to, by the clock of the loop."""
    answered_at: float = -inf
    """When that last succeeded."""

    @property
    def key(self) -> Key:
        """What tells it from all others."""
        return _key(self.service, self.found)

    @property
    def is_silent(self) -> bool:
        """Whether it has not answered for so long, or never did, that another may have its place."""
        return self.checked_at - self.answered_at > SILENT_S if self.checked_at > -inf else False


class Instances:
    """By service name, host and port, and what else tells two servers apart that are there.

    Anyone on the network can announce a name that is taken, or other addresses of a host that is known. So an instance
    stays where it answers, an approved one is tried at the approved address first and keeps its name, and where there
    is no room, one that does not answer makes way.
    """

    def __init__(self, approved_url: ApprovedUrl = lambda _: None, before: Iterable[Instance] = ()) -> None:
        """:param before: those that are known already."""
        self._approved_url = approved_url
        self._instances: dict[Key, Instance] = {each.key: each for each in before}
        self._services = Counter(key[0] for key in self._instances)
        """How many instances each service name has."""

    def __iter__(self) -> Iterator[Instance]:
        return iter(tuple(self._instances.values()))

    def __len__(self) -> int:
        return len(self._instances)

    def knows(self, service: str) -> bool:
        """Whether there is an instance of that service name."""
        return service.lower() in self._services

    def add(self, service: str, found: Announced) -> bool:
        """Take in what *service* announces now; return whether there is room for it."""
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
        """Return what *newcomer* was until its path or its TLS changed; those of an approved one do not change."""
        *place, _, _ = newcomer.key
        same = (each for key, each in self._instances.items() if [*key[:3]] == place)
        return next((each for each in same if self._approved_name(each.found) is None), None)

    def withdraw(self, service: str) -> None:
        """Drop the instances of that service name, which is announced no more.

        An approved one that does not accept connections either stays: its machine is down, and did not withdraw it.
        """
        for key, instance in tuple(self._instances.items()):
            is_down = not instance.is_answering and self._approved_name(instance.found) is not None
            if key[0] == service.lower() and not is_down:
                self._drop(instance)

    def is_used(self, instance: Instance) -> bool:
        """Whether it answers, or is approved and may answer again."""
        return instance.is_answering or self._approved_name(instance.found) is not None

    def addresses_of(self, instance: Instance) -> tuple[str, ...]:
        """Return its addresses in the order in which they are tried."""
        found = instance.found
        approved = self._approved_name(found)
        return (
            found.addresses if approved is None else found.preferring(self._approved_address(found, approved)).addresses
        )

    def answering(self) -> tuple[Discovered, ...]:
        """Return those that answer, each once and under a name of its own, which it keeps."""
        taken: set[str] = set()
        urls: set[str] = set()
        told: list[Discovered] = []
        for instance in sorted(self._instances.values(), key=self._turn):
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
                told.append(instance.found.discovered(instance.name))
        return tuple(told)

    def _turn(self, instance: Instance) -> int:
        """Return when it gets its name: an approved one first, then those that have one."""
        return 0 if self._approved_name(instance.found) is not None else 1 if instance.name else 2

    def _kept(self, known: Instance) -> tuple[str, ...]:
        """Return the addresses that another announcement does not take from it."""
        approved = self._approved_name(known.found)
        of_approval = () if approved is None else (self._approved_address(known.found, approved),)
        return (*of_approval, *((known.found.address,) if known.is_answering else ()))

    def _approved_name(self, found: Announced) -> str | None:
        names = (*names_of(found), CONFLICT.sub("", found.name))
        return next((name for name in names if self._approved_address(found, name)), None)

    def _approved_address(self, found: Announced, name: str) -> str:
        url = self._approved_url(name)
        return "" if url is None else next((a for a in found.addresses if found.url_at(a) == url), "")

    def _make_room(self, newcomer: Instance) -> bool:
        neighbours = [each for each in self._instances.values() if each.found.host == newcomer.found.host]
        if len(neighbours) >= MAX_PER_HOST:
            leaving = self._least_wanted(neighbours, newcomer)
        elif len(self._instances) >= MAX_INSTANCES:
            leaving = self._least_wanted(self._instances.values(), newcomer)
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

    def _least_wanted(self, crowd: Collection[Instance], newcomer: Instance) -> Instance | None:
        """Return one that was tried in vain or, for a newcomer that is approved, any that is not."""
        silent = (each for each in crowd if each.is_silent)
        leaving = next((each for each in silent if self._approved_name(each.found) is None), None)
        if leaving is None and self._approved_name(newcomer.found) is not None:
            leaving = next((each for each in crowd if self._approved_name(each.found) is None), None)
        return leaving


def _key(service: str, found: Announced) -> Key:
    return service, found.host, found.port, found.is_tls, found.path


def names_of(found: Announced) -> tuple[str, str, str]:
    """Return the names that it may get: its label, with the port or the host where another has that."""
    return found.name, f"{found.name}-{found.port}", f"{found.name}-{found.host}"


def numbered(found: Announced) -> Iterator[str]:
    """Yield further names, one of which is free."""
    return (f"{found.name}-{number}" for number in count(2))
