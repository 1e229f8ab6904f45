"""Lets a proxy of one process share the limits of backends with other replicas."""

import asyncio
from collections.abc import Sequence

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.shared_load import HELD, NOWHERE_ELSE, Elsewhere
from nexus.fleet.clock import call_later
from nexus.fleet.fleet import Fleet
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.sharing.division import difference, divide, parts_of
from nexus.fleet.sharing.replicas import Replicas
from nexus.fleet.sharing.shared_decisions import SharedDecisions
from nexus.fleet.sharing.slot_broker import OUTSIDE, Key, SlotBroker, SlotOrder, SlotReport
from nexus.fleet.sharing.slot_keeper import SlotKeeper
from nexus.store.watched import WatchedStore

HERE = "here"


class LoneProcess:
    """The broker of this replica and its only process, without a channel between them."""

    def __init__(self, fleet: Fleet, store: WatchedStore) -> None:
        """:param store: one that replicas share."""
        self._fleet = fleet
        self.keeper = SlotKeeper(send=self._report, later=call_later)
        self.broker = SlotBroker(self._order)
        self.replicas = Replicas(
            store, self.broker, address=self._address, own=self._own, on_elsewhere=self._see_replicas
        )
        self._decisions = SharedDecisions(fleet, store)
        self._divided: dict[str, Backend] = {}
        self._orders: list[SlotOrder] = []
        self._reports: list[SlotReport] = []

    async def start(self) -> None:
        """Share the limits of the fleet, which has started, from now on."""
        self._fleet.on_change(self._divide)
        self._divide(self._fleet.snapshot)
        self.broker.join(HERE)
        await self.replicas.start()
        self._decisions.start()

    async def stop(self) -> None:
        """Give all slots back."""
        await self._decisions.stop()
        await self.replicas.stop()

    def _divide(self, snapshot: FleetSnapshot) -> None:
        changed, gone = difference(self._divided, snapshot.by_id)
        self._divided = dict(snapshot.by_id)
        for row in gone:
            self.keeper.leave(row.name)
        for row in changed:
            self.keeper.divide(row.name, row.load, parts_of(row))
        divide(self.broker, changed, gone, is_shared=True)

    def _order(self, process: str, order: SlotOrder) -> None:
        if process == OUTSIDE:
            self.replicas.order(order)
            return
        if not self._orders:
            asyncio.get_running_loop().call_soon(self._pass_orders)
        self._orders.append(order)

    def _pass_orders(self) -> None:
        orders, self._orders = self._orders, []
        self.keeper.order(orders)

    def _report(self, reports: Sequence[SlotReport]) -> None:
        if not self._reports:
            asyncio.get_running_loop().call_soon(self._pass_reports)
        self._reports += reports

    def _pass_reports(self) -> None:
        reports, self._reports = self._reports, []
        for report in reports:
            self.broker.report(HERE, report)

    def _row(self, name: str) -> Backend | None:
        return self._divided.get(backend_id(name))

    def _address(self, name: str) -> str | None:
        row = self._row(name)
        return None if row is None else row.url

    def _own(self, key: Key) -> Elsewhere:
        row = self._row(key[0])
        if row is None:
            return NOWHERE_ELSE
        load = row.load
        if key[1]:
            figures = load.models.get(key[1].removeprefix(HELD))
            return Elsewhere(0 if figures is None else figures.in_flight)
        return Elsewhere(load.in_flight, load.prompt_tokens, load.answer_tokens)

    def _see_replicas(self, name: str, elsewhere: Elsewhere) -> None:
        if (row := self._row(name)) is not None:
            before = row.load.elsewhere.in_flight
            row.load.see_elsewhere(elsewhere)
            if elsewhere.in_flight < before:
                self.keeper.offer(name)
