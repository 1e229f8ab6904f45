"""Fixtures for the tests of a plugin: ``pytest_plugins = ["nexus.testing.fixtures"]``. None needs an event loop."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nexus.config.schema import LoggingConfig
from nexus.observability.logging import logs
from nexus.routing.intent import RoutingIntent
from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.builders import make_intent
from nexus.testing.events import Events
from nexus.testing.proxy import FakeBackend, RunningNexus, nexus_in_thread


@pytest.fixture
def intent() -> Callable[..., RoutingIntent]:
    """Give what makes an intent: ``intent(received_at="2026-05-01T03:00", backends={"gpu-1": "local"})``.

    See :func:`nexus.testing.builders.make_intent` for all that can be said.
    """
    return make_intent


@pytest.fixture
def capture_events() -> Iterator[Events]:
    """Give the log events from now on: dicts with ``event``, ``log_level`` and what else was said."""
    # Whoever logged before may have asked for less than everything, and loggers remember that.
    logs.configure(LoggingConfig(level="debug"), stream=StringIO())
    try:
        with capture_logs() as entries:
            yield Events(entries)
    finally:
        logs.shutdown()


@pytest.fixture
def fake_backend() -> Iterator[Callable[..., FakeBackend]]:
    """Give what starts an inference server that isn't there.

    ``fake_backend("openai", zone="open", priority=0, models=("llama3",), ttft_s=0.2)``: what a field of
    :class:`nexus.simulator.Settings` is named like is said to the server, all else in the proxy's ``[[backends]]``.
    """
    with ExitStack() as running:

        def start(name: str = "gpu-1", **said: Any) -> FakeBackend:
            settings = {key: said.pop(key) for key in tuple(said) if key in Settings.__struct_fields__}
            simulator = Simulator(Settings(name=name, **settings))
            running.enter_context(in_thread(simulator))
            return FakeBackend(simulator, said)

        yield start


@pytest.fixture
def nexus() -> Iterator[Callable[..., RunningNexus]]:
    """Give what starts a proxy on the loopback: ``nexus(gpu, cloud, config="[plugins.night]", plugins=[file])``.

    Plugins that are installed are loaded; *plugins* are files of further ones.
    """
    with ExitStack() as running:

        def start(
            *backends: FakeBackend, config: str = "", plugins: tuple[Path, ...] | list[Path] = ()
        ) -> RunningNexus:
            return running.enter_context(nexus_in_thread(backends, f"{config}\n", tuple(plugins)))

        yield start
