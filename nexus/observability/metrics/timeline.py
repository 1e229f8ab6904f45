"""The last hour of all exchanges in steps, and the last five minutes of each backend, for the dashboard's charts."""

from collections import deque
from collections.abc import Callable, Collection
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


class Timeline:
    """Observes every exchange; its memory is limited in time and to the backends of the fleet."""

    def __init__(self, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._step = self._now()
        self._points: deque[Point] = deque([Point()], maxlen=HOUR_STEPS)
        self._first_tokens: list[float] = []
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
        now = self._clock()
        if (step := int(now // STEP_S)) != self._step:
            self._advance(step)
        self._sum_up()
        began_unix_s = now_unix_s - (now - step * STEP_S)
        first = max(0, len(self._points) - steps)
        points = tuple(msgspec.structs.replace(point) for point in islice(self._points, first, None))
        return Hour(STEP_S, round(began_unix_s), points)

    def figures(self, backend: str) -> Figures:
        """Return the figures of the last five minutes of *backend*, by name."""
        recent = self._backends.get(backend)
        return recent.figures(self._now()) if recent is not None else Figures()

    def _now(self) -> int:
        return int(self._clock() // STEP_S)

    def _advance(self, step: int) -> None:
        self._sum_up()
        spend = self._points[-1].spend_usd
        for _ in range(min(step - self._step, HOUR_STEPS)):
            self._points.append(Point(spend_usd=spend))
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

    def figures(self, step: int) -> Figures:
        cells = [cell for cell in self._cells if cell.step > step - RECENT_STEPS]
        requests = sum(cell.requests for cell in cells)
        if not requests:
            return Figures()
        generating_s = sum(cell.generating_s for cell in cells)
        p50, p95 = _percentiles(self.first_tokens)
        return Figures(
            requests=requests,
            error_rate=sum(cell.failures for cell in cells) / requests,
            tokens_per_s=sum(cell.tokens for cell in cells) / generating_s if generating_s > 0 else 0.0,
            first_token_p50_s=p50,
            first_token_p95_s=p95,
        )


def _percentiles(samples: Collection[float]) -> tuple[float | None, float | None]:
    """Return the 50th and 95th percentiles of *samples* by the nearest rank."""
    if not samples:
        return None, None
    ranked = sorted(samples)
    return ranked[(len(ranked) - 1) // 2], ranked[max(0, -(-len(ranked) * 95 // 100) - 1)]
