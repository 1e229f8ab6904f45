"""A load: how much is asked of a proxy, and what came back."""

import subprocess
from pathlib import Path
from typing import Final

import msgspec

from comparing.cores import Cores, starting_on

GRACE_S: Final = 30.0
"""How much longer than asked a load may take before it is ended; it ends itself sooner."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A closed loop: each connection sends a request, reads the whole answer, and sends the next."""

    connections: int
    seconds: float
    events: int = 0
    """0: whole answers; otherwise the length of each stream."""
    gap_us: int = 0
    """Between the events of a stream; 0: each is written at once, by itself."""
    spread_ms: int = 0
    """Over which the connections send their first requests."""
    prompt_bytes: int = 800


class Times(msgspec.Struct, frozen=True):
    """Quantiles, in milliseconds."""

    p50: float
    p99: float


class Result(msgspec.Struct, frozen=True):
    """What the load program says."""

    requests: int
    failed: int
    events: int
    seconds: float
    total: Times | None
    first_event: Times | None
    event_delay: Times | None


class Generator:
    """The load program, on its core."""

    def __init__(self, program: Path, cores: Cores) -> None:
        self._program = program
        self._cores = cores

    def put(self, load: Load, port: int) -> Result:
        """Put *load* on whoever listens at *port*."""
        numbers = (
            port,
            load.connections,
            load.seconds,
            load.events,
            load.gap_us,
            load.prompt_bytes,
            load.spread_ms,
        )
        with starting_on(self._cores.others):
            ran = subprocess.run(
                [self._program, *map(str, numbers)],
                stdout=subprocess.PIPE,
                check=True,
                timeout=load.seconds + GRACE_S,
            )
        return msgspec.json.decode(ran.stdout, type=Result)
