"""The addresses behind host names: for as long as the answers hold, and beyond that while no name server can tell."""

import asyncio
import ipaddress
import socket
import time
from typing import Final

import structlog

from nexus import tasks
from nexus.dialing.lookups import NO_SUCH_NAME, AddressInfo, Answer, look_up

MIN_TTL_S: Final = 5.0
MAX_TTL_S: Final = 300.0
RETRY_S: Final = 5.0
"""How long the last good addresses serve before a name that could not be looked up is looked up again."""
SECOND_LOOK_S: Final = 1.0
"""How long a look-up may take when there are addresses to fall back on: within this, connecting is still in time."""
DENIALS_TO_BELIEVE: Final = 2
"""In a row, before a name that had addresses counts as one without: a single one may be a mistake of a moment."""
MAX_NAMES: Final = 2_048

Place = tuple[str, int]
"""A host and a port."""

log = structlog.get_logger("nexus.dialing")


class NameLookupError(OSError):
    """A host name has no address, or no name server says which."""


class Name:
    """What is known of one name that is connected to."""

    __slots__ = (
        "_denials",
        "_infos",
        "_is_of_system",
        "_place",
        "_reason",
        "_turn",
        "fresh_until",
        "hosts",
        "is_used",
        "several",
        "stale_since",
        "timer",
    )

    def __init__(self, place: Place, answer: Answer, now: float) -> None:
        self._place = place
        self._turn = 0
        self.is_used = True
        """Since it was looked up last: only such a name is looked up again as soon as its answer does not hold."""
        self.timer: asyncio.TimerHandle | None = None
        self.stale_since: float | None = None
        """Unix seconds since when look-ups fail; None: the addresses are those of the last one."""
        self._take(answer, now)

    def _take(self, answer: Answer, now: float) -> None:
        self._denials, self._reason = 0, ""
        self._infos = answer.infos
        self._is_of_system = answer.is_of_system
        self.hosts = frozenset(packed(str(info[4][0])) for info in answer.infos)
        """The addresses, as :func:`packed` returns them."""
        preferred = [packed(str(info[4][0])) for info in answer.infos if info[0] == answer.infos[0][0]]
        self.several = tuple(sorted(preferred)) if len(preferred) > 1 else ()
        """Those of the preferred family, where there are several. One address of each family is mostly one server."""
        self.fresh_until = now + min(MAX_TTL_S, max(MIN_TTL_S, answer.ttl_s))

    def next_infos(self) -> list[AddressInfo]:
        """Return the addresses, each the first of its family in turn, so that connections spread over all of them.

        :raises NameLookupError: there are none any more.
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
        """Look it up; whatever comes of that, there is no error."""
        # Connections made in the meantime use what is known, without a look-up of their own.
        self.fresh_until = now + RETRY_S
        is_of_system = self._is_of_system
        try:
            async with asyncio.timeout(within_s):
                answer = await look_up(*self._place, asks_system=is_of_system)
        except OSError as exc:  # a TimeoutError is one
            self._fail(exc)
            return
        if self.stale_since is not None:
            log.info("name_lookup_recovered", host=self._place[0])
        self.stale_since = None
        self._take(answer, asyncio.get_running_loop().time())

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
    """Return where *host* listens, in the order to try; the last good addresses when it cannot be looked up now.

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
        _look_when_due(name, host, port)
    name.is_used = True
    return name.next_infos()


async def addresses_of(host: str) -> tuple[str, ...]:
    """Look *host* up now, whatever is known of it, and return its addresses. :raises OSError: there are none."""
    if _literal(host, 0):
        return (host,)
    return tuple(dict.fromkeys(str(info[4][0]) for info in (await look_up(host, 0)).infos))


def doubt(host: str, port: int) -> None:
    """Look *host* up again for the next connection; unless no name server answers then, its addresses are replaced."""
    if (name := _names.get((host, port))) is not None and name.stale_since is None:
        name.fresh_until = 0.0


def in_use(place: Place) -> Name | None:
    """Return what is known of the name that connections go to, and see that it is looked up when that is due."""
    name = _names.get(place)
    if name is not None:
        name.is_used = True
        if name.timer is None:
            _look_when_due(name, *place)
    return name


def stale_since(host: str, port: int) -> float | None:
    """Return since when, in Unix seconds, the addresses of *host* are kept because it cannot be looked up."""
    name = _names.get((host, port))
    return None if name is None else name.stale_since


def is_name(host: str) -> bool:
    """Whether *host* has to be looked up."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True
    return False


def packed(host: str) -> bytes:
    """Return the address in *host*, in whatever form it is written there."""
    return ipaddress.ip_address(host.partition("%")[0]).packed


async def _first_look(host: str, port: int) -> Name:
    try:
        answer = await look_up(host, port)
    except OSError as exc:
        raise NameLookupError(exc.errno, exc.strerror or str(exc)) from exc
    if (known := _names.pop((host, port), None)) is not None:
        _cancel(known)
        log.info("name_lookup_recovered", host=host)
    if len(_names) >= MAX_NAMES:
        _cancel(_names.pop(next(iter(_names))))
    name = _names[host, port] = Name((host, port), answer, asyncio.get_running_loop().time())
    _look_when_due(name, host, port)
    return name


def _look_when_due(name: Name, host: str, port: int) -> None:
    _cancel(name)
    name.timer = asyncio.get_running_loop().call_at(name.fresh_until, _due, name, host, port)


def _due(name: Name, host: str, port: int) -> None:
    name.timer = None
    # One that no connection goes to is looked up when the next one is made.
    if name.is_used:
        tasks.start(_look_in_background(name, host, port), name="look-up-name")


async def _look_in_background(name: Name, host: str, port: int) -> None:
    name.is_used = False
    await name.look_again(asyncio.get_running_loop().time(), RETRY_S)
    _look_when_due(name, host, port)


def _cancel(name: Name) -> None:
    if name.timer is not None:
        name.timer.cancel()
        name.timer = None


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
