"""Decides whether a backend has been silent for too long on requests for a model.

A backend whose engine hangs while its probes succeed raises no error and closes no connection: silence is the only
sign. It counts from the last sign of life, so a backend that answers other requests is never silent.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from nexus.domain.backend import Backend, Breaker, Status
from nexus.domain.model_load import ModelLoad, Pace

MIN_SILENCE_S: Final = 3.0
"""Shorter silence is never remarkable."""
USUAL_TIMES: Final = 1.5
"""Silence is remarkable beyond this multiple of the longest recent answer of any backend."""
MIN_SILENCE_WHEN_FAILING_S: Final = 1.0
"""The same for a backend that has been failing. It doubles with each try, so that a slow backend can recover."""
MAX_DOUBLINGS: Final = 6
TIMES_WHEN_ALONE: Final = 2.0
"""A single waiting request may be unusual, so it gets this multiple of the time."""
MIN_SILENCE_BESIDE_IDLE_S: Final = 10.0
"""A request moves to an idle backend only after this time, as an idle backend has not shown that it works."""
TIMES_BESIDE_IDLE: Final = 4.0
"""The same, as a multiple of the longest answer."""
MAX_LENGTHS: Final = 64.0
"""The greatest factor for an answer whose limit exceeds that of the longest recent one."""
LOADING_S: Final = 60.0
"""How long a server that loads models on demand may take to load one that it has not used recently."""
USUAL_LOADS: Final = 2.0
"""The same as a multiple of the time that loading it took before."""
UNLOADED_AFTER_S: Final = 300.0
"""Such servers, like Ollama, unload a model that is unused for this time."""
MIN_WEIGHT: Final = 0.5
"""The least weight of measurements to compare with: a single one is good for a minute."""

Offer = tuple[Backend, str]
"""A backend, and its own name for the model."""


def alive_at(backend: Backend, figures: ModelLoad) -> float:
    """Return when *backend* last sent any part of an answer for that model.

    Models of a backend with a known number of slots share them, so an answer of any model counts there.
    """
    if backend.slots is None:
        return figures.alive_at
    return max(figures.alive_at, max((other.alive_at for other in backend.load.models.values()), default=0.0))


def silent_s(backend: Backend, figures: ModelLoad, now: float, *, is_stream: bool) -> float:
    """Return how long the oldest unanswered request has waited there since the last sign of life; 0 when none waits.

    A request that was moved to another backend counts while others wait.
    """
    pace = figures.pace(is_stream=is_stream)
    if not pace.waiting:
        return 0.0
    return silent_since(backend, figures, _waiting_since(pace, figures), now)


def _waiting_since(pace: Pace, figures: ModelLoad) -> float:
    oldest = next(iter(pace.waiting.values()))
    return min(oldest, pace.moved_from) if pace.moved_from > figures.alive_at else oldest


def oldest_unanswered_s(backend: Backend, now: float) -> float:
    """Return how long the oldest request has waited at *backend*, for any model; 0 when none waits."""
    waiting = (
        next(iter(pace.waiting.values()))
        for figures in backend.load.models.values()
        for pace in (figures.first_token, figures.whole)
        if pace.waiting
    )
    return max(0.0, now - min(waiting, default=now))


def silent_since(backend: Backend, figures: ModelLoad, asked_at: float, now: float) -> float:
    """Return how long a request that was sent at *asked_at* has waited there since the last sign of life."""
    silent = now - max(asked_at, figures.alive_at)
    if silent > MIN_SILENCE_S and backend.slots is not None:
        silent = min(silent, now - alive_at(backend, figures))
    return max(0.0, silent)


def longest_s(
    figures: Iterable[ModelLoad], now: float, *, is_stream: bool, max_tokens: int | None = None
) -> float | None:
    """Return the time of the longest recent answer; None with too few recent measurements.

    :param max_tokens: the limit of the waiting request, by which the time of an answer that is not streamed is scaled.
    """
    longest: float | None = None
    for each in figures:
        pace = each.pace(is_stream=is_stream)
        if pace.aged(now)[0] >= MIN_WEIGHT:
            took_s = 2.0**pace.longest / 1000
            if max_tokens and pace.longest_limit and not is_stream:
                took_s *= min(MAX_LENGTHS, max(1.0, max_tokens / pace.longest_limit))
            longest = max(longest or 0.0, took_s)
    return longest


def patience_s(
    figures: Iterable[ModelLoad], now: float, *, is_stream: bool, max_tokens: int | None = None
) -> float | None:
    """Return after how long silence is remarkable; None with too few recent measurements."""
    longest = longest_s(figures, now, is_stream=is_stream, max_tokens=max_tokens)
    return None if longest is None else max(MIN_SILENCE_S, USUAL_TIMES * longest)


def remarkably_silent(offers: Sequence[Offer], now: float, *, is_stream: bool) -> dict[str, float]:
    """Return the seconds of silence by the names of backends that are silent for longer than answers take; empty when
    all of them are. Until another backend has answered, one that may be loading the model gets a minute, and one with a
    single request twice the time.

    :param offers: all backends that could answer the same requests.
    """
    silences: list[tuple[Backend, str, float]] = []
    for backend, model in offers:
        figures = backend.load.models.get(model)
        if figures is not None and (figures.first_token if is_stream else figures.whole).waiting:
            silence = silent_s(backend, figures, now, is_stream=is_stream)
            if silence > MIN_SILENCE_S:
                silences.append((backend, model, silence))
    if not silences or len(offers) == 1:
        return {}
    every = [figures for backend, model in offers if (figures := backend.load.models.get(model)) is not None]
    patience = patience_s(every, now, is_stream=is_stream)
    if patience is None:
        return {}
    quiet = {backend.name for backend, _, silence in silences if silence > patience}
    answered_at = max(
        (
            figures.progressed_at
            for backend, model in offers
            if backend.name not in quiet and (figures := backend.load.models.get(model)) is not None
        ),
        default=0.0,
    )
    remarkable = {
        backend.name: silence
        for backend, model, silence in silences
        if backend.name in quiet
        and (
            answered_at > now - silence
            or silence > _patience_while_unanswered(backend, model, patience, is_stream=is_stream)
        )
    }
    return {} if len(remarkable) == len(offers) else remarkable


def _patience_while_unanswered(backend: Backend, model: str, patience: float, *, is_stream: bool) -> float:
    """Return after how long silence is remarkable while no other backend has answered."""
    figures = backend.load.model(model)
    waiting = figures.pace(is_stream=is_stream).waiting
    if may_be_loading(backend, model, next(iter(waiting.values()))):
        return max(patience, loading_patience_s(figures))
    return patience if len(waiting) > 1 else TIMES_WHEN_ALONE * patience


def may_be_loading(backend: Backend, model: str, asked_at: float) -> bool:
    """Whether *backend* loads *model* for a request that was sent at *asked_at*, or may have to."""
    if not backend.kind.loads_models:
        return False
    figures = backend.load.model(model)
    is_cold = figures.progressed_at < asked_at - UNLOADED_AFTER_S or not figures.progressed_at
    load = backend.load.memory.under_way.get(model)
    return is_cold or (load is not None and load.is_certain)


def loading_patience_s(figures: ModelLoad) -> float:
    """Return how long loading the model may take before silence is remarkable."""
    return max(LOADING_S, USUAL_LOADS * figures.load_s)


def overdue_at(  # noqa: PLR0913 - where it waits, since when, and what it is compared with
    backend: Backend,
    model: str,
    asked_at: float,
    rivals: Sequence[Offer],
    now: float,
    *,
    is_stream: bool,
    max_tokens: int | None = None,
) -> float | None:
    """Return when a request that was sent to *backend* at *asked_at* should move to another backend; None: not now.

    :param backend: as it is now.
    :param model: the backend's own name for it.
    :param rivals: all other backends that could answer the request.
    :param max_tokens: the longest answer that the request accepts.
    """
    figures = backend.load.model(model)
    since = max(asked_at, alive_at(backend, figures))
    known = [others for rival, name in rivals if (others := rival.load.models.get(name)) is not None]
    longest = longest_s([figures, *known], now, is_stream=is_stream, max_tokens=max_tokens)
    if longest is None:
        return None
    patience = _patience_at(backend, model, figures, longest, now, is_stream=is_stream)
    if not any(
        others.progressed_at > since and silent_s(rival, others, now, is_stream=is_stream) <= patience
        for rival, name in rivals
        if (others := rival.load.models.get(name)) is not None
    ):
        if not any(_is_idle(rival, name) for rival, name in rivals):
            return None
        patience = max(patience, MIN_SILENCE_BESIDE_IDLE_S, TIMES_BESIDE_IDLE * longest)
    due_at = since + patience
    if may_be_loading(backend, model, asked_at):
        return max(due_at, asked_at + loading_patience_s(figures))
    return due_at


def _is_idle(backend: Backend, model: str) -> bool:
    """Whether *backend* is in good health, and no request for *model* waits there for an answer."""
    if backend.status is not Status.HEALTHY or backend.breaker_of(model) is not Breaker.CLOSED:
        return False
    if backend.is_busy or backend.is_cooling_for(model):
        return False
    figures = backend.load.models.get(model)
    return figures is None or not (figures.first_token.waiting or figures.whole.waiting)


def _patience_at(  # noqa: PLR0913 - as its caller
    backend: Backend, model: str, figures: ModelLoad, longest: float, now: float, *, is_stream: bool
) -> float:
    if backend.breaker_of(model) is not Breaker.CLOSED or backend.status is not Status.HEALTHY:
        return max(MIN_SILENCE_WHEN_FAILING_S * 2.0 ** min(figures.tries, MAX_DOUBLINGS), longest)
    patience = max(MIN_SILENCE_S, USUAL_TIMES * longest)
    affected = len(figures.pace(is_stream=is_stream).waiting) + figures.recent_failures(now)
    return patience if affected > 1 else TIMES_WHEN_ALONE * patience
