"""The live figures of one model on one backend; they age, so that an idle backend is not judged by its past."""

from dataclasses import dataclass, field
from math import log2
from typing import Final

from nexus.domain.changes import CHANGES
from nexus.domain.request import Requirements, TokenUsage

MAX_TRACKED_MODELS: Final = 256
"""Per backend; beyond that, the least recently used model is dropped."""
HALF_LIFE_S: Final = 60.0
"""A measurement loses half its weight in this time."""
FRESH_S: Final = 0.1
"""A younger measurement has its full weight, which saves computing a power for each candidate of each request."""
MAX_WEIGHT: Final = 16.0
"""The greatest total weight of all measurements."""
MAX_STEP: Final = 3.0
"""In doublings: an answer that took longer than eight times the mean counts as eight times the mean."""
MAX_LONGEST: Final = 4.0
"""In doublings: the longest answer counts as at most sixteen times the mean."""
LONGEST_ANSWER_HALF_LIFE_S: Final = 300.0
"""In this time, the longest answer moves half way to the mean, in doublings."""
FAILURE_HALF_LIFE_S: Final = 10.0
MIN_FAILURES: Final = 0.5
"""A lower count is taken as 0, so a single failure is forgotten after one half-life."""
SHORTEST_MS: Final = 1.0
ANSWER_TOKEN_WEIGHT: Final = 16
"""Prompt tokens that take about as long as one token of an answer: a forward pass reads many tokens of a prompt, and
yields one of an answer."""
FIRST_ANSWER_TOKENS: Final = 256
"""The expected length of an answer before any was counted."""
MAX_COUNTED: Final = 32
"""Requests that lengths are averaged over; older ones lose their weight."""
PRIOR_TOKENS: Final = 256
"""Prompt tokens for which the estimate counts as right; chat templates add much to very short prompts."""
MAX_SIZE_CLASS: Final = 12
"""Of requests of 4 million tokens and more."""
MIN_RATIO: Final = 0.25
MAX_RATIO: Final = 8.0
NEW_LOAD_WEIGHT: Final = 0.3
"""The weight of a new measurement of a load, right after the last one."""
LOAD_HALF_LIFE_S: Final = 3600.0
"""In this time, the mean of earlier loads loses half of the rest."""
NEW_ANSWER_WEIGHT: Final = 0.1


def size_class(tokens: int) -> int:
    """Return the class of a request of about *tokens* tokens; each class is four times as wide as the one before."""
    # Not min(), here and below: a call costs as much as ten comparisons.
    size = (tokens.bit_length() + 1) >> 1
    return size if size < MAX_SIZE_CLASS else MAX_SIZE_CLASS


OVERHEAD_TOKENS: Final = 128
"""What a request costs besides its tokens, such as scheduling, takes about as long as these."""
_MIDDLES: Final = tuple(
    [log2(OVERHEAD_TOKENS + 4.0**size / 2 if size else OVERHEAD_TOKENS) for size in range(MAX_SIZE_CLASS + 1)]
)
"""Of each size class, the middle: the logarithm to base 2 of its tokens and the overhead."""


@dataclass(slots=True, eq=False)
class Mean:
    """An ageing geometric mean of latencies."""

    weight: float = 0.0
    """The total weight of the measurements, at the time of the last one."""
    log_sum: float = 0.0
    """The weighted sum of log2 of their milliseconds."""
    measured_at: float = 0.0
    """Monotonic seconds."""

    def aged(self, now: float) -> tuple[float, float]:
        """Return weight and sum, aged to *now*."""
        age_s = now - self.measured_at
        if age_s < FRESH_S:
            return self.weight, self.log_sum
        left = 2.0 ** (-age_s / HALF_LIFE_S)
        return self.weight * left, self.log_sum * left

    def add(self, log_ms: float, now: float) -> None:
        """Add one measurement, the logarithm to base 2 of milliseconds."""
        weight = self.weight
        if weight:
            highest = self.log_sum / weight + MAX_STEP
            log_ms = log_ms if log_ms < highest else highest
            left = 2.0 ** ((self.measured_at - now) / HALF_LIFE_S)
            if weight * left > MAX_WEIGHT - 1.0:
                left = (MAX_WEIGHT - 1.0) / weight
            self.weight = weight * left + 1.0
            self.log_sum = self.log_sum * left + log_ms
        else:
            self.weight, self.log_sum = 1.0, log_ms
        self.measured_at = now


