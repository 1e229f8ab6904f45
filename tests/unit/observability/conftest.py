"""Writes logs to a file and reads them back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from nexus.config.schema import LoggingConfig
from nexus.observability.logging import logs


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Log to a file; return a function that returns the lines so far."""
    path = tmp_path / "log"
    with path.open("w") as stream:
        logs.configure(LoggingConfig(format="json"), stream=stream)

        def lines(config: LoggingConfig | None = None) -> list[str]:
            if config is not None:
                logs.configure(config, stream=stream)
                return []
            logs.shutdown()
            return path.read_text().splitlines()

        yield lines
        logs.shutdown()


@pytest.fixture
def entries(written: Callable[..., list[str]]) -> Callable[[], list[dict]]:
    """Return a function that returns the decoded lines so far."""
    return lambda: [msgspec.json.decode(line) for line in written()]
