"""What routing costs per request: ``python tests/bench/bench_routing.py``."""

import sys
from random import Random
from time import perf_counter

import msgspec

from nexus.config.schema import RoutingConfig
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.request import Requirements
from nexus.routing.assembly import build_router
from nexus.routing.decision import Reserved
from nexus.routing.decision_record import Request
from nexus.routing.router import Routing
from nexus.testing.builders import CHAT, MODEL, make_backend, make_fleet

BACKENDS = 10
REQUESTS = 20_000
ROUNDS = 5
OUTCOME = AttemptOutcome(backend="gpu-0", backend_id="gpu-0", model=MODEL, ending=Ending.FINISHED)
ASKED = Requirements(model=MODEL, prompt_tokens=800, max_tokens=200)


def main() -> None:
    for strategy in sys.argv[1:] or ("smart", "round_robin", "least_loaded", "priority_only", "random"):
        best_s = min(seconds(strategy) for _ in range(ROUNDS))
        print(f"{strategy:14} {best_s / REQUESTS * 1e6:6.1f} us per request, {BACKENDS} backends")  # noqa: T201 - output


def seconds(strategy: str) -> float:
    router = build_router(msgspec.convert({"strategy": strategy}, RoutingConfig), chance=Random(1))
    fleet = make_fleet(*(make_backend(f"gpu-{number}") for number in range(BACKENDS)))
    began = perf_counter()
    for _ in range(REQUESTS):
        routing = Routing(
            router, Request(id="r", endpoint=CHAT, requirements=ASKED, headers={}, received_unix_s=1_777_777_777.0)
        )
        reserved = routing.next(fleet)
        assert isinstance(reserved, Reserved)
        for hold in reserved.holds:
            hold.settle(OUTCOME)
    return perf_counter() - began


if __name__ == "__main__":
    main()
