"""What there is to say against a model on a backend, and how much it weighs."""

import msgspec

from nexus_quality.config import QualityConfig


class Complaint(msgspec.Struct, frozen=True):
    """One reason not to ask it."""

    reason: str
    factor: float
    """What its score is multiplied by."""
    avoids: bool
    """Whether it is asked only when nobody else is left."""
    action: str = ""
    """What the client or the operator could do about it."""


def of_failing(error_rate: float, config: QualityConfig) -> Complaint:
    """Return what is said of one that fails too often; among those, the least bad one comes first."""
    return Complaint(
        reason=f"Error rate {error_rate:.1%} exceeds threshold {config.error_rate_threshold:.1%}",
        factor=1.0 - error_rate,
        avoids=True,
        action="Wait for its error rate to decrease",
    )


def of_slow(ttft_ms: float, config: QualityConfig) -> Complaint:
    """Return what is said of one that begins too late: nothing is left of its score at twice the threshold."""
    most_ms = config.ttft_penalty_threshold_ms
    return Complaint(
        reason=f"Time to first token {ttft_ms:.0f} ms exceeds {most_ms} ms",
        factor=1.0 - min(1.0, (ttft_ms - most_ms) / most_ms),
        avoids=False,
    )
