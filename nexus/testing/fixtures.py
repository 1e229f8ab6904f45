"""Fixtures for the tests of a plugin, none of which needs an event loop.

Enable them with ``pytest_plugins = ["nexus.testing.fixtures"]``.
"""

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
    """Return :func:`nexus.testing.builders.make_intent`.

    ``intent(received_at="2026-05-01T03:00", backends={"gpu-1": "local"})`` makes an intent.
    """
    return make_intent


@pytest.fixture
def capture_events() -> Iterator[Events]:
    """Capture log events, as dicts with ``event``, ``log_level`` and further keys."""
    # Loggers cache the level that an earlier test configured.
    logs.configure(LoggingConfig(level="debug"), stream=StringIO())
    try:
        with capture_logs() as entries:
            yield Events(entries)
    finally:
        logs.shutdown()


@pytest.fixture
def fake_backend() -> Iterator[Callable[..., FakeBackend]]:
    """Return a function that starts a simulated inference server.

    ``fake_backend("openai", zone="open", priority=0, models=("llama3",), ttft_s=0.2)``: fields of
    :class:`nexus.simulator.Settings` configure the server; all others go into its ``[[backends]]`` table.
    """
    with ExitStack() as running:

        def start(name: str = "gpu-1", **options: Any) -> FakeBackend:
            settings = {key: options.pop(key) for key in tuple(options) if key in Settings.__struct_fields__}
            simulator = Simulator(Settings(name=name, **settings))
            running.enter_context(in_thread(simulator))
            return FakeBackend(simulator, options)

        yield start


@pytest.fixture
def nexus() -> Iterator[Callable[..., RunningNexus]]:
    """Return a function that starts a proxy: ``nexus(gpu, cloud, config="[plugins.night]", plugins=[file])``.

    It loads all installed plugins and the given files.
    """
    with ExitStack() as running:

        def start(
            *backends: FakeBackend, config: str = "", plugins: tuple[Path, ...] | list[Path] = ()
        ) -> RunningNexus:
            return running.enter_context(nexus_in_thread(backends, f"{config}\n", tuple(plugins)))

        yield start
