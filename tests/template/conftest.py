"""Generates plugins from the template, and builds the wheel of the core."""

import shutil
import subprocess
import sys
from pathlib import Path

import copier
import pytest

ROOT = Path(__file__).parents[2]

ANSWERS = {
    "name": "night",
    "description": "Keeps requests off cloud backends outside office hours",
    "author": "Jane Doe",
}


@pytest.fixture
def generate(tmp_path):
    """Return a function that generates a plugin from answers, and returns its folder."""

    def make(**answers):
        folder = tmp_path / "nexus-proxy-night"
        template = str(ROOT / "contrib/plugin-template")
        copier.run_copy(template, str(folder), data={**ANSWERS, **answers}, defaults=True, quiet=True)
        return folder

    return make


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """The folder with the wheel of the core, which serves as an index."""
    source = tmp_path_factory.mktemp("core")
    shutil.copytree(ROOT / "nexus", source / "nexus", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, source)
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(command, check=True)
    return folder