@dataclass(slots=True, eq=False)
class Pace(Mean):
    """The mean of all latencies, in which a few slow answers do not outweigh many others, and what else they show."""

    longest: float = 0.0
    """The longest recent answer, as log2 of its milliseconds; meaningless before the first measurement."""
    longest_limit: int | None = None
    """The ``max_tokens`` of the request that had the longest answer; None when it had none."""
    by_size: dict[int, Mean] = field(default_factory=dict)
    """The means of requests of each size class, by which backends are compared; see :func:`size_class`."""
    waiting: dict[object, float] = field(default_factory=dict)
    """The requests that have received no content yet, oldest first, each with the time since which it waits."""
    moved_from: float = 0.0
    """Since when the request waited that was moved to another backend; of several in one silence, the oldest."""

    def mean_ms(self) -> int | None:
        """Return the mean in milliseconds, None before the first measurement."""
        return round(2.0 ** (self.log_sum / self.weight)) if self.weight else None

    def observe(self, seconds: float, now: float, max_tokens: int | None = None, tokens: int = 0) -> None:
        """Record one measurement of a request with this limit of tokens.

        :param tokens: its size, by which it is compared with others.
        """
        ms = seconds * 1000
        log_ms = log2(ms if ms > SHORTEST_MS else SHORTEST_MS)
        size = size_class(tokens)
        like = self.by_size.get(size)
        if like is None:
            like = self.by_size[size] = Mean()
        # Within a class, latencies are scaled to its middle in proportion to the tokens.
        like.add(log_ms - log2(tokens + OVERHEAD_TOKENS) + _MIDDLES[size], now)
        if self.weight:
            mean = self.log_sum / self.weight
            left = 2.0 ** ((self.measured_at - now) / LONGEST_ANSWER_HALF_LIFE_S)
            aged, highest = mean + (self.longest - mean) * left, mean + MAX_LONGEST
            longest = log_ms if log_ms < highest else highest
            if longest >= aged:
                self.longest, self.longest_limit = longest, max_tokens
            else:
                self.longest = aged
        else:
            self.longest, self.longest_limit = log_ms, max_tokens
        self.add(log_ms, now)


@dataclass(slots=True, eq=False)
class RequestSize:
    """How large requests for one model are, in tokens, by what earlier ones came to."""

    estimated_tokens: float = 0.0
    """The ageing sum of the estimated lengths of prompts whose length the backend has reported."""
    prompt_tokens: float = 0.0
    """The ageing sum of their reported lengths."""
    ratio: float = 1.0
    """The actual tokens of a prompt for each estimated one."""
    answer_tokens: float = float(FIRST_ANSWER_TOKENS)
    """The ageing mean of the lengths of answers."""
    counted: int = 0
    """How many answers it is the mean of, at most ``MAX_COUNTED``."""

    def expected(self, wanted: Requirements, *, is_chat: bool) -> tuple[int, int]:
        """Return the expected tokens of the prompt and of the answer of a request.

        :param is_chat: whether the answer is generated; an embedding, for example, has no tokens.
        """
        prompt = int((wanted.prompt_tokens + wanted.further_prompt_tokens) * self.ratio)
        if not is_chat:
            return prompt, 0
        answer, limit = self.answer_tokens, wanted.max_tokens
        if limit is not None and limit < answer:
            answer = limit
        return prompt, (int(answer) or 1) * wanted.answers

    def learn(self, wanted: Requirements, usage: TokenUsage, *, has_prompt: bool, has_answer: bool) -> None:
        """Note what a request came to.

        :param has_prompt: whether *usage* has the final length of its prompt, which was not noted before.
        :param has_answer: whether it has that of its answer.
        """
        estimated = wanted.prompt_tokens + wanted.further_prompt_tokens
        # Images have tokens too, which the estimate does not count.
        if has_prompt and usage.prompt_tokens and estimated and not wanted.needs_vision:
            kept = 1.0 - 1.0 / MAX_COUNTED
            self.estimated_tokens = before = self.estimated_tokens * kept + estimated
            self.prompt_tokens = after = self.prompt_tokens * kept + usage.prompt_tokens
            ratio = (after + PRIOR_TOKENS) / (before + PRIOR_TOKENS)
            self.ratio = MIN_RATIO if ratio < MIN_RATIO else ratio if ratio < MAX_RATIO else MAX_RATIO
        if has_answer:
            if self.counted < MAX_COUNTED:
                self.counted += 1
            self.answer_tokens += (usage.completion_tokens / wanted.answers - self.answer_tokens) / self.counted


@dataclass(slots=True, eq=False)
class LearnedCapacity:
    """How many requests a backend works on at once, learned from the time to first token.

    After Gradient2 of Netflix (github.com/Netflix/concurrency-limits): the limit follows the ratio of the usual to the
    measured latency, and only measurements count that were made with about as many requests in flight. The usual
    latency is that of the least loaded times, with which a measurement is compared within its size class; here nothing
    keeps requests below the limit, so slow ones beyond it say nothing new.
    """

    limit: float | None = None
    """None: no measurement has shown a limit."""
    usual: dict[int, float] = field(default_factory=dict)
    """By size class, the logarithm to base 2 of the milliseconds when it is hardly loaded."""

    def observe(self, seconds: float, tokens: int, in_flight: int, floor: int) -> None:
        """Record the time to first token of a request.

        :param in_flight: the requests in flight when it was sent, with itself.
        :param floor: the least that the limit can be.
        """
        size = size_class(tokens)
        log_ms = log2(max(seconds * 1000, SHORTEST_MS)) - log2(tokens + OVERHEAD_TOKENS) + _MIDDLES[size]
        before, limit = self.usual.get(size, log_ms), self.limit
        is_within = limit is None or in_flight <= limit
        if log_ms < before or is_within or size not in self.usual:
            self.usual[size] = before + (log_ms - before) * (USUAL_FALLS if log_ms < before else USUAL_RISES)
        excess = log_ms - before - TOLERATED_DOUBLINGS
        if excess > 0.0:
            if in_flight > floor and is_within:
                gradient = max(MIN_GRADIENT, 2.0**-excess)
                limit = float(in_flight) if limit is None else limit
                aim = in_flight * gradient + in_flight**0.5
                self.limit = max(floor, limit + (aim - limit) * SMOOTHING)
                CHANGES.capacities += 1
        elif limit is not None and in_flight >= limit / 2:
            # Good although nearly all of it is in use: there is room for more.
            grown = max(limit, in_flight) + limit**0.5 * SMOOTHING
            self.limit = None if grown > MAX_LEARNED else grown
            CHANGES.capacities += 1


