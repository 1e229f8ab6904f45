"""The breakers and the cooling periods of one backend: one track for the server, one for each failing model."""

from asyncio import TimerHandle
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from nexus.domain.backend import SEVERITY, Breaker
from nexus.domain.model_load import MAX_TRACKED_MODELS
from nexus.fleet.health.breaker import BreakerState

_UNTROUBLED = BreakerState()


class Track(msgspec.Struct, eq=False):
    """A breaker and its timers."""

    state: BreakerState = _UNTROUBLED
    reopening: TimerHandle | None = None
    cooling: TimerHandle | None = None

    def cancel_reopening(self) -> None:
        if self.reopening is not None:
            self.reopening.cancel()
        self.reopening = None

    def cancel_cooling(self) -> None:
        if self.cooling is not None:
            self.cooling.cancel()
        self.cooling = None

    def cancel_timers(self) -> None:
        self.cancel_reopening()
        self.cancel_cooling()


class BackendTracks(msgspec.Struct, eq=False):
    """The track of the server, and those of models that have failed or are cooling."""

    server: Track = msgspec.field(default_factory=Track)
    models: dict[str, Track] = {}
    """By the name that the backend uses, in the order of first failure; at most ``MAX_TRACKED_MODELS``."""

    def get(self, model: str | None) -> Track | None:
        """Return the track of *model*, or of the server for None; None if the model has no track."""
        return self.server if model is None else self.models.get(model)

    def track(self, model: str | None) -> Track:
        """Return the track of *model*, which is created if need be, or of the server for None."""
        found = self.get(model)
        if found is not None or model is None:
            return found or self.server
        if len(self.models) >= MAX_TRACKED_MODELS:
            self.models.pop(next(iter(self.models))).cancel_timers()
        self.models[model] = track = Track()
        return track

    def drop_if_idle(self, model: str) -> None:
        """Remove the track of *model* if it is closed and not cooling."""
        track = self.models.get(model)
        if track is not None and track.cooling is None and track.state == _UNTROUBLED:
            del self.models[model]

    def cancel_timers(self) -> None:
        for track in (self.server, *self.models.values()):
            track.cancel_timers()

    def model_breakers(self) -> Mapping[str, Breaker]:
        """Return, by model, the breakers that are not closed."""
        breakers = {model: track.state.breaker for model, track in self.models.items()}
        return {model: breaker for model, breaker in breakers.items() if breaker is not Breaker.CLOSED}

    def cooling_models(self) -> frozenset[str]:
        return frozenset(model for model, track in self.models.items() if track.cooling is not None)

    def overall_breaker(self, asked: AbstractSet[str]) -> Breaker:
        """Return the breaker of the server, or the least severe of the models if all that were *asked* for fail."""
        failing = self.model_breakers()
        own = self.server.state.breaker
        if own is not Breaker.CLOSED or not failing or not asked <= failing.keys():
            return own
        return min(failing.values(), key=SEVERITY.__getitem__)
