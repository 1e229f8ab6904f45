"""What the operator says of a model wins over what its server says."""

from collections.abc import Iterable, Mapping

import msgspec

from nexus.config.schema import ModelConfig
from nexus.domain.kinds import BackendKind
from nexus.domain.model import ModelFacts
from nexus.fleet.spellings import spellings_of

_SAME_NAMES = ("context_length", "max_output_tokens", "vision", "tools", "json_mode", "embeddings", "zone", "tier")


def with_overrides(
    models: Iterable[ModelFacts], config: Mapping[str, ModelConfig], kind: BackendKind
) -> tuple[ModelFacts, ...]:
    """Return *models* with what *config* says of them, under whichever spelling it names them."""
    models = tuple(models)
    spelled = spellings_of(kind, (facts.name for facts in models))
    own = {spelled.get(name if kind.default_tag is None else name.lower(), name): told for name, told in config.items()}
    return tuple(_overridden(facts, own[facts.name]) if facts.name in own else facts for facts in models)


def declared_models(config: Mapping[str, ModelConfig]) -> Mapping[str, ModelFacts]:
    """Return the models that *config* names: they count as there until the server's own list says otherwise."""
    return {name: _overridden(ModelFacts(name=name), told) for name, told in config.items()}


def _overridden(facts: ModelFacts, told: ModelConfig) -> ModelFacts:
    known = {name: value for name in _SAME_NAMES if (value := getattr(told, name)) is not None}
    return msgspec.structs.replace(facts, first_byte_s=told.first_byte_seconds, **known)
