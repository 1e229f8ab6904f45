"""A backend: frozen, but for the live counters in its load."""

from collections.abc import Mapping
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, Literal

import msgspec

from nexus.domain.engine_report import EngineReport
from nexus.domain.kinds import BackendKind
from nexus.domain.model import ModelFacts, Zone
from nexus.domain.model_load import MAX_TRACKED_MODELS, ModelLoad
from nexus.domain.residency import RECENTLY_USED_S, ModelMemory
from nexus.domain.shared_load import NOWHERE_ELSE, Allotment, Elsewhere


class Status(StrEnum):
    """Whether a backend gets requests: a healthy one does, a draining one does not, any other only as a last resort."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"
    DRAINING = "draining"
    LOADING = "loading"
    """Its answer says that it is loading its model."""


class Breaker(StrEnum):
    """A circuit breaker, driven by recent traffic: closed admits all requests, half open one at a time."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


SEVERITY: Final = {Breaker.CLOSED: 0, Breaker.HALF_OPEN: 1, Breaker.OPEN: 2}
"""Higher is worse."""


def _read_only(name: str) -> Any:
    return property(attrgetter(f"_{name}"))


class BackendLoad:
    """The live counters of one backend, the only part of a snapshot that changes.

    All snapshots of a backend share one instance, which survives reloads. Its attributes are read-only, so that a
    stage of a plugin cannot change them; the core counts with the methods.
    """

    __slots__ = (
        "_allotments",
        "_answer_tokens",
        "_elsewhere",
        "_everywhere",
        "_in_flight",
        "_is_latency_real",
        "_latency_ms",
        "_memory",
        "_models",
        "_no_report",
        "_probing",
        "_prompt_tokens",
        "_requests_total",
        "_restarts",
        "_running_at_most",
        "_saturated_at",
        "_told",
    )

    in_flight: Final[int] = _read_only("in_flight")
    """Requests that hold a slot now."""
    prompt_tokens: Final[int] = _read_only("prompt_tokens")
    """The prompt tokens, as estimated, of the requests in flight that have received no content yet."""
    answer_tokens: Final[int] = _read_only("answer_tokens")
    """The expected answer tokens of all requests in flight."""
    told: Final[EngineReport | None] = _read_only("told")
    """The last report of the engine about its load; None if there is none, or the server has restarted since."""
    no_report: Final[str] = _read_only("no_report")
    """Why there is no report, or none of requests, and what would help; empty if there is one, or none was asked for
    yet."""
    restarts: Final[int] = _read_only("restarts")
    """How often the server has restarted, or may have, as far as is known: then all its caches are empty."""
    everywhere: Final[int] = _read_only("everywhere")
    """Requests of this Nexus that hold a slot now, those of its other workers and replicas included."""
    elsewhere: Final[Elsewhere] = _read_only("elsewhere")
    """The requests that other workers and replicas of this Nexus have in flight there, as last told."""
    allotments: Final[Mapping[str, Allotment]] = _read_only("allotments")
    """The slots that this process may use, where processes divide them: those of the whole backend by the empty name,
    and those of each limited model by its own name."""
    requests_total: Final[int] = _read_only("requests_total")
    latency_ms: Final[int | None] = _read_only("latency_ms")
    """Moving average, (sample + 4*old) div 5, of real requests and, until there are any, of probes. It mixes models,
    streams and whole answers and is for people to look at; routing compares ``models``."""
    is_latency_real: Final[bool] = _read_only("is_latency_real")
    """Whether a real request has been measured: from then on probes do not count."""
    probing: Final[bool] = _read_only("probing")
    """Whether the one request that a half-open ``breaker`` of the backend admits is under way."""
    memory: Final[ModelMemory] = _read_only("memory")
    """What is known about the models in its memory, where a kind loads models."""
    models: Final[dict[str, ModelLoad]] = _read_only("models")
    """The figures of each model, by the backend's own name for it: the last ``MAX_TRACKED_MODELS`` used."""

    def __init__(
        self, *, in_flight: int = 0, requests_total: int = 0, latency_ms: int | None = None, probing: bool = False
    ) -> None:
        self._in_flight = self._everywhere = in_flight
        self._requests_total = requests_total
        self._latency_ms = latency_ms
        self._is_latency_real = False
        self._probing = probing
        self._models: dict[str, ModelLoad] = {}
        self._memory = ModelMemory()
        self._prompt_tokens = self._answer_tokens = self._restarts = 0
        self._told: EngineReport | None = None
        self._no_report = ""
        self._running_at_most: int | None = None
        self._saturated_at = 0.0
        self._elsewhere = NOWHERE_ELSE
        self._allotments: dict[str, Allotment] = {}

    def see_elsewhere(self, elsewhere: Elsewhere) -> None:
        """Replace what is known of the requests of other workers and replicas."""
        self._elsewhere = elsewhere
        self._everywhere = self._in_flight + elsewhere.in_flight
        for name, at in elsewhere.alive_at.items():
            if (figures := self._models.get(name)) is not None and figures.alive_at < at:
                figures.alive_at = at

    def divide(self, model: str, allotment: Allotment | None) -> None:
        """Let this process use only the slots of *allotment* for *model*, or for all requests if it is empty.

        :param allotment: None: they are not divided any more.
        """
        if allotment is None:
            self._allotments.pop(model, None)
        else:
            self._allotments[model] = allotment

    def has_slot(self, limit: int) -> bool:
        """Return whether one of *limit* slots is free, as far as this process may use them."""
        part = self._allotments.get("")
        return self._in_flight < limit and (part is None or part.has_room)

    def acquire(self, prompt_tokens: int = 0, answer_tokens: int = 0) -> None:
        """Take one slot for a request of about this size. The caller has checked the limit, and releases the slot
        exactly once.
        """
        self._in_flight += 1
        self._everywhere += 1
        self._prompt_tokens += prompt_tokens
        self._answer_tokens += answer_tokens

    def finish_prompt(self, prompt_tokens: int) -> None:
        """Release the prompt of a request, which the backend has read: the answer has begun, or never will."""
        self._prompt_tokens -= prompt_tokens

    def release(self, answer_tokens: int = 0, prompt_tokens: int = 0) -> None:
        """Give back one slot, and the expected answer with it.

        :param prompt_tokens: those that :meth:`finish_prompt` has not released.
        """
        self._in_flight -= 1
        self._everywhere -= 1
        self._answer_tokens -= answer_tokens
        self._prompt_tokens -= prompt_tokens

    def tell(self, report: EngineReport, lacks: str = "") -> None:
        """Replace the report of the engine.

        :param lacks: why it has no requests, and what would help.
        """
        self._told, self._no_report = report, lacks
        running = report.running
        if running and (report.waiting or running > (self._running_at_most or running)):
            # While requests wait in its own queue, it runs as many as it can.
            self._running_at_most, self._saturated_at = running, report.at
        if report.loaded is not None:
            latest = report.at - RECENTLY_USED_S
            used = [name for name, figures in self._models.items() if figures.used_at > latest]
            self._memory.see(report.loaded, report.loading, used)

    def running_at_most(self, now: float) -> int | None:
        """Return how many requests the engine ran when it last reported others that waited; None: not lately."""
        return self._running_at_most if now - self._saturated_at < SATURATION_GOOD_S else None

    def miss_report(self, reason: str) -> None:
        """Record that the engine reports nothing, and why."""
        self._told, self._no_report = None, reason

    def restarted(self) -> None:
        """Record that the server has restarted: what it reported before is not true any more."""
        self._restarts += 1
        self._told, self._no_report, self._running_at_most = None, "", None
        self._memory.forget()
        for figures in self._models.values():
            figures.progressed_at = 0.0

    def report_in_words(self, now: float) -> str:
        """Return in one line what the engine has reported, or why it has not and what would help."""
        if self._told is not None:
            return self._told.in_words(now) + (f" ({self._no_report})" if self._no_report else "")
        return f"no report, only requests of Nexus count ({self._no_report or 'not asked yet'})"

    def other_requests(self, now: float) -> float:
        """Return the requests of other clients that the engine reported, weighed by the age of the report."""
        return 0.0 if self._told is None else self._told.other_requests(now)

    def count_request(self, count: int = 1) -> None:
        """Count one more attempt at a request, or as many as another process has made."""
        self._requests_total += count

    def begin_probing(self) -> None:
        """Mark the one request that a half-open breaker admits as under way."""
        self._probing = True

    def end_probing(self) -> None:
        """Let the half-open breaker admit another request."""
        self._probing = False

    def observe_request(self, sample_ms: int) -> None:
        """Record the latency of a real request; the first one replaces that of probes."""
        before = self._latency_ms if self._is_latency_real else None
        # As moved_average(): this is done for each request.
        self._latency_ms = sample_ms if before is None else (sample_ms + 4 * before) // 5
        self._is_latency_real = True

    def observe_probe(self, sample_ms: int) -> None:
        """Record the latency of a probe, which says little of how long inference takes."""
        if not self._is_latency_real:
            self._latency_ms = moved_average(self._latency_ms, sample_ms)

    def set_probe_latency(self, average_ms: int) -> None:
        """Take the average of probes that another process has measured."""
        if not self._is_latency_real:
            self._latency_ms = average_ms

    def model(self, name: str) -> ModelLoad:
        """Return the figures of the model called *name*, creating them if needed."""
        found = self._models.get(name)
        if found is None:
            if len(self._models) >= MAX_TRACKED_MODELS:
                # A model with requests in flight goes last: its limit depends on their number.
                del self._models[min(self._models, key=self._last_use_of)]
            found = self._models[name] = ModelLoad()
        return found

    def forget_pace(self) -> None:
        """Drop all measurements, which belong to another server or time; requests under way keep their slots."""
        self._latency_ms, self._is_latency_real = None, False
        self._models.clear()
        self._memory.forget()

    def _last_use_of(self, model: str) -> tuple[bool, float]:
        figures = self._models[model]
        return figures.in_flight > 0, figures.used_at


