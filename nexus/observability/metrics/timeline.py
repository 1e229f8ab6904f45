"""The last hour of all exchanges in steps, and the last five minutes of each backend, for the dashboard's charts."""

from array import array
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from time import monotonic
from typing import Final

import msgspec

from nexus.domain.outcome import Ending, ExchangeOutcome
from nexus.domain.statuses import FIRST_ERROR

_FINISHED: Final = Ending.FINISHED
_BACKEND_FAILED: Final = Ending.BACKEND_FAILED
"""Kept here: up to Python 3.11, each look at a member through its class takes as long as a call."""

STEP_S: Final = 10
HOUR_STEPS: Final = 360
RECENT_STEPS: Final = 30
"""The five minutes of a backend's figures."""
MAX_SAMPLES: Final = 128
"""Times to the first token that are kept for each backend, and for each step of the hour."""


class Point(msgspec.Struct, array_like=True):
    """One step of the hour; an array in JSON, because there are hundreds of them."""

    requests: int = 0
    errors: int = 0
    """Requests that failed through no fault of the client, including streams that broke off."""
    tokens: int = 0
    """Generated tokens as counted by the backends; for streams without a count, the number of content blocks."""
    first_token_p50_s: float | None = None
    first_token_p95_s: float | None = None
    spend_usd: float | None = None
    """This month's spend at the end of the step; None without a budget."""


class Hour(msgspec.Struct, frozen=True):
    """The last hour, oldest step first; the last step has not ended yet."""

    step_s: int
    until_unix_s: int
    """When the last step began."""
    points: tuple[Point, ...]


class Figures(msgspec.Struct, frozen=True):
    """One backend in the last five minutes."""

    requests: int = 0
    error_rate: float = 0.0
    """The share of its attempts that failed, 0 to 1."""
    tokens_per_s: float = 0.0
    """Generated tokens per second of generation."""
    first_token_p50_s: float | None = None
    first_token_p95_s: float | None = None


class Step(msgspec.Struct, array_like=True):
    """One step of one worker."""

    point: Point
    first_tokens: list[float]
    """The times of which its percentiles are."""


class Steps(msgspec.Struct, array_like=True):
    """The last steps of one worker, the oldest first. All processes of a machine have the same clock."""

    last: int
    """The number of the last one."""
    steps: list[Step]


class RecentSums(msgspec.Struct, array_like=True):
    """What the figures of one backend are made of."""

    requests: int = 0
    failures: int = 0
    tokens: int = 0
    generating_s: float = 0.0
    first_tokens: list[float] = []


def figures_of(several: Sequence[RecentSums]) -> Figures:
    """Return the figures of a backend, of which each worker has sums."""
    requests = sum(each.requests for each in several)
    if not requests:
        return Figures()
    generating_s = sum(each.generating_s for each in several)
    p50, p95 = _percentiles([time_s for each in several for time_s in each.first_tokens])
    return Figures(
        requests=requests,
        error_rate=sum(each.failures for each in several) / requests,
        tokens_per_s=sum(each.tokens for each in several) / generating_s if generating_s > 0 else 0.0,
        first_token_p50_s=p50,
        first_token_p95_s=p95,
    )


def merge_steps(several: Sequence[Steps]) -> Steps:
    """Return the steps of several workers as those of one, up to the last step of the first."""
    first, *others = several
    merged = {first.last - back: step for back, step in enumerate(reversed(first.steps))}
    for each in others:
        for back, step in enumerate(reversed(each.steps)):
            number = each.last - back
            if number in merged:
                merged[number] = _both(merged[number], step)
    return Steps(first.last, [merged[number] for number in sorted(merged)])


def _both(one: Step, two: Step) -> Step:
    first_tokens = one.first_tokens + two.first_tokens
    spend = [each.point.spend_usd for each in (one, two) if each.point.spend_usd is not None]
    point = Point(
        one.point.requests + two.point.requests,
        one.point.errors + two.point.errors,
        one.point.tokens + two.point.tokens,
        *_percentiles(first_tokens),
        # Of the same month, as each has read it from the store.
        max(spend, default=None),
    )
    return Step(point, first_tokens)


