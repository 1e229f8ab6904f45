"""Caches the addresses of host names for their TTL, and beyond that while no name server responds."""

import asyncio
import ipaddress
import socket
import time
from typing import Final

import structlog

from nexus import tasks
from nexus.dialing.lookups import NO_SUCH_NAME, AddressInfo, Resolution, look_up

MIN_TTL_S: Final = 5.0
MAX_TTL_S: Final = 300.0
RETRY_S: Final = 5.0
"""How long the last good addresses are used after a lookup that failed, before the next one."""
SECOND_LOOK_S: Final = 1.0
"""How long a lookup may take if there are addresses to fall back on, so that there is time left to connect."""
DENIALS_TO_BELIEVE: Final = 2
"""Consecutive ones, before a name that had addresses counts as gone: a single one may be a temporary error."""
MAX_NAMES: Final = 2_048

Place = tuple[str, int]
"""A host and a port."""

log = structlog.get_logger("nexus.dialing")


class NameLookupError(OSError):
    """A host name has no address, or no name server responds."""


class Name:
    """The addresses of one name."""

    def __init__(self, place: Place, resolution: Resolution, now: float) -> None:
        self._place = place
        self._turn = 0
        self.is_used = True
        """Whether it was used since the last lookup; only such a name is looked up again when its TTL ends."""
        self.timer: asyncio.TimerHandle | None = None
        self.stale_since: float | None = None
        """Unix seconds since when lookups fail; None: the last one succeeded."""
        self._set(resolution, now)

    def _set(self, resolution: Resolution, now: float) -> None:
        self._denials, self._reason = 0, ""
        self._infos = resolution.infos
        self._is_of_system = resolution.is_of_system
        self.hosts = frozenset(packed(str(info[4][0])) for info in resolution.infos)
        """The addresses, as :func:`packed` returns them."""
        preferred = [packed(str(info[4][0])) for info in resolution.infos if info[0] == resolution.infos[0][0]]
        self.several = tuple(sorted(preferred)) if len(preferred) > 1 else ()
        """The addresses of the preferred family if it has several; one of each family is mostly the same server."""
        self.fresh_until = now + min(MAX_TTL_S, max(MIN_TTL_S, resolution.ttl_s))

    def next_infos(self) -> list[AddressInfo]:
        """Return the addresses in rotation within each family, so that connections spread over all of them.

        :raises NameLookupError: there are none left.
        """
        infos = self._infos
        if len(infos) == 1:
            return [infos[0]]
        if not infos:
            raise NameLookupError(socket.EAI_NONAME, self._reason)
        self._turn += 1
        families: dict[int, list[AddressInfo]] = {}
        for info in infos:
            families.setdefault(info[0], []).append(info)
        return [each[(self._turn + at) % len(each)] for each in families.values() for at in range(len(each))]

    async def look_again(self, now: float, within_s: float) -> None:
        """Look it up again; this never raises."""
        # Until it ends, new connections use the known addresses without a lookup of their own.
        self.fresh_until = now + RETRY_S
        is_of_system = self._is_of_system
        try:
            async with asyncio.timeout(within_s):
                resolution = await look_up(*self._place, asks_system=is_of_system)
        except OSError as exc:  # a TimeoutError is one
            self._fail(exc)
            return
        if self.stale_since is not None:
            log.info("name_lookup_recovered", host=self._place[0])
        self.stale_since = None
        self._set(resolution, asyncio.get_running_loop().time())

    def schedule_lookup(self) -> None:
        """Look it up in the background when its TTL ends."""
        self.cancel_lookup()
        self.timer = asyncio.get_running_loop().call_at(self.fresh_until, self._due)

    def cancel_lookup(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _due(self) -> None:
        self.timer = None
        # A name that is not used is looked up at its next connection.
        if self.is_used:
            tasks.start(self._look_in_background(), name="look-up-name")

    async def _look_in_background(self) -> None:
        self.is_used = False
        await self.look_again(asyncio.get_running_loop().time(), RETRY_S)
        self.schedule_lookup()

    def _fail(self, failure: OSError) -> None:
        self._reason = "no answer in time" if isinstance(failure, TimeoutError) else failure.strerror or str(failure)
        self._denials = self._denials + 1 if failure.errno in NO_SUCH_NAME else 0
        if self.stale_since is None:
            self.stale_since = time.time()  # noqa: TID251 - an instant to show
            log.warning("name_lookup_failed", host=self._place[0], reason=self._reason)
        if self._denials >= DENIALS_TO_BELIEVE:
            self._infos, self.hosts, self.several = (), frozenset(), ()


_names: dict[Place, Name] = {}


async def resolve(host: str, port: int) -> list[AddressInfo]:
    """Return the addresses of *host* in the order to try, the last good ones if the lookup fails.

    :raises NameLookupError: there are none.
    """
    if literal := _literal(host, port):
        return [literal]
    name = _names.get((host, port))
    clock = asyncio.get_running_loop().time
    if name is None or not name.hosts:
        name = await _first_look(host, port)
    elif name.fresh_until <= clock():
        await name.look_again(clock(), SECOND_LOOK_S)
        name.schedule_lookup()
    name.is_used = True
    return name.next_infos()


async def addresses_of(host: str) -> tuple[str, ...]:
    """Look up *host* without the cache, and return its addresses. :raises OSError: there are none."""
    if _literal(host, 0):
        return (host,)
    return tuple(dict.fromkeys(str(info[4][0]) for info in (await look_up(host, 0)).infos))


def doubt(host: str, port: int) -> None:
    """Look up *host* again at the next connection; the cached addresses stay if that lookup fails."""
    if (name := _names.get((host, port))) is not None and name.stale_since is None:
        name.fresh_until = 0.0


def in_use(place: Place) -> Name | None:
    """Return the cached name of existing connections, and keep it up to date."""
    name = _names.get(place)
    if name is not None:
        name.is_used = True
        if name.timer is None:
            name.schedule_lookup()
    return name


def stale_since(host: str, port: int) -> float | None:
    """Return since when, in Unix seconds, lookups of *host* have failed; None if the last one succeeded."""
    name = _names.get((host, port))
    return None if name is None else name.stale_since


def is_name(host: str) -> bool:
    """Whether *host* is a name and not an address."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return False


def packed(host: str) -> bytes:
    """Return the bytes of the address in *host*, which are the same for each notation."""
    return ipaddress.ip_address(host.partition("%")[0]).packed


async def _first_look(host: str, port: int) -> Name:
    try:
        resolution = await look_up(host, port)
    except OSError as exc:
        raise NameLookupError(exc.errno, exc.strerror or str(exc)) from exc
    if (known := _names.pop((host, port), None)) is not None:
        known.cancel_lookup()
        log.info("name_lookup_recovered", host=host)
    if len(_names) >= MAX_NAMES:
        _names.pop(next(iter(_names))).cancel_lookup()
    name = _names[host, port] = Name((host, port), resolution, asyncio.get_running_loop().time())
    name.schedule_lookup()
    return name


def _literal(host: str, port: int) -> AddressInfo | None:
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if ip.version == 4:
        return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)
    scope = host.partition("%")[2]
    scope_id = socket.if_nametoindex(scope) if scope and not scope.isdigit() else int(scope or 0)
    return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, scope_id)
