"""A load: how much is asked of a proxy, and what came back."""

import subprocess
from pathlib import Path
from typing import Final, Literal

import msgspec

from comparing.cores import Cores, starting_on

GRACE_S: Final = 30.0
"""How much longer than asked a load may take before it is ended; it ends itself sooner."""

Kind = Literal["chat", "agent", "image", "embeddings"]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one kind, of which no two are alike."""

    connections: int
    seconds: float
    kind: Kind = "chat"
    events: int = 0
    """0: whole answers; otherwise the length of a stream on average."""
    gap_us: int = 0
    """Between the events of a stream; 0: each is written at once, by itself."""
    spread_ms: int = 0
    """Over which the connections send their first requests."""
    rate: float = 0
    """Requests per second that arrive at random; 0: each connection sends its next one after the answer."""


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

    def put(self, load: Load, port: int, headers: str = "") -> Result:
        """Put *load* on the server that listens at *port*."""
        positions = [str(port), str(load.connections), str(load.seconds)]
        named = {
            "kind": load.kind,
            "events": load.events,
            "gap_us": load.gap_us,
            "spread_ms": load.spread_ms,
            "rate": load.rate,
            "headers": headers,
        }
        with starting_on(self._cores.others):
            ran = subprocess.run(
                [self._program, *positions, *(f"{name}={value}" for name, value in named.items())],
                stdout=subprocess.PIPE,
                check=True,
                timeout=load.seconds + GRACE_S,
            )
        return msgspec.json.decode(ran.stdout, type=Result)
