"""Which paths each kind of server has, and what answers there."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from nexus.simulator import anthropic, marks, ollama, openai, openai_tasks
from nexus.simulator.calling import Call
from nexus.simulator.messages import Answer
from nexus.simulator.responses import responses

Endpoint = Callable[[Call], Awaitable[Answer]]
Routes = Mapping[tuple[str, str], "Route"]
"""By method and path; a path that ends in ``/*`` takes any further text."""


class Route(msgspec.Struct, frozen=True):
    """What answers at a path."""

    answer: Endpoint
    is_inference: bool = False
    """It takes a place in the engine, and faults are played on it."""


def find_route(kind: str, method: str, path: str) -> Route | None:
    """Return what answers there; None: the path, or the path with this method, does not exist."""
    routes = KINDS[kind]
    return routes.get((method, path)) or routes.get((method, path.rpartition("/")[0] + "/*"))


def has_path(kind: str, path: str) -> bool:
    return any(known == path for _, known in KINDS[kind])


def _tell(paths: Mapping[str, Endpoint]) -> Routes:
    return {("GET", path): Route(answer) for path, answer in paths.items()}


def _tell_head_too(paths: Mapping[str, Endpoint]) -> Routes:
    return {(method, path): Route(answer) for path, answer in paths.items() for method in ("GET", "HEAD")}


def _infer(paths: Mapping[str, Endpoint]) -> Routes:
    return {("POST", path): Route(answer, is_inference=True) for path, answer in paths.items()}


def _ask(paths: Mapping[str, Endpoint]) -> Routes:
    return {("POST", path): Route(answer) for path, answer in paths.items()}


OPENAI_TEXT: Final[dict[str, Endpoint]] = {
    "/v1/chat/completions": openai.chat,
    "/v1/completions": openai.completions,
    "/v1/embeddings": openai_tasks.embeddings,
    "/v1/responses": responses,
}
MESSAGES: Final[dict[str, Endpoint]] = {"/v1/messages": anthropic.messages}
COUNT_TOKENS: Final[dict[str, Endpoint]] = {"/v1/messages/count_tokens": anthropic.count}
HEARING: Final[dict[str, Endpoint]] = {
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

KINDS: Final[Mapping[str, Routes]] = {
    "generic": {
        **_tell(MODELS | ONE_MODEL | {"/health": marks.empty_health}),
        **_infer(OPENAI_TEXT | HEARING | RANKING | MESSAGES),
        **_infer({"/v1/audio/speech": openai_tasks.speech, "/v1/images/generations": openai_tasks.images}),
        **_ask(TOKENS | COUNT_TOKENS),
    },
    "ollama": {
        **_tell_head_too({"/": ollama.root, "/api/version": ollama.version, "/api/tags": ollama.tags}),
        **_tell({"/api/ps": ollama.ps} | MODELS | ONE_MODEL),
        **_ask({"/api/show": ollama.show}),
        **_infer({"/api/chat": ollama.chat, "/api/generate": ollama.generate}),
        **_infer({"/api/embed": ollama.embed, "/api/embeddings": ollama.embeddings}),
        **_infer(OPENAI_TEXT | MESSAGES | {"/v1/audio/transcriptions": openai_tasks.transcriptions}),
    },
    "vllm": {
        **_tell({"/health": marks.empty_health, "/ping": marks.empty_health, "/version": marks.vllm_version}),
        **_tell({"/load": marks.vllm_load, "/metrics": marks.vllm_metrics} | MODELS),
        **_infer(OPENAI_TEXT | HEARING | RANKING | MESSAGES),
        **_ask(TOKENS | COUNT_TOKENS),
    },
    "llamacpp": {
        **_tell({"/health": marks.ok_health, "/v1/health": marks.ok_health, "/props": marks.props}),
        **_tell({"/slots": marks.slots, "/metrics": marks.llamacpp_metrics}),
        **_tell({"/models": marks.llamacpp_models, "/v1/models": marks.llamacpp_models}),
        **_infer({path.removeprefix("/v1"): endpoint for path, endpoint in OPENAI_TEXT.items()}),
        **_infer(OPENAI_TEXT | MESSAGES | {"/rerank": openai_tasks.rerank, "/v1/rerank": openai_tasks.rerank}),
        **_infer({"/v1/audio/transcriptions": openai_tasks.transcriptions}),
        **_ask(TOKENS | COUNT_TOKENS),
    },
    "sglang": {
        **_tell({"/": ollama.root, "/health": marks.sglang_health, "/health_generate": marks.sglang_health}),
        **_tell({"/ready": marks.empty_health, "/model_info": marks.sglang_model, "/server_info": marks.sglang_server}),
        **_tell({"/get_model_info": marks.sglang_model, "/get_server_info": marks.sglang_server}),
        **_tell({"/metrics": marks.sglang_metrics, "/api/tags": ollama.tags} | MODELS | ONE_MODEL),
        **_infer(OPENAI_TEXT | MESSAGES | {"/v1/rerank": openai_tasks.rerank, "/v1/score": openai_tasks.score}),
        **_infer({"/v1/audio/transcriptions": openai_tasks.transcriptions}),
        **_infer({"/api/chat": ollama.chat, "/api/generate": ollama.generate}),
        **_ask({"/api/show": ollama.show} | TOKENS | {f"/v1{path}": endpoint for path, endpoint in TOKENS.items()}),
    },
    "lmstudio": {
        **_tell(MODELS | {"/api/v1/models": marks.lmstudio_models, "/api/v0/models": marks.old_lmstudio_models}),
        **_infer(OPENAI_TEXT | MESSAGES),
    },
}
"""The routes of each kind that can be imitated."""
