"""Resolves the name that a client sent: a model, an alias, or a similar name that it could mean."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Self

import msgspec

from nexus.domain.fleet import FleetSnapshot
from nexus.domain.model_names import index_of
from nexus.domain.read_only import ReadOnlyDict

MAX_ALIAS_HOPS: Final = 3
MAX_SUGGESTED: Final = 3

_NO_ALIASES: Final[Mapping[str, tuple[str, ...]]] = ReadOnlyDict({})


class Meaning(msgspec.Struct, frozen=True):
    """The models that a name stands for in one snapshot of the fleet."""

    models: tuple[str, ...]
    """Whether a backend has them or not."""
    way: tuple[str, ...] = ()
    """The names on the way from the one that was sent: aliases, and names whose tag was replaced."""
    ambiguous: tuple[str, ...] = ()
    """The models that it could mean, if ``routing.loose_tags`` finds more than one."""


class Hint(msgspec.Struct, frozen=True):
    """Suggestions for a name that no backend has."""

    names: tuple[str, ...]
    text: str
    """A sentence."""

    @property
    def context(self) -> Mapping[str, tuple[str, ...]]:
        """The same for the client's error body."""
        return {"did_you_mean": self.names}


class Naming(msgspec.Struct, frozen=True):
    """The configured rules for names: ``routing.aliases`` and ``routing.loose_tags``."""

    aliases: Mapping[str, tuple[str, ...]] = _NO_ALIASES
    """The models that each alias stands for."""
    loose_tags: bool = False
    """Whether a name that no backend has stands for the only model that differs from it just in its tag."""

    @classmethod
    def of(cls, aliases: Mapping[str, str | tuple[str, ...]], *, loose_tags: bool = False) -> Self:
        """Return the naming of *aliases* as configured: each stands for one name or for several."""
        targets = {alias: (to,) if isinstance(to, str) else tuple(to) for alias, to in aliases.items()}
        return cls(targets, loose_tags)

    def meaning(self, name: str, snapshot: FleetSnapshot) -> Meaning:
        """Resolve *name* over at most three aliases; a real model takes precedence over an alias of the same name."""
        way: list[str] = []
        models = tuple(dict.fromkeys(self._models(name, snapshot, MAX_ALIAS_HOPS, way)))
        # A backend that accepts any model gets the name as it was sent.
        if not self.loose_tags or any(snapshot.having(model) for model in models) or snapshot.taking_any():
            return Meaning(models, tuple(way))
        return _by_loose_tags(models, tuple(way), snapshot)

    def is_listed(self, name: str, snapshot: FleetSnapshot) -> bool:
        """Whether a backend that can be asked has a model that *name* stands for."""
        return any(is_served(model, snapshot) for model in self.meaning(name, snapshot).models)

    def hint(self, name: str, snapshot: FleetSnapshot) -> Hint | None:
        """Return at most three listed names that *name*, which no backend has, could mean; None if there are none."""
        meaning = self.meaning(name, snapshot)
        ambiguous = meaning.ambiguous
        names = [other for other in ambiguous or self._near(name, snapshot) if self.is_listed(other, snapshot)]
        shown = distinct(names, snapshot)[:MAX_SUGGESTED]
        if not shown:
            return None
        if ambiguous:
            # For an alias, the models differ from its target, not from the alias itself.
            base = "it" if name in meaning.models else _one_of(meaning.models)
            return Hint(shown, f"{len(ambiguous)} models differ from {base} in their tag alone: name {_one_of(shown)}.")
        return Hint(shown, f"Did you mean {_one_of(shown)}?")

    def _near(self, name: str, snapshot: FleetSnapshot) -> Iterator[str]:
        known = (*snapshot.models, *self.aliases) if self.aliases else snapshot.models
        return (other for other in index_of(known).near(name) if other != name)

    def _models(self, name: str, snapshot: FleetSnapshot, hops: int, way: list[str]) -> Iterator[str]:
        targets = self.aliases.get(name)
        # The bound also ends a cycle that the check of the configuration has missed.
        if not targets or hops == 0 or snapshot.having(name):
            yield name
            return
        way.append(name)
        for target in targets:
            yield from self._models(target, snapshot, hops - 1, way)


def served(snapshot: FleetSnapshot) -> tuple[str, ...]:
    """Return the names of all models that a backend can be asked for, sorted."""
    return tuple([name for name in snapshot.models if is_served(name, snapshot)])


def is_served(model: str, snapshot: FleetSnapshot) -> bool:
    """Whether a backend that can be asked has *model*."""
    return any(backend.may_be_asked for backend in snapshot.having(model))


def distinct(names: Iterable[str], snapshot: FleetSnapshot) -> tuple[str, ...]:
    """Return *names* without those that find fewer models than another one of them.

    If a vLLM has ``m`` and an Ollama ``m:latest``, then ``m`` finds both: a second row in a listing would look like
    another model, and its users would reach only half of the fleet.
    """
    found = {name: frozenset((b.id, b.own_name(name)) for b in snapshot.having(name)) for name in names}
    other_names: dict[str, list[str]] = {}
    for name, models in found.items():
        for _, own_name in models:
            if own_name != name:
                other_names.setdefault(own_name, []).append(name)
    return tuple(
        name
        for name in found
        if not any(
            found[other] > found[name] or (found[other] == found[name] and other < name)
            for other in other_names.get(name, ())
        )
    )


def _one_of(names: Iterable[str]) -> str:
    *others, last = (f"'{name}'" for name in names)
    return f"{', '.join(others)} or {last}" if others else last


def _by_loose_tags(models: tuple[str, ...], way: tuple[str, ...], snapshot: FleetSnapshot) -> Meaning:
    others = index_of(snapshot.models).tagged_otherwise
    found = [distinct(others(model), snapshot) for model in models]
    loose = tuple(dict.fromkeys(names[0] for names in found if len(names) == 1))
    if loose:
        return Meaning(loose, (*way, *models))
    return Meaning(models, way, tuple(dict.fromkeys(name for names in found for name in names)))
