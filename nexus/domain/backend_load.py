"""The live counters of one backend, the only part of a snapshot of the fleet that changes."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final

from nexus.domain.changes import CHANGES
from nexus.domain.engine_report import EngineReport
from nexus.domain.model_load import ANSWER_TOKEN_WEIGHT, MAX_TRACKED_MODELS, ModelLoad
from nexus.domain.residency import RECENTLY_USED_S, ModelMemory
from nexus.domain.shared_load import NOWHERE_ELSE, Allotment, Elsewhere


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
        "_work",
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
    work: Final[int] = _read_only("work")
    """The tokens of these requests by the time that they take, in tokens of prompts."""
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
        self._work = 0
        """The tokens of all requests in flight, those of other processes included, by the time that they take."""
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
        self._work = (
            self._prompt_tokens
            + elsewhere.prompt_tokens
            + ANSWER_TOKEN_WEIGHT * (self._answer_tokens + elsewhere.answer_tokens)
        )
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
        self._work += prompt_tokens + ANSWER_TOKEN_WEIGHT * answer_tokens

    def finish_prompt(self, prompt_tokens: int) -> None:
        """Release the prompt of a request, which the backend has read: the answer has begun, or never will."""
        self._prompt_tokens -= prompt_tokens
        self._work -= prompt_tokens

    def release(self, answer_tokens: int = 0, prompt_tokens: int = 0) -> None:
        """Give back one slot, and the expected answer with it.

        :param prompt_tokens: those that :meth:`finish_prompt` has not released.
        """
        self._in_flight -= 1
        self._everywhere -= 1
        self._answer_tokens -= answer_tokens
        self._prompt_tokens -= prompt_tokens
        self._work -= prompt_tokens + ANSWER_TOKEN_WEIGHT * answer_tokens

    def tell(self, report: EngineReport, lacks: str = "") -> None:
        """Replace the report of the engine.

        :param lacks: why it has no requests, and what would help.
        """
        self._told, self._no_report = report, lacks
        CHANGES.reports += 1
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
        CHANGES.reports += 1

    def restarted(self) -> None:
        """Record that the server has restarted: what it reported before is not true any more."""
        self._restarts += 1
        self._told, self._no_report, self._running_at_most = None, "", None
        CHANGES.reports += 1
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
            CHANGES.books += 1
        return found

    def forget_pace(self) -> None:
        """Drop all measurements, which belong to another server or time; requests under way keep their slots."""
        self._latency_ms, self._is_latency_real = None, False
        self._models.clear()
        CHANGES.books += 1
        self._memory.forget()

    def _last_use_of(self, model: str) -> tuple[bool, float]:
        figures = self._models[model]
        return figures.in_flight > 0, figures.used_at


def moved_average(average_ms: int | None, sample_ms: int) -> int:
    """Return the average after one more sample; the first one sets it, and 0 is as good as any."""
    return sample_ms if average_ms is None else (sample_ms + 4 * average_ms) // 5


SATURATION_GOOD_S: Final = 120.0
"""How long the number of requests that a saturated engine ran is taken for all that it can run."""
