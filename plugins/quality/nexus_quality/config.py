"""The ``[plugins.quality]`` table."""

from typing import Annotated

from msgspec import Meta

from nexus.api import PluginConfig


class QualityConfig(PluginConfig):
    """When a model on a backend counts as failing or slow, and how it comes back."""

    error_rate_threshold: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """The share of failures in the last hour above which a backend is avoided; 1 avoids none."""
    min_samples: Annotated[int, Meta(ge=1)] = 10
    """With fewer samples in the last hour, a backend is not judged."""
    ttft_penalty_threshold_ms: Annotated[int, Meta(gt=0)] = 3000
    """The mean time to first token above which a backend ranks lower; at twice as much, its score is 0."""
    trial_interval_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    """After a bad answer, how long a backend that is avoided or ranked lower waits for its next trial request."""
    trial_successes: Annotated[int, Meta(ge=1)] = 5
    """Good answers in a row after which such a backend is treated like the others again."""
