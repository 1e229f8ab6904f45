"""Decodes the model lists of servers, with the facts that they contain about each model."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import msgspec

from nexus.domain.kinds import ServerFacts
from nexus.domain.model import ModelFacts, Zone
from nexus.fleet.models.reading import (
    count,
    first_count,
    first_text,
    flag,
    mapping,
    named_rows,
    ordered_texts,
    texts,
    unix_seconds,
)


def decode_openai_models(body: bytes) -> tuple[ModelFacts, ...]:
    """Decode ``GET /v1/models`` in the dialects of vLLM, SGLang, llama.cpp, exo, the clouds and Anthropic."""
    rows = tuple(named_rows(body, "data", "id"))
    models = tuple(_openai_row(name, row) for name, row in rows)
    parents = [first_text(row, "parent") for _, row in rows]
    if not any(parents):
        return models
    contexts = {facts.name: facts.context_length for facts in models}
    contexts |= {
        root: contexts[name] for name, row in rows if (root := first_text(row, "root")) and root not in contexts
    }
    return tuple(
        _with_context(facts, contexts.get(parent or "")) for facts, parent in zip(models, parents, strict=True)
    )


def decode_google_models(body: bytes) -> tuple[ModelFacts, ...]:
    """Decode ``GET /v1/models`` of Google, whose names begin with ``models/`` there and do not have to in requests."""
    return tuple(
        msgspec.structs.replace(facts, name=facts.name.removeprefix("models/")) for facts in decode_openai_models(body)
    )


def decode_llamacpp_mode(body: bytes) -> ServerFacts:
    """Decode from ``GET /v1/models`` whether a llama.cpp has a single model: in router mode, each has a status."""
    rows = [row for _, row in named_rows(body, "data", "id")]
    return ServerFacts(has_one_model=len(rows) == 1 and "status" not in rows[0])


def _with_context(facts: ModelFacts, of_parent: int | None) -> ModelFacts:
    """Return *facts* with the context of its base model if it has none: vLLM does not repeat it for a LoRA."""
    return facts if facts.context_length else msgspec.structs.replace(facts, context_length=of_parent)


def decode_ollama_tags(body: bytes) -> tuple[ModelFacts, ...]:
    """Decode Ollama's ``GET /api/tags``; a new digest means that ``/api/show`` must be requested again."""
    return tuple(_ollama_row(name, row) for name, row in named_rows(body, "models", "name", "model"))


def _openai_row(name: str, row: Mapping[str, Any]) -> ModelFacts:
    capabilities = row.get("capabilities")
    claims = mapping(capabilities)
    granted = texts(capabilities)
    modalities = mapping(row.get("architecture")).get("input_modalities")
    parameters = texts(row.get("supported_parameters"))
    return ModelFacts(
        name=name,
        # llama.cpp lists the name of the model among its aliases.
        aliases=tuple(alias for alias in ordered_texts(row.get("aliases")) if alias != name),
        context_length=first_count(
            row, "max_model_len", "context_length", "max_input_tokens", "context_window", "max_context_length"
        )
        or _llamacpp_context(row),
        max_output_tokens=first_count(row, "max_output_tokens", "max_completion_tokens", "max_tokens"),
        vision=_first_known(
            flag(claims.get("vision")),
            "image" in texts(modalities) if isinstance(modalities, list) and _is_loaded(row) else None,
            bool(granted & {"vision", "multimodal"}) or None,
        ),
        tools=_first_known(
            flag(claims.get("tools")),
            flag(claims.get("function_calling")),
            bool(granted & {"tools", "tool_use"}) or None,
            "tools" in parameters or None,
        ),
        json_mode=_first_known(flag(claims.get("json_mode")), "response_format" in parameters or None),
        embeddings=_first_known(flag(claims.get("embeddings")), bool(granted & {"embedding", "embeddings"}) or None),
        created=unix_seconds(row.get("created")) or unix_seconds(row.get("created_at")),
    )


def _llamacpp_context(row: Mapping[str, Any]) -> int | None:
    """Return the context that llama.cpp has allocated; None for a model that its router has not loaded."""
    if not _is_loaded(row):
        return None
    return first_count(mapping(row.get("meta")), "n_ctx") or _context_argument(mapping(row.get("status")).get("args"))


def _is_loaded(row: Mapping[str, Any]) -> bool:
    status = row.get("status")
    return not isinstance(status, dict) or status.get("value") in ("loaded", "sleeping")


def _context_argument(args: Any) -> int | None:
    """Return the context in the command line with which llama.cpp's router started a model, if it is there."""
    sizes = [value for option, value in pairwise(ordered_texts(args)) if option in ("-c", "--ctx-size")]
    return count(int(sizes[-1])) if sizes and sizes[-1].isdecimal() and len(sizes[-1]) < MAX_DIGITS else None


MAX_DIGITS: Final = 16


def _ollama_row(name: str, row: Mapping[str, Any]) -> ModelFacts:
    details = mapping(row.get("details"))
    return with_ollama_capabilities(
        ModelFacts(
            name=name,
            context_length=first_count(details, "context_length"),
            created=unix_seconds(row.get("modified_at")),
            revision=first_text(row, "digest"),
            zone=ollama_zone(row),
        ),
        row.get("capabilities"),
    )


def ollama_zone(row: Mapping[str, Any]) -> Zone | None:
    """Return ``open`` for a model that Ollama forwards to another server; None if it does not say so."""
    return "open" if first_text(row, "remote_host", "remote_model") else None


def with_ollama_capabilities(facts: ModelFacts, capabilities: Any) -> ModelFacts:
    """Return *facts* with a list of capabilities, which is complete if Ollama sends one."""
    if not isinstance(capabilities, list):
        return facts
    granted = texts(capabilities)
    return msgspec.structs.replace(
        facts,
        vision="vision" in granted,
        tools="tools" in granted,
        # Chat models can make embeddings too, so a missing capability does not mean no.
        embeddings="embedding" in granted or None,
        thinking="thinking" in granted,
    )


def _first_known(*claims: bool | None) -> bool | None:
    return next((claim for claim in claims if claim is not None), None)
