"""What traffic itself tells of backends: sooner than any probe, and of the path that requests take."""

import random
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from nexus.domain.backend import Backend, Breaker
from nexus.domain.outcome import AttemptOutcome
from nexus.fleet.breaker import BreakerState
from nexus.fleet.evidence import Evidence, cooling_of, weigh
from nexus.fleet.latency import observe_request
from nexus.fleet.registry import Registry

log = structlog.get_logger("nexus.fleet")


class Timer(Protocol):
    """What a call that comes later can be taken back with."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Timer]
"""Call a function after so many seconds, as ``loop.call_later`` does."""


class _Track(msgspec.Struct):
    """What is remembered of one backend between its outcomes."""

    state: BreakerState = BreakerState()
    reopening: Timer | None = None
    cooling: Timer | None = None


class PassiveSignals:
    """Turns the outcomes of attempts into breakers, cooling and latency, and publishes each change."""

    def __init__(
        self,
        registry: Registry,
        *,
        later: Later,
        on_refused: Callable[[str], bool],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """:param on_refused: is told the id of a backend that refused a connection; whether that has settled it."""
        self._registry = registry
        self._later = later
        self._on_refused = on_refused
        self._chance = chance
        self._tracks: dict[str, _Track] = {}

    def report(self, backend_id: str, outcome: AttemptOutcome, *, retry_after_s: float | None = None) -> None:
        """Learn from one attempt; of a backend that is gone there is nothing to learn."""
        backend = self._registry.get(backend_id)
        if backend is None:
            return
        cooling_s = cooling_of(outcome, retry_after_s) if retry_after_s is not None else None
        if cooling_s:
            self._cool(backend, cooling_s)
        match weigh(outcome, backend.kind, cooling_s=cooling_s):
            case Evidence.GOOD:
                latency_s = outcome.duration_s if outcome.first_byte_s is None else outcome.first_byte_s
                observe_request(backend.load, round(latency_s * 1000))
                if backend_id in self._tracks:
                    # Of a backend that never failed there is nothing to take back.
                    self._enter(backend, self._tracks[backend_id].state.after_success())
            case Evidence.BAD:
                self._enter(backend, self._track(backend_id).state.after_failure())
            case Evidence.REFUSED if not self._on_refused(backend_id):
                self._enter(backend, self._track(backend_id).state.opened())

    def miss_model(self, backend_id: str, model: str) -> None:
        """Take a model off a backend that says it does not have it, until its next probe says otherwise."""
        backend = self._registry.get(backend_id)
        if backend is None or backend.facts(model) is None:
            return
        own_name = backend.own_name(model)
        log.warning("model_missing", backend=backend.name, model=own_name)
        self._registry.update_models(backend_id, {n: facts for n, facts in backend.models.items() if n != own_name})

    def forget(self, backend_id: str) -> None:
        """Drop what is remembered of a backend that is gone or has become another."""
        if track := self._tracks.pop(backend_id, None):
            _cancel(track.reopening)
            _cancel(track.cooling)

    def stop(self) -> None:
        """Take all timers back."""
        for backend_id in tuple(self._tracks):
            self.forget(backend_id)

    def _track(self, backend_id: str) -> _Track:
        return self._tracks.setdefault(backend_id, _Track())

    def _enter(self, backend: Backend, state: BreakerState) -> None:
        track = self._track(backend.id)
        before, track.state = track.state, state
        if state.breaker is before.breaker:
            return
        _cancel(track.reopening)
        track.reopening = None
        pause_s = None
        if state.breaker is Breaker.OPEN:
            pause_s = state.pause_s(self._chance())
            track.reopening = self._later(pause_s, lambda: self._half_open(backend.id))
        log.warning(
            "backend_breaker_changed", backend=backend.name, old=before.breaker, new=state.breaker, pause_s=pause_s
        )
        self._registry.update(backend.id, breaker=state.breaker)

    def _half_open(self, backend_id: str) -> None:
        if backend := self._registry.get(backend_id):
            self._enter(backend, self._track(backend_id).state.after_pause())

    def _cool(self, backend: Backend, cooling_s: float) -> None:
        track = self._track(backend.id)
        _cancel(track.cooling)
        track.cooling = self._later(cooling_s, lambda: self._warm(backend.id))
        if not backend.is_cooling:
            log.info("backend_cooling", backend=backend.name, for_s=cooling_s)
            self._registry.update(backend.id, is_cooling=True)

    def _warm(self, backend_id: str) -> None:
        self._track(backend_id).cooling = None
        if self._registry.get(backend_id) is not None:
            self._registry.update(backend_id, is_cooling=False)


def _cancel(timer: Timer | None) -> None:
    if timer is not None:
        timer.cancel()
