"""Records the cost of this month every few seconds, for the chart of the last hour."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from nexus.observability.metrics.timeline import STEP_S, Timeline

LOOK_S: Final = STEP_S / 2


async def follow_spend(timeline: Timeline, spend: Callable[[], Any], *, look_s: float = LOOK_S) -> None:
    """Record what *spend* returns, US dollars or None, until cancelled."""
    while True:
        usd = spend()
        timeline.spent(None if usd is None else float(usd))
        await asyncio.sleep(look_s)
