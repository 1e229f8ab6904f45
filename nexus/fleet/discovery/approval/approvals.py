"""Stores the decisions of administrators about found servers."""

from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog

from nexus.errors import StoreError
from nexus.fleet.clock import unix_now
from nexus.fleet.discovery.approval.trust import Approval, Trust
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.sightings import Key
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.membership.locations import port_of
from nexus.store.store import Delete, Put, Store

log = structlog.get_logger("nexus.fleet")

PREFIX: Final = "core/approvals/"
MAX_APPROVALS: Final = 10_000
"""Beyond this, the oldest decision is forgotten, and its server is pending again."""


Place = tuple[str | None, int]
"""A host and a port."""


class Approvals:
    """The last decision about each name that a discoverer gave to a server."""

    def __init__(self, store: Store | None = None) -> None:
        """:param store: None: decisions last until the process ends."""
        self._store = store
        self._approvals: dict[Key, Approval] = {}
        self._last_at: dict[Place, Approval] = {}
        """The last decision about each address and port, under any name."""

    @property
    def are_kept(self) -> bool:
        """Whether decisions survive a restart."""
        return self._store is not None and self._store.survives_restart

    async def open(self) -> None:
        """Load the decisions in the store; if it cannot be read, every server is pending again."""
        if self._store is None:
            return
        read: list[Approval] = []
        after = ""
        try:
            while page := await self._store.scan(PREFIX, after=after):
                after = page[-1][0]
                read += filter(None, (_decoded(value) for _, value in page))
        except StoreError as exc:
            log.warning("approvals_unreadable", reason=str(exc))
        # Times have whole seconds: of two decisions in one second, the rejection wins.
        for each in sorted(read, key=lambda a: (a.decided_unix_s, a.trust is Trust.REJECTED)):
            self._approvals[each.source, each.name] = each
        self._index()

    def get(self, key: Key) -> Approval | None:
        """Return the last decision about the server with this key."""
        return self._approvals.get(key)

    def approved_url(self, key: Key) -> str | None:
        """Return the URL at which the server with this key is approved, None if it is not."""
        approval = self._approvals.get(key)
        return approval.url if approval is not None and approval.trust is Trust.APPROVED else None

    def is_rejected_at(self, url: str) -> bool:
        """Whether the last decision about a server at the address of *url*, under any name, was to reject it."""
        last = self._last_at.get(_place(url))
        return last is not None and last.trust is Trust.REJECTED

    async def decide(self, source: str, found: Discovered, kind: str, trust: Trust) -> None:
        """Store the decision about *found*, a server of *kind*. :raises StoreError: it was not stored.

        :param source: the discoverer that has found it.
        """
        key = source, found.name
        now = int(unix_now())
        approval = Approval(source=source, name=found.name, url=found.url, kind=kind, trust=trust, decided_unix_s=now)
        # The previous decision stays in force until this one is stored.
        is_full = key not in self._approvals and len(self._approvals) >= MAX_APPROVALS
        forgotten = [next(iter(self._approvals))] if is_full else []
        if self._store is not None:
            put = Put(_stored_as(key), msgspec.json.encode(approval))
            await self._store.apply((put, *map(Delete, map(_stored_as, forgotten))))
        for other in (key, *forgotten):
            self._approvals.pop(other, None)
        self._approvals[key] = approval
        self._index()

    def _index(self) -> None:
        self._last_at = {_place(approval.url): approval for approval in self._approvals.values()}


def _place(url: str) -> Place:
    return urlsplit(url).hostname, port_of(url)


def _stored_as(key: Key) -> str:
    # Hashed, because a name may be longer than a key of the store; names contain no line break.
    return PREFIX + backend_id("\n".join(key))


def _decoded(value: bytes) -> Approval | None:
    try:
        return msgspec.json.decode(value, type=Approval)
    except msgspec.DecodeError:
        return None