TOLERATED_DOUBLINGS: Final = 1.0
"""Twice the usual time to first token is no sign of too many requests."""
MIN_GRADIENT: Final = 0.5
SMOOTHING: Final = 0.2
USUAL_FALLS: Final = 0.5
USUAL_RISES: Final = 1 / 64
"""The usual latency follows the quickest measurements at once, and slower ones slowly, in case the server changed."""
MAX_LEARNED: Final = 1024.0


@dataclass(slots=True, eq=False)
class ModelLoad:
    """The live figures of one model on one backend."""

    first_token: Pace = field(default_factory=Pace)
    """From sending to the first content of streamed answers."""
    whole: Pace = field(default_factory=Pace)
    """From sending to the end of answers that are not streamed."""
    size: RequestSize = field(default_factory=RequestSize)
    """What earlier requests came to, in tokens."""
    learned: LearnedCapacity = field(default_factory=LearnedCapacity)
    """How many requests the backend works on at once, as far as its answers show."""
    failures: float = 0.0
    """The ageing count of failures, at the time of the last one."""
    failed_at: float = 0.0
    """Monotonic seconds."""
    used_at: float = 0.0
    """Monotonic seconds: the last outcome."""
    in_flight: int = 0
    """Requests for the model that hold a slot of the backend now."""
    load_s: float = 0.0
    """The ageing mean of the times to load the model into memory, in seconds; 0 before the first measurement."""
    loaded_at: float = 0.0
    """Monotonic seconds: the last of these measurements."""
    answer_s: float = 0.0
    """The moving average of the durations of good answers, from sending to the end; 0 before the first one."""
    flowing: int = 0
    """Streams that have begun and not ended."""
    progressed_at: float = 0.0
    """Monotonic seconds: the last time a stream began or an answer was complete."""
    alive_at: float = 0.0
    """Monotonic seconds: the last time any part of an answer arrived: a token, a document, or an error."""
    tries: int = 0
    """Requests, since its last good answer, that tried it while it was failing and moved to another backend."""
    probing: bool = False
    """Whether the one request that a half-open breaker of this model admits is under way."""

    def begin_probing(self) -> None:
        """Mark the one request that a half-open breaker admits as under way."""
        self.probing = True

    def end_probing(self) -> None:
        """Let the half-open breaker admit another request."""
        self.probing = False

    def pace(self, *, is_stream: bool) -> Pace:
        """Return the pace of streams, or of answers that are not streamed."""
        return self.first_token if is_stream else self.whole

    def move(self, waits_since: float, *, is_stream: bool) -> None:
        """Record a move of a request that waited since *waits_since*, from when the silence still counts."""
        pace = self.pace(is_stream=is_stream)
        pace.moved_from = min(pace.moved_from, waits_since) if pace.moved_from > self.alive_at else waits_since

    def observe_load(self, seconds: float, now: float) -> None:
        """Record one measurement of the time to load the model into memory; older ones lose weight with time."""
        if not self.load_s:
            self.load_s = seconds
        else:
            kept = (1.0 - NEW_LOAD_WEIGHT) * 2.0 ** ((self.loaded_at - now) / LOAD_HALF_LIFE_S)
            self.load_s = kept * self.load_s + (1.0 - kept) * seconds
        self.loaded_at = now

    def observe_answer(self, seconds: float) -> None:
        """Record the duration of one good answer."""
        self.answer_s += (seconds - self.answer_s) * NEW_ANSWER_WEIGHT if self.answer_s else seconds

    def recent_failures(self, now: float) -> float:
        """Return the count of failures at *now*, which halves every ``FAILURE_HALF_LIFE_S``."""
        if not self.failures:
            return 0.0
        left = self.failures * 2.0 ** ((self.failed_at - now) / FAILURE_HALF_LIFE_S)
        return left if left > MIN_FAILURES else 0.0

    def fail(self, now: float) -> None:
        """Count one more failure."""
        self.failures = self.recent_failures(now) + 1.0
        CHANGES.failures += 1
        self.failed_at = now
