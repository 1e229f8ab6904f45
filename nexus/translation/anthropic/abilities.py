"""What the models of Anthropic's API accept, by their names: newer ones refuse what older ones require."""

import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec.structs import replace


class Abilities(msgspec.Struct, frozen=True):
    is_adaptive: bool = False
    """Whether thinking is ``adaptive`` with an effort, rather than ``enabled`` with a budget."""
    takes_sampling: bool = True
    """Whether ``temperature``, ``top_p`` and ``top_k`` are allowed."""
    when_off: Literal["disabled", "unsaid", "never"] = "disabled"
    """How a model is asked not to think: by ``disabled``, by saying nothing, or not at all."""
    max_tokens: int = 8192
    """A limit of the answer that every such model accepts, for requests that have none: the API requires one."""
    efforts: frozenset[str] = frozenset({"low", "medium", "high", "xhigh", "max"})
    """Any other becomes ``high``."""


OTHER: Final = Abilities()
"""Of models that are not Anthropic's, behind an API like it: what all versions of that API have had."""
_3: Final = Abilities(max_tokens=4096)
_4: Final = Abilities(max_tokens=32_000)
_4_6: Final = replace(_4, is_adaptive=True, efforts=frozenset({"low", "medium", "high"}))
_OPUS_4_6: Final = replace(_4_6, efforts=frozenset({"low", "medium", "high", "max"}))
_4_7: Final = replace(_4, is_adaptive=True, takes_sampling=False, when_off="unsaid")
_5: Final = replace(_4_7, when_off="disabled")
_ALWAYS_ON: Final = replace(_4_7, when_off="never")

_NAME: Final = re.compile(
    r"claude-(?:(?P<old>\d)(?:[.-](?P<old_minor>\d))?-)?(?P<family>[a-z]+)(?:-(?P<new>\d)(?:[.-](?P<minor>\d)(?!\d))?)?(?!\d)"
)
"""Such as ``claude-3-5-haiku-20241022``, ``claude-opus-4-7`` and ``anthropic.claude-sonnet-4-5-20250929-v1:0``."""


def abilities_of(model: str) -> Abilities:
    """Return what *model* accepts. Source: the pages on adaptive thinking, effort and migration of Anthropic's API."""
    found = _NAME.search(model.lower())
    if found is None:
        return OTHER
    if found["family"] in _WITHOUT_VERSIONS:
        return _WITHOUT_VERSIONS[found["family"]]
    if found["family"] not in _FAMILIES:
        return OTHER
    version = int(found["new"] or found["old"] or 0), int(found["minor"] or found["old_minor"] or 0)
    if version < (4, 6):
        return _3 if version < (3, 7) else _4
    if version == (4, 6):
        return _OPUS_4_6 if found["family"] == "opus" else _4_6
    return _4_7 if version < (5, 0) else _5


_FAMILIES: Final = frozenset({"opus", "sonnet", "haiku"})
_WITHOUT_VERSIONS: Final[Mapping[str, Abilities]] = {"fable": _ALWAYS_ON, "mythos": _ALWAYS_ON}
"""Families of which all versions are alike."""
