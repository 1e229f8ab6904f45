"""What the name that a client sent stands for: a model, what an alias leads to, or a near name that it could mean."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from nexus.domain.fleet import FleetSnapshot
from nexus.domain.model_names import index_of
from nexus.domain.read_only import ReadOnlyDict

MAX_HOPS: Final = 3
MAX_SUGGESTED: Final = 3

_NO_ALIASES: Final[Mapping[str, tuple[str, ...]]] = ReadOnlyDict({})


class Meaning(msgspec.Struct, frozen=True):
    """What one name stands for in one snapshot of the fleet."""

    models: tuple[str, ...]
    """The models, whether a backend has them or not."""
    way: tuple[str, ...] = ()
    """The names between the one that was sent and these: aliases, and names whose tag was not taken at its word."""
    ambiguous: tuple[str, ...] = ()
    """The models that it could mean, where ``routing.loose_tags`` finds more than one."""


class Hint(msgspec.Struct, frozen=True):
    """What the client could name instead of a model that no backend has."""

    names: tuple[str, ...]
    text: str
    """A whole sentence."""

    @property
    def context(self) -> Mapping[str, tuple[str, ...]]:
        """The same for the client's error body."""
        return {"did_you_mean": self.names}


class Naming(msgspec.Struct, frozen=True):
    """The names beside those of the models themselves: ``routing.aliases`` and ``routing.loose_tags``."""

    aliases: Mapping[str, tuple[str, ...]] = _NO_ALIASES
    """By another name for models, the models that it stands for."""
    loose_tags: bool = False
    """Whether a name that no backend has stands for the one model that differs from it in its tag alone."""

    def meaning(self, name: str, snapshot: FleetSnapshot) -> Meaning:
        """Follow at most three hops from *name*; a real model of a name wins over an alias of that name."""
        way: list[str] = []
        models = tuple(dict.fromkeys(self._models(name, snapshot, MAX_HOPS, way)))
        # A backend that takes any name is asked for the name as it was sent.
        if not self.loose_tags or any(snapshot.having(model) for model in models) or snapshot.taking_any():
            return Meaning(models, tuple(way))
        return _by_loose_tags(models, tuple(way), snapshot)

    def is_listed(self, name: str, snapshot: FleetSnapshot) -> bool:
        """Whether a backend that can be asked has what *name* stands for."""
        return any(is_served(model, snapshot) for model in self.meaning(name, snapshot).models)

    def hint(self, name: str, snapshot: FleetSnapshot) -> Hint | None:
        """Return at most three listed names that could be meant by *name*, which no backend has; None: there is none.

        Names that no listing shows are in no hint either.
        """
        meaning = self.meaning(name, snapshot)
        ambiguous = meaning.ambiguous
        names = [other for other in ambiguous or self._near(name, snapshot) if self.is_listed(other, snapshot)]
        shown = distinct(names, snapshot)[:MAX_SUGGESTED]
        if not shown:
            return None
        if ambiguous:
            # An alias leads to a name whose tag is left out; nothing differs from the alias itself.
            base = "it" if name in meaning.models else _choice(meaning.models)
            return Hint(shown, f"{len(ambiguous)} models differ from {base} in their tag alone: name {_choice(shown)}.")
        return Hint(shown, f"Did you mean {_choice(shown)}?")

    def _near(self, name: str, snapshot: FleetSnapshot) -> Iterator[str]:
        known = (*snapshot.models, *self.aliases) if self.aliases else snapshot.models
        return (other for other in index_of(known).near(name) if other != name)

    def _models(self, name: str, snapshot: FleetSnapshot, hops: int, way: list[str]) -> Iterator[str]:
        targets = self.aliases.get(name)
        # The bound on hops also ends a circle, whatever the configuration check let pass.
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
    """Return *names* but for those by which less is found than by another one of them.

    Beside a vLLM that has ``m``, an Ollama's ``m:latest`` is found by ``m`` as well: with two rows in a listing, people
    would take the second for another model, and ask only half of the fleet.
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


def _choice(names: Iterable[str]) -> str:
    *others, last = (f"'{name}'" for name in names)
    return f"{', '.join(others)} or {last}" if others else last


def _by_loose_tags(models: tuple[str, ...], way: tuple[str, ...], snapshot: FleetSnapshot) -> Meaning:
    others = index_of(snapshot.models).tagged_otherwise
    found = [distinct(others(model), snapshot) for model in models]
    loose = tuple(dict.fromkeys(names[0] for names in found if len(names) == 1))
    if loose:
        return Meaning(loose, (*way, *models))
    return Meaning(models, way, tuple(dict.fromkeys(name for names in found for name in names)))
