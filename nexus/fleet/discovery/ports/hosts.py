"""Scans the ports of configured hosts and small subnets, and detects the kind of each listener."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import structlog

from nexus.config.discovery_schema import HostsSourceConfig
from nexus.config.rules.scan_places import is_address, place_in
from nexus.dialing.lookups import NO_SUCH_NAME
from nexus.dialing.metadata import is_metadata
from nexus.dialing.names import addresses_of
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.fleet.discovery.ports.open_port import OpenPort
from nexus.fleet.fetching import Fetcher

log = structlog.get_logger("nexus.fleet")

PORTS_AT_ONCE: Final = 64
"""Concurrent connection attempts. Each is given up after a second, so a subnet is not flooded."""
NAMES_AT_ONCE: Final = 4
"""Concurrent lookups of names, some of which need one of the few threads."""
THIS_MACHINE: Final = frozenset({"127.0.0.1", "localhost", "::1"})

T = TypeVar("T")
Ports = dict[tuple[str, int], OpenPort]


class HostsDiscoverer(Discoverer):
    """Scans single hosts. The operator has named each, as in a backend's URL, so their servers need no approval."""

    name = "hosts"

    def __init__(
        self,
        sources: Iterable[HostsSourceConfig],
        fetcher: Fetcher,
        *,
        interval_s: float,
        own_port: int | None = None,
        known: Mapping[tuple[str, int], OpenPort] | None = None,
    ) -> None:
        """:param own_port: the port of this Nexus, which is not scanned on this machine.
        :param known: the ports of the discoverer that it replaces at a reload.
        """
        self.interval_s = interval_s
        places = [place for source in sources for place in named_ports(source, are_subnets=False)]
        self.ports = _ports(places, fetcher, own_port, known or {})
        self._names = sorted({port.host for port in self.ports.values() if not is_address(port.host)})
        self._addresses: dict[str, tuple[str, ...]] = {}
        """By name, the last resolved addresses; empty if there are none, or if they are not allowed."""
        self._refused: set[str] = set()

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        while True:
            for names in _batches(self._names, NAMES_AT_ONCE):
                await asyncio.gather(*map(self._look_up, names))
            for ports in _batches([*self.ports.values()], PORTS_AT_ONCE):
                await asyncio.gather(*map(self._look, ports))
            yield found_at(self._distinct())
            await asyncio.sleep(self.interval_s)

    def _distinct(self) -> Ports:
        """Return the ports without those of servers that an earlier entry names in another way."""
        taken: set[tuple[str, int]] = set()
        distinct: Ports = {}
        for place, port in self.ports.items():
            at = {(address, port.port) for address in self._addresses_of(port)}
            if port.kind is None or taken.isdisjoint(at):
                distinct[place] = port
                taken |= at if port.kind is not None else set()
        return distinct

    def places(self) -> set[tuple[str, int]]:
        """Return the addresses and ports of all servers that were found."""
        servers = (port for port in self.ports.values() if port.kind is not None)
        return {(address, port.port) for port in servers for address in self._addresses_of(port)}

    def _addresses_of(self, port: OpenPort) -> tuple[str, ...]:
        return self._addresses.get(port.host, (port.host,))

    async def _look_up(self, name: str) -> None:
        try:
            addresses = await addresses_of(name)
        except OSError as exc:
            # Servers stay if a name server fails, and go if it denies the name.
            addresses = () if exc.errno in NO_SUCH_NAME else self._addresses.get(name, ())
        is_refused = any(map(is_metadata, addresses))
        if is_refused and name not in self._refused:
            log.warning("host_refused", host=name, reason="leads to a link-local address; list the address to allow it")
        (self._refused.add if is_refused else self._refused.discard)(name)
        self._addresses[name] = () if is_refused else addresses

    async def _look(self, port: OpenPort) -> None:
        addresses = self._addresses_of(port)
        if not addresses:
            port.close()
            return
        was_open, kind = port.is_open, port.kind
        await port.look(addresses)
        if port.is_open and port.kind is None and (kind is not None or not was_open):
            log.info("listener_not_recognised", host=port.host, port=port.port)


class SubnetsDiscoverer(Discoverer):
    """Scans subnets. Any machine can take an address there, so ``discovery.trust`` applies to the servers."""

    name = "subnets"
    needs_approval = True

    def __init__(
        self,
        sources: Iterable[HostsSourceConfig],
        fetcher: Fetcher,
        *,
        interval_s: float,
        known: Mapping[tuple[str, int], OpenPort] | None = None,
        elsewhere: Callable[[], Collection[tuple[str, int]]] = tuple,
    ) -> None:
        """:param known: the ports of the discoverer that it replaces at a reload.
        :param elsewhere: returns the addresses and ports of servers that :class:`HostsDiscoverer` reports.
        """
        self.interval_s = interval_s
        self._elsewhere = elsewhere
        tables = tuple(sources)
        single = {place for source in tables for place in named_ports(source, are_subnets=False)}
        self._scans: list[_Scan] = []
        self.ports: Ports = {}
        for source in tables:
            places = [each for each in named_ports(source, are_subnets=True) if each not in single | self.ports.keys()]
            ports = _ports(places, fetcher, None, known or {})
            self.ports |= ports
            self._scans.append(_Scan(tuple(ports.values()), source.rescan_seconds))

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        clock = asyncio.get_running_loop().time
        yielded: tuple[Discovered, ...] = ()
        while True:
            due = [scan for scan in self._scans if scan.due_s <= clock()]
            scanned = {port for scan in due for port in scan.ports}
            known = [port for port in self.ports.values() if port.kind is not None and port not in scanned]
            for batch in _batches([*known, *(port for scan in due for port in scan.ports)], PORTS_AT_ONCE):
                await asyncio.gather(*(port.look() for port in batch))
                # A scan may take a minute: servers that it has found so far can be approved in the meantime.
                if (now := self._found()) != yielded:
                    yield (yielded := now)
            for scan in due:
                scan.due_s = clock() + scan.rescan_s
            yield (yielded := self._found())
            await asyncio.sleep(self.interval_s)

    def _found(self) -> tuple[Discovered, ...]:
        elsewhere = self._elsewhere()
        return found_at({place: port for place, port in self.ports.items() if place not in elsewhere})


class _Scan:
    """The ports of one table, and when they are scanned next."""

    def __init__(self, ports: tuple[OpenPort, ...], rescan_s: float) -> None:
        self.ports = ports
        self.rescan_s = rescan_s
        self.due_s = 0.0


def named_ports(source: HostsSourceConfig, *, are_subnets: bool) -> Iterator[tuple[str, int]]:
    """Yield each host and port in *source*, either those of its subnets or all others."""
    for place in map(place_in, source.hosts):
        if place.is_subnet == are_subnets:
            for host in place.hosts:
                for port in place.ports or source.ports:
                    if not (are_subnets and is_metadata(host)):
                        yield host, port


def found_at(ports: Ports) -> tuple[Discovered, ...]:
    """Return the servers of known kinds at *ports*; each is named by its address, so that it keeps its name."""
    return tuple(
        Discovered(port.place, port.url, port.kind, "" if is_address(port.host) else port.host)
        for port in ports.values()
        if port.kind is not None
    )


def _ports(
    places: Iterable[tuple[str, int]],
    fetcher: Fetcher,
    own_port: int | None,
    known: Mapping[tuple[str, int], OpenPort],
) -> Ports:
    return {
        (host, port): known.get((host, port)) or OpenPort(fetcher, host, port)
        for host, port in places
        if not (port == own_port and host in THIS_MACHINE)
    }


def _batches(all_: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(all_), size):
        yield all_[start : start + size]
