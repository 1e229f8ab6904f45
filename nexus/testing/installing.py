"""Install a plugin's distribution as a user would, but into a folder of its own and without the network."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def install_plugin(source: Path, target: Path) -> None:
    """Build and install the distribution in the folder *source* into *target*, which goes on ``PYTHONPATH``.

    What it requires is taken to be there already; *source* itself is left untouched.
    """
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / source.name
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", "dist", "*.egg-info", "__pycache__"))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        # All of the command is ours or the caller's: a test that installs what it was told to.
        subprocess.run([*command, "--target", str(target), str(copy)], check=True)  # noqa: S603 - see above
