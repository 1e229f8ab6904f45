"""Installs neighbours from Debian, PyPI and npm, outside the project's own environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nexus-bench"
TIMEOUT_S: Final = 600.0


class Apt(msgspec.Struct, frozen=True):
    """A package of Debian and its derivatives."""

    name: str
    folder: Path = Path("/usr/sbin")

    @property
    def text(self) -> str:
        return f"the Debian package {self.name}"

    def install(self) -> str:
        """Return what was done, or why not."""
        if shutil.which("apt-get") is None:
            return f"not installed, because this machine has no apt-get for {self.text}"
        if os.geteuid() != 0:
            return f"not installed, because only root may; run: apt-get install {self.name}"
        command = ["apt-get", "install", "--yes", "--no-install-recommends", self.name]
        return _run(command, self.text, {"DEBIAN_FRONTEND": "noninteractive"})


class Venv(msgspec.Struct, frozen=True):
    """A distribution of PyPI, in a virtual environment of its own."""

    name: str

    @property
    def text(self) -> str:
        return f"{self.name} from PyPI into {self._venv}"

    @property
    def folder(self) -> Path:
        return self._venv / "bin"

    @property
    def _venv(self) -> Path:
        return CACHE / self.name.partition("[")[0]

    def install(self) -> str:
        """Return what was done, or why not."""
        made = _run([sys.executable, "-m", "venv", str(self._venv)], "a virtual environment")
        if not self.folder.is_dir():
            return made
        return _run([str(self.folder / "pip"), "install", "--quiet", self.name], self.text)


class Npm(msgspec.Struct, frozen=True):
    """A package of npm, in a folder of its own."""

    name: str

    @property
    def text(self) -> str:
        return f"{self.name} from npm into {self._prefix}"

    @property
    def folder(self) -> Path:
        return self._prefix / "node_modules" / ".bin"

    @property
    def _prefix(self) -> Path:
        return CACHE / self.name.rpartition("/")[2]

    def install(self) -> str:
        """Return what was done, or why not."""
        npm = shutil.which("npm")
        if npm is None:
            return f"not installed, because this machine has no npm for {self.text}"
        self._prefix.mkdir(parents=True, exist_ok=True)
        return _run([npm, "install", "--silent", "--prefix", str(self._prefix), self.name], self.text)


Package = Apt | Venv | Npm


def _run(command: list[str], text: str, environ: dict[str, str] | None = None) -> str:
    try:
        ran = subprocess.run(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
            env={**os.environ, **(environ or {})},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not installed, because {command[0]} failed: {error}"
    if ran.returncode:
        return (
            f"not installed, because {command[0]} failed: {(ran.stderr.strip().splitlines() or ['without a word'])[-1]}"
        )
    return f"installed {text}"
