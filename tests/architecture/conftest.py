"""The tracked files and the modules of the project."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Module:
    """One module, parsed."""

    def __init__(self, path):
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text()
        self.tree = ast.parse(self.text)


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def modules():
    """The modules of the core and of the plugins."""
    packages = [ROOT / "nexus", *sorted((ROOT / "plugins").glob("*/nexus_*"))]
    return [Module(path) for package in packages for path in sorted(package.rglob("*.py"))]


@pytest.fixture(scope="session")
def plugin_folders():
    """The folders of the plugins."""
    return [path.parent for path in sorted((ROOT / "plugins").glob("*/setup.cfg"))]


@pytest.fixture(scope="session")
def tracked_files():
    """The files that git tracks, or all files of an unpacked sdist."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        paths = [path for path in ROOT.rglob("*") if not {".tox", ".venv", "build"} & set(path.parts)]
    return [path for path in paths if path.is_file()]
