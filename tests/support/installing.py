"""Installs the distributions of plugins, without the network: with uv where tox has it, which is faster than pip."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final


def install_plugin(source: Path, target: Path) -> None:
    """Build the distribution in *source*, and install it without its requirements into *target*, for ``PYTHONPATH``."""
    _install([source], "--target", str(target))


def install_plugins(sources: Iterable[Path]) -> None:
    """Install several distributions into the environment of this interpreter."""
    _install(sources)


def _install(sources: Iterable[Path], *options: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        # Built in a copy: setuptools leaves a build folder behind, and would put stale files into the next wheel.
        copies = [_copy(source, Path(scratch)) for source in sources]
        command = [*installer("install"), "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, *options, *copies], check=True)


def installer(command: str) -> list[str]:
    """Return the words of uv's pip, or of pip itself, for a *command* on the environment of this interpreter."""
    beside_tox = str(Path(__file__).parents[2] / ".venv" / "bin")
    uv = shutil.which("uv") or shutil.which("uv", path=beside_tox)
    if uv is None:
        return [sys.executable, "-m", "pip", command]
    return [uv, "pip", command, "--python", sys.executable]


def _copy(source: Path, scratch: Path) -> str:
    copy = scratch / source.name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", "dist", "*.egg-info", "__pycache__"))
    return str(copy)


def hide_distribution(name: str, target: Path) -> None:
    """Hide the distribution *name* from processes that have *target* on ``PYTHONPATH``."""
    (target / "sitecustomize.py").write_text(_HIDING.format(name=name))


_HIDING: Final = """\
from importlib import metadata

find = metadata.Distribution.discover

def discover(**asked):
    return (found for found in find(**asked) if found.metadata["Name"] != "{name}")

metadata.Distribution.discover = discover
"""
