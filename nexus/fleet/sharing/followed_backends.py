"""The backends that administrators have added, as seen by a process that follows the fleet."""

from typing import TYPE_CHECKING

from nexus.config.one_backend import LoadedBackend
from nexus.config.schema import BackendConfig
from nexus.errors import NexusError
from nexus.fleet.added import AddedBackends, BackendRefused, Dropped, Table
from nexus.fleet.membership.member import Member
from nexus.fleet.sharing.messages import Change
from nexus.fleet.sharing.pages import member_of

if TYPE_CHECKING:
    from nexus.fleet.sharing.following import FollowingFleet


class FollowedBackends(AddedBackends):
    """Lets the process that has the fleet make each change."""

    def __init__(self, fleet: "FollowingFleet") -> None:
        super().__init__(lambda: fleet.plan, _not_here, None, lambda: None)
        self._fleet = fleet

    def __contains__(self, name: str) -> bool:
        return any(config.name == name for config in self.configs())

    def is_persistent(self, name: str) -> bool:
        return any(is_kept for config, is_kept in self._fleet.pages.added if config.name == name)

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        return self._fleet.pages.dropped

    def configs(self) -> tuple[BackendConfig, ...]:
        return tuple(config for config, _ in self._fleet.pages.added)

    async def open(self) -> None:
        """Do nothing: the other process restores them."""

    async def add(self, table: Table, *, persist: bool) -> Member:
        return await self._change(Change(None, table, persist))

    async def change(self, name: str, changes: Table, *, persist: bool | None) -> Member:
        return await self._change(Change(name, changes, persist))

    async def remove(self, name: str) -> None:
        await self._fleet.ask("fleet.change", Change(name, None, None))

    async def _change(self, change: Change) -> Member:
        done = await self._fleet.ask("fleet.change", change)
        if done.config is None:
            raise NexusError("the process that has the fleet did not say what it has changed")
        return member_of(done.config)


def _not_here(_: Table) -> LoadedBackend:
    raise BackendRefused("tables are validated by the process that has the fleet")
