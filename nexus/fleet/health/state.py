"""Whether a backend is well, as its probes tell one after another: a pure state machine."""

from typing import Final

import msgspec

from nexus.config.schema import HealthCheckConfig
from nexus.domain.backend import Status

MIN_INTERVAL_S: Final = 1.0
RECOVERY_INTERVAL_S: Final = 1.0
"""Between two probes of a backend that cannot be used now: a restarted server is seen within two seconds."""
CONFIRMATION_INTERVAL_S: Final = 0.25
"""Between the successes that make an unhealthy backend healthy again."""


class HealthState(msgspec.Struct, frozen=True):
    """What is believed of one backend, and what would change it."""

    status: Status = Status.UNKNOWN
    failures: int = 0
    """In a row."""
    successes: int = 0
    """In a row."""
    is_busy: bool = False
    """The last probe timed out while requests were running there."""

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
        """Return the state after a probe that timed out while requests were running there: no sign of a dead server."""
        return msgspec.structs.replace(self, is_busy=True)

    def after_loading(self) -> "HealthState":
        """Return the state after the server said that it is loading its model."""
        return HealthState(self.status if self.status is Status.DRAINING else Status.LOADING)

    def after_refusal(self) -> "HealthState":
        """Return the state after a request was refused a connection: certain enough not to wait for probes."""
        status = self.status if self.status is Status.DRAINING else Status.UNHEALTHY
        return HealthState(status, failures=max(1, self.failures), successes=0)

    def next_probe_in_s(self, config: HealthCheckConfig) -> float:
        """Return when to probe again: soon while a change is under way or the backend cannot be used."""
        interval_s = config.interval_seconds
        soon_s = min(interval_s, max(interval_s / 10, MIN_INTERVAL_S))
        if not config.enabled:
            # It is probed only until it has listed its models, and until then no request can be sent there.
            return soon_s
        if self.status in (Status.HEALTHY, Status.DRAINING):
            return soon_s if self.failures or self.is_busy else interval_s
        is_recovering = self.status is Status.UNHEALTHY and self.successes
        return min(interval_s, CONFIRMATION_INTERVAL_S if is_recovering else RECOVERY_INTERVAL_S)
