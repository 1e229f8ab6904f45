"""Replays traces through the real router, with and without affinity: ``python tests/bench/run.py affinity``.

Eight simulated servers, in virtual time, each with a cache of blocks of 512 tokens. They read 16 700 tokens of prompts
per second, one prompt after the other, and generate 50 tokens per second for each request, whatever else they do. Real
traces in Mooncake's format (FAST 2025) are given by ``--trace``, or by NEXUS_BENCH_TRACES, separated by colons; without
any, a synthetic trace of the same shape is replayed.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from time import thread_time
from typing import Final

import msgspec
import structlog
from comparing import machine, page
from comparing.part import part_options

sys.path.append(str(Path(__file__).parents[2]))  # tests.support is there

from nexus.domain.request import Requirements
from nexus.routing.intent import RoutingIntent
from nexus.routing.stage.api import Reconciler
from nexus.testing.builders import MODEL, make_attempt, make_backend, make_intent
from nexus.wire.requests.limits import RoutedBody
from nexus.wire.requests.prompt_blocks import Marking, prompt_marks
from nexus_affinity.config import AffinityConfig
from nexus_affinity.costs import Cost
from nexus_affinity.fleet_caches import FleetCaches
from nexus_affinity.reconciler import AffinityReconciler
from tests.support.replay import (
    UNLIMITED,
    Replayed,
    TraceRequest,
    VirtualClock,
    ideal_share,
    make_trace,
    read_trace,
    replay,
    router_with,
)

SECTION: Final = "run.py affinity"
SERVERS: Final = 8
SMALL_CACHE: Final = 2_000
MIN_OF_IDEAL: Final = 0.95
MAX_IMBALANCE: Final = 1.15
MAX_DECISION_US: Final = 30.0
NOISE: Final = 1.5
"""By how much a shared machine lengthens a decision; everything else is in virtual time."""
ROUNDS: Final = 60


class Compared(AffinityReconciler):
    """The stage with another cost."""

    def __init__(self, clock: VirtualClock, cost: Callable[[Cost, int], float]) -> None:
        super().__init__(AffinityConfig(), FleetCaches(), clock)
        self._other = cost

    def _costs(self, intent: RoutingIntent, *, least: int = 1) -> list[list[Cost]]:
        total = len(intent.requirements.prompt_blocks)
        groups = super()._costs(intent, least=least)
        return [[msgspec.structs.replace(cost, blocks=self._other(cost, total)) for cost in group] for group in groups]


Stage = Callable[[VirtualClock], Reconciler | None]
WAYS: Final[Sequence[tuple[str, str, Stage]]] = (
    ("round robin", "round_robin", lambda _: None),
    ("least loaded", "least_loaded", lambda _: None),
    ("smart", "smart", lambda _: None),
    ("longest match", "smart", lambda clock: Compared(clock, lambda cost, total: 1.0 + total - cost.cached)),
    (
        "uncached x (in flight + 1)",
        "smart",
        lambda clock: Compared(clock, lambda cost, total: (1.0 + total - cost.cached) * (cost.busy + 1.0)),
    ),
    ("affinity", "smart", lambda clock: AffinityReconciler(AffinityConfig(), FleetCaches(), clock)),
)
"""Name, strategy, and stage."""


def main(words: Sequence[str]) -> int:
    """Measure, print, and return the exit code."""
    options = part_options("affinity", __doc__, words, _add_traces)
    structlog.configure(processors=[_dropped])
    paths: list[Path] = options.trace or [
        Path(path) for path in os.environ.get("NEXUS_BENCH_TRACES", "").split(":") if path
    ]
    traces = {path.stem.replace("_", " "): read_trace(path) for path in paths} or {"synthetic": make_trace()}
    broken: list[str] = []
    decision_us, hashing_us = decision()
    rows = [row for name, trace in traces.items() for row in _rows(name, trace, broken)]
    if decision_us > MAX_DECISION_US * NOISE:
        broken.append(f"a decision takes {decision_us:.1f} us")
    written = "\n".join(
        (
            f"- {options.date}: {machine.machine()}. {SERVERS} servers; every share is of the blocks of all prompts.",
            f"- A decision about a prompt of 12 000 tokens: {decision_us:.1f} us; hashing it: {hashing_us:.1f} us.\n",
            page.table(["Trace", "Cache", "Way", "Found in caches", "Busiest / mean", "TTFT p50, s", "p95, s"], rows),
        )
    )
    print(written, *broken, sep="\n", flush=True)  # noqa: T201 - output
    if options.write_docs:
        page.replace(SECTION, written)
    return 1 if options.check and broken else 0


def _rows(name: str, trace: Sequence[TraceRequest], broken: list[str]) -> Iterator[list[str]]:
    ideal = ideal_share(trace)
    yield [name, "unlimited", "one server", f"{ideal:.3f}", "", "", ""]
    for size, called in ((UNLIMITED, "unlimited"), (SMALL_CACHE, f"{SMALL_CACHE} blocks")):
        found: dict[str, Replayed] = {}
        for way, strategy, stage in WAYS:
            clock = VirtualClock()
            router = router_with(stage(clock), clock, strategy=strategy)
            found[way] = result = replay(trace, router, clock, servers=SERVERS, cache_blocks=size)
            median, late = result.ttft_percentile(50), result.ttft_percentile(95)
            yield [
                name,
                called,
                way,
                f"{result.hit_share:.3f}",
                f"{result.imbalance:.2f}",
                f"{median:.2f}",
                f"{late:.2f}",
            ]
        broken += [
            f"{name}, {called}: {promise}" for promise in broken_promises(found, ideal if size == UNLIMITED else None)
        ]


def broken_promises(found: dict[str, Replayed], ideal: float | None) -> Iterator[str]:
    """Yield which promises of affinity do not hold.

    :param ideal: what one server would find; None where caches are limited.
    """
    own = found["affinity"]
    if ideal is not None:
        if own.hit_share < MIN_OF_IDEAL * ideal:
            yield f"{own.hit_share:.3f} are found in caches, less than {MIN_OF_IDEAL} of {ideal:.3f}"
        if own.imbalance > MAX_IMBALANCE:
            yield f"the busiest has {own.imbalance:.2f} of the mean, more than {MAX_IMBALANCE}"
        return
    for way in ("round robin", "least loaded", "longest match"):
        if own.ttft_percentile(95) >= found[way].ttft_percentile(95):
            yield f"p95 is {own.ttft_percentile(95):.2f} s, not below that of {way}"


def decision() -> tuple[float, float]:
    """Return the microseconds of one decision about a prompt of 48 KB with eight backends, and of hashing it."""
    backends = [make_backend(f"gpu-{number}", kind="vllm", in_flight=number) for number in range(SERVERS)]
    stage = AffinityReconciler(AffinityConfig(), FleetCaches())
    chance = Random(1)
    prompts = [tuple(chance.getrandbits(62) for _ in range(47)) for _ in range(100)]
    first = make_intent(backends=backends)
    intents = [
        msgspec.structs.replace(first, requirements=Requirements(model=MODEL, prompt_blocks=prompt), weights=[])
        for prompt in prompts
    ]
    body = b'{"model": "llama3", "messages": [{"role": "user", "content": "%b"}]}' % (b"lorem ip" * 6000)
    answered = [make_attempt(backend.name) for backend in backends]
    deciding, hashing = [], []
    for _ in range(ROUNDS):
        began = thread_time()
        for number, intent in enumerate(intents):
            backend = backends[number % SERVERS]
            stage.reconcile(intent)
            hold = stage.reserve(intent, backend)
            if hold is not None:
                hold.settle(answered[number % SERVERS])
        deciding.append(thread_time() - began)
        began = thread_time()
        for _ in intents:
            prompt_marks(msgspec.json.decode(body, type=RoutedBody), Marking((), lambda _: True))
        hashing.append(thread_time() - began)
        for intent in intents:
            intent.weights.clear()
    return min(deciding) / len(intents) * 1e6, min(hashing) / len(intents) * 1e6


def _dropped(*_: object) -> structlog.typing.ProcessorReturnValue:
    raise structlog.DropEvent


def _add_traces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trace", type=Path, action="append", metavar="FILE", help="a trace in Mooncake's format")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
