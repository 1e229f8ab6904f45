"""Applies the outcomes of attempts to the breakers, cooling and latency of backends."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from nexus.domain.backend import Backend, Breaker
from nexus.domain.backend_load import BackendLoad
from nexus.domain.model_load import ANSWER_TOKEN_WEIGHT, FIRST_ANSWER_TOKENS
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.read_only import ReadOnlyDict
from nexus.domain.silence import MIN_SILENCE_S, loading_patience_s, may_be_loading, patience_s
from nexus.domain.statuses import FIRST_ERROR, meaning_of
from nexus.fleet.clock import Later, call_later
from nexus.fleet.health.breaker import BreakerState
from nexus.fleet.health.evidence import Evidence, concerns_all_models, cooling_of, weigh
from nexus.fleet.health.tracks import BackendTracks, Track
from nexus.fleet.membership.registry import Registry

log = structlog.get_logger("nexus.fleet")

_FINISHED: Final = Ending.FINISHED
UNTROUBLED: Final[Mapping[str, Any]] = {
    "breaker": Breaker.CLOSED,
    "server_breaker": Breaker.CLOSED,
    "model_breakers": {},
    "is_cooling": False,
    "cooling_models": frozenset(),
}
"""The fields of a row that follow from traffic, for a backend without trouble."""


MAX_UNSUPPORTED: Final = 256
"""Unsupported pairs of endpoint and model that are remembered per backend."""


class PassiveSignals:
    """Keeps a breaker and a cooling period for each model of each backend, and publishes every change.

    A fault of the whole server, such as a refused connection, counts for all of its models.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        on_refused: Callable[[str], bool],
        later: Later = call_later,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """:param on_refused: called with the id of a backend that refused a connection; returns whether its status
        shows that now, so that its breaker need not open.
        """
        self._registry = registry
        self._later = later
        self._on_refused = on_refused
        self._chance = chance
        self._clock = clock
        self._tracks: dict[str, BackendTracks] = {}

    def report(self, backend_id: str, outcome: AttemptOutcome, *, retry_after_s: float | None = None) -> None:
        """Apply the outcome of one attempt; that of a removed backend is ignored."""
        backend = self._registry.snapshot.by_id.get(backend_id)
        if backend is None:
            return
        model = outcome.model
        cooling_s = cooling_of(outcome, retry_after_s) if retry_after_s is not None else None
        now = self._clock()
        if outcome.ending is _FINISHED and outcome.fault is None and (outcome.status or FIRST_ERROR) < FIRST_ERROR:
            evidence = "good"
        else:
            evidence = self.weigh(backend, outcome, cooling_s, now)
        is_new = observe_attempt(backend.load, outcome, is_good=evidence == "good", is_bad=evidence == "bad", now=now)
        if cooling_s:
            self._start_cooling(backend, model, cooling_s)
        match evidence:
            case "refused" if not self._on_refused(backend_id):
                server = self._tracks_of(backend).server
                self._enter(backend, None, server, server.state.opened())
            case "bad":
                self._fail(backend, None if concerns_all_models(outcome.fault) else model)
            case "good" if backend_id in self._tracks:
                # A backend without tracks has never failed, so no breaker needs to close.
                self._succeed(backend, model)
        if tracks := self._tracks.get(backend_id):
            if outcome.status is not None:
                # Any response proves that connections to the server work.
                self._enter(backend, None, tracks.server, tracks.server.state.after_success())
            if is_new:
                self._publish(backend_id)

    def weigh(self, backend: Backend, outcome: AttemptOutcome, cooling_s: float | None, now: float) -> Evidence:
        """Return what *outcome*, which is no good answer, proves about *backend*."""
        patience_s = self._patience_s(backend, outcome, now) if outcome.silent_s > MIN_SILENCE_S else MIN_SILENCE_S
        return weigh(outcome, backend.kind, cooling_s=cooling_s, patience_s=patience_s)

    def has_failed(self, backend_id: str) -> bool:
        """Whether a failure counts against the backend, so that good answers make a difference."""
        return backend_id in self._tracks

    def _patience_s(self, backend: Backend, outcome: AttemptOutcome, now: float) -> float:
        """Return the longest normal silence, by the recent latencies of all backends that have the model.

        If there are none, or if *backend* may have been loading the model, a client that leaves counts only after the
        time that loading can take.
        """
        model = outcome.model
        offers = ((other, other.own_name(model)) for other in self._registry.snapshot.by_model.get(model, ()))
        figures = (other.load.models.get(own_name) for other, own_name in offers)
        known = [each for each in figures if each is not None]
        patience = patience_s(known, now, is_stream=outcome.wants_stream, max_tokens=outcome.max_tokens)
        is_loading = outcome.load_s is not None or may_be_loading(backend, model, now - outcome.duration_s)
        if (is_loading or patience is None) and outcome.ending is Ending.CLIENT_LEFT:
            return max(loading_patience_s(backend.load.model(model)), patience or 0.0)
        return MIN_SILENCE_S if patience is None else patience

    def remove_model(self, backend_id: str, model: str) -> None:
        """Remove a model from a backend that denied having it, until a probe lists it again."""
        backend = self._registry.get(backend_id)
        if backend is None or backend.facts(model) is None:
            return
        own_name = backend.own_name(model)
        log.warning("model_missing", backend=backend.name, model=own_name)
        kept = {name: facts for name, facts in backend.models.items() if name != own_name}
        self._registry.update(backend_id, models=kept)

    def note_unsupported(self, backend_id: str, endpoint: str, model: str) -> None:
        """Remember that a backend does not support an endpoint with a model, as embedding servers report."""
        backend = self._registry.get(backend_id)
        if backend is None or len(backend.unsupported) >= MAX_UNSUPPORTED or (endpoint, model) in backend.unsupported:
            return
        log.info("endpoint_unsupported", backend=backend.name, endpoint=endpoint, model=model)
        self._registry.update(backend_id, unsupported=backend.unsupported | {(endpoint, model)})

    def forget(self, backend_id: str) -> None:
        """Forget a backend that was removed or replaced by another server."""
        if tracks := self._tracks.pop(backend_id, None):
            tracks.cancel_timers()

    def stop(self) -> None:
        """Cancel all timers."""
        for backend_id in tuple(self._tracks):
            self.forget(backend_id)

    def _tracks_of(self, backend: Backend) -> BackendTracks:
        return self._tracks.setdefault(backend.id, BackendTracks())

    def _fail(self, backend: Backend, model: str | None) -> None:
        track = self._tracks_of(backend).track(model)
        self._enter(backend, model, track, track.state.after_failure())

    def _succeed(self, backend: Backend, model: str) -> None:
        tracks = self._tracks_of(backend)
        if track := tracks.models.get(model):
            self._enter(backend, model, track, track.state.after_success())
            tracks.drop_if_idle(model)

    def _enter(self, backend: Backend, model: str | None, track: Track, state: BreakerState) -> None:
        """Set the breaker of *model*, or of the whole server if None, to *state*."""
        before, track.state = track.state, state
        if state.breaker is before.breaker:
            return
        track.cancel_reopening()
        pause_s = None
        if state.breaker is Breaker.OPEN:
            pause_s = state.pause_s(self._chance())
            track.reopening = self._later(pause_s, lambda: self._half_open(backend.id, model))
        log.warning(
            "backend_breaker_changed",
            backend=backend.name,
            model=model,
            old=before.breaker,
            new=state.breaker,
            pause_s=pause_s,
        )
        self._publish(backend.id)

    def _half_open(self, backend_id: str, model: str | None) -> None:
        backend, tracks = self._registry.get(backend_id), self._tracks.get(backend_id)
        if backend is not None and tracks is not None and (track := tracks.get(model)) is not None:
            self._enter(backend, model, track, track.state.after_pause())

    def _start_cooling(self, backend: Backend, model: str, cooling_s: float) -> None:
        track = self._tracks_of(backend).track(model)
        was_cooling = track.cooling is not None
        track.cancel_cooling()
        track.cooling = self._later(cooling_s, lambda: self._end_cooling(backend.id, model))
        if not was_cooling:
            log.info("backend_cooling", backend=backend.name, model=model, for_s=cooling_s)
            self._publish(backend.id)

    def _end_cooling(self, backend_id: str, model: str) -> None:
        tracks = self._tracks.get(backend_id)
        if tracks is not None and (track := tracks.get(model)) is not None:
            track.cooling = None
            tracks.drop_if_idle(model)
            self._publish(backend_id)

    def _publish(self, backend_id: str) -> None:
        backend, tracks = self._registry.get(backend_id), self._tracks.get(backend_id)
        if backend is None or tracks is None:
            return
        asked = backend.load.models.keys() | tracks.models.keys()
        cooling = tracks.cooling_models()
        self._registry.update(
            backend_id,
            breaker=tracks.overall_breaker(asked),
            server_breaker=tracks.server.state.breaker,
            model_breakers=ReadOnlyDict(tracks.model_breakers()),
            is_cooling=bool(cooling) and asked <= cooling,
            cooling_models=cooling,
        )


