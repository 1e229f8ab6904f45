"""Finds workers that have more requests than their share, and how many connections each of them should close.

The kernel spreads new connections evenly, but some stay for hours and carry many more requests than others. A worker
that is far above the mean closes connections after a request; their clients connect again, to any worker.
"""

from collections.abc import Mapping
from typing import Final

MARGIN: Final = 0.3
"""How far above the mean a worker may be, as a part of it."""
MARGIN_REQUESTS: Final = 8.0
"""What it may be above the mean in addition: few connections are never spread evenly."""
PART_AT_ONCE: Final = 0.5
"""How much of the surplus is closed before requests are counted again: some clients return to the same worker."""


def connections_to_close(requests: Mapping[int, float]) -> dict[int, int]:
    """Return for each worker that is above its share how many connections to close.

    :param requests: how many requests each worker has, on average.
    """
    if len(requests) < 2:
        return {}
    mean = sum(requests.values()) / len(requests)
    limit = mean * (1 + MARGIN) + MARGIN_REQUESTS
    return {worker: max(1, int((own - mean) * PART_AT_ONCE)) for worker, own in requests.items() if own > limit}