class Timeline:
    """Observes every exchange; its memory is limited in time and to the backends of the fleet."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._step = self._now()
        self._points: deque[Point] = deque([Point()], maxlen=HOUR_STEPS)
        self._first_tokens: list[float] = []
        self._before: deque[array[float]] = deque(maxlen=HOUR_STEPS - 1)
        """The times to the first token of the steps before this one: percentiles of workers cannot be merged."""
        self._backends: dict[str, _Recent] = {}

    def observe(self, outcome: ExchangeOutcome) -> None:
        if (step := int(self._clock() // STEP_S)) != self._step:
            self._advance(step)
        point = self._points[-1]
        point.requests += 1
        if (outcome.ending is not _FINISHED or outcome.status >= FIRST_ERROR) and outcome.is_failure:
            point.errors += 1
        is_stream = outcome.is_stream and bool(outcome.attempts) and outcome.attempts[-1].is_stream
        if is_stream and outcome.first_byte_s is not None and len(self._first_tokens) < MAX_SAMPLES:
            self._first_tokens.append(outcome.first_byte_s)
        for attempt in outcome.attempts:
            recent = self._backends.get(attempt.backend)
            if recent is None:
                recent = self._backends[attempt.backend] = _Recent()
            cell = recent.cell(step)
            cell.requests += 1
            if attempt.ending is _BACKEND_FAILED:
                cell.failures += 1
            tokens = attempt.usage.completion_tokens if attempt.usage is not None else attempt.content_blocks
            point.tokens += tokens
            if attempt.first_byte_s is None or not attempt.is_stream:
                continue
            recent.first_tokens.append(attempt.first_byte_s)
            cell.tokens += tokens
            cell.generating_s += (attempt.last_content_s or attempt.duration_s) - attempt.first_byte_s

    def spent(self, usd: float | None) -> None:
        """Record this month's spend in the current step."""
        if (step := self._now()) != self._step:
            self._advance(step)
        self._points[-1].spend_usd = usd

    def keep_only(self, backends: Collection[str]) -> None:
        """Forget the backends that are not among *backends*, by name."""
        self._backends = {name: recent for name, recent in self._backends.items() if name in backends}

    def hour(self, now_unix_s: float, *, steps: int = HOUR_STEPS) -> Hour:
        """Return the last *steps* of the hour.

        :param now_unix_s: the present time.
        """
        self._catch_up()
        first = max(0, len(self._points) - steps)
        points = tuple(msgspec.structs.replace(point) for point in islice(self._points, first, None))
        return self._hour(now_unix_s, self._step, points)

    def hour_of(self, now_unix_s: float, several: Sequence[Steps], *, steps: int = HOUR_STEPS) -> Hour:
        """Return the last *steps* of the hour of several workers."""
        merged = merge_steps(several)
        return self._hour(now_unix_s, merged.last, tuple(step.point for step in merged.steps[-steps:]))

    def steps(self, most: int = HOUR_STEPS) -> Steps:
        """Return the last *most* steps, for other workers."""
        self._catch_up()
        points = list(self._points)[-most:]
        times = [*self._before, self._first_tokens][-len(points) :]
        return Steps(
            self._step, [Step(msgspec.structs.replace(p), list(t)) for p, t in zip(points, times, strict=True)]
        )

    def recent(self) -> dict[str, RecentSums]:
        """Return the sums of the last five minutes by the names of backends, for other workers."""
        step = self._now()
        return {name: recent.sums(step) for name, recent in self._backends.items()}

    def _catch_up(self) -> None:
        if (step := self._now()) != self._step:
            self._advance(step)
        self._sum_up()

    def _hour(self, now_unix_s: float, last_step: int, points: tuple[Point, ...]) -> Hour:
        began_unix_s = now_unix_s - (self._clock() - last_step * STEP_S)
        return Hour(STEP_S, round(began_unix_s), points)

    def figures(self, backend: str) -> Figures:
        """Return the figures of the last five minutes of *backend*, by name."""
        recent = self._backends.get(backend)
        return figures_of((recent.sums(self._now()),)) if recent is not None else Figures()

    def _now(self) -> int:
        return int(self._clock() // STEP_S)

    def _advance(self, step: int) -> None:
        self._sum_up()
        spend = self._points[-1].spend_usd
        times = array("d", self._first_tokens)
        for _ in range(min(step - self._step, HOUR_STEPS)):
            self._points.append(Point(spend_usd=spend))
            self._before.append(times)
            times = _NO_TIMES
        self._first_tokens.clear()
        self._step = step

    def _sum_up(self) -> None:
        point = self._points[-1]
        point.first_token_p50_s, point.first_token_p95_s = _percentiles(self._first_tokens)


class _Cell:
    __slots__ = ("failures", "generating_s", "requests", "step", "tokens")

    def __init__(self, step: int) -> None:
        self.step = step
        self.requests = 0
        self.failures = 0
        self.tokens = 0
        self.generating_s = 0.0


class _Recent:
    """The last five minutes of one backend."""

    __slots__ = ("_cells", "first_tokens")

    def __init__(self) -> None:
        self._cells: deque[_Cell] = deque(maxlen=RECENT_STEPS)
        self.first_tokens: deque[float] = deque(maxlen=MAX_SAMPLES)

    def cell(self, step: int) -> _Cell:
        cells = self._cells
        if not cells or cells[-1].step != step:
            cells.append(_Cell(step))
        return cells[-1]

    def sums(self, step: int) -> RecentSums:
        cells = [cell for cell in self._cells if cell.step > step - RECENT_STEPS]
        return RecentSums(
            sum(cell.requests for cell in cells),
            sum(cell.failures for cell in cells),
            sum(cell.tokens for cell in cells),
            sum(cell.generating_s for cell in cells),
            list(self.first_tokens) if cells else [],
        )


_NO_TIMES: Final = array("d")


def _percentiles(samples: Collection[float]) -> tuple[float | None, float | None]:
    """Return the 50th and 95th percentiles of *samples* by the nearest rank."""
    if not samples:
        return None, None
    ranked = sorted(samples)
    return ranked[(len(ranked) - 1) // 2], ranked[max(0, -(-len(ranked) * 95 // 100) - 1)]
