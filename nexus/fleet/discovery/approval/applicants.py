"""Detects the kinds of servers that announced themselves, and keeps them out of the fleet until they are approved."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import structlog

from nexus import tasks
from nexus.config.discovery_schema import DiscoveryConfig
from nexus.errors import NexusError
from nexus.fleet.clock import unix_now, wait_for_event
from nexus.fleet.discovery.approval.approvals import Approvals
from nexus.fleet.discovery.approval.trust import Trust, decide_trust, may_be_probed
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.names import assign_names
from nexus.fleet.discovery.sightings import Key, Sighting, checked
from nexus.fleet.fetching import Fetcher, FetchError, Target
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import BackendNotFound
from nexus.fleet.probing.detection import detect

log = structlog.get_logger("nexus.fleet")

MAX_APPLICANTS: Final = 256
MAX_PER_HOST: Final = 32
"""At one address: a single machine can announce any number of servers."""
LOOKS_AT_ONCE: Final = 4
MIN_PAUSE_S: Final = 1.0
FIRST_PAUSE_S: Final = 5.0
MAX_PAUSE_S: Final = 300.0
"""Between two looks at a server of unknown kind: the pause doubles."""
RECHECK_S: Final = 60.0
"""Between two looks at a server of known kind: another server may have taken its place."""
MAX_LOGGED: Final = 20
LOGGED_WITHIN_S: Final = 60.0
"""At most :data:`MAX_LOGGED` log lines per this time are about servers that announced themselves."""
_EVENTS: Final = {
    Trust.APPROVED: "backend_approved",
    Trust.PENDING: "backend_pending",
    Trust.REJECTED: "backend_rejected",
}


class NotRecognised(NexusError):
    """A server of unknown kind cannot be approved."""

    def __init__(self, applicant: "Applicant") -> None:
        name, url, reason = applicant.name, applicant.found.url, applicant.last_error
        super().__init__(f"'{name}' at {url} is not recognised as a server of a known kind: {reason}")


class AnotherServer(NexusError):
    """The server of that name is at another address than the decision is about."""

    def __init__(self, applicant: "Applicant") -> None:
        super().__init__(f"'{applicant.name}' is at {applicant.found.url} now; check it again before you decide")


class Applicant(msgspec.Struct, kw_only=True):
    """One server that announced itself."""

    sighting: Sighting
    """The latest one."""
    name: str
    """Unique in the fleet: the name that the server announces may be taken."""
    first_seen_unix_s: float
    kind: str | None = None
    """As detected; None: not yet."""
    is_nexus: bool = False
    """Whether it is another Nexus, which never becomes a backend."""
    doubt: str | None = None
    """Another kind that was detected last, but not with certainty."""
    last_error: str | None = None
    trust: Trust = Trust.PENDING
    due_s: float = 0.0
    """When its kind is detected next, by the clock of the loop."""
    pause_s: float = FIRST_PAUSE_S

    @property
    def found(self) -> Discovered:
        return self.sighting.found

    @property
    def source(self) -> str:
        return self.sighting.source


class Applicants:
    """At most :data:`MAX_APPLICANTS`; the kind of each is detected without credentials."""

    def __init__(self, fetcher: Fetcher, approvals: Approvals, on_change: Callable[[], None]) -> None:
        """:param on_change: called when the set of servers that may join the fleet can have changed."""
        self._fetcher = fetcher
        self._approvals = approvals
        self._on_change = on_change
        self._applicants: dict[Key, Applicant] = {}
        self._looking: asyncio.Task[Any] | None = None
        self._is_due = asyncio.Event()
        self._config = DiscoveryConfig()
        self._logged_at: deque[float] = deque(maxlen=MAX_LOGGED)

    def listed(self) -> tuple[Applicant, ...]:
        """Return those that are not approved, the longest known first."""
        return tuple(a for a in self._applicants.values() if a.trust is not Trust.APPROVED and not a.is_nexus)

    def knows(self, name: str) -> bool:
        """Whether a server of that name has announced itself."""
        return self._named(name) is not None

    @property
    def names(self) -> frozenset[str]:
        """The names of all servers that have announced themselves."""
        return frozenset(applicant.name for applicant in self._applicants.values())

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Return how many there are, by source and decision."""
        return Counter((a.source, a.trust.value) for a in self._applicants.values() if not a.is_nexus)

    def admit(
        self, sightings: Iterable[Sighting], config: DiscoveryConfig, unhealthy: Container[str] = ()
    ) -> Iterator[Sighting]:
        """Set the current sightings, and yield those that may join the fleet, with their kinds.

        :param unhealthy: the names of unhealthy members, in whose place another server may be.
        """
        self._config = config
        self._update(sightings, unhealthy)
        for applicant in self._applicants.values():
            self._decide(applicant)
            if applicant.trust is Trust.APPROVED and not applicant.is_nexus:
                found = msgspec.structs.replace(applicant.found, kind=applicant.kind or applicant.found.kind)
                yield msgspec.structs.replace(applicant.sighting, found=found)

    def rename(self, members: Iterable[Member], *, displaced: Container[Key] = ()) -> None:
        """Give each a unique name: members the same as in the fleet, the others none that a member has.

        :param displaced: those at whose address another backend was, so that their previous names do not matter.
        """
        members = tuple(members)
        names = {(member.source, member.found_as): member.config.name for member in members}
        before = {key: applicant.name for key, applicant in self._applicants.items() if key not in displaced}
        waiting = (applicant.sighting for key, applicant in self._applicants.items() if key not in names)
        names |= assign_names(waiting, taken=[member.config.name for member in members], before=before)
        for key, applicant in self._applicants.items():
            applicant.name = names[key]

    async def decide(self, name: str, trust: Trust, url: str | None = None) -> Applicant:
        """Approve or reject the server of that name.

        :param url: the address that the decision is about; None: wherever it is.
        :raises AnotherServer: it has another address by now.
        :raises BackendNotFound: no server of that name has announced itself.
        :raises NotRecognised: it is to be approved, and its kind is unknown.
        :raises StoreError: the decision could not be stored.
        """
        applicant = self._named(name)
        if applicant is None:
            raise BackendNotFound(name)
        if url is not None and url != applicant.found.url:
            raise AnotherServer(applicant)
        if applicant.kind is None and trust is Trust.APPROVED:
            await self._look(applicant)
        if applicant.kind is None and trust is Trust.APPROVED:
            raise NotRecognised(applicant)
        kind = applicant.kind or applicant.found.kind
        await self._approvals.decide(applicant.source, applicant.found, kind, trust)
        self._on_change()
        return applicant

    async def stop(self) -> None:
        """Stop detecting."""
        looking, self._looking = self._looking, None
        if looking is not None:
            await tasks.stop(looking)

    def _named(self, name: str) -> Applicant | None:
        return next((a for a in self._applicants.values() if a.name == name and not a.is_nexus), None)

    def _update(self, sightings: Iterable[Sighting], unhealthy: Container[str]) -> None:
        seen = dict(self._acceptable(sightings))
        soon = asyncio.get_running_loop().time() + FIRST_PAUSE_S
        for key in self._applicants.keys() - seen.keys():
            del self._applicants[key]
        for key, sighting in seen.items():
            known = self._applicants.get(key)
            if known is not None and known.found.url == sighting.found.url:
                # Its kind was detected from its responses, so a changed announcement does not affect it.
                known.sighting = sighting
                if known.kind is not None and known.name in unhealthy and known.due_s > soon:
                    known.due_s = soon
                    self._is_due.set()
                continue
            name = sighting.found.name if known is None else known.name
            self._applicants[key] = Applicant(sighting=sighting, name=name, first_seen_unix_s=unix_now())
            self._is_due.set()
        if self._applicants and self._looking is None:
            self._looking = tasks.keep_running(self._look_at_all, name="discover-applicants")

    def _acceptable(self, sightings: Iterable[Sighting]) -> Iterator[tuple[Key, Sighting]]:
        """Yield those that may be probed, approved and known ones first, so that a flood displaces none of them."""
        acceptable: dict[Key, Sighting] = {}
        for sighting in sightings:
            found = checked(sighting.found)
            if found is not None and may_be_probed(found):
                acceptable[sighting.key] = msgspec.structs.replace(sighting, found=found)
        per_host: Counter[str] = Counter()
        known_first = sorted(acceptable, key=lambda key: (self._rank(acceptable[key]), key not in self._applicants))
        taken = 0
        for key in known_first:
            host = urlsplit(acceptable[key].found.url).hostname or ""
            if per_host[host] < MAX_PER_HOST and taken < MAX_APPLICANTS:
                per_host[host] += 1
                taken += 1
                yield key, acceptable[key]

    def _rank(self, sighting: Sighting) -> int:
        """Return 0 for a server that is approved at its address, 1 for any other."""
        return int(self._approvals.approved_url(sighting.key) != sighting.found.url)

    def _decide(self, applicant: Applicant) -> None:
        before = applicant.trust
        approval = self._approvals.get(applicant.sighting.key)
        is_place_rejected = self._approvals.is_rejected_at(applicant.found.url)
        applicant.trust = decide_trust(
            applicant.found, applicant.kind, approval, self._config, is_place_rejected=is_place_rejected
        )
        if applicant.trust is not before:
            self._log(_EVENTS[applicant.trust], applicant)

    async def _look_at_all(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._is_due.clear()
            not_rejected = [a for a in self._applicants.values() if a.trust is not Trust.REJECTED]
            due = [a for a in not_rejected if a.due_s <= clock()]
            # Servers that do not respond take long, so an approved one that has come back goes first.
            due.sort(key=lambda a: (self._rank(a.sighting), a.pause_s))
            await asyncio.gather(*map(self._look, islice(due, LOOKS_AT_ONCE)))
            if due:
                continue
            next_s = min((a.due_s for a in not_rejected), default=clock() + RECHECK_S)
            await wait_for_event(self._is_due, max(next_s - clock(), MIN_PAUSE_S))

    async def _look(self, applicant: Applicant) -> None:
        """Detect its kind; no credentials are sent."""
        before = applicant.kind
        try:
            shown = await detect(self._fetcher, Target(applicant.found.url))
        except FetchError as exc:
            applicant.last_error = str(exc)
        else:
            # An overloaded server can look like another kind, so a change must be detected twice unless it is certain.
            is_doubtful = not shown.is_certain and applicant.kind not in {None, shown.kind}
            if is_doubtful and applicant.doubt != shown.kind:
                applicant.doubt = shown.kind
                applicant.due_s = asyncio.get_running_loop().time() + FIRST_PAUSE_S
                return
            applicant.doubt = None
            applicant.kind, applicant.is_nexus = shown.kind or applicant.kind, shown.is_nexus
            applicant.last_error = None if shown.kind else f"no known kind responds like this (HTTP {shown.status})"
        if applicant.kind is None:
            applicant.pause_s = min(2 * applicant.pause_s, MAX_PAUSE_S)
        else:
            applicant.pause_s = RECHECK_S
        applicant.due_s = asyncio.get_running_loop().time() + applicant.pause_s
        if applicant.kind != before:
            if not applicant.is_nexus:
                self._log("backend_found", applicant)
            self._on_change()

    def _log(self, event: str, applicant: Applicant) -> None:
        """Log *event*, at a limited rate because any machine can cause it."""
        now = asyncio.get_running_loop().time()
        if len(self._logged_at) == MAX_LOGGED and now - self._logged_at[0] < LOGGED_WITHIN_S:
            return
        self._logged_at.append(now)
        place, source = applicant.found.url, applicant.source
        log.info(event, backend=applicant.name, url=place, source=source, type=applicant.kind)
