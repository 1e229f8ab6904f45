"""Replays a trace of requests through a real router, in virtual time, against simulated servers with block caches."""

import heapq
import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import count
from math import ceil
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import msgspec

from nexus.domain.backend import Backend
from nexus.domain.engine_report import EngineReport
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements, TokenUsage
from nexus.plugin_manager import Plugin
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.core_stages.schedule import Schedule
from nexus.routing.decision import Reserved
from nexus.routing.decision_record import Request
from nexus.routing.pipeline import Pipeline
from nexus.routing.router import Router, Routing
from nexus.routing.stage.api import Reconciler
from nexus.routing.stage.order import in_order
from nexus.testing.builders import CHAT, MODEL, make_backend, make_fleet

BLOCK_TOKENS: Final = 512
"""Of a block of a trace; each is two blocks of 1 KiB of text."""
UNLIMITED: Final = 10_000_000

PREFILL_S: Final = 0.00006
"""Per token that is not cached, one prompt after the other."""
DECODE_S: Final = 0.02
"""Per token of the answer, whatever else the server does."""


class TraceRequest(NamedTuple):
    """One request of a trace."""

    at_s: float
    prompt_tokens: int
    answer_tokens: int
    blocks: tuple[int, ...]
    """One id for every ``BLOCK_TOKENS`` of the prompt; equal ids at the start of two prompts are the same text."""


def read_trace(path: Path) -> list[TraceRequest]:
    """Read a trace in the format of Mooncake (FAST 2025)."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        TraceRequest(row["timestamp"] / 1000, row["input_length"], row["output_length"], tuple(row["hash_ids"]))
        for row in rows
    ]


def make_trace(requests: int = 4000, *, seed: int = 7, per_second: float = 3.4) -> list[TraceRequest]:
    """Return a synthetic trace of the shape of Mooncake's conversations.

    All share their first block. Conversations begin at random, hundreds are open at a time, and each turn adds to the
    prompt of the one before; prompts have 24 blocks on average, and the longest 160.
    """
    chance = Random(seed)
    ids = count(1)
    open_: list[list[int]] = []
    trace: list[TraceRequest] = []
    at_s = 0.0
    while len(trace) < requests:
        at_s += chance.expovariate(per_second)
        if open_ and chance.random() < CONTINUED:
            blocks = open_.pop(chance.randrange(len(open_)))
            added = 1 + int(chance.expovariate(1 / 8))
        else:
            blocks = [0]
            added = 1 + int(chance.lognormvariate(2.4, 0.9))
        blocks = blocks[: 160 - added] + [next(ids) for _ in range(added)]
        if chance.random() < 0.85:
            open_.append(blocks)
        if len(open_) > MAX_OPEN:
            open_.pop(0)
        answer = min(2000, 1 + int(chance.expovariate(1 / 343)))
        trace.append(TraceRequest(at_s, len(blocks) * BLOCK_TOKENS - 200, answer, tuple(blocks)))
    return trace


CONTINUED: Final = 0.5
"""The share of requests that continue a conversation."""
MAX_OPEN: Final = 300


def ideal_share(trace: Sequence[TraceRequest]) -> float:
    """Return the share of blocks that one server without limits would have found in its cache."""
    seen: set[int] = set()
    found = total = 0
    for request in trace:
        found += _found(request.blocks, seen)
        total += len(request.blocks)
        seen.update(request.blocks)
    return found / total


class Replayed(msgspec.Struct, frozen=True):
    """What became of a trace."""

    hit_share: float
    """Of the blocks of all prompts, those that the server had in its cache."""
    imbalance: float
    """The requests of the busiest server, relative to the mean."""
    of_first: float
    """Those of the first server, relative to the mean."""
    ttft_s: list[float]
    """Of each request, in the order in which they were sent."""

    def ttft_percentile(self, percent: float) -> float:
        ordered = sorted(self.ttft_s)
        return ordered[min(len(ordered) - 1, ceil(len(ordered) * percent / 100) - 1)]


class VirtualClock:
    """The time of a replay, which moves on from event to event."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class _Server:
    """A server that reads prompts one after the other, and keeps their blocks in a cache of limited size."""

    def __init__(self, backend: Backend, cache_blocks: int, prefill_s: float) -> None:
        self.backend = backend
        self.requests = 0
        self._prefill_s = prefill_s
        self.free_at = 0.0
        self._size = cache_blocks
        self._cache: OrderedDict[int, None] = OrderedDict()

    def prefill(self, request: TraceRequest, now: float) -> tuple[float, int]:
        """Return when the first token comes, and how many blocks were cached."""
        self.requests += 1
        cache = self._cache
        found = _found(request.blocks, cache)
        for block in reversed(request.blocks):
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > self._size:
            cache.popitem(last=False)
        uncached = max(1, request.prompt_tokens - found * BLOCK_TOKENS)
        self.free_at = max(now, self.free_at) + uncached * self._prefill_s
        return self.free_at, found


