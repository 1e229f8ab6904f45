"""Publishes the fleet of this process to others that follow it, and takes their reports."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import structlog

from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.shared_load import HELD, NOWHERE_ELSE, Elsewhere
from nexus.fleet.fleet import Fleet
from nexus.fleet.membership.identity import backend_id
from nexus.fleet.sharing.division import difference, divide
from nexus.fleet.sharing.messages import (
    Change,
    Decision,
    Done,
    Draining,
    NotHaving,
    SentBackend,
    SentCounts,
    SentLoad,
    SentOutcome,
    SentRows,
)
from nexus.fleet.sharing.pages import pages_of
from nexus.fleet.sharing.refusals import REFUSALS, to_send
from nexus.fleet.sharing.replicas import Replicas
from nexus.fleet.sharing.rows import encode_row, settings_to_send
from nexus.fleet.sharing.shared_decisions import SharedDecisions
from nexus.fleet.sharing.slot_broker import OUTSIDE, Key, SlotBroker, SlotOrder, SlotReport
from nexus.store.watched import WatchedStore
from nexus.workers.channel import Channel, ChannelError

log = structlog.get_logger("nexus.fleet")

TICK_S: Final = 0.025
"""How often changed loads are sent on. The counting process waits as long, so that others know them after 50 ms."""
PAGES_EVERY: Final = 40
"""Ticks between two looks at what only pages need."""

_Facts = tuple[object, str, int, int | None, bool]


class _Follower:
    """One process that follows."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.counts: dict[str, Elsewhere] = {}
        """Its requests, by the id of the backend."""
        self.pages = b""
        """The last that it was sent."""

    def send(self, topic: str, payload: object) -> None:
        try:
            self.channel.send(topic, payload)
        except ChannelError as exc:
            # It has ended, or hangs and is ended by the supervisor.
            log.debug("follower_unreachable", peer=self.channel.name, reason=str(exc))


