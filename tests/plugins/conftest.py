"""A third-party plugin, installed once for all tests of this folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installing import install_plugin

NIGHT = Path(__file__).parent / "nexus-proxy-night"


@pytest.fixture(scope="session")
def night_folder(tmp_path_factory) -> Path:
    """Give the folder into which nexus-proxy-night is installed; put it on ``PYTHONPATH`` of a started process."""
    folder = tmp_path_factory.mktemp("site")
    install_plugin(NIGHT, folder)
    return folder


@pytest.fixture
def python(night_folder):
    """Give what runs code in a process that has the plugin installed, and returns what it prints."""

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
