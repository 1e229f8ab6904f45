"""Coding agents from npm, and a folder for their task."""

import os
from pathlib import Path

import pytest

from tests.support.coding_agents import Agents

FOLDER = "NEXUS_AGENTS"


@pytest.fixture(scope="session")
def agents():
    folder = os.environ.get(FOLDER)
    if not folder:
        pytest.skip(f"run tox -e agents, which installs agents and sets {FOLDER} to their folder")
    return Agents(Path(folder), os.environ["PATH"])


@pytest.fixture
def project(tmp_path):
    """The folder in which the agent works."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "seed.txt").write_text("a seed\n")
    return folder
