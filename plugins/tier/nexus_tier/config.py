"""What an operator says about tiers: the ``[plugins.tier]`` table and keys of ``[[routing.policies]]``."""

from typing import Annotated, ClassVar

from msgspec import Meta

from nexus.api import PluginConfig, PolicyKeys

Tier = Annotated[int, Meta(ge=1, le=5)]


class TierKeys(PolicyKeys, frozen=True):
    """What this plugin adds to a traffic policy."""

    min_tier: Tier | None = None
    """The lowest tier that may answer, 1 to 5; unset: as ``min_tier`` of ``[plugins.tier]``."""
    allow_downgrade: bool | None = None
    """Whether a client that sends ``X-Nexus-Flexible: true`` may be answered from below ``min_tier`` when nobody else
    can; unset: as ``allow_downgrade`` of ``[plugins.tier]``."""


class TierConfig(PluginConfig):
    """The ``[plugins.tier]`` table."""

    policy_keys: ClassVar[type[PolicyKeys]] = TierKeys

    min_tier: Tier = 1
    """What holds for requests to which no policy with a ``min_tier`` applies; 1 asks for nothing."""
    allow_downgrade: bool = False
    """What holds where a policy does not say it."""
