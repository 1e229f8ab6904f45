"""A third-party plugin, installed once for these tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installing import install_plugin

NIGHT = Path(__file__).parent / "nexus-proxy-night"


@pytest.fixture(scope="session")
def night_folder(tmp_path_factory) -> Path:
    """The folder into which nexus-proxy-night is installed, for the ``PYTHONPATH`` of a process."""
    folder = tmp_path_factory.mktemp("site")
    install_plugin(NIGHT, folder)
    return folder


@pytest.fixture
def python(night_folder):
    """Return a function that runs code in a process with the plugin, and returns its output."""

    def run(code: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(night_folder)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    return run


@pytest.fixture
def night(night_folder, monkeypatch):
    """Install the plugin in this process, for one test."""
    monkeypatch.syspath_prepend(str(night_folder))
    yield
    sys.modules.pop("nexus_night", None)
