"""A fleet of simulated engines on a virtual clock, to which the real schedule gives requests."""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from random import Random
from typing import Any

import msgspec

from nexus.domain.engine_report import EngineReport
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements, TokenUsage
from nexus.fleet.health.passive import PassiveSignals
from nexus.fleet.membership.registry import Registry
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.stage.api import Hold
from nexus.testing.builders import make_backend, make_intent

REPORT_EVERY_S = 5.0


class Job(msgspec.Struct, eq=False):
    """One request: what the client asks for, and what the engine finds."""

    model: str
    prompt_tokens: int
    answer_tokens: int
    is_stream: bool = True
    estimate: float = 1.0
    """What the estimate of the prompt is of its length."""
    max_tokens: int | None = None
    hold: Hold | None = None
    sent_at: float = 0.0
    first_token_at: float = 0.0

    @property
    def requirements(self) -> Requirements:
        return Requirements(
            model=self.model,
            is_stream=self.is_stream,
            prompt_tokens=max(1, round(self.prompt_tokens * self.estimate)),
            max_tokens=self.max_tokens,
            # The fleet is simulated without the queue of Nexus.
            may_wait=False,
        )


class Engine:
    """Works on as many requests at once as it has slots, each at the same pace; the others wait in turn."""

    def __init__(self, *, slots: int = 8, speed: float = 1.0, reports: bool = False) -> None:
        self.slots = slots
        self.speed = speed
        self.reports = reports
        self.busy = 0
        self.others = 0
        """Slots that other clients use."""
        self.waiting: deque[Job] = deque()

    def prompt_s(self, job: Job) -> float:
        return (0.02 + job.prompt_tokens / 4000) / self.speed

    def answer_s(self, job: Job) -> float:
        return job.answer_tokens * 0.01 / self.speed


