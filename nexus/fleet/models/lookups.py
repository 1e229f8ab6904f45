"""Decodes the responses that complete the facts of a model list."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.domain.kinds import ServerFacts
from nexus.domain.model import ModelFacts
from nexus.fleet.models.listings import ollama_zone, with_ollama_capabilities
from nexus.fleet.models.reading import count, first_count, first_text, flag, json_object, mapping, named_rows

Models = tuple[ModelFacts, ...]


def ask_ollama_show(model: str) -> bytes:
    """Return the body of ``POST /api/show``; older servers read ``name``, newer ones ``model``."""
    return msgspec.json.encode({"model": model, "name": model})


def decode_ollama_show(body: bytes, models: Models) -> Models:
    """Decode the capabilities, the zone, and the trained context, whose key begins with the architecture."""
    shown = json_object(body)
    facts = mapping(shown.get("model_info"))
    architecture = first_text(facts, "general.architecture")
    context = count(facts.get(f"{architecture}.context_length")) or _any_context(facts)
    return tuple(
        msgspec.structs.replace(
            with_ollama_capabilities(model, shown.get("capabilities")),
            context_length=context or model.context_length,
            zone=ollama_zone(shown) or model.zone,
        )
        for model in models
    )


def _any_context(facts: Mapping[str, Any]) -> int | None:
    return next((n for key, value in facts.items() if key.endswith(".context_length") and (n := count(value))), None)


def decode_llamacpp_props(body: bytes, models: Models) -> Models:
    """Decode the modalities, the aliases and the context of one slot, which is what one request can use.

    In router mode the response describes no model and changes nothing.
    """
    props = json_object(body)
    if len(models) != 1 or props.get("role") == "router":
        return models
    context = first_count(mapping(props.get("default_generation_settings")), "n_ctx")
    vision = flag(mapping(props.get("modalities")).get("vision"))
    tools = flag(mapping(props.get("chat_template_caps")).get("supports_tools"))
    named = (name.strip() for name in (first_text(props, "model_alias") or "").split(","))
    aliases = tuple(dict.fromkeys((*models[0].aliases, *(name for name in named if name and name != models[0].name))))
    model = msgspec.structs.replace(models[0], aliases=aliases)
    return (_completed(model, context_length=context, vision=vision, tools=tools or None),)


def decode_llamacpp_server(body: bytes) -> ServerFacts:
    """Decode the number of slots and the build; in router mode, how many models are in memory at once."""
    props = json_object(body)
    return ServerFacts(
        version=first_text(props, "build_info"),
        max_in_flight=first_count(props, "total_slots"),
        max_loaded=first_count(props, "max_instances") if props.get("role") == "router" else None,
    )


def decode_vllm_config(body: bytes) -> ServerFacts:
    """Decode ``max_num_seqs`` from ``GET /server_info?config_format=json``, for each of its data-parallel engines."""
    config = mapping(json_object(body).get("vllm_config"))
    sequences = first_count(mapping(config.get("scheduler_config")), "max_num_seqs")
    engines = first_count(mapping(config.get("parallel_config")), "data_parallel_size") or 1
    return ServerFacts(max_in_flight=count((sequences or 0) * engines))


def decode_sglang_server(body: bytes) -> ServerFacts:
    """Decode ``GET /server_info``: the version, and how many requests run at once in all data-parallel ranks."""
    shown = json_object(body)
    states = shown.get("internal_states")
    ranks = [
        first_count(mapping(state), "effective_max_running_requests_per_dp")
        for state in (states if isinstance(states, list) else [])
    ]
    running = count(sum(rank or 0 for rank in ranks)) or first_count(shown, "max_running_requests")
    return ServerFacts(version=first_text(shown, "version"), max_in_flight=running)


def decode_sglang_model(body: bytes, models: Models) -> Models:
    """Decode ``GET /model_info``, which describes the only model of the server."""
    shown = json_object(body)
    vision = flag(shown.get("has_image_understanding"))
    embeddings = True if shown.get("is_generation") is False else None
    return tuple(_completed(model, vision=vision, embeddings=embeddings) for model in models)


def decode_lmstudio_v1(body: bytes, models: Models) -> Models:
    """Decode LM Studio's ``GET /api/v1/models``."""
    rows = dict(named_rows(body, "models", "key"))
    # Each further instance of a model is listed with its own id and context.
    described: dict[str, Mapping[str, Any]] = {
        name: {**row, "loaded_instances": [instance]}
        for row in rows.values()
        for instance in _instances(row)
        if (name := first_text(instance, "id"))
    }
    described |= rows
    return tuple(_lmstudio_v1(model, described[model.name]) if model.name in described else model for model in models)


def decode_lmstudio_server(body: bytes) -> ServerFacts:
    """Decode how many requests LM Studio works on at once: for a model, ``parallel`` of each of its loaded instances.

    Of several models in memory the least number is taken, so that no slot is expected that a model does not have.
    """
    rows = dict(named_rows(body, "models", "key")).values()
    slots = [
        sum(first_count(mapping(instance.get("config")), "parallel") or 0 for instance in _instances(row))
        for row in rows
    ]
    return ServerFacts(max_in_flight=min((each for each in slots if each), default=None))


def _lmstudio_v1(model: ModelFacts, row: Mapping[str, Any]) -> ModelFacts:
    claims = mapping(row.get("capabilities"))
    return _completed(
        model,
        context_length=_loaded_context(row) or first_count(row, "max_context_length"),
        vision=flag(claims.get("vision")),
        tools=flag(claims.get("trained_for_tool_use")) or None,
        embeddings=row.get("type") == "embedding" or None,
    )


def _instances(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    loaded = row.get("loaded_instances")
    return [mapping(instance) for instance in loaded] if isinstance(loaded, list) else []


def _loaded_context(row: Mapping[str, Any]) -> int | None:
    """Return the smallest context that is allocated; None if the model is not loaded."""
    sizes = [first_count(mapping(instance.get("config")), "context_length") for instance in _instances(row)]
    return min((size for size in sizes if size), default=None)


def decode_lmstudio_v0(body: bytes, models: Models) -> Models:
    """Decode the older ``GET /api/v0/models``."""
    rows = dict(named_rows(body, "data", "id"))
    return tuple(_lmstudio_v0(model, rows[model.name]) if model.name in rows else model for model in models)


def _lmstudio_v0(model: ModelFacts, row: Mapping[str, Any]) -> ModelFacts:
    return _completed(
        model,
        context_length=first_count(row, "loaded_context_length", "max_context_length"),
        vision=row.get("type") == "vlm" or None,
        embeddings=row.get("type") == "embeddings" or None,
    )


def decode_version(body: bytes) -> ServerFacts:
    """Decode ``{"version": …}``."""
    return ServerFacts(version=first_text(json_object(body), "version"))


def _completed(model: ModelFacts, **facts: int | bool | None) -> ModelFacts:
    """Return *model* with *facts*, except for those that are None."""
    return msgspec.structs.replace(model, **{name: value for name, value in facts.items() if value is not None})
