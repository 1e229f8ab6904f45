"""Reports how attempts ended to the process that has the fleet: failures at once, successes if they matter."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from nexus.domain.backend import Backend
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.statuses import FIRST_ERROR
from nexus.fleet.clock import Later
from nexus.fleet.health.evidence import Evidence, cooling_of
from nexus.fleet.health.passive import observe_attempt
from nexus.fleet.sharing.messages import SentOutcome

BATCH_S: Final = 0.02
"""How long a good answer may wait to be reported with others."""
SAMPLE_S: Final = 1.0
"""Of the good answers of a backend that has not failed, one in this time is reported: they show how long answers take,
by which the other process judges how long a silence is usual."""
MAX_BATCH: Final = 500

_FINISHED: Final = Ending.FINISHED

Weigh = Callable[[Backend, AttemptOutcome, float | None, float], Evidence]


class OutcomeReports:
    """Records each attempt in the load of this process, and reports those that can change what the fleet knows."""

    def __init__(
        self,
        weigh: Weigh,
        send: Callable[[Sequence[SentOutcome]], None],
        *,
        later: Later,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param weigh: returns what an attempt that did not end well proves."""
        self.counts_successes: dict[str, bool] = {}
        """By the id of a backend, whether its good answers make a difference now, because it has failed before."""
        self._weigh = weigh
        self._send = send
        self._later = later
        self._clock = clock
        self._sample_at: dict[str, float] = {}
        self._unsent: list[SentOutcome] = []

    def add(self, backend: Backend, outcome: AttemptOutcome, retry_after_s: float | None) -> None:
        """Record the outcome of one attempt."""
        now = self._clock()
        if outcome.ending is _FINISHED and outcome.fault is None and (outcome.status or FIRST_ERROR) < FIRST_ERROR:
            evidence = "good"
        else:
            cooling_s = None if retry_after_s is None else cooling_of(outcome, retry_after_s)
            evidence = self._weigh(backend, outcome, cooling_s, now)
        is_good = evidence == "good"
        observe_attempt(backend.load, outcome, is_good=is_good, is_bad=evidence == "bad", now=now)
        if not is_good:
            # Until the other process says otherwise.
            self.counts_successes[backend.id] = True
        elif not self.counts_successes.get(backend.id):
            if now < self._sample_at.get(backend.id, now):
                return
            self._sample_at[backend.id] = now + SAMPLE_S
        self._unsent.append(SentOutcome(backend.id, outcome, retry_after_s))
        if not is_good or len(self._unsent) >= MAX_BATCH:
            self.send()
        elif len(self._unsent) == 1:
            self._later(BATCH_S, self.send)

    def send(self) -> None:
        """Report what waits for more."""
        if self._unsent:
            outcomes, self._unsent = self._unsent, []
            self._send(outcomes)

    def forget(self, backend_id: str) -> None:
        """Forget a backend that has left the fleet."""
        self.counts_successes.pop(backend_id, None)
        self._sample_at.pop(backend_id, None)
