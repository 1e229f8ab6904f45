"""What the operator says of a model wins over what its server says."""

from collections.abc import Iterable, Mapping

import msgspec

from nexus.config.schema import ModelConfig
from nexus.domain.kinds import BackendKind
from nexus.domain.model import ModelFacts
from nexus.fleet.models.guesses import with_guesses
from nexus.fleet.models.spellings import spellings_of

_SAME_NAMES = ("context_length", "max_output_tokens", "vision", "tools", "json_mode", "embeddings", "zone", "tier")


def with_overrides(
    models: Iterable[ModelFacts], config: Mapping[str, ModelConfig], kind: BackendKind
) -> tuple[ModelFacts, ...]:
    """Return *models* with what *config* says of them, under whichever spelling it names them."""
    models = tuple(models)
    told = _by_own_name(models, config, kind)
    return tuple(_overridden(facts, told[facts.name]) if facts.name in told else facts for facts in models)


def declared_models(config: Mapping[str, ModelConfig]) -> Mapping[str, ModelFacts]:
    """Return the models that *config* names: they count as there until the server's own list says otherwise."""
    return {name: _overridden(with_guesses(ModelFacts(name=name)), told) for name, told in config.items()}


def reconsidered(
    models: Mapping[str, ModelFacts],
    before: Mapping[str, ModelConfig],
    after: Mapping[str, ModelConfig],
    kind: BackendKind,
) -> Mapping[str, ModelFacts]:
    """Return what is known of *models* when the operator says *after* and no longer *before*, until the next probe.

    What he alone has said is unknown again. Of a model that only his word kept in the house nobody can say that it
    stays there: until the server tells, it is in the open zone.
    """
    told = _by_own_name(models.values(), before, kind)
    forgotten = (_forgotten(facts, told[name]) if name in told else facts for name, facts in models.items())
    return {facts.name: facts for facts in with_overrides(forgotten, after, kind)}


def unconfirmed(
    models: Mapping[str, ModelFacts], config: Mapping[str, ModelConfig], kind: BackendKind
) -> Mapping[str, ModelFacts]:
    """Return the names of *models* when another server has taken the place of theirs, until it is probed.

    Of facts there is only what *config* says; where their data would go, nobody knows.
    """
    names = (ModelFacts(name=name, zone="open") for name in models)
    return {**declared_models(config), **{facts.name: facts for facts in with_overrides(names, config, kind)}}


def _by_own_name(
    models: Iterable[ModelFacts], config: Mapping[str, ModelConfig], kind: BackendKind
) -> Mapping[str, ModelConfig]:
    spelled = spellings_of(kind, models)
    return {
        spelled.get(name if kind.default_tag is None else name.lower(), name): told for name, told in config.items()
    }


def _forgotten(facts: ModelFacts, told: ModelConfig) -> ModelFacts:
    unknown = {name: None for name in _SAME_NAMES if getattr(told, name) is not None}
    zone = facts.zone if told.zone is None else "open"
    return msgspec.structs.replace(facts, **{**unknown, "first_byte_s": None, "zone": zone, "denied": frozenset()})


def _overridden(facts: ModelFacts, told: ModelConfig) -> ModelFacts:
    known = {name: value for name in _SAME_NAMES if (value := getattr(told, name)) is not None}
    denied = frozenset(name for name, value in known.items() if value is False)
    return msgspec.structs.replace(facts, first_byte_s=told.first_byte_seconds, denied=denied, **known)
