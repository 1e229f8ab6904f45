"""The routes of each kind of server."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from nexus.simulator import anthropic, figures, native, ollama, openai, openai_tasks, status, stored
from nexus.simulator.call import Call
from nexus.simulator.messages import Answer
from nexus.simulator.responses import responses

Endpoint = Callable[[Call], Awaitable[Answer]]
Routes = Mapping[tuple[str, str], "Route"]
"""Routes by method and path; a star matches one segment."""


class Route(msgspec.Struct, frozen=True):
    """An endpoint, and whether it uses the engine."""

    answer: Endpoint
    is_inference: bool = False
    """Requests take a place in the engine, and faults of scope ``inference`` apply to them."""


def find_route(kind: str, method: str, path: str) -> tuple[Route | None, tuple[str, ...]]:
    """Return the route, or None, and the segments that match its stars."""
    routes = KINDS[kind]
    if (method, path) in routes:
        return routes[method, path], ()
    segments = path.split("/")
    for (own_method, pattern), route in routes.items():
        own = pattern.split("/")
        if own_method == method and "*" in own and len(own) == len(segments):
            pairs = list(zip(own, segments, strict=True))
            if all(part in ("*", segment) for part, segment in pairs):
                return route, tuple(segment for part, segment in pairs if part == "*")
    return None, ()


def has_path(kind: str, path: str) -> bool:
    methods = {method for method, _ in KINDS[kind]}
    return any(find_route(kind, method, path)[0] is not None for method in methods)


def _get(paths: Mapping[str, Endpoint]) -> Routes:
    return {("GET", path): Route(answer) for path, answer in paths.items()}


def _get_and_head(paths: Mapping[str, Endpoint]) -> Routes:
    return {(method, path): Route(answer) for path, answer in paths.items() for method in ("GET", "HEAD")}


def _inference(paths: Mapping[str, Endpoint]) -> Routes:
    return {("POST", path): Route(answer, is_inference=True) for path, answer in paths.items()}


def _post(paths: Mapping[str, Endpoint]) -> Routes:
    return {("POST", path): Route(answer) for path, answer in paths.items()}


OPENAI_TEXT: Final[dict[str, Endpoint]] = {
    "/v1/chat/completions": openai.chat,
    "/v1/completions": openai.completions,
    "/v1/embeddings": openai_tasks.embeddings,
    "/v1/responses": responses,
}
MESSAGES: Final[dict[str, Endpoint]] = {"/v1/messages": anthropic.messages}
COUNT_TOKENS: Final[dict[str, Endpoint]] = {"/v1/messages/count_tokens": anthropic.count}
TRANSCRIPTION: Final[dict[str, Endpoint]] = {
    "/v1/audio/transcriptions": openai_tasks.transcriptions,
    "/v1/audio/translations": openai_tasks.transcriptions,
}
RANKING: Final[dict[str, Endpoint]] = {
    "/rerank": openai_tasks.rerank,
    "/v1/rerank": openai_tasks.rerank,
    "/v2/rerank": openai_tasks.rerank,
    "/score": openai_tasks.score,
    "/v1/score": openai_tasks.score,
}
TOKENS: Final[dict[str, Endpoint]] = {
    "/tokenize": openai_tasks.tokens_of_text,
    "/detokenize": openai_tasks.text_of_tokens,
}
MODELS: Final[dict[str, Endpoint]] = {"/v1/models": openai_tasks.models}
ONE_MODEL: Final[dict[str, Endpoint]] = {"/v1/models/*": openai_tasks.one_model}

TOKEN_COUNTS: Final[dict[str, Endpoint]] = {
    "/v1/chat/completions/input_tokens": stored.input_tokens,
    "/v1/responses/input_tokens": stored.input_tokens,
}
LLAMACPP_OWN: Final[dict[str, Endpoint]] = {
    "/completion": native.completion,
    "/infill": native.completion,
    "/embedding": native.embedding,
    "/apply-template": native.apply_template,
}
VLLM_OWN: Final[dict[str, Endpoint]] = {
    "/pooling": native.pooling,
    "/classify": native.pooling,
    "/v2/embed": native.embed,
}
SHOWN_RESPONSE: Final[Routes] = {
    ("GET", "/v1/responses/*"): Route(stored.show("response")),
    ("POST", "/v1/responses/*/cancel"): Route(stored.become("response", "cancelled")),
}
STORED: Final[Routes] = {
    **SHOWN_RESPONSE,
    ("DELETE", "/v1/responses/*"): Route(stored.delete("response")),
    ("GET", "/v1/responses/*/input_items"): Route(stored.parts("response", "input")),
    ("GET", "/v1/chat/completions"): Route(stored.rows("chat.completion")),
    ("GET", "/v1/chat/completions/*"): Route(stored.show("chat.completion")),
    ("POST", "/v1/chat/completions/*"): Route(stored.update("chat.completion")),
    ("DELETE", "/v1/chat/completions/*"): Route(stored.delete("chat.completion")),
    ("GET", "/v1/chat/completions/*/messages"): Route(stored.parts("chat.completion", "input")),
    ("POST", "/v1/conversations"): Route(stored.create_conversation),
    ("GET", "/v1/conversations/*"): Route(stored.show("conversation")),
    ("POST", "/v1/conversations/*"): Route(stored.update("conversation")),
    ("DELETE", "/v1/conversations/*"): Route(stored.delete("conversation")),
    ("GET", "/v1/conversations/*/items"): Route(stored.parts("conversation", "items")),
    ("GET", "/v1/files"): Route(stored.rows("file")),
    ("POST", "/v1/files"): Route(stored.upload_file),
    ("GET", "/v1/files/*"): Route(stored.show("file")),
    ("DELETE", "/v1/files/*"): Route(stored.delete("file")),
    ("GET", "/v1/files/*/content"): Route(stored.file_content),
    ("POST", "/v1/uploads"): Route(stored.begin_upload),
    ("POST", "/v1/uploads/*/parts"): Route(stored.upload_part),
    ("POST", "/v1/uploads/*/complete"): Route(stored.complete_upload),
    ("POST", "/v1/uploads/*/cancel"): Route(stored.become("upload", "cancelled")),
    ("GET", "/v1/batches"): Route(stored.rows("batch")),
    ("POST", "/v1/batches"): Route(stored.create_batch),
    ("GET", "/v1/batches/*"): Route(stored.show("batch")),
    ("POST", "/v1/batches/*/cancel"): Route(stored.become("batch", "cancelled")),
    ("GET", "/v1/messages/batches"): Route(stored.rows("message_batch")),
    ("POST", "/v1/messages/batches"): Route(stored.create_message_batch),
    ("GET", "/v1/messages/batches/*"): Route(stored.show("message_batch")),
    ("POST", "/v1/messages/batches/*/cancel"): Route(stored.show("message_batch")),
    ("GET", "/v1/messages/batches/*/results"): Route(stored.message_batch_results),
    ("DELETE", "/v1/messages/batches/*"): Route(stored.delete("message_batch")),
}
"""The stored objects of cloud APIs; no single engine has all of them."""

KINDS: Final[Mapping[str, Routes]] = {
    "generic": {
        **_get(MODELS | ONE_MODEL | {"/health": status.empty_health}),
        **_inference(OPENAI_TEXT | TRANSCRIPTION | RANKING | MESSAGES),
        **_inference({"/v1/audio/speech": openai_tasks.speech, "/v1/images/generations": openai_tasks.images}),
        **_post(TOKENS | COUNT_TOKENS | TOKEN_COUNTS | {"/v1/moderations": stored.moderations}),
        **_inference({"/v1/complete": anthropic.complete}),
        **_inference(LLAMACPP_OWN | VLLM_OWN | {"/generate": native.generate, "/v1/responses/compact": responses}),
        **STORED,
    },
    "ollama": {
        **_get_and_head({"/": ollama.root, "/api/version": ollama.version, "/api/tags": ollama.tags}),
        **_get({"/api/ps": ollama.ps} | MODELS | ONE_MODEL),
        **_post({"/api/show": ollama.show}),
        **_inference({"/api/chat": ollama.chat, "/api/generate": ollama.generate}),
        **_inference({"/api/embed": ollama.embed, "/api/embeddings": ollama.embeddings}),
        **_inference(OPENAI_TEXT | MESSAGES | {"/v1/audio/transcriptions": openai_tasks.transcriptions}),
    },
    "vllm": {
        **_get({"/health": status.empty_health, "/ping": status.empty_health, "/version": status.vllm_version}),
        **_get({"/load": figures.vllm_load, "/metrics": figures.vllm_metrics} | MODELS),
        **_inference(OPENAI_TEXT | TRANSCRIPTION | RANKING | MESSAGES | VLLM_OWN),
        **_post(TOKENS | COUNT_TOKENS),
        **SHOWN_RESPONSE,
    },
    "llamacpp": {
        **_get({"/health": status.ok_health, "/v1/health": status.ok_health, "/props": status.props}),
        **_get({"/slots": figures.slots, "/metrics": figures.llamacpp_metrics}),
        **_get({"/models": status.llamacpp_models, "/v1/models": status.llamacpp_models}),
        **_inference({path.removeprefix("/v1"): endpoint for path, endpoint in OPENAI_TEXT.items()} | LLAMACPP_OWN),
        **_inference(OPENAI_TEXT | MESSAGES | {"/rerank": openai_tasks.rerank, "/v1/rerank": openai_tasks.rerank}),
        **_inference({"/v1/audio/transcriptions": openai_tasks.transcriptions}),
        **_post(TOKENS | COUNT_TOKENS | TOKEN_COUNTS),
    },
    "sglang": {
        **_get({"/": ollama.root, "/health": status.sglang_health, "/health_generate": status.sglang_health}),
        **_get(
            {"/ready": status.empty_health, "/model_info": status.sglang_model, "/server_info": status.sglang_server}
        ),
        **_get({"/get_model_info": status.sglang_model, "/get_server_info": status.sglang_server}),
        **_get(
            {"/metrics": figures.sglang_metrics, "/v1/loads": figures.sglang_loads, "/api/tags": ollama.tags}
            | MODELS
            | ONE_MODEL
        ),
        **_inference(OPENAI_TEXT | MESSAGES | {"/v1/rerank": openai_tasks.rerank, "/v1/score": openai_tasks.score}),
        **_inference({"/v1/audio/transcriptions": openai_tasks.transcriptions}),
        **_inference({"/api/chat": ollama.chat, "/api/generate": ollama.generate, "/generate": native.generate}),
        **SHOWN_RESPONSE,
        **_post({"/api/show": ollama.show} | TOKENS | {f"/v1{path}": endpoint for path, endpoint in TOKENS.items()}),
    },
    "lmstudio": {
        **_get(MODELS | {"/api/v1/models": status.lmstudio_models, "/api/v0/models": status.old_lmstudio_models}),
        **_inference(OPENAI_TEXT | MESSAGES),
        **SHOWN_RESPONSE,
    },
}
"""The routes of each kind that can be simulated."""
