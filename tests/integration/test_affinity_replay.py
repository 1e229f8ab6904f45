"""On a trace of conversations, affinity finds nearly all that is cached, spreads the work, and answers sooner."""

from itertools import count

import pytest

from tests.support.replay import (
    TraceRequest,
    VirtualClock,
    ideal_share,
    make_trace,
    replay,
    router_with,
)

pytest.importorskip("nexus_affinity")

from nexus_affinity.config import AffinityConfig
from nexus_affinity.fleet_caches import FleetCaches
from nexus_affinity.reconciler import AffinityReconciler

TRACE = make_trace(1500)


def replayed(trace, strategy="smart", *, seed=1, with_affinity=True, **fields):
    clock = VirtualClock()
    stage = AffinityReconciler(AffinityConfig(), FleetCaches(), clock) if with_affinity else None
    return replay(trace, router_with(stage, clock, strategy=strategy, seed=seed), clock, **fields)


# With least_loaded, the operator has chosen to look at the load before all else.
@pytest.mark.parametrize(
    ("strategy", "least"), [("smart", 0.95), ("round_robin", 0.95), ("priority_only", 0.95), ("least_loaded", 0.9)]
)
def test_nearly_all_that_is_cached_is_found_and_the_work_is_spread(strategy, least):
    result = replayed(TRACE, strategy)

    assert result.hit_share >= least * ideal_share(TRACE)
    assert result.imbalance <= 1.15


@pytest.mark.parametrize("seed", range(3))
def test_this_holds_for_other_conversations_too(seed):
    trace = make_trace(1500, seed=seed)

    result = replayed(trace, seed=seed)

    assert result.hit_share >= 0.95 * ideal_share(trace)
    assert result.imbalance <= 1.15


@pytest.mark.parametrize("strategy", ["smart", "round_robin", "least_loaded"])
def test_answers_begin_sooner_than_with_the_strategy_alone(strategy):
    with_affinity = replayed(TRACE, strategy, cache_blocks=2000)
    alone = replayed(TRACE, strategy, cache_blocks=2000, with_affinity=False)

    assert with_affinity.ttft_percentile(95) < 0.8 * alone.ttft_percentile(95)
    assert with_affinity.ttft_percentile(50) < 0.8 * alone.ttft_percentile(50)


def test_engines_that_do_not_report_their_cache_are_used_as_well():
    result = replayed(TRACE, cache_blocks=2000, tells_cache=False)

    assert result.hit_share >= 0.95 * ideal_share(TRACE)


@pytest.mark.parametrize("servers", [2, 4, 8])
def test_one_prompt_for_all_does_not_go_to_one_backend(servers):
    ids = count()
    shared = tuple(range(-24, 0))
    trace = [TraceRequest(at / servers / 2, 24 * 512, 200, shared) for at in range(600)]
    same_start = [
        TraceRequest(at / servers / 2, 48 * 512, 200, (*shared, *[next(ids) for _ in range(24)])) for at in range(600)
    ]

    assert replayed(trace, servers=servers).imbalance <= 1.15
    assert replayed(same_start, servers=servers).imbalance <= 1.15


@pytest.mark.parametrize(("faster", "most"), [(1, 0.95), (2, 0.75)])
def test_a_slow_server_gets_the_less_the_more_there_is_to_do(faster, most):
    trace = [request._replace(at_s=request.at_s / faster) for request in TRACE]

    assert replayed(trace, cache_blocks=2000, first_takes=3.0).of_first < most


def test_a_slower_stream_of_requests_loses_nothing():
    trace = [request._replace(at_s=request.at_s * 20) for request in TRACE]

    assert replayed(trace).hit_share >= 0.95 * ideal_share(trace)