def observe_attempt(load: BackendLoad, outcome: AttemptOutcome, *, is_good: bool, is_bad: bool, now: float) -> bool:
    """Record the latency of one attempt and return whether it is the first of its model.

    A failure never makes a backend look faster.

    :param is_good: whether the backend succeeded; only successes move its average latency.
    :param is_bad: whether the attempt counts as a failure of the backend, however it ended.
    :param now: monotonic seconds.
    """
    if not outcome.model:
        # Requests without a model, such as those for files, are not comparable.
        return False
    before, has_failed = len(load.models), is_bad or (not is_good and _has_failed(outcome))
    model = load.models.get(outcome.model) or load.model(outcome.model)
    model.used_at = now
    if is_good:
        model.progressed_at = now
        model.tries = 0
        latency_s = outcome.duration_s if outcome.first_byte_s is None else outcome.first_byte_s
        load.observe_request(round(latency_s * 1000))
    if outcome.is_stream:
        is_error = outcome.fault is not None or (outcome.status or 0) >= FIRST_ERROR
        is_warm = outcome.load_s is None
        if outcome.first_byte_s is not None and is_warm and not is_error and not has_failed:
            # The time to the first token is valid however the stream ended; that of a load is no part of it.
            model.first_token.observe(outcome.first_byte_s, now, tokens=outcome.prompt_tokens)
    elif is_good and outcome.load_s is None:
        # How long a whole answer takes depends on its length more than on that of the prompt.
        usage = outcome.usage
        answer = FIRST_ANSWER_TOKENS if usage is None else usage.completion_tokens
        tokens = outcome.prompt_tokens + ANSWER_TOKEN_WEIGHT * answer
        model.whole.observe(outcome.duration_s, now, outcome.max_tokens, tokens)
    if has_failed:
        model.fail(now)
    return len(load.models) > before


def _has_failed(outcome: AttemptOutcome) -> bool:
    """Return whether it failed, and not because of the client, the request or the request's own deadline."""
    if outcome.ending is Ending.BACKEND_FAILED:
        return True
    return outcome.ending is Ending.FINISHED and outcome.status is not None and meaning_of(outcome.status).fails_over
