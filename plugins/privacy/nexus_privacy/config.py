"""What an operator says about privacy: the ``[plugins.privacy]`` table and a key of ``[[routing.policies]]``."""

from typing import ClassVar, Final

from msgspec.structs import force_setattr

from nexus.api import PluginConfig, PolicyKeys

RESTRICTED: Final = "restricted"
UNRESTRICTED: Final = "unrestricted"


class PrivacyKeys(PolicyKeys, frozen=True):
    """What this plugin adds to a traffic policy."""

    privacy: str | None = None
    """``restricted``: requests stay on backends of the restricted zone; ``unrestricted``: they may go anywhere. In any
    letter case; unset: as ``default`` of ``[plugins.privacy]``."""

    def __post_init__(self) -> None:
        """Settle the spelling. :raises ValueError: it is another word."""
        if self.privacy is not None:
            force_setattr(self, "privacy", _word(self.privacy, "privacy"))


class PrivacyConfig(PluginConfig):
    """The ``[plugins.privacy]`` table."""

    policy_keys: ClassVar[type[PolicyKeys]] = PrivacyKeys

    default: str = UNRESTRICTED
    """What holds for requests to which no policy with a ``privacy`` key applies; in any letter case."""
    trust_discovered: bool = True
    """Whether a backend that nobody configured may get restricted requests, when its zone is restricted."""

    def __post_init__(self) -> None:
        """Settle the spelling. :raises ValueError: it is another word."""
        force_setattr(self, "default", _word(self.default, "default"))


def _word(said: str, key: str) -> str:
    word = said.lower()
    if word not in {RESTRICTED, UNRESTRICTED}:
        raise ValueError(f"{key}: expected '{RESTRICTED}' or '{UNRESTRICTED}', got '{said}'")
    return word
