"""A data plane with a fake client, a fake fleet and fake backends; everything between them is real."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgspec
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader

from nexus.config.schema import Config
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.domain.backend_load import BackendLoad
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import AttemptOutcome, ExchangeOutcome
from nexus.domain.request import Kept, Requirements
from nexus.errors import RequestError
from nexus.fleet.membership.registry import Registry
from nexus.proxy.client.access import AccessRules
from nexus.proxy.client.incoming import IncomingRequest
from nexus.proxy.client.request_reader import Received
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.context import DataPlane, Settings
from nexus.proxy.exchange.exchange import Exchange
from nexus.proxy.exchange.failover import Failover, begin_failover
from nexus.proxy.exchange.record import begin_record
from nexus.proxy.headers.from_client import read_head
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.tasks import start
from nexus.testing.builders import MODEL, make_backend
from nexus.testing.routing import make_router
from nexus.wire import paths
from nexus.wire.protocols import PROTOCOLS
from tests.support.fake_backends import CHAT_REQUEST, FakePool, FakeUpstreams, Script, Step
from tests.support.fakes import FakeClient
from tests.support.raw_client import RawClient, Reply

ANYBODY = AccessRules(accepts_key=None, hosts=None, origins=frozenset())


async def turns() -> None:
    """Let every task go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


