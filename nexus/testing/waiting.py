"""Waits for a condition in a test."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], within_s: float = 5.0) -> T:
    """Poll *condition* until it returns something true, and return that. Raise AssertionError on timeout."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition did not become true within {within_s} s")
        time.sleep(0.01)
    return found


async def eventually(
    condition: Callable[[], object],
    failure: Callable[[], str] = lambda: "the condition did not become true",
    within_s: float = 2.0,
) -> None:
    """Poll *condition* on the event loop until it is true. Raise AssertionError with *failure* on timeout."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(failure())
        await asyncio.sleep(0.005)
