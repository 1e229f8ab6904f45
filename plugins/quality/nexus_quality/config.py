"""The ``[plugins.quality]`` table."""

from typing import Annotated

from msgspec import Meta

from nexus.api import PluginConfig


class QualityConfig(PluginConfig):
    """When a model on a backend counts as failing or slow, and how it comes back."""

    error_rate_threshold: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The share of failures in the last hour above which a backend is avoided; 1 avoids nobody."""
    min_samples: Annotated[int, Meta(ge=1)] = 10
    """Samples in the last hour without which nothing is concluded."""
    ttft_penalty_threshold_ms: Annotated[int, Meta(gt=0)] = 3000
    """The mean time to first token above which a backend is weighed down, to nothing at twice as much."""
    trial_interval_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    """After a bad answer, how long a backend that is avoided or weighed down waits for its next trial request."""
    trial_successes: Annotated[int, Meta(ge=1)] = 5
    """Good answers in a row that bring such a backend back, whatever its hour was like."""
