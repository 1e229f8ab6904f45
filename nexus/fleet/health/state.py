"""The health of one backend, as a pure state machine over the results of its probes."""

from typing import Final

import msgspec

from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Status

MIN_INTERVAL_S: Final = 1.0
RECOVERY_INTERVAL_S: Final = 1.0
"""Between two probes of an unusable backend: a restarted server is back within two seconds."""
CONFIRMATION_INTERVAL_S: Final = 0.25
"""Between the successes that make an unhealthy backend healthy again."""


class HealthState(msgspec.Struct, frozen=True):
    """A status, and the counts that decide when it changes."""

    status: Status = Status.UNKNOWN
    failures: int = 0
    """Consecutive ones."""
    successes: int = 0
    """Consecutive ones."""
    is_busy: bool = False
    """Whether the last probe timed out while the backend was serving requests."""

    def after_success(self, config: HealthCheckConfig) -> "HealthState":
        successes = self.successes + 1
        status = self.status
        if status in (Status.UNKNOWN, Status.LOADING) or (
            status is Status.UNHEALTHY and successes >= config.recovery_threshold
        ):
            status = Status.HEALTHY
        return HealthState(status, failures=0, successes=successes)

    def after_failure(self, config: HealthCheckConfig) -> "HealthState":
        failures = self.failures + 1
        status = self.status
        if status in (Status.UNKNOWN, Status.LOADING) or (
            status is Status.HEALTHY and failures >= config.failure_threshold
        ):
            status = Status.UNHEALTHY
        return HealthState(status, failures=failures, successes=0)

    def after_busy(self) -> "HealthState":
        """Return the state after a probe that timed out while requests were running, which is no sign of a failure."""
        return msgspec.structs.replace(self, is_busy=True)

    def after_loading(self) -> "HealthState":
        """Return the state after the server reported that it is loading its model."""
        return HealthState(self.status if self.status is Status.DRAINING else Status.LOADING)

    def after_refusal(self) -> "HealthState":
        """Return the state after a refused connection, which is certain enough not to wait for more failures."""
        status = self.status if self.status is Status.DRAINING else Status.UNHEALTHY
        return HealthState(status, failures=max(1, self.failures), successes=0)

    def next_probe_in_s(self, config: HealthCheckConfig) -> float:
        """Return the time until the next probe, which is short while the status may change soon."""
        interval_s = config.interval_seconds
        soon_s = min(interval_s, max(interval_s / 10, MIN_INTERVAL_S))
        if not config.enabled:
            # Without health checks it is probed until it has listed its models, and gets no requests before.
            return soon_s
        if self.status in (Status.HEALTHY, Status.DRAINING):
            return soon_s if self.failures or self.is_busy else interval_s
        is_recovering = self.status is Status.UNHEALTHY and self.successes
        return min(interval_s, CONFIRMATION_INTERVAL_S if is_recovering else RECOVERY_INTERVAL_S)
