"""The other names that a client may use for the models of one backend."""

from collections.abc import Iterable, Mapping

from nexus.domain.kinds import BackendKind


def spellings_of(kind: BackendKind, names: Iterable[str]) -> Mapping[str, str]:
    """Return each other spelling with the backend's own name: without the default tag, and in lower case."""
    if kind.default_tag is None:
        return {}
    own = frozenset(names)
    suffix = f":{kind.default_tag}"
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
