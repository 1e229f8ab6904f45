"""The fleet's wall clock, timers and waits."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import UTC, datetime

Later = Callable[[float, Callable[[], None]], asyncio.TimerHandle]
"""Calls a function after a number of seconds, as ``loop.call_later`` does."""


def call_later(delay_s: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    """Schedule *call* on the running loop."""
    return asyncio.get_running_loop().call_later(delay_s, call)


async def wait_for_event(event: asyncio.Event, within_s: float) -> None:
    """Wait until *event* is set, but not longer than *within_s*."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await event.wait()


def unix_now() -> float:
    """Return the seconds since 1970, UTC: for instants that are shown, never for durations."""
    return datetime.now(UTC).timestamp()
