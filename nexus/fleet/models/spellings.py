"""The other names by which clients may request the models of one backend."""

from collections.abc import Collection, Iterable, Mapping

from nexus.domain.kinds import BackendKind
from nexus.domain.model import ModelFacts


def spellings_of(kind: BackendKind, models: Iterable[ModelFacts]) -> Mapping[str, str]:
    """Map each other name to the backend's own: its aliases and, if the kind has a default tag, the name without the
    tag and in lower case.
    """
    own = {facts.name: facts for facts in models}
    aliases = {alias: facts.name for facts in own.values() for alias in facts.aliases if alias not in own}
    return aliases if kind.default_tag is None else {**aliases, **_with_default_tag(kind.default_tag, own)}


def _with_default_tag(default_tag: str, own: Collection[str]) -> Mapping[str, str]:
    suffix = f":{default_tag}"
    spelled: dict[str, str] = {}
    for name in sorted(own):
        lower = name.lower()
        untagged = lower.removesuffix(suffix)
        tagged = lower if _has_tag(lower) else lower + suffix
        for spelling in (lower, untagged, tagged):
            if spelling not in own:
                spelled.setdefault(spelling, name)
    return spelled


def _has_tag(name: str) -> bool:
    # ``registry:5000/team/model`` has a port, not a tag.
    return ":" in name.rpartition("/")[2]
