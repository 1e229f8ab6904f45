"""The ``[plugins.tier]`` table, and the tier keys of ``[[routing.policies]]``."""

from typing import Annotated, ClassVar

from msgspec import Meta

from nexus.api import PluginConfig, PolicyKeys

Tier = Annotated[int, Meta(ge=1, le=5)]


class TierKeys(PolicyKeys, frozen=True):
    """The keys that this plugin adds to a traffic policy."""

    min_tier: Tier | None = None
    """The lowest tier that may answer, 1 to 5; unset: the ``min_tier`` of ``[plugins.tier]``."""
    allow_downgrade: bool | None = None
    """Whether a client that sends ``X-Nexus-Flexible: true`` may get an answer from below ``min_tier`` when no other
    backend can answer; unset: the ``allow_downgrade`` of ``[plugins.tier]``."""


class TierConfig(PluginConfig):
    """The ``[plugins.tier]`` table."""

    policy_keys: ClassVar[type[PolicyKeys]] = TierKeys

    min_tier: Tier = 1
    """Applies to requests without a policy that has a ``min_tier``; 1 allows every backend."""
    allow_downgrade: bool = False
    """Applies if a policy does not set it."""
