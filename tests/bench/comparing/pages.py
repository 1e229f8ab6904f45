"""What the pages of a large fleet cost, in this process."""

from comparing.cores import starting_on
from comparing.figures import Figure
from comparing.lane import Bench, Rounds
from comparing.proxies import NEXUS

MB = 1_000_000


def pages(bench: Bench, number: int) -> Rounds:
    """Measure /v1/stats and /metrics of 100 backends with 20 models each, all of which have served requests."""
    # Here, because it is a program too.
    from bench_metrics import page_costs

    del number
    with starting_on(bench.cores.proxy):
        stats, metrics = page_costs()
    return {
        NEXUS: {
            Figure.STATS_PAGE: stats.all_s * 1e3,
            Figure.METRICS_STEP: metrics.held_s * 1e3,
            Figure.METRICS_SIZE: metrics.size_bytes / MB,
        }
    }
