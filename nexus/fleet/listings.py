"""How the lists of models read that servers give, and what they tell of each model on the way."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.domain.model import ModelFacts, Zone
from nexus.fleet.reading import first_count, first_text, flag, mapping, named_rows, texts, unix_seconds


def decode_openai_models(answer: bytes) -> tuple[ModelFacts, ...]:
    """Read ``GET /v1/models`` in the dialects of vLLM, SGLang, llama.cpp, exo, the clouds and Anthropic."""
    return tuple(_openai_row(name, row) for name, row in named_rows(answer, "data", "id"))


def decode_ollama_tags(answer: bytes) -> tuple[ModelFacts, ...]:
    """Read Ollama's ``GET /api/tags``; the digest is what tells that ``/api/show`` must be asked again."""
    return tuple(_ollama_row(name, row) for name, row in named_rows(answer, "models", "name", "model"))


def _openai_row(name: str, row: Mapping[str, Any]) -> ModelFacts:
    capabilities = row.get("capabilities")
    claims = mapping(capabilities)
    granted = texts(capabilities)
    modalities = mapping(row.get("architecture")).get("input_modalities")
    parameters = texts(row.get("supported_parameters"))
    return ModelFacts(
        name=name,
        context_length=first_count(
            row, "max_model_len", "context_length", "max_input_tokens", "context_window", "max_context_length"
        ),
        max_output_tokens=first_count(row, "max_output_tokens", "max_completion_tokens", "max_tokens"),
        vision=_first_known(
            flag(claims.get("vision")),
            "image" in texts(modalities) if isinstance(modalities, list) else None,
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


def ollama_zone(told: Mapping[str, Any]) -> Zone | None:
    """Return ``open`` for a model of which Ollama says that it only passes it on; None when it says nothing."""
    return "open" if first_text(told, "remote_host", "remote_model") else None


def with_ollama_capabilities(facts: ModelFacts, capabilities: Any) -> ModelFacts:
    """Take over a list of capabilities, which is complete where Ollama gives one."""
    if not isinstance(capabilities, list):
        return facts
    granted = texts(capabilities)
    return msgspec.structs.replace(
        facts,
        vision="vision" in granted,
        tools="tools" in granted,
        # A chat model makes embeddings too when it is asked: only the yes is sure.
        embeddings="embedding" in granted or None,
    )


def _first_known(*claims: bool | None) -> bool | None:
    return next((claim for claim in claims if claim is not None), None)
