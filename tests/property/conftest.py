"""The event loops on which properties are tested."""

import asyncio

import uvloop

BOTH = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
"""The loop of production, and the reference implementation."""


def pytest_asyncio_loop_factories(config, item):
    """Run on both where cancellation depends on the loop."""
    return BOTH if item.path.stem == "test_cancellation" else {"asyncio": asyncio.new_event_loop}
