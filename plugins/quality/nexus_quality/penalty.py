"""Penalties for a model on a backend that fails too often or answers too slowly."""

import msgspec

from nexus_quality.config import QualityConfig


class Penalty(msgspec.Struct, frozen=True):
    """One reason to prefer other backends."""

    reason: str
    factor: float
    """Multiplies the score of the backend."""
    avoids: bool
    """Whether the backend is asked only when no other is left."""
    action: str = ""
    """What the client or the operator can do."""


def for_failures(error_rate: float, config: QualityConfig) -> Penalty:
    """Return the penalty for failing too often; the backend with the fewest failures ranks first."""
    return Penalty(
        reason=f"Error rate {error_rate:.1%} exceeds threshold {config.error_rate_threshold:.1%}",
        factor=1.0 - error_rate,
        avoids=True,
        action="Wait for its error rate to decrease",
    )


def for_slowness(ttft_ms: float, config: QualityConfig) -> Penalty:
    """Return the penalty for a late first token; the score is 0 at twice the threshold."""
    limit_ms = config.ttft_penalty_threshold_ms
    return Penalty(
        reason=f"Time to first token {ttft_ms:.0f} ms exceeds {limit_ms} ms",
        factor=1.0 - min(1.0, (ttft_ms - limit_ms) / limit_ms),
        avoids=False,
    )
