"""The ``[plugins.privacy]`` table, and the ``privacy`` key of ``[[routing.policies]]``."""

from typing import ClassVar, Final

from msgspec.structs import force_setattr

from nexus.api import PluginConfig, PolicyKeys

RESTRICTED: Final = "restricted"
UNRESTRICTED: Final = "unrestricted"


class PrivacyKeys(PolicyKeys, frozen=True):
    """The keys that this plugin adds to a traffic policy."""

    privacy: str | None = None
    """``restricted``: requests stay on backends of the restricted zone; ``unrestricted``: they may go anywhere. Letter
    case does not matter; unset: the ``default`` of ``[plugins.privacy]``."""

    def __post_init__(self) -> None:
        """Normalize the letter case. :raises ValueError: the value is unknown."""
        if self.privacy is not None:
            force_setattr(self, "privacy", _normalized(self.privacy, "privacy"))


class PrivacyConfig(PluginConfig):
    """The ``[plugins.privacy]`` table."""

    policy_keys: ClassVar[type[PolicyKeys]] = PrivacyKeys

    default: str = UNRESTRICTED
    """Applies to requests without a policy that has a ``privacy`` key; letter case does not matter."""
    trust_discovered: bool = True
    """Whether a discovered backend in the restricted zone may get restricted requests."""

    def __post_init__(self) -> None:
        """Normalize the letter case. :raises ValueError: the value is unknown."""
        force_setattr(self, "default", _normalized(self.default, "default"))


def _normalized(value: str, key: str) -> str:
    word = value.lower()
    if word not in {RESTRICTED, UNRESTRICTED}:
        raise ValueError(f"{key}: expected '{RESTRICTED}' or '{UNRESTRICTED}', got '{value}'")
    return word
