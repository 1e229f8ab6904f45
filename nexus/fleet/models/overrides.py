"""Applies what the operator has configured for models, which wins over what servers report."""

from collections.abc import Iterable, Mapping
from typing import Any

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
    """Return *models* with the values of *config*, which may use any spelling of their names."""
    models = tuple(models)
    overrides = _by_own_name(models, config, kind)
    return tuple(_overridden(facts, overrides[facts.name]) if facts.name in overrides else facts for facts in models)


def declared_models(config: Mapping[str, ModelConfig]) -> Mapping[str, ModelFacts]:
    """Return the models in *config*: the backend counts as having them until its own list says otherwise."""
    return {name: _overridden(with_guesses(ModelFacts(name=name)), override) for name, override in config.items()}


def with_new_overrides(
    models: Mapping[str, ModelFacts],
    before: Mapping[str, ModelConfig],
    after: Mapping[str, ModelConfig],
    kind: BackendKind,
) -> Mapping[str, ModelFacts]:
    """Return *models* after the configuration has changed from *before* to *after*, until the next probe.

    A fact that only the old configuration contained is unknown again. A model whose zone was configured is in the open
    zone until its server says otherwise, since it may run anywhere.
    """
    old = _by_own_name(models.values(), before, kind)
    reset = (_without(facts, old[name]) if name in old else facts for name, facts in models.items())
    return {facts.name: facts for facts in with_overrides(reset, after, kind)}


def for_another_server(
    models: Mapping[str, ModelFacts], config: Mapping[str, ModelConfig], kind: BackendKind
) -> Mapping[str, ModelFacts]:
    """Return the names of *models* for another server that has replaced theirs, until it is probed.

    Their facts are unknown apart from *config*, and they are in the open zone, since they may run anywhere.
    """
    names = (ModelFacts(name=name, zone="open") for name in models)
    return {**declared_models(config), **{facts.name: facts for facts in with_overrides(names, config, kind)}}


def _by_own_name(
    models: Iterable[ModelFacts], config: Mapping[str, ModelConfig], kind: BackendKind
) -> Mapping[str, ModelConfig]:
    spelled = spellings_of(kind, models)
    return {
        spelled.get(name if kind.default_tag is None else name.lower(), name): override
        for name, override in config.items()
    }


def _without(facts: ModelFacts, override: ModelConfig) -> ModelFacts:
    configured_only: dict[str, Any] = {"first_byte_s": None, "max_in_flight": None, "denied": frozenset()}
    unknown = {name: None for name in _SAME_NAMES if getattr(override, name) is not None}
    zone = facts.zone if override.zone is None else "open"
    return msgspec.structs.replace(facts, **{**unknown, **configured_only, "zone": zone})


def _overridden(facts: ModelFacts, override: ModelConfig) -> ModelFacts:
    known = {name: value for name in _SAME_NAMES if (value := getattr(override, name)) is not None}
    denied = frozenset(name for name, value in known.items() if value is False)
    first_byte_s, max_in_flight = override.first_byte_seconds, override.max_in_flight
    return msgspec.structs.replace(
        facts, first_byte_s=first_byte_s, max_in_flight=max_in_flight, denied=denied, **known
    )