def _found(blocks: Sequence[int], cache: set[int] | OrderedDict[int, None]) -> int:
    return next((depth for depth, block in enumerate(blocks) if block not in cache), len(blocks))


def router_with(stage: Reconciler | None, clock: VirtualClock, *, strategy: str = "smart", seed: int = 1) -> Router:
    """Return a router with the built-in stages, and *stage* if given."""
    schedule = Schedule(strategy, chance=Random(seed), clock=clock)
    contributed = [] if stage is None else [(Plugin(stage.name, "replayed", "0", {}), stage)]
    return Router(pipeline=Pipeline(in_order((Analyze(), schedule), contributed), clock), schedule=schedule)


def replay(
    trace: Sequence[TraceRequest],
    router: Router,
    clock: VirtualClock,
    *,
    servers: int = 8,
    cache_blocks: int = UNLIMITED,
    tells_cache: bool = True,
    first_takes: float = 1.0,
) -> Replayed:
    """Send *trace* through *router*, whose parts use *clock*.

    :param tells_cache: whether the servers report the size of their caches.
    :param first_takes: how long the first server takes to read a prompt, relative to the others.
    """
    began = clock.now
    report = EngineReport(at=began, due_at=began + 1e9, cache_tokens=cache_blocks * BLOCK_TOKENS)
    fleet: dict[str, _Server] = {}
    for number in range(servers):
        backend = make_backend(f"gpu-{number}", kind="vllm", max_in_flight=1024)
        if tells_cache:
            backend.load.tell(report)
        fleet[backend.name] = _Server(backend, cache_blocks, PREFILL_S if number else PREFILL_S * first_takes)
    snapshot = make_fleet(*(server.backend for server in fleet.values()))
    ended: list[tuple[float, int, Reserved, AttemptOutcome | None]] = []
    order = count()
    found_blocks = 0
    ttft: list[float] = []
    for request in trace:
        arrives_at = began + request.at_s
        for due, reserved, outcome in _due(ended, arrives_at):
            clock.now = due
            _end(reserved, outcome, due)
        clock.now = arrives_at
        reserved = _route(router, request, snapshot)
        server = fleet[reserved.backend.name]
        first_at, found = server.prefill(request, arrives_at)
        found_blocks += found
        ttft.append(first_at - arrives_at)
        ends_at = first_at + request.answer_tokens * DECODE_S
        outcome = AttemptOutcome(
            backend=reserved.backend.name,
            backend_id=reserved.backend.id,
            model=reserved.model,
            ending=Ending.FINISHED,
            is_sent=True,
            status=200,
            is_stream=True,
            first_byte_s=first_at - arrives_at,
            duration_s=ends_at - arrives_at,
            usage=TokenUsage(request.prompt_tokens, request.answer_tokens),
        )
        heapq.heappush(ended, (first_at, next(order), reserved, None))
        heapq.heappush(ended, (ends_at, next(order), reserved, outcome))
    total = sum(len(request.blocks) for request in trace)
    shares = [server.requests * servers / len(trace) for server in fleet.values()]
    return Replayed(found_blocks / total, max(shares), shares[0], ttft)


def _due(
    ended: list[tuple[float, int, Reserved, AttemptOutcome | None]], now: float
) -> Iterator[tuple[float, Reserved, AttemptOutcome | None]]:
    while ended and ended[0][0] <= now:
        due, _, reserved, outcome = heapq.heappop(ended)
        yield due, reserved, outcome


def _end(reserved: Reserved, outcome: AttemptOutcome | None, now: float) -> None:
    """Do as the core does at the first token (*outcome* is None), and at the end."""
    for hold in reserved.holds:
        if outcome is None:
            hold.begin_answer(None)
        else:
            hold.settle(outcome)
    if outcome is not None and outcome.first_byte_s is not None:
        reserved.backend.load.model(reserved.model).first_token.observe(outcome.first_byte_s, now)


def _route(router: Router, request: TraceRequest, snapshot: FleetSnapshot) -> Reserved:
    requirements = Requirements(
        model=MODEL,
        is_stream=True,
        prompt_tokens=request.prompt_tokens,
        prompt_blocks=tuple([hash((block, half)) for block in request.blocks for half in (0, 1)]),
    )
    routing = Routing(
        router, Request(id="r", endpoint=CHAT, requirements=requirements, headers={}, received_unix_s=1_777_777_777.0)
    )
    decision = routing.next(snapshot)
    assert isinstance(decision, Reserved), decision
    return decision
