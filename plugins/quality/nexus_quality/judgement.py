"""The penalties in force, found anew only when something has changed: few requests see others than the one before."""

from collections.abc import Mapping
from math import inf

from nexus_quality.config import QualityConfig
from nexus_quality.measurements import Measurements, Place
from nexus_quality.overall import MINUTE_S
from nexus_quality.penalty import Penalty

Penalties = Mapping[str, Mapping[Place, tuple[Penalty, ...]]]
"""By the name of the backend, those of its models."""


class Judgement:
    """The penalties of all suspects by one configuration."""

    def __init__(self, config: QualityConfig, measurements: Measurements) -> None:
        self._config = config
        self._measurements = measurements
        self._found: Penalties = {}
        self.places: frozenset[Place] = frozenset()
        """All that have penalties, those that are due for a trial included: only these may get one."""
        self.version = 0
        """Counts how often either has changed."""
        self.seen_changes = -1
        """The changes of the measurements until which they are known."""
        self._until_s = -inf
        """When they may change by themselves: the minute ends, or a trial is due."""

    def now(self, *, is_observed: bool) -> Penalties:
        """Return the penalties at this moment, without those of a backend that is due for a trial.

        :param is_observed: whether the stage only observes: then no trial begins, and one would be due for ever.
        """
        measurements = self._measurements
        if self.seen_changes != measurements.changes or (
            measurements.suspects and measurements.clock() >= self._until_s
        ):
            now_s = measurements.clock()
            measurements.clear(now_s)
            self.seen_changes = measurements.changes
            found, places = self._find(now_s, is_observed=is_observed)
            if found != self._found or places != self.places:
                self._found, self.places = found, places
                self.version += 1
        return self._found

    def _find(self, now_s: float, *, is_observed: bool) -> tuple[Penalties, frozenset[Place]]:
        found: dict[str, dict[Place, tuple[Penalty, ...]]] = {}
        places: set[Place] = set()
        self._until_s = (now_s // MINUTE_S + 1) * MINUTE_S
        for place, track in self._measurements.suspects.items():
            penalties = track.penalties(now_s, self._config)
            if penalties:
                places.add(place)
            if penalties and (is_observed or not track.is_due_for_trial(now_s)):
                found.setdefault(track.backend, {})[place] = penalties
                if now_s < track.next_trial_s < self._until_s:
                    self._until_s = track.next_trial_s
        return dict(sorted(found.items())), frozenset(places)
