"""Backends that administrators add to the running proxy, kept in the store on request."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import structlog

from nexus import tasks
from nexus.config.faults import Fault
from nexus.config.fleet_file import Load
from nexus.config.schema import BackendConfig
from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.errors import NexusError, StoreError
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.membership.locations import leads_to_metadata, place_of
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import BackendNotFound
from nexus.fleet.plan import FleetPlan, plan_member
from nexus.store.store import Delete, Put, Store

log = structlog.get_logger("nexus.fleet")

PREFIX: Final = "core/backends/"
SOURCE: Final = "api"
MAX_ADDED: Final = 1_000

Table = Mapping[str, Any]
"""The keys of one ``[[backends]]`` as they were given."""


class BackendRefused(NexusError):
    """The backend cannot be added or changed like this.

    :param key: the key at fault, empty if no single key is.
    """

    def __init__(self, text: str, *, key: str = "") -> None:
        super().__init__(text)
        self.key = key


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """One added backend."""

    table: Table
    member: Member
    is_persistent: bool


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """An added backend that left the fleet because the configuration file has its name or its address."""

    name: str
    url: str
    taken_by: str
    """The name of the backend in the file, which takes precedence."""


class AddedBackends:
    """Applies one change at a time."""

    def __init__(
        self, plan: Callable[[], FleetPlan], load: Load, store: Store | None, on_change: Callable[[], None]
    ) -> None:
        """:param plan: returns the current configuration of the fleet.
        :param load: validates a table and follows its references; it may read files.
        """
        self._plan = plan
        self._load = load
        self._store = store
        self._on_change = on_change
        self._added: dict[str, Added] = {}
        self._dropped: dict[str, Dropped] = {}
        self._left_out: dict[str, bytes] = {}
        """Entries of the store that are not valid here, by key."""
        self.on_stored: Callable[[], Awaitable[None]] = _tell_none
        """Called after a change of the store."""
        self._changing = asyncio.Lock()

    def __contains__(self, name: str) -> bool:
        return name in self._added

    def is_persistent(self, name: str) -> bool:
        """Whether the backend of that name survives a restart."""
        return name in self._added and self._added[name].is_persistent

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        """The backends that a backend of the file has replaced."""
        return tuple(self._dropped.values())

    def configs(self) -> tuple[BackendConfig, ...]:
        """Return the configuration of each backend."""
        return tuple(added.member.config for added in self._added.values())

    async def open(self) -> None:
        """Restore the backends in the store; one that is no longer valid is left out with a warning."""
        try:
            for key, value in (await self._stored()).items():
                await self._restore(key, value)
        except StoreError as exc:
            log.warning("added_backends_unreadable", reason=str(exc))

    async def follow(self) -> None:
        """Add, change and remove what another replica, which shares the store, has changed there.

        :raises StoreError: it cannot be read; nothing has changed.
        """
        async with self._changing:
            stored = await self._stored()
            known = {_key(name): added for name, added in self._added.items() if added.is_persistent}
            self._left_out = {key: value for key, value in self._left_out.items() if stored.get(key) == value}
            changed = [key for key, added in known.items() if stored.get(key) != msgspec.json.encode(added.table)]
            for key in changed:
                del self._added[known[key].member.config.name]
            new = [key for key in stored if (key not in known or key in changed) and key not in self._left_out]
            for key in new:
                await self._restore(key, stored[key])
            if changed or new:
                self._on_change()

    async def _stored(self) -> dict[str, bytes]:
        """Return the entries of the store. :raises StoreError: it cannot be read."""
        found: dict[str, bytes] = {}
        after = ""
        while self._store is not None and (page := await self._store.scan(PREFIX, after=after)):
            after = page[-1][0]
            found.update(page)
        return found

    async def add(self, table: Table, *, persist: bool) -> Member:
        """Add the backend that *table* describes.

        :raises Fault: a key is wrong.
        :raises BackendRefused: it clashes with another backend, or its address is not allowed.
        :raises StoreError: it could not be stored; nothing has changed.
        """
        async with self._changing:
            if len(self._added) >= MAX_ADDED:
                raise BackendRefused(f"{MAX_ADDED} backends have been added; remove one, or configure it in the file")
            self._require_store(is_persistent=persist)
            return await self._put(table, is_persistent=persist, replaced=None)

    async def change(self, name: str, changes: Table, *, persist: bool | None) -> Member:
        """Set the keys in *changes*, or remove a key whose value is None. Running requests keep the old settings.

        :param persist: None: as before.
        :raises BackendNotFound: no backend of that name was added.
        """
        async with self._changing:
            before = self._known(name)
            if changes.get("name", name) != name:
                raise BackendRefused("a backend keeps its name; remove it, and add another", key="name")
            table = {key: value for key, value in {**before.table, **changes}.items() if value is not None}
            is_persistent = before.is_persistent if persist is None else persist
            self._require_store(is_persistent=is_persistent)
            return await self._put(table, is_persistent=is_persistent, replaced=before)

    async def remove(self, name: str) -> None:
        """Remove one from the fleet; its running requests are finished.

        :raises BackendNotFound: no backend of that name was added.
        """
        async with self._changing:
            if self._known(name).is_persistent:
                await self._write(Delete(_key(name)))
            self._added.pop(name, None)
            self._on_change()

    def members_beside(self, plan: FleetPlan) -> dict[str, Member]:
        """Return the added members, by id, and drop those whose name or address *plan* has taken."""
        configured = {member.config.name for member in plan.members.values()}
        self._dropped = {name: each for name, each in self._dropped.items() if each.taken_by in configured}
        configured_rivals = _Configured(plan)
        for name, added in [*self._added.items()]:
            if (other := configured_rivals.rival_of(added.member)) is not None:
                del self._added[name]
                self._drop(added.member, other)
                if added.is_persistent:
                    tasks.start(self._write(Delete(_key(name))), name="forget-added-backend")
        members = (added.member for added in self._added.values())
        return {each.id: msgspec.structs.replace(each, kind=plan.kinds.get(each.config.type)) for each in members}

    def _require_store(self, *, is_persistent: bool) -> None:
        if is_persistent and (self._store is None or not self._store.survives_restart):
            text = "the store does not survive a restart; set store.kind to sqlite, or do not persist"
            raise BackendRefused(text, key="persist")

    def _drop(self, member: Member, other: Member) -> None:
        name, url, taken_by = member.config.name, member.config.url, other.config.name
        if len(self._dropped) < MAX_ADDED:
            self._dropped[name] = Dropped(name=name, url=url, taken_by=taken_by)
        reason = "the file has its name or its address"
        log.warning("added_backend_dropped", backend=name, url=url, taken_by=taken_by, reason=reason)

    def _known(self, name: str) -> Added:
        if name not in self._added:
            raise BackendNotFound(name)
        return self._added[name]

    async def _put(self, table: Table, *, is_persistent: bool, replaced: Added | None) -> Member:
        member = await self._validated(table)
        name = member.config.name
        self._reject_clash(member, replaced)
        if is_persistent:
            await self._write(Put(_key(name), msgspec.json.encode(table)))
        elif replaced is not None and replaced.is_persistent:
            await self._write(Delete(_key(name)))
        self._added[name] = Added(table=table, member=member, is_persistent=is_persistent)
        self._on_change()
        return member

    async def _validated(self, table: Table) -> Member:
        # In a thread, because keys and certificates are read from files.
        member = await asyncio.to_thread(self._member, table)
        places = {"url": member.config.url, "https_proxy": _proxy_url(member.settings)}
        for key, url in places.items():
            if url and await leads_to_metadata(url):
                raise BackendRefused(
                    "leads to a link-local address, where clouds keep a machine's secrets; only the file may name one",
                    key=key,
                )
        return member

    def _member(self, table: Table) -> Member:
        loaded = self._load(table)
        return plan_member(loaded.config, self._plan().kinds, loaded.key, loaded.credentials, source=SOURCE)

    def _reject_clash(self, member: Member, replaced: Added | None) -> None:
        others = [*self._plan().members.values(), *(each.member for each in self._added.values() if each != replaced)]
        for other in others:
            if other.config.name == member.config.name:
                raise BackendRefused(f"another backend is named '{other.config.name}' already", key="name")
            if place_of(other.config.url) == place_of(member.config.url):
                raise BackendRefused(
                    f"the backend '{other.config.name}' is at that address already; one server is one backend",
                    key="url",
                )

    async def _restore(self, key: str, value: bytes) -> None:
        try:
            table = msgspec.json.decode(value, type=dict[str, Any])
            member = await self._validated(table)
            if (other := _Configured(self._plan()).rival_of(member)) is not None:
                # As at a reload: it must not come back when the file changes again.
                self._drop(member, other)
                await self._write(Delete(key))
                return
            self._reject_clash(member, None)
        except (Fault, BackendRefused, msgspec.DecodeError) as exc:
            log.warning("added_backend_left_out", key=key, reason=str(exc))
            if len(self._left_out) < MAX_ADDED:
                self._left_out[key] = value
            return
        self._added[member.config.name] = Added(table=table, member=member, is_persistent=True)

    async def _write(self, change: Put | Delete) -> None:
        if self._store is not None:
            await self._store.apply((change,))
            await self.on_stored()


async def _tell_none() -> None:
    pass


class _Configured:
    """Looks up the backends of the configuration file by name and by address."""

    def __init__(self, plan: FleetPlan) -> None:
        self._names = {member.config.name: member for member in plan.members.values()}
        self._places = {place_of(member.config.url): member for member in plan.members.values()}

    def rival_of(self, member: Member) -> Member | None:
        """Return the backend that has the name or the address of *member*."""
        return self._names.get(member.config.name) or self._places.get(place_of(member.config.url))


def _proxy_url(settings: UpstreamSettings) -> str | None:
    if settings.proxy is None:
        return None
    host = settings.proxy.host
    return f"http://{f'[{host}]' if ':' in host else host}"


def _key(name: str) -> str:
    # Hashed, because a name may be longer than a key of the store.
    return PREFIX + backend_id(name)
