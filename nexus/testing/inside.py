"""A proxy that runs on the test's own event loop, so that a test can look at what it holds."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from nexus.app.composition.blueprint import draw, load_plugins
from nexus.app.running.nexus import Nexus
from nexus.config.loading import load
from nexus.testing.ports import free_port


@asynccontextmanager
async def nexus_inside(config: str, plugin_files: tuple[Path, ...] = ()) -> AsyncIterator[Nexus]:
    """Start a proxy with the TOML *config*; its port is chosen here unless it says one.

    :param plugin_files: what ``--plugin`` names.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nexus.toml"
        file.write_text(config)
        loaded = load(file, environ={}, overrides={"server.port": str(free_port())})
        nexus = Nexus(draw(loaded, load_plugins(loaded, plugin_files)))
        await nexus.start()
        try:
            yield nexus
        finally:
            await nexus.stop(drain_s=0.0)


def what_is_held(nexus: Nexus) -> dict[str, int]:
    """Return every gauge of *nexus* that must be zero when nothing is under way."""
    backends = nexus.fleet.snapshot.backends
    models = [figures for backend in backends for figures in backend.load.models.values()]
    return {
        "exchanges": nexus.plane.in_flight,
        "waiting": len(nexus.plane.line),
        "slots": sum(backend.load.in_flight for backend in backends),
        "probing": sum(backend.load.probing for backend in backends),
        "probing a model": sum(figures.probing for figures in models),
        "flowing": sum(figures.flowing for figures in models),
        "unanswered": sum(len(figures.first_token.waiting) + len(figures.whole.waiting) for figures in models),
    }


async def wait_until_nothing_is_held(nexus: Nexus, within_s: float = 2.0) -> None:
    """Wait until every gauge is zero. Raise AssertionError when that takes too long."""
    deadline = monotonic() + within_s
    while any(what_is_held(nexus).values()):
        if monotonic() > deadline:
            raise AssertionError(f"still held: {what_is_held(nexus)}")
        await asyncio.sleep(0.01)
