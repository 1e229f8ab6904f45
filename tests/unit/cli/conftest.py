"""Runs the command line in an empty folder."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nexus.cli.main import main
from nexus.config.schema import LoggingConfig
from nexus.observability.logging import logs


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return a function that runs a command in an empty working directory, without ``NEXUS_*`` variables."""
    monkeypatch.chdir(tmp_path)
    # Commands must not find a proxy that runs on this machine.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runner = CliRunner(env={"NEXUS_CONFIG": None, "XDG_RUNTIME_DIR": str(tmp_path)})

    def call(*words: str, env: dict[str, str] | None = None) -> Result:
        result = runner.invoke(main, words, prog_name="nexus-proxy", env=env)
        # The command has configured the log of this process.
        logs.configure(LoggingConfig(), stream=StringIO())
        logs.shutdown()
        return result

    return call
