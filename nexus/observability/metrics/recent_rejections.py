"""Counts the requests refused in the last five minutes by stage and error code, with the last reason of each."""

from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

import msgspec

from nexus.domain.outcome import Ending, ExchangeOutcome, Result

_FINISHED: Final = Ending.FINISHED
"""Kept here: up to Python 3.11, each look at a member through its class takes as long as a call."""

STEP_S: Final = 10
STEPS: Final = 30
MAX_KINDS: Final = 100
"""Stages and codes are few, but a plugin may invent them; beyond the limit, they are counted together."""
MAX_REASON: Final = 300

Kind = tuple[str | None, str | None]
"""A stage and an error code."""


class Rejections(msgspec.Struct, frozen=True):
    """The refused requests of one stage and error code."""

    by: str | None
    """The stage, or ``queue``; null for requests that no stage refused."""
    code: str | None
    requests: int
    """In the last five minutes."""
    reason: str
    """Of the last one."""
    last_at: int
    """When the last one arrived, in Unix seconds."""


def _most_first(kind: Rejections) -> tuple[int, str, str]:
    return -kind.requests, kind.by or "", kind.code or ""


def merge_rejections(several: Iterable[Iterable[Rejections]]) -> list[Rejections]:
    """Return the refusals of several workers, the most frequent kind first."""
    kinds: dict[Kind, Rejections] = {}
    for each in (kind for rejections in several for kind in rejections):
        before = kinds.get((each.by, each.code))
        if before is not None:
            last = max(before, each, key=lambda kind: kind.last_at)
            requests = before.requests + each.requests
            kinds[each.by, each.code] = msgspec.structs.replace(last, requests=requests)
        else:
            kinds[each.by, each.code] = each
    return sorted(kinds.values(), key=_most_first)


class RecentRejections:
    """Observes every exchange; its memory is limited in time and in kinds of refusals."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._steps: deque[tuple[int, dict[Kind, int]]] = deque(maxlen=STEPS)
        self._last: dict[Kind, tuple[str, int]] = {}

    def observe(self, outcome: ExchangeOutcome) -> None:
        if outcome.ending is _FINISHED or outcome.result is not Result.REJECTED:
            return
        kind = (outcome.rejected_by, outcome.code)
        if kind not in self._last and len(self._last) >= MAX_KINDS:
            self._forget_old()
            kind = kind if len(self._last) < MAX_KINDS else (None, None)
        step = self._now()
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append((step, {}))
        counts = self._steps[-1][1]
        counts[kind] = counts.get(kind, 0) + 1
        reason = outcome.rejected_because or outcome.error_message or ""
        self._last[kind] = (reason[:MAX_REASON], int(outcome.received_at))

    def last_five_minutes(self) -> list[Rejections]:
        """Return the refusals by kind, the most frequent kind first."""
        self._forget_old()
        counts = self._counts()
        found = [Rejections(by, code, counts[by, code], reason, at) for (by, code), (reason, at) in self._last.items()]
        return sorted(found, key=_most_first)

    def _forget_old(self) -> None:
        counts = self._counts()
        self._last = {kind: last for kind, last in self._last.items() if kind in counts}

    def _counts(self) -> dict[Kind, int]:
        oldest = self._now() - STEPS
        counts: dict[Kind, int] = {}
        for step, kinds in self._steps:
            if step > oldest:
                for kind, count in kinds.items():
                    counts[kind] = counts.get(kind, 0) + count
        return counts

    def _now(self) -> int:
        return int(self._clock() // STEP_S)