def moved_average(average_ms: int | None, sample_ms: int) -> int:
    """Return the average after one more sample; the first one sets it, and 0 is as good as any."""
    return sample_ms if average_ms is None else (sample_ms + 4 * average_ms) // 5


SATURATION_GOOD_S: Final = 120.0
"""How long the number of requests that a saturated engine ran is taken for all that it can run."""

AnyModel = Literal["always", "alone", "never"]


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One backend at one instant."""

    id: str
    """Stable across restarts, because it is made from the name."""
    name: str
    url: str
    """Normalised origin, with a base path if it has one, never with a trailing slash or ``/v1``."""
    kind: BackendKind
    zone: Zone = "restricted"
    tier: int = 1
    priority: int = 50
    """Lower is preferred."""
    share: float = 1.0
    """Its part of the work, in proportion to other backends that could do it as well; more than 0."""
    endpoints: frozenset[str] = frozenset()
    """Names of the endpoints that it speaks natively."""
    max_in_flight: int = 64
    """Requests that are sent to it at once; further ones are queued."""
    is_limited: bool = False
    """Whether ``max_in_flight`` is configured, and not the default of its kind."""
    slots: int | None = None
    """How many of them it works on at once, as it reports or as is usual for its kind; the others wait at the backend.
    None: all, as far as is known."""
    max_loaded_models: int | None = None
    """How many models it keeps in memory at once, if configured; None: as it reports, if it does."""
    slots_are_reported: bool = False
    """Whether it reports ``slots`` itself; otherwise they are usual for its kind."""
    retry_unsafe: bool = True
    """Whether a request that this backend may have begun to work on may be sent to another one."""
    status: Status = Status.UNKNOWN
    breaker: Breaker = Breaker.CLOSED
    """A summary: the server's breaker or, if every recently used model fails, the best of theirs. Routing uses
    :meth:`breaker_of`."""
    server_breaker: Breaker | None = None
    """The breaker of the server as a whole, driven by connections; None: the same as ``breaker``."""
    model_breakers: Mapping[str, Breaker] = {}
    """The breakers that are not closed, by the backend's own name for the model."""
    is_cooling: bool = False
    """A summary: whether a Retry-After is in force for every recently used model. Routing uses
    :meth:`is_cooling_for`."""
    cooling_models: frozenset[str] = frozenset()
    """The models, by the backend's own names, for which a Retry-After is in force."""
    misconfigured: str | None = None
    """Why the operator must act: the backend refused its key or the account behind it. None: nothing is known to be
    wrong."""
    is_busy: bool = False
    """Whether it left the last probe unanswered while requests were running there."""
    is_refusing: bool = False
    """Whether nothing was listening there when it was last tried."""
    is_replaced: bool = False
    """Whether it announced itself, and now answers as another kind of server than was approved."""
    unsupported: frozenset[tuple[str, str]] = frozenset()
    """Endpoints, each with the backend's own name for a model, that it has refused as not supported (501)."""
    models: Mapping[str, ModelFacts] = {}
    """By the backend's own name."""
    any_model: AnyModel = "never"
    """Whether it accepts a model that it does not list: ``always``, as configured; ``alone``, if it is the whole fleet,
    because it has one model and ignores the name; or ``never``."""
    spellings: Mapping[str, str] = {}
    """The backend's own name by each other name for the model: ``llama3:latest`` by ``llama3``. Keys are lower case
    where letter case does not count."""
    discovery_source: str = "static"
    """``static`` if it is configured, ``api`` if it was added at run time, else the name of its discoverer, such as
    ``local``."""
    version: str | None = None
    last_check_at: float | None = None
    """Unix seconds of the last probe, None before the first."""
    last_error: str | None = None
    status_since: float | None = None
    load: BackendLoad

    def facts(self, model: str) -> ModelFacts | None:
        """Return what is known of *model* on this backend, None when the backend does not have it."""
        return self.models.get(self.own_name(model))

    def zone_of(self, model: str) -> Zone:
        """Return the zone to which a request for *model*, by the backend's own name, sends its data."""
        facts = self.models.get(model)
        if facts is None and not model and any(other.zone == "open" for other in self.models.values()):
            # A request that names no model may be answered by any of them.
            return "open"
        return self.zone if facts is None or facts.zone is None else facts.zone

    def tier_of(self, model: str) -> int:
        """Return how capable *model*, by the backend's own name, is: 1 to 5."""
        facts = self.models.get(model)
        return self.tier if facts is None or facts.tier is None else facts.tier

    @property
    def may_be_asked(self) -> bool:
        """Whether it can be sent requests, if only as a last resort: not if it drains, nothing listens at its address,
        or another server does.
        """
        is_out = self.status is Status.DRAINING or self.is_refusing or self.is_replaced
        return self.status is Status.HEALTHY or not is_out

    @property
    def own_breaker(self) -> Breaker:
        """The breaker of the server as a whole."""
        return self.breaker if self.server_breaker is None else self.server_breaker

    @property
    def is_troubled(self) -> bool:
        """Whether a breaker or a Retry-After speaks against it for at least one model."""
        return bool(self.breaker is not Breaker.CLOSED or self.model_breakers or self.is_cooling or self.cooling_models)

    def breaker_of(self, model: str) -> Breaker:
        """Return the worse of the server's breaker and that of *model*, by the backend's own name."""
        return max(self.own_breaker, self.model_breakers.get(model, Breaker.CLOSED), key=SEVERITY.__getitem__)

    def is_cooling_for(self, model: str) -> bool:
        """Return whether a Retry-After is in force for *model*, by the backend's own name."""
        return model in self.cooling_models if self.cooling_models else self.is_cooling

    def name_for_any(self, model: str) -> str:
        """Return the name to ask this backend for *model*, which it accepts and does not list."""
        return next(iter(self.models)) if self.any_model == "alone" and len(self.models) == 1 else model

    def own_name(self, model: str) -> str:
        """Return the backend's own name for *model*."""
        if model in self.models:
            return model
        if self.kind.default_tag is None:
            return self.spellings.get(model, model)
        lower = model.lower()
        return lower if lower in self.models else self.spellings.get(lower, model)
