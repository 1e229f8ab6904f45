"""Measures the lag of the event loop."""

import asyncio
from typing import Final

from nexus.observability.metrics.histogram import LAG_BUCKETS_S, Histogram

INTERVAL_S: Final = 0.5


class LoopLag:
    """Sleeps for a fixed time, again and again, and records how much later it wakes up."""

    def __init__(self) -> None:
        self.lags = Histogram(LAG_BUCKETS_S)
        """In seconds."""

    async def watch(self) -> None:
        """Measure until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + INTERVAL_S
            await asyncio.sleep(INTERVAL_S)
            self.lags.observe(max(0.0, clock() - due))
