"""Runs the small benchmarks, ``bench_*.py``: what single steps of a request cost, without a server or a socket."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from comparing.cores import Cores, starting_on

FOLDER: Final = Path(__file__).parents[1]
TIMEOUT_S: Final = 300.0


def run_all(cores: Cores) -> str:
    """Return what each of them prints: one line per step."""
    said = []
    for script in sorted(FOLDER.glob("bench_*.py")):
        with starting_on(cores.proxy):
            ran = subprocess.run(
                [sys.executable, script], stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT_S
            )
        said.append(f"{script.name}\n" + "".join(f"  {line}\n" for line in ran.stdout.splitlines()))
    return "\n".join(said)
