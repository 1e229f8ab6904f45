"""Install plugins' distributions as a user would, but without the network."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final


def install_plugin(source: Path, target: Path) -> None:
    """Build and install the distribution in the folder *source* into *target*, which goes on ``PYTHONPATH``.

    What it requires is taken to be there already; *source* itself is left untouched.
    """
    _install([source], "--target", str(target))


def install_plugins(sources: Iterable[Path]) -> None:
    """Do the same with several, into the environment of this interpreter."""
    _install(sources)


def _install(sources: Iterable[Path], *options: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        # Built in a copy: setuptools leaves folders behind, and would put a stale one of them into the next wheel.
        copies = [_copy(source, Path(scratch)) for source in sources]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        # All of the command is ours or the caller's: a test that installs what it was told to.
        subprocess.run([*command, *options, *copies], check=True)


def _copy(source: Path, scratch: Path) -> str:
    copy = scratch / source.name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", "dist", "*.egg-info", "__pycache__"))
    return str(copy)


def hide_distribution(name: str, target: Path) -> None:
    """Let processes that have the folder *target* on ``PYTHONPATH`` believe that *name* is not installed."""
    (target / "sitecustomize.py").write_text(_HIDING.format(name=name))


_HIDING: Final = """\
from importlib import metadata

find = metadata.Distribution.discover

def discover(**asked):
    return (found for found in find(**asked) if found.metadata["Name"] != "{name}")

metadata.Distribution.discover = discover
"""
