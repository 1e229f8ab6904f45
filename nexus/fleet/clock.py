"""The fleet's wall clock and timers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Timer(Protocol):
    """A scheduled call that can be cancelled, such as an ``asyncio.TimerHandle``."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls a function after a number of seconds, as ``loop.call_later`` does."""


def call_later(delay_s: float, call: Callable[[], None]) -> Timer:
    """Schedule *call* on the running loop."""
    return asyncio.get_running_loop().call_later(delay_s, call)


def unix_now() -> float:
    """Return the seconds since 1970, UTC: for instants that are shown, never for durations."""
    return datetime.now(UTC).timestamp()
