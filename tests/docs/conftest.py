"""The source of the documentation, with its generated tables."""

import importlib.util
import sys
from io import StringIO
from pathlib import Path

import pytest

from nexus.config.schema import LoggingConfig
from nexus.observability.logging import logs

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def reset_logging():
    """Undo the logging configuration of commands that run in this process: loggers cache it."""
    yield
    logs.configure(LoggingConfig(), stream=StringIO())
    logs.shutdown()


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def page():
    """Return a function that reads the source of a page, with its generated tables."""
    sys.path.append(str(ROOT / "docs"))
    tables = load("docs/generated.py").TABLES

    def read(name):
        lines = []
        for line in (ROOT / "docs" / f"{name}.rst").read_text().splitlines():
            head, _, table = line.partition(".. generated:: ")
            lines.append(tables[table]() if table and not head else line)
        return "\n".join(lines)

    return read


@pytest.fixture(scope="session")
def tutorial_plugin():
    return load("docs/tutorial/night/no_cloud_at_night.py")


def load(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
