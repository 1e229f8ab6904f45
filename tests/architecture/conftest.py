"""The project as text: its tracked files and its modules."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Module:
    """One module of the package, parsed."""

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
    return [Module(path) for path in sorted((ROOT / "nexus").rglob("*.py"))]


@pytest.fixture(scope="session")
def tracked_files():
    """Every file that belongs to the project, as git sees it, or of an unpacked sdist all there are."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        paths = [path for path in ROOT.rglob("*") if not {".tox", ".venv", "build"} & set(path.parts)]
    return [path for path in paths if path.is_file()]
