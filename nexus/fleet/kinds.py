"""The built-in kinds of backends, one row each."""

import re
from collections.abc import Mapping
from typing import Final

from nexus.domain.kinds import BackendKind, FactsLookup, LoadLookup, ModelListing, ServerLookup
from nexus.fleet.figures.documents import (
    decode_llamacpp_memory,
    decode_llamacpp_router,
    decode_llamacpp_slots,
    decode_lmstudio_loaded,
    decode_old_lmstudio_loaded,
    decode_ollama_ps,
    decode_sglang_loads,
)
from nexus.fleet.figures.pages import decode_llamacpp_metrics, decode_sglang_metrics, decode_vllm_metrics
from nexus.fleet.models.listings import (
    decode_google_models,
    decode_llamacpp_mode,
    decode_ollama_tags,
    decode_openai_models,
)
from nexus.fleet.models.lookups import (
    ask_ollama_show,
    decode_llamacpp_props,
    decode_llamacpp_server,
    decode_lmstudio_server,
    decode_lmstudio_v0,
    decode_lmstudio_v1,
    decode_ollama_show,
    decode_sglang_model,
    decode_sglang_server,
    decode_version,
    decode_vllm_config,
)

_LLAMACPP_OWN: Final = frozenset(
    {"openai.native_completion", "openai.infill", "openai.native_embedding", "openai.apply_template"}
)
_SGLANG_OWN: Final = frozenset({"openai.generate"})
_VLLM_OWN: Final = frozenset({"openai.pooling", "openai.classify", "openai.embed_v2"})
_OPENAI_RESPONSES: Final = frozenset(
    {
        "openai.response",
        "openai.response_cancel",
        "openai.response_items",
        "openai.response_tokens",
        "openai.response_compact",
    }
)
_OPENAI_KEEPING: Final = frozenset(
    {
        "openai.stored_chats",
        "openai.stored_chat",
        "openai.stored_chat_messages",
        "openai.conversations",
        "openai.conversation",
        "openai.conversation_items",
        "openai.conversation_item",
        "openai.files",
        "openai.file_upload",
        "openai.file",
        "openai.file_content",
        "openai.uploads",
        "openai.upload_part",
        "openai.upload_complete",
        "openai.upload_cancel",
        "openai.batches",
        "openai.batch_create",
        "openai.batch",
        "openai.batch_cancel",
    }
)
_ANTHROPIC_TEXT: Final = frozenset({"anthropic.messages", "anthropic.count_tokens"})

PROTOCOL_ENDPOINTS: Final[Mapping[str, frozenset[str]]] = {
    "openai": frozenset(
        {
            "openai.chat",
            "openai.chat_tokens",
            "openai.completions",
            "openai.embeddings",
            "openai.responses",
            "openai.rerank",
            "openai.score",
            "openai.moderations",
            "openai.transcriptions",
            "openai.translations",
            "openai.speech",
            "openai.images",
            "openai.image_edits",
            "openai.image_variations",
            "openai.tokenize",
            "openai.detokenize",
        }
    )
    | _OPENAI_RESPONSES
    | _OPENAI_KEEPING
    | _LLAMACPP_OWN
    | _SGLANG_OWN
    | _VLLM_OWN,
    "ollama": frozenset({"ollama.chat", "ollama.generate", "ollama.embed", "ollama.embeddings"}),
    "anthropic": _ANTHROPIC_TEXT
    | {
        "anthropic.complete",
        "anthropic.batches",
        "anthropic.batch_create",
        "anthropic.batch",
        "anthropic.batch_cancel",
        "anthropic.batch_results",
        "anthropic.files",
        "anthropic.file_upload",
        "anthropic.file",
        "anthropic.file_content",
    },
}
"""Every endpoint of each protocol, by the protocol's name."""

_OPENAI_TEXT: Final = frozenset({"openai.chat", "openai.completions", "openai.embeddings", "openai.responses"})
_OPENAI_RANKING: Final = frozenset({"openai.rerank", "openai.score"})
_OPENAI_LISTING: Final = ModelListing("/v1/models", decode_openai_models)

REASONING_S: Final = 600.0
"""Reasoning models of clouds may send nothing for as long as the clients of these clouds wait."""

