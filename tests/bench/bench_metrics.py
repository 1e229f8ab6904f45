"""What counting an exchange costs, and the pages of all counts: ``python tests/bench/bench_metrics.py``."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import pairwise
from time import perf_counter

import msgspec

from nexus.admin.history import MAX_ENTRIES, History
from nexus.admin.history import route as history_route
from nexus.admin.metrics.fleet import FleetMetrics
from nexus.admin.metrics.page import MetricsPage
from nexus.admin.stats import QueueFacts, stats
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import AttemptOutcome, Ending, ExchangeOutcome
from nexus.domain.request import TokenUsage
from nexus.domain.routes import Page, PageRequest
from nexus.fleet.loads.counts import ReadCounts
from nexus.fleet.probing.counts import ProbeCounts
from nexus.observability.metrics.exchanges import ExchangeMetrics
from nexus.observability.metrics.families import Family
from nexus.observability.metrics.totals import totals_of
from nexus.testing.builders import CHAT, make_backend, make_fleet

EXCHANGES = 20_000
ROUNDS = 5
BACKENDS = 100
MODELS = 20
OPENMETRICS = "application/openmetrics-text;version=1.0.0"

Respond = Callable[[PageRequest], Page | Awaitable[Page]]
PAGE = PageRequest(method="GET", path="/")


class PageCost(msgspec.Struct, frozen=True):
    """What one page takes, in the best of several rounds."""

    all_s: float
    held_s: float
    """For how long nothing else could run."""
    size_bytes: int


def main() -> None:
    fleet, outcomes = fleet_and_outcomes()
    metrics, history = ExchangeMetrics(lambda: fleet), History()
    print(f"{BACKENDS} backends with {MODELS} models each")  # noqa: T201 - the output
    for name, observe in (("metrics", metrics.observe), ("history", history.observe)):
        best_s = min(seconds(observe, outcomes) for _ in range(ROUNDS))
        print(f"{name} of an exchange {best_s / EXCHANGES * 1e6:10.2f} us")  # noqa: T201 - the output
    asyncio.run(measure_pages(fleet, metrics, history))


def fleet_and_outcomes() -> tuple[FleetSnapshot, list[ExchangeOutcome]]:
    models = [f"model-{number}" for number in range(MODELS)]
    fleet = make_fleet(*(make_backend(f"gpu-{number}", models=models) for number in range(BACKENDS)))
    return fleet, [outcome_of(backend.name, model) for backend in fleet.backends for model in models]


def page_costs() -> tuple[PageCost, PageCost]:
    """Return what /v1/stats and /metrics cost after an exchange with each model of each backend."""
    fleet, outcomes = fleet_and_outcomes()
    metrics = ExchangeMetrics(lambda: fleet)
    for outcome in outcomes:
        metrics.observe(outcome)

    async def measure_both() -> tuple[PageCost, PageCost]:
        return await cost(stats_page(fleet, metrics)), await cost(MetricsPage(sources_of(fleet, metrics)))

    return asyncio.run(measure_both())


def seconds(observe: Callable[[ExchangeOutcome], None], outcomes: Sequence[ExchangeOutcome]) -> float:
    began = perf_counter()
    for _ in range(EXCHANGES // len(outcomes)):
        for outcome in outcomes:
            observe(outcome)
    return perf_counter() - began


async def measure_pages(fleet: FleetSnapshot, metrics: ExchangeMetrics, history: History) -> None:
    sources = sources_of(fleet, metrics)
    plain, sanitized = (MetricsPage(sources, sanitizes_labels=it) for it in (False, True))
    await measure("/metrics", plain)
    await measure("/metrics, OpenMetrics", plain, PageRequest(method="GET", path="/metrics", accept=OPENMETRICS))
    await measure("/metrics, sanitised", sanitized)
    await measure("/v1/stats", stats_page(fleet, metrics))
    history_page = history_route(history).respond
    for limit in (100, MAX_ENTRIES):
        asked = PageRequest(method="GET", path="/v1/history", query=f"limit={limit}")
        await measure(f"/v1/history, {limit} entries", history_page, asked)
    fresh = outcome_of("gpu-1", "model-1")

    def after_a_thousand(asked: PageRequest) -> Page | Awaitable[Page]:
        for _ in range(MAX_ENTRIES):
            history.observe(fresh)
        return history_page(asked)

    await measure("the same, all of them new", after_a_thousand, asked)


def stats_page(fleet: FleetSnapshot, metrics: ExchangeMetrics) -> Respond:
    queue = QueueFacts(enabled=True, depth=0, max_size=100, enqueued=0, drained=0, timed_out=0)
    return lambda _: stats(fleet, totals_of(metrics), queue, {}, uptime_s=1.0)


def sources_of(fleet: FleetSnapshot, metrics: ExchangeMetrics) -> Sequence[Callable[[], Iterator[Family]]]:
    return metrics.families, FleetMetrics(lambda: fleet, ProbeCounts(), ReadCounts()).families


async def measure(name: str, respond: Respond, asked: PageRequest = PAGE) -> None:
    """Print how long a page takes, and for how long of that nothing else can run."""
    page = await cost(respond, asked)
    print(  # noqa: T201 - the output
        f"{name:26} {page.all_s * 1e3:8.2f} ms, {page.held_s * 1e3:.2f} ms at once, {page.size_bytes} bytes"
    )


async def cost(respond: Respond, asked: PageRequest = PAGE) -> PageCost:
    times = []
    for _ in range(ROUNDS):
        turns = [perf_counter()]
        looking = asyncio.ensure_future(look_on(turns))
        await asyncio.sleep(0)
        reply = respond(asked)
        page = await reply if inspect.isawaitable(reply) else reply
        await asyncio.sleep(0)
        looking.cancel()
        times.append((turns[-1] - turns[1], max(after - before for before, after in pairwise(turns[1:]))))
    all_s, held_s = map(min, zip(*times, strict=True))
    return PageCost(all_s, held_s, len(page.body))


async def look_on(turns: list[float]) -> None:
    while True:
        turns.append(perf_counter())
        await asyncio.sleep(0)


def outcome_of(backend: str, model: str) -> ExchangeOutcome:
    usage = TokenUsage(800, 200)
    attempt = AttemptOutcome(
        backend=backend,
        backend_id=backend,
        model=model,
        ending=Ending.FINISHED,
        status=200,
        duration_s=0.7,
        is_stream=True,
        first_byte_s=0.1,
        last_content_s=0.7,
        content_blocks=200,
        usage=usage,
    )
    return ExchangeOutcome(
        request_id="0123456789abcdef0123456789abcdef",
        endpoint=CHAT.name,
        protocol=CHAT.protocol,
        model=model,
        resolved_model=model,
        is_stream=True,
        ending=Ending.FINISHED,
        status=200,
        code=None,
        phase="relay",
        termination="--",
        route_reason="capability-match",
        fallback_model=None,
        attempts=(attempt,),
        received_at=1_777_777_777.0,
        duration_s=0.7,
        queued_s=0.0,
        first_byte_s=0.1,
        usage=usage,
        bytes_in=800,
        bytes_out=2000,
    )


if __name__ == "__main__":
    main()
