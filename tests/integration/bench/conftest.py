"""The benchmark is a program: its modules are found from its own folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "bench"))