class SimulatedFleet:
    """Runs jobs; counts requests and tokens by backend."""

    def __init__(self, engines: Mapping[str, Engine], *, strategy: str = "smart", seed: int = 1, **fields: Any) -> None:
        self.now = 1000.0
        self.engines = dict(engines)
        self.requests: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.first_tokens: dict[str, list[float]] = defaultdict(list)
        self.sent: list[tuple[float, str]] = []
        self._random = Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._then: dict[Job, Callable[[], None]] = {}
        self._registry = Registry()
        self._backends = [make_backend(name, **fields) for name in engines]
        for backend in self._backends:
            self._registry.add(backend)
        self._schedule = Schedule(strategy, chance=Random(seed), clock=self.clock)
        self._signals = PassiveSignals(self._registry, on_refused=lambda _: False, clock=self.clock)
        for backend in self._backends:
            if self.engines[backend.name].reports:
                self._report(backend.name)

    def clock(self) -> float:
        return self.now

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Call *call* at this time of the virtual clock."""
        heapq.heappush(self._events, (when, next(self._number), call))

    def run(self, until: float) -> None:
        """Let the time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, call = heapq.heappop(self._events)
            call()
        self.now = until

    def open_loop(self, jobs: Iterable[Job], *, per_s: float, until: float) -> None:
        """Let jobs arrive at random, so many in a second on average."""
        supply = iter(jobs)

        def arrive() -> None:
            if self.now < until:
                self.send(next(supply))
                self.at(self.now + self._random.expovariate(per_s), arrive)

        self.at(self.now, arrive)

    def closed_loop(self, jobs: Iterable[Job], *, clients: int, until: float) -> None:
        """Let so many clients send one job after the other."""
        supply = iter(jobs)

        def client() -> None:
            if self.now < until:
                self.send(next(supply), then=client)

        for number in range(clients):
            self.at(self.now + number * 0.001, client)

    def send(self, job: Job, then: Callable[[], None] = lambda: None) -> str:
        """Send *job* to the backend that the schedule ranks first."""
        intent = make_intent(backends=self._backends, model=job.model, requirements=job.requirements)
        self._schedule.reconcile(intent)
        best = self._schedule.rank(intent)[0].backend
        held = self._schedule.reserve(intent, best)
        assert isinstance(held, Hold)
        job.hold, job.sent_at = held, self.now
        pace = best.load.model(job.model).pace(is_stream=job.is_stream)
        pace.waiting[job] = self.now
        self.requests[best.name] += 1
        self.tokens[best.name] += job.prompt_tokens + 16 * job.answer_tokens
        self.sent.append((self.now, best.name))
        engine = self.engines[best.name]
        engine.waiting.append(job)
        self._then[job] = then
        self._start_next(best.name)
        return best.name

    def in_flight(self) -> tuple[int, int, int]:
        """Return the requests, prompt tokens and answer tokens that are counted as in flight."""
        loads = [backend.load for backend in self._backends]
        return (
            sum(load.in_flight for load in loads),
            sum(load.prompt_tokens for load in loads),
            sum(load.answer_tokens for load in loads),
        )

    def occupy(self, name: str, others: int) -> None:
        """Let other clients use so many slots of an engine."""
        self.engines[name].others = others
        self._start_next(name)

    def _start_next(self, name: str) -> None:
        engine = self.engines[name]
        while engine.waiting and engine.busy + engine.others < engine.slots:
            job = engine.waiting.popleft()
            engine.busy += 1
            begins = self.now + engine.prompt_s(job)
            self.at(begins, partial(self._begin, name, job))
            self.at(begins + engine.answer_s(job), partial(self._end, name, job))

    def _begin(self, name: str, job: Job) -> None:
        job.first_token_at = self.now
        self.first_tokens[name].append(self.now - job.sent_at)
        if job.is_stream:
            figures = self._load(name).model(job.model)
            figures.first_token.waiting.pop(job, None)
            figures.alive_at = figures.progressed_at = self.now
            assert job.hold is not None
            job.hold.begin_answer(None)

    def _end(self, name: str, job: Job) -> None:
        engine, figures = self.engines[name], self._load(name).model(job.model)
        engine.busy -= 1
        figures.whole.waiting.pop(job, None)
        figures.alive_at = self.now
        outcome = AttemptOutcome(
            backend=name,
            backend_id=name,
            model=job.model,
            ending=Ending.FINISHED,
            is_sent=True,
            status=200,
            is_stream=job.is_stream,
            wants_stream=job.is_stream,
            duration_s=self.now - job.sent_at,
            first_byte_s=(job.first_token_at if job.is_stream else self.now) - job.sent_at,
            usage=TokenUsage(job.prompt_tokens, job.answer_tokens),
            max_tokens=job.max_tokens,
            prompt_tokens=job.requirements.prompt_tokens,
        )
        assert job.hold is not None
        job.hold.settle(outcome)
        self._signals.report(name, outcome)
        self._start_next(name)
        self._then.pop(job)()

    def _report(self, name: str) -> None:
        engine, load = self.engines[name], self._load(name)
        running = engine.busy + engine.others
        load.tell(
            EngineReport(
                at=self.now,
                due_at=self.now + REPORT_EVERY_S,
                own_requests=load.in_flight,
                running=running,
                waiting=len(engine.waiting),
            )
        )
        self.at(self.now + REPORT_EVERY_S, lambda: self._report(name))

    def _load(self, name: str) -> Any:
        return next(backend.load for backend in self._backends if backend.name == name)


def mixed_jobs(seed: int, *, models: tuple[str, ...] = ("llama3",), streams: float = 0.7) -> Iterable[Job]:
    """Yield jobs of all sizes, endlessly: prompts of 20 to 8 000 tokens, answers of 5 to 1 000."""
    random = Random(seed)
    while True:
        yield Job(
            random.choice(models),
            round(20 * 400 ** random.random()),
            round(5 * 200 ** random.random()),
            is_stream=random.random() < streams,
            estimate=random.uniform(0.6, 1.1),
            max_tokens=random.choice((None, None, 1024)),
        )
