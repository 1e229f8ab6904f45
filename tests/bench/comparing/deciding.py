"""What a decision costs, in this process, with the stages of all plugins."""

from typing import Final

from comparing.cores import starting_on
from comparing.figures import Figure
from comparing.lane import Bench, Rounds
from comparing.proxies import NEXUS

BACKENDS: Final = {Figure.DECISION_2: 2, Figure.DECISION_20: 20, Figure.DECISION_100: 100}
ROUNDS_PER_ROUND: Final = 3


def decisions(bench: Bench, number: int) -> Rounds:
    """Measure decisions about fleets of different sizes."""
    # Here, because stages.py imports this package too.
    from stages import decision_us

    del number
    with starting_on(bench.cores.proxy):
        found = {figure: decision_us(backends, ROUNDS_PER_ROUND) for figure, backends in BACKENDS.items()}
        found[Figure.DECISION_LONG] = decision_us(max(BACKENDS.values()), ROUNDS_PER_ROUND, has_blocks=True)
    return {NEXUS: found}