OLLAMA: Final = BackendKind(
    name="ollama",
    endpoints=_OPENAI_TEXT | PROTOCOL_ENDPOINTS["ollama"] | {"openai.transcriptions", "anthropic.messages"},
    health_path="/api/version",
    listing=ModelListing("/api/tags", decode_ollama_tags),
    lookups=(FactsLookup("/api/show", decode_ollama_show, body=ask_ollama_show, is_per_model=True),),
    server_lookups=(ServerLookup("/api/version", decode_version),),
    load_lookups=(LoadLookup("/api/ps", decode_ollama_ps),),
    # Its queue for a loaded model is unbounded; for a model that is being loaded it holds 512 (OLLAMA_MAX_QUEUE).
    default_max_in_flight=512,
    # OLLAMA_NUM_PARALLEL, which no endpoint shows, is 1 to 4 by default.
    default_slots=4,
    caches_by_slot=True,
    loads_models=True,
    default_tag="latest",
)

VLLM: Final = BackendKind(
    name="vllm",
    endpoints=_OPENAI_TEXT
    | _OPENAI_RANKING
    | {"openai.transcriptions", "openai.translations", "openai.tokenize", "openai.detokenize"}
    | {"openai.response", "openai.response_cancel"}
    | _VLLM_OWN
    | _ANTHROPIC_TEXT,
    # For the Responses API it lowers max_output_tokens instead (0.32).
    refuses_beyond_context=frozenset({"openai.chat", "openai.completions", "anthropic.messages"}),
    health_path="/health",
    listing=_OPENAI_LISTING,
    # Only a server with VLLM_SERVER_DEV_MODE=1 has /server_info, which describes the machine, and so is slow at first.
    server_lookups=(
        ServerLookup("/version", decode_version),
        ServerLookup("/server_info?config_format=json", decode_vllm_config, is_once=True),
    ),
    load_lookups=(LoadLookup("/metrics", decode_vllm_metrics, needs="do not start it with --disable-log-stats"),),
    needs_model_name=False,
)

SGLANG: Final = BackendKind(
    name="sglang",
    endpoints=_OPENAI_TEXT
    | _OPENAI_RANKING
    | {"openai.transcriptions", "openai.tokenize", "openai.detokenize", "openai.response", "openai.response_cancel"}
    | _SGLANG_OWN
    | {"anthropic.messages", "ollama.chat", "ollama.generate"},
    # Its /health generates a token and takes a second (0.5.23).
    health_path="/model_info",
    listing=_OPENAI_LISTING,
    lookups=(FactsLookup("/model_info", decode_sglang_model),),
    # It asks the schedulers.
    server_lookups=(ServerLookup("/server_info", decode_sglang_server, is_once=True),),
    load_lookups=(
        LoadLookup("/v1/loads", decode_sglang_loads, needs="start it with --enable-metrics, or update it"),
        LoadLookup("/metrics", decode_sglang_metrics),
    ),
)


def _metrics_wake_llamacpp(version: str | None) -> bool:
    """Whether ``/metrics`` loads the model of a llama.cpp that sleeps: b10434 does, and b11434 does not any more."""
    build = re.match(r"b(\d{1,9})-", version or "")
    return build is None or int(build[1]) < _QUIET_BUILD


_QUIET_BUILD: Final = 11434

LLAMACPP: Final = BackendKind(
    name="llamacpp",
    endpoints=_OPENAI_TEXT
    | {"openai.rerank", "openai.transcriptions", "openai.tokenize", "openai.detokenize"}
    | {"openai.chat_tokens", "openai.response_tokens"}
    | _LLAMACPP_OWN
    | _ANTHROPIC_TEXT,
    # Neither /metrics nor /slots: polled every 0.5 s, they keep it from noticing clients that leave (0.6.0). Every 2 s
    # was harmless.
    health_path="/health",
    listing=_OPENAI_LISTING,
    lookups=(FactsLookup("/props", decode_llamacpp_props),),
    server_lookups=(ServerLookup("/props", decode_llamacpp_server), ServerLookup("/v1/models", decode_llamacpp_mode)),
    load_lookups=(
        LoadLookup(
            "/metrics",
            decode_llamacpp_metrics,
            needs="start it with --metrics",
            run_header="Process-Start-Time-Unix",
            wakes=_metrics_wake_llamacpp,
        ),
        LoadLookup("/slots", decode_llamacpp_slots, wakes=lambda _: True),
        LoadLookup("/props", decode_llamacpp_memory),
        LoadLookup("/models", decode_llamacpp_router),
    ),
    min_load_interval_s=5.0,
    # The default of --parallel, for releases whose /props does not show it.
    default_slots=4,
    caches_by_slot=True,
    loads_models=True,
    closes_after_stream=True,
    # It makes the response resumable: generation goes on after the client has left.
    dropped_headers=frozenset({"x-conversation-id"}),
    answers_to_any_model=True,
    needs_model_name=False,
    has_unreliable_500=True,
)