class Publisher:
    """The fleet as seen by the processes that follow it, each of which has a channel."""

    def __init__(self, fleet: Fleet, store: WatchedStore | None = None) -> None:
        """Nothing is sent before :meth:`start`.

        :param store: that of the fleet, which other replicas may share.
        """
        self._fleet = fleet
        self.broker = SlotBroker(self._order)
        self.replicas: Replicas | None = None
        """This replica among others; None: it is alone."""
        self._decisions: SharedDecisions | None = None
        if store is not None and store.shared is not None:
            self._decisions = SharedDecisions(fleet, store)
            self.replicas = Replicas(
                store, self.broker, address=self._address, own=self._own, on_elsewhere=self._see_replicas
            )
        self._outside: dict[str, Elsewhere] = {}
        """By the name of a backend, the requests of other replicas."""
        self._followers: dict[str, _Follower] = {}
        self._published: dict[str, Backend] = {}
        self._facts: dict[str, _Facts] = {}
        """By id, what the followers know of the load of each backend."""
        self._orders: dict[str, list[SlotOrder]] = {}
        self._moved: set[str] = set()
        """The backends of which a follower has counted other requests since the last tick."""
        self._is_flushing = False
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Publish the fleet, which has started, from now on."""
        self._fleet.on_change(self._changed)
        self._flush()
        if self.replicas is not None and self._decisions is not None:
            await self.replicas.start()
            self._decisions.start()
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    async def stop(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._followers.clear()
        if self.replicas is not None and self._decisions is not None:
            await self._decisions.stop()
            await self.replicas.stop()

    def serve(self, name: str, channel: Channel) -> None:
        """Let the process at the other end of *channel*, which is not open yet, follow the fleet.

        :param name: unique for each start of a process.
        """
        follower = _Follower(channel)
        channel.on("fleet.counts", tuple[SentCounts, ...], lambda sent: self._count(follower, sent))
        channel.on("fleet.outcomes", tuple[SentOutcome, ...], self._take_outcomes)
        channel.on("fleet.lacks", NotHaving, self._take_lack)
        channel.on("slots", tuple[SlotReport, ...], lambda sent: self._take_reports(name, sent))

        async def follow(_: None) -> SentRows:
            self._flush()
            # Its slots come after its rows.
            asyncio.get_running_loop().call_soon(self._join, name, follower)
            return SentRows(tuple(map(self._to_send, self._published.values())))

        channel.answers("fleet.follow", type(None), follow)
        channel.answers("fleet.look", type(None), self._look)
        channel.answers("fleet.drain", Draining, self._drain)
        channel.answers("fleet.decide", Decision, self._decide)
        channel.answers("fleet.change", Change, self._change)
        channel.on_closed(lambda: self._leave(name))

    # followers

    def set_aside(self, name: str) -> None:
        """Let the other processes use the slots that the process of that *name*, which does not answer, has idle."""
        follower = self._followers.get(name)
        if follower is not None:
            self.broker.set_aside(name, lambda key: self._in_flight(key, (follower,)).in_flight)

    def bring_back(self, name: str) -> None:
        """Let the process of that *name*, which answers again, have its part of all slots."""
        self.broker.bring_back(name)

    def _join(self, name: str, follower: _Follower) -> None:
        if not follower.channel.is_open:
            return
        self._followers[name] = follower
        self._orders[name] = []
        # What has changed since the answer, which is hardly ever anything.
        follower.send("fleet.rows", SentRows(tuple(map(self._to_send, self._published.values()))))
        follower.send("fleet.loads", [self._load_for(follower, row) for row in self._published.values()])
        self.broker.join(name)
        self._publish_pages((follower,))

    def _leave(self, name: str) -> None:
        follower = self._followers.pop(name, None)
        if follower is None:
            return
        self._orders.pop(name, None)
        self.broker.leave(name)
        self._moved |= follower.counts.keys()
        self._add_up(follower.counts)

    # rows

    def _changed(self, _: FleetSnapshot) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Send the rows that have changed since the last time, and then divide the slots that they have now."""
        self._is_flushing = False
        changed, gone = difference(self._published, self._fleet.snapshot.by_id)
        if not changed and not gone:
            return
        self._published = dict(self._fleet.snapshot.by_id)
        update = SentRows(tuple(map(self._to_send, changed)), tuple(row.id for row in gone))
        for follower in self._followers.values():
            follower.send("fleet.rows", update)
        for row in gone:
            self._facts.pop(row.id, None)
            self._outside.pop(row.name, None)
        divide(self.broker, changed, gone, is_shared=self.replicas is not None)

    def _to_send(self, row: Backend) -> SentBackend:
        member = self._fleet.members.get(row.id)
        return SentBackend(encode_row(row), None if member is None else settings_to_send(member))

    # slots

    def _order(self, process: str, order: SlotOrder) -> None:
        if process == OUTSIDE and self.replicas is not None:
            self.replicas.order(order)
        elif process in self._orders:
            if not any(self._orders.values()):
                asyncio.get_running_loop().call_soon(self._send_orders)
            self._orders[process].append(order)

    def _take_reports(self, name: str, reports: tuple[SlotReport, ...]) -> None:
        for report in reports:
            self.broker.report(name, report)

    def _send_orders(self) -> None:
        for name, orders in self._orders.items():
            if orders:
                self._followers[name].send("slots", orders)
                self._orders[name] = []

    # loads

    def _count(self, follower: _Follower, sent: tuple[SentCounts, ...]) -> None:
        tried: list[Backend] = []
        for counts in sent:
            row = self._published.get(counts.id)
            before = follower.counts.get(counts.id, NOWHERE_ELSE)
            if before.probing != counts.load.probing and row is not None:
                tried.append(row)
            if counts.load.in_flight or counts.load.probing:
                follower.counts[counts.id] = counts.load
            else:
                follower.counts.pop(counts.id, None)
            if row is not None:
                row.load.count_request(counts.begun)
            self._moved.add(counts.id)
        self._add_up(counts.id for counts in sent)
        # Without delay: a half-open breaker admits one request at a time.
        self._send_loads(tried)

    def _add_up(self, backend_ids: Iterable[str]) -> None:
        """Let this process know how many requests all followers have, for its probes and its reads of loads."""
        for moved in backend_ids:
            if (row := self._published.get(moved)) is not None:
                row.load.see_elsewhere(self._others(None, moved))

    def _others(self, follower: _Follower | None, id_: str) -> Elsewhere:
        """Return the requests of all followers but *follower*, and of other replicas, at one backend."""
        row = self._published.get(id_)
        total = NOWHERE_ELSE if row is None else self._outside.get(row.name, NOWHERE_ELSE)
        for other in self._followers.values():
            if other is not follower and (counts := other.counts.get(id_)) is not None:
                total += counts
        return total

    def _own(self, key: Key) -> Elsewhere:
        """Return the requests of all followers within one limit."""
        return self._in_flight(key, self._followers.values())

    def _in_flight(self, key: Key, followers: Iterable[_Follower]) -> Elsewhere:
        row = self._row(key[0])
        counts = [] if row is None else [each.counts.get(row.id, NOWHERE_ELSE) for each in followers]
        total = sum(counts, NOWHERE_ELSE)
        return Elsewhere(total.models.get(key[1].removeprefix(HELD), 0)) if key[1] else total

    def _row(self, name: str) -> Backend | None:
        return self._published.get(backend_id(name))

    def _address(self, name: str) -> str | None:
        row = self._row(name)
        return None if row is None else row.url

    def _see_replicas(self, name: str, elsewhere: Elsewhere) -> None:
        row = self._row(name)
        if row is not None and self._outside.get(name, NOWHERE_ELSE) != elsewhere:
            self._outside[name] = elsewhere
            self._moved.add(row.id)
            self._add_up((row.id,))

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        if not self._followers:
            return
        moved, self._moved = self._moved, set()
        self._send_loads([row for row in self._published.values() if self._has_news(row) or row.id in moved])
        self._ticks += 1
        if self._ticks % PAGES_EVERY == 0:
            self._publish_pages(self._followers.values())

    def _send_loads(self, rows: Sequence[Backend]) -> None:
        for follower in self._followers.values() if rows else ():
            follower.send("fleet.loads", [self._load_for(follower, row) for row in rows])

    def _has_news(self, row: Backend) -> bool:
        facts = self._facts_of(row)
        known = self._facts.get(row.id)
        if known is not None and known[0] is facts[0] and known[1:] == facts[1:]:
            return False
        self._facts[row.id] = facts
        return True

    def _facts_of(self, row: Backend) -> _Facts:
        load = row.load
        latency_ms = None if load.is_latency_real else load.latency_ms
        return load.told, load.no_report, load.restarts, latency_ms, self._fleet.counts_successes(row.id)

    def _load_for(self, follower: _Follower, row: Backend) -> SentLoad:
        load = row.load
        _, no_report, restarts, latency_ms, counts_successes = self._facts_of(row)
        elsewhere = self._others(follower, row.id)
        return SentLoad(row.id, load.told, no_report, restarts, latency_ms, elsewhere, counts_successes)

    def _publish_pages(self, followers: Iterable[_Follower]) -> None:
        pages = msgspec.msgpack.encode(pages_of(self._fleet))
        for follower in followers:
            if follower.pages != pages:
                follower.pages = pages
                follower.send("fleet.pages", msgspec.Raw(pages))

    # what followers report and ask

    def _take_outcomes(self, outcomes: tuple[SentOutcome, ...]) -> None:
        for sent in outcomes:
            self._fleet.report(sent.backend_id, sent.outcome, retry_after_s=sent.retry_after_s)

    def _take_lack(self, lack: NotHaving) -> None:
        if lack.endpoint:
            self._fleet.report_unsupported(lack.backend_id, lack.endpoint, lack.model)
        else:
            self._fleet.report_missing_model(lack.backend_id, lack.model)

    async def _look(self, _: None) -> bool:
        # The follower looks for itself whether it has found what it wants.
        has_probed = await self._fleet.look(lambda: False)
        self._flush()
        return has_probed

    async def _drain(self, asked: Draining) -> Done:
        try:
            await (self._fleet.drain if asked.is_draining else self._fleet.undrain)(asked.name)
        except REFUSALS as exc:
            return Done(to_send(exc))
        return self._done()

    async def _decide(self, asked: Decision) -> Done:
        try:
            decide = self._fleet.approve if asked.is_approved else self._fleet.reject
            await decide(asked.name, asked.url)
        except REFUSALS as exc:
            return Done(to_send(exc))
        return self._done()

    async def _change(self, asked: Change) -> Done:
        added = self._fleet.added
        try:
            if asked.name is None:
                member = await added.add(asked.table or {}, persist=bool(asked.persist))
            elif asked.table is not None:
                member = await added.change(asked.name, asked.table, persist=asked.persist)
            else:
                await added.remove(asked.name)
                return self._done()
        except REFUSALS as exc:
            return Done(to_send(exc))
        return msgspec.structs.replace(self._done(), config=member.config)

    def _done(self) -> Done:
        """Send what has changed to all followers before the answer."""
        self._flush()
        self._publish_pages(self._followers.values())
        return Done()