class FakeFleet:
    """A registry without probes that notes what the data plane reports."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.reports: list[AttemptOutcome] = []
        self.retry_after_s: list[float | None] = []
        """What each of these reports said of the time to be left alone."""
        self.unsupported: list[tuple[str, str, str]] = []
        self.missing: list[tuple[str, str]] = []
        self.looks = 0
        self.probe: Callable[[], object] = lambda: None
        """Called by each look; changes what the probes of the real fleet would find."""
        self.probes_hang = False

    @property
    def snapshot(self) -> FleetSnapshot:
        return self.registry.snapshot

    def report(self, backend_id: str, outcome: AttemptOutcome, *, retry_after_s: float | None) -> None:
        assert backend_id == outcome.backend_id
        self.reports.append(outcome)
        self.retry_after_s.append(retry_after_s)

    def report_unsupported(self, backend_id: str, endpoint: str, model: str) -> None:
        self.unsupported.append((backend_id, endpoint, model))

    def report_missing_model(self, backend_id: str, model: str) -> None:
        self.missing.append((backend_id, model))

    async def look(self, is_found: Callable[[], bool]) -> bool:
        self.looks += 1
        if self.probes_hang:
            await asyncio.Event().wait()
        self.probe()
        return is_found()


class Rig:
    """Runs one exchange, or the failover of one request; the test plays client, fleet and backends."""

    def __init__(self, make_message: Callable[..., Any], config: Config, *stages: Any) -> None:
        self.client = FakeClient()
        self.fleet = FakeFleet()
        self.upstreams = FakeUpstreams()
        self.outcomes: list[ExchangeOutcome] = []
        """What the observers were told."""
        self.asked: list[str] = []
        """The names of the backends that the request was sent to, in turn."""
        self.others: dict[str, int] = {}
        """The slots that requests of other clients hold, by backend."""
        self.may_follow: bool | None = None
        """What the last exchange said of the client's connection."""
        self._make_message = make_message
        self.access, self.key_digest = ANYBODY, b""
        router = make_router(*stages, aliases=config.routing.aliases, fallbacks=config.routing.fallbacks)
        self.settings = Settings(config, router, None, (self.outcomes.append,))  # type: ignore[arg-type]
        queue = config.queue
        self.line: RequestQueue[Any] = RequestQueue(
            max_size=10 if queue.max_size is None else queue.max_size, max_wait_s=queue.max_wait_seconds
        )
        self.plane = DataPlane(self.settings, self.fleet, self.upstreams, self.line)  # type: ignore[arg-type]

    def backend(
        self,
        name: str,
        *scripts: Script,
        idle: Iterable[tuple[Step, ...]] = (),
        access: UpstreamSettings = DEFAULT_SETTINGS,
        **fields: Any,
    ) -> FakePool:
        """Add a backend whose connections play *scripts*; the first one that is added is the best.

        :param idle: what connections play that the pool has kept.
        """
        fields.setdefault("priority", 10 * len(self.fleet.snapshot.backends))
        self.fleet.registry.add(make_backend(name, **fields))
        self.others[name] = fields.get("in_flight", 0)
        self.upstreams.access[name] = access
        self.upstreams.pools[name] = FakePool(scripts, idle, partial(self.asked.append, name))
        return self.upstreams.pools[name]

    def free(self, name: str) -> None:
        """End the request of another client at the backend of that name."""
        self.others[name] -= 1
        self.load(name).release()
        self.line.slot_freed(name)

    def load(self, name: str) -> BackendLoad:
        """Return the counters of the backend of that name."""
        return next(backend.load for backend in self.fleet.snapshot.backends if backend.name == name)

    @property
    def held(self) -> list[str]:
        """What was not given back exactly once: slots, connections, places in the line."""
        slots = {b.name: b.load.in_flight - self.others[b.name] for b in self.fleet.snapshot.backends}
        lent = [(name, lent.ends) for name, pool in self.upstreams.pools.items() for lent in pool.lent]
        return [
            *(f"{count} slots of {name}" for name, count in slots.items() if count),
            *(f"a connection to {name}, ended by {ends}" for name, ends in lent if len(ends) != 1),
            *(["a place in the line"] if len(self.line) else []),
            *(["an exchange in flight"] if self.plane.in_flight else []),
        ]

    def come_from(self, access: AccessRules, key_digest: bytes) -> None:
        """Let the requests from now on have the key with this digest."""
        self.access, self.key_digest = access, key_digest

    # one exchange

    def request(
        self, *headers: tuple[str, str], target: str = "/v1/chat/completions", method: str = "POST", **fields: Any
    ) -> IncomingRequest:
        """Return a request without its body."""
        message = self._make_message(
            ("Content-Type", "application/json"), *headers, target=target, method=method, **fields
        )
        found = paths.find(method, target.partition("?")[0], is_anthropic=False)
        assert found is not None
        return IncomingRequest(
            message,
            read_head(message),
            self.access,
            endpoint=found.endpoint,
            protocol=PROTOCOLS[found.endpoint.protocol],
            target=target.encode(),
            method=method.encode(),
            ids=found.ids,
            key_digest=self.key_digest,
            remote="unknown",
        )

    def exchange(self, *headers: tuple[str, str], body: bytes | None = CHAT_REQUEST, **fields: Any) -> Exchange:
        """Return an exchange that has not begun.

        :param body: None: none of it arrives.
        """
        request = self.request(*headers, **fields)
        protocol = BaseProtocol(self.plane.loop)
        protocol.connection_made(self.client.transport)
        stream = StreamReader(protocol, 2**16, loop=self.plane.loop)
        if body is not None:
            stream.feed_data(body)
            stream.feed_eof()
        received = Received(request.message, stream, None)
        record = begin_record("r-1", request.endpoint, request.head.request_id)
        return Exchange(self.plane, self.settings, self.client, request, received, record)  # type: ignore[arg-type]

    def begin(self, *headers: tuple[str, str], **fields: Any) -> Exchange:
        """Run an exchange in the task of the client's connection, as that does, and return it."""
        exchange = self.exchange(*headers, **fields)
        self.client.task = start(self._run(exchange), name="client")
        return exchange

    async def _run(self, exchange: Exchange) -> None:
        self.may_follow = await exchange.run()

    async def over(self) -> None:
        """Wait for the end of the exchange that has begun."""
        assert self.client.task is not None
        await asyncio.wait([self.client.task], timeout=2)
        assert self.client.task.done(), "the exchange does not end"

    async def ask(self, *headers: tuple[str, str], **fields: Any) -> Reply:
        """Run an exchange to its end, and return what the client got."""
        self.begin(*headers, **fields)
        await self.over()
        return await self.reply()

    async def reply(self) -> Reply:
        """Return the reply that was written to the client so far."""
        reader = asyncio.StreamReader()
        reader.feed_data(self.client.transport.written)
        reader.feed_eof()
        return await RawClient(reader, None).reply()  # type: ignore[arg-type]

    @property
    def outcome(self) -> ExchangeOutcome:
        """The outcome of the one exchange."""
        (outcome,) = self.outcomes
        return outcome

    # the failover of one request

    def failover(
        self,
        *headers: tuple[str, str],
        kept: Kept | None = None,
        target: str = "/v1/chat/completions",
        method: str = "POST",
        body: bytes = CHAT_REQUEST,
        **requirements: Any,
    ) -> Failover:
        """Return the failover of a request that was received and understood."""
        request = self.request(*headers, target=target, method=method)
        record = begin_record("r-1", request.endpoint, request.head.request_id)
        wanted = Requirements(**{"model": MODEL, **requirements})
        return begin_failover(self.plane, self.settings, request, record, body, wanted, kept)

    def search(self, failover: Failover) -> asyncio.Future[Attempt]:
        """Look for an answer in the task of the client's connection; the future is done when that has ended."""
        found: asyncio.Future[Attempt] = self.plane.loop.create_future()

        async def search() -> None:
            try:
                found.set_result(await failover.find_answer())
            except RequestError as exc:
                found.set_exception(exc)

        self.client.task = start(search(), name="client")
        return found


def reconfigured(config: Config, **sections: dict[str, Any]) -> Config:
    """Return *config* with keys of its sections replaced."""
    changed = {name: msgspec.structs.replace(getattr(config, name), **keys) for name, keys in sections.items()}
    return msgspec.structs.replace(config, **changed)