LMSTUDIO: Final = BackendKind(
    name="lmstudio",
    endpoints=_OPENAI_TEXT | {"openai.response", "anthropic.messages"},
    health_path="/v1/models",
    listing=_OPENAI_LISTING,
    lookups=(FactsLookup("/api/v0/models", decode_lmstudio_v0), FactsLookup("/api/v1/models", decode_lmstudio_v1)),
    server_lookups=(ServerLookup("/api/v1/models", decode_lmstudio_server),),
    load_lookups=(
        LoadLookup("/api/v1/models", decode_lmstudio_loaded),
        LoadLookup("/api/v0/models", decode_old_lmstudio_loaded),
    ),
    # "Max concurrent predictions"; it queues the rest.
    default_slots=4,
    caches_by_slot=True,
    loads_models=True,
)

EXO: Final = BackendKind(
    name="exo",
    endpoints=frozenset({"openai.chat", "openai.responses", "openai.images", "anthropic.messages"}),
    health_path="/node_id",
    listing=_OPENAI_LISTING,
    default_slots=4,
    loads_models=True,
)

OPENAI: Final = BackendKind(
    name="openai",
    is_local=False,
    first_byte_s=REASONING_S,
    endpoints=PROTOCOL_ENDPOINTS["openai"]
    - _OPENAI_RANKING
    - {"openai.tokenize", "openai.detokenize", "openai.chat_tokens"}
    - _LLAMACPP_OWN
    - _SGLANG_OWN
    - _VLLM_OWN,
    health_path="/v1/models",
    listing=_OPENAI_LISTING,
)

ANTHROPIC: Final = BackendKind(
    name="anthropic",
    is_local=False,
    first_byte_s=REASONING_S,
    endpoints=PROTOCOL_ENDPOINTS["anthropic"],
    health_path="/v1/models?limit=1000",
    listing=ModelListing("/v1/models?limit=1000", decode_openai_models),
    probe_headers={"anthropic-version": "2023-06-01"},
    key_header="x-api-key",
)

AZURE: Final = BackendKind(
    name="azure",
    is_local=False,
    first_byte_s=REASONING_S,
    endpoints=OPENAI.endpoints,
    health_path="/v1/models",
    listing=_OPENAI_LISTING,
    key_header="api-key",
)
"""OpenAI's API at Microsoft, below ``https://NAME.openai.azure.com/openai/v1``."""

GOOGLE: Final = BackendKind(
    name="google",
    is_local=False,
    first_byte_s=REASONING_S,
    endpoints=frozenset({"openai.chat", "openai.embeddings", "openai.images"}),
    health_path="/v1/models",
    listing=ModelListing("/v1/models", decode_google_models),
)
"""Google's models in OpenAI's API, below ``https://generativelanguage.googleapis.com/v1beta/openai``."""

GENERIC: Final = BackendKind(
    name="generic",
    endpoints=PROTOCOL_ENDPOINTS["openai"],
    health_path="/v1/models",
    listing=_OPENAI_LISTING,
)

UNDETECTED: Final = BackendKind(
    name="auto",
    # Where it runs is unknown, so restricted requests are not sent there.
    is_local=False,
    endpoints=frozenset(),
    health_path="/v1/models",
    listing=_OPENAI_LISTING,
)
"""The kind of a backend with ``type = "auto"`` until a probe has detected it."""

KINDS: Final[Mapping[str, BackendKind]] = {
    kind.name: kind
    for kind in (OLLAMA, VLLM, SGLANG, LLAMACPP, LMSTUDIO, EXO, OPENAI, ANTHROPIC, AZURE, GOOGLE, GENERIC)
}
"""The built-in kinds, by name."""
