"""Whether a backend is well, as its probes tell one after another: a pure state machine."""

from typing import Final

import msgspec

from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Status

SHORTEST_INTERVAL_S: Final = 1.0


class HealthState(msgspec.Struct, frozen=True):
    """What is believed of one backend, and what would change it."""

    status: Status = Status.UNKNOWN
    failures: int = 0
    """In a row."""
    successes: int = 0
    """In a row."""

    def after_success(self, config: HealthCheckConfig) -> "HealthState":
        successes = self.successes + 1
        status = self.status
        if status is Status.UNKNOWN or (status is Status.UNHEALTHY and successes >= config.recovery_threshold):
            status = Status.HEALTHY
        return HealthState(status, failures=0, successes=successes)

    def after_failure(self, config: HealthCheckConfig) -> "HealthState":
        failures = self.failures + 1
        status = self.status
        if status is Status.UNKNOWN or (status is Status.HEALTHY and failures >= config.failure_threshold):
            status = Status.UNHEALTHY
        return HealthState(status, failures=failures, successes=0)

    def after_refusal(self) -> "HealthState":
        """Return the state after traffic has found nobody listening: sure enough not to wait for probes."""
        status = self.status if self.status is Status.DRAINING else Status.UNHEALTHY
        return HealthState(status, failures=max(1, self.failures), successes=0)

    def next_probe_in_s(self, config: HealthCheckConfig) -> float:
        """Return when to look again: soon while a change is under way, and less often the longer it stays down."""
        soon_s = min(config.interval_seconds, max(config.interval_seconds / 10, SHORTEST_INTERVAL_S))
        if not config.enabled:
            # It is asked only until it has told its models, and until then nobody is sent there.
            return soon_s
        if self.status is Status.UNHEALTHY and not self.successes:
            # Most servers that went down a moment ago are being restarted.
            times_in_vain = max(0, self.failures - config.failure_threshold)
            return min(config.interval_seconds, soon_s * float(2 ** min(times_in_vain, 16)))
        is_settled = self.status in (Status.HEALTHY, Status.DRAINING) and not self.failures
        return config.interval_seconds if is_settled else soon_s
