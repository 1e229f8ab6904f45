"""On which loops properties are tested."""

import asyncio

import uvloop

BOTH = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
"""The one that serves in production, and the one whose code can be read."""


def pytest_asyncio_loop_factories(config, item):
    """Run on both where it matters what a loop does with a task that is cancelled."""
    return BOTH if item.path.stem == "test_cancellation" else {"asyncio": asyncio.new_event_loop}
