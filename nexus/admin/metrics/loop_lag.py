"""Measures by how much the event loop is late."""

import asyncio
from typing import Final

from nexus.observability.metrics.histogram import LAG_BUCKETS_S, Histogram

INTERVAL_S: Final = 0.5


class LoopLag:
    """Asks to be called at a time, again and again, and notes how much later it is."""

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
