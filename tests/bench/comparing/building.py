"""Builds the two C programs: the fake upstream and the load."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import msgspec

SOURCES: Final = Path(__file__).parent


class Programs(msgspec.Struct, frozen=True):
    """Where the built programs are."""

    upstream: Path
    load: Path


def build(folder: Path) -> Programs | None:
    """Compile them into *folder*; None when this machine has no gcc."""
    gcc = shutil.which("gcc")
    if gcc is None:
        return None
    programs = Programs(upstream=folder / "upstream", load=folder / "load")
    for program in (programs.upstream, programs.load):
        source = SOURCES / f"{program.name}.c"
        subprocess.run([gcc, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source, "-lm"], check=True)
    return programs
