"""What all exchanges share: the parts of the data plane, and the settings that a reload replaces as a whole."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from nexus.config.schema import Config
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import AttemptOutcome, ExchangeOutcome
from nexus.observability.tracing.trace import Tracer
from nexus.proxy.client.access import AccessRules
from nexus.proxy.exchange.first_byte import Deadlines
from nexus.proxy.exchange.resource_owners import ResourceOwners
from nexus.proxy.exchange.response_memory import ResponseMemory
from nexus.proxy.exchange.retry import RetryBudget
from nexus.proxy.upstream.backends import Upstreams
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.routing.decision import Reserved
from nexus.routing.decision_record import RecentDecisions
from nexus.routing.router import Router
from nexus.wire.streams.event_buffer import EventRoom

if TYPE_CHECKING:
    from nexus.proxy.exchange.exchange import Exchange

Observer = Callable[[ExchangeOutcome], None]
"""Called once with the outcome of each exchange; must be quick, and never raise."""


class ExchangeFleet(Protocol):
    """The part of the fleet that exchanges use."""

    @property
    def snapshot(self) -> FleetSnapshot: ...

    def report(self, backend_id: str, outcome: AttemptOutcome, *, retry_after_s: float | None) -> None:
        """Take the outcome of one attempt into account."""

    def report_unsupported(self, backend_id: str, endpoint: str, model: str) -> None:
        """Note that a backend does not support an endpoint with one of its models."""

    def report_missing_model(self, backend_id: str, model: str) -> None:
        """Note that a backend does not have a model which it lists."""

    async def look(self, is_found: Callable[[], bool]) -> bool:
        """Probe backends that may have changed until *is_found*, at most for a second. Return whether any was."""


class Settings(msgspec.Struct, frozen=True, eq=False):
    """What follows from the configuration; an exchange keeps the settings it began with."""

    config: Config
    router: Router
    access: AccessRules
    observers: tuple[Observer, ...]


class DataPlane:
    """Everything that exchanges share; it is made on the event loop that they run on."""

    __slots__ = (
        "budget",
        "deadlines",
        "decisions",
        "early_heads",
        "event_room",
        "exchanges",
        "fleet",
        "in_flight",
        "loop",
        "owners",
        "queue",
        "response_memory",
        "settings",
        "tracer",
        "upstreams",
    )

    def __init__(
        self,
        settings: Settings,
        fleet: ExchangeFleet,
        upstreams: Upstreams,
        queue: "RequestQueue[Reserved]",
        owners: ResourceOwners | None = None,
    ) -> None:
        self.settings = settings
        self.fleet = fleet
        self.upstreams = upstreams
        self.queue = queue
        self.owners = owners or ResourceOwners()
        self.budget = RetryBudget()
        self.decisions = RecentDecisions()
        # get_running_loop() makes a system call, and every request would call it several times.
        self.loop = asyncio.get_running_loop()
        self.deadlines = Deadlines(self.loop)
        """For responses that have not begun."""
        limits = settings.config.limits
        self.event_room = EventRoom(
            max_event_bytes=limits.max_event_bytes, max_buffered_bytes=limits.max_buffered_event_bytes
        )
        """Limits the memory of events, of all streams, that have arrived only in part."""
        self.response_memory = ResponseMemory(limits.max_held_answer_bytes)
        """Limits the memory of all responses that are held back whole."""
        self.exchanges: set[Exchange] = set()
        """Those under way, which a shutdown ends."""
        self.in_flight = 0
        """The exchanges under way, and the pages that are being made."""
        self.early_heads = 0
        """Replies that began while the backend was still loading the model."""
        self.tracer: Tracer | None = None
        """None unless exchanges are traced."""
