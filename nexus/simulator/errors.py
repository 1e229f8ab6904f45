"""The errors of each kind of server, as answers and as events in a stream."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from nexus.simulator.dialects import DIALECTS
from nexus.simulator.messages import (
    Answer,
    Event,
    Events,
    data_event,
    json_answer,
    line_event,
    named_event,
    sse_answer,
    text_answer,
)
from nexus.simulator.refusals import Reason, Refusal

Protocol = Literal["openai", "ollama", "anthropic"]


def protocol_of(path: str) -> Protocol:
    if path.startswith("/api/"):
        return "ollama"
    return "anthropic" if path.startswith("/v1/messages") else "openai"


def refusal_answer(refusal: Refusal, kind: str, path: str) -> Answer:
    """Return the error of a server of that kind."""
    protocol = protocol_of(path)
    status = _status(refusal.reason, kind, protocol)
    message = _message(refusal, kind, path)
    if (refusal.reason, kind) in WITHOUT_BODY:
        return Answer(b"", status)
    if (refusal.reason, kind) == ("unauthorized", "vllm"):
        return json_answer({"error": "Unauthorized"}, status)
    if refusal.reason == "too_long":
        return _too_long_answer(refusal, kind, protocol, status, message)
    if protocol == "ollama":
        return json_answer({"error": message}, status)
    if protocol == "anthropic":
        return json_answer(_anthropic_error(status, message), status)
    return json_answer(OPENAI_ERRORS[kind](status, refusal.reason, message), status)


def _too_long_answer(refusal: Refusal, kind: str, protocol: Protocol, status: int, message: str) -> Answer:
    if refusal.is_stream and DIALECTS[kind].reports_too_long_in_stream:
        return sse_answer(
            _one(Event(b"event: error\ndata: " + msgspec.json.encode({"error": {"message": message}}) + b"\n\n"))
        )
    if kind == "lmstudio":
        return json_answer({"error": message}, status)
    if kind == "llamacpp":
        lengths = {"n_prompt_tokens": refusal.lengths.prompt, "n_ctx": refusal.lengths.context}
        error = {"code": status, "message": message, "type": "exceed_context_size_error", **lengths}
        return json_answer({"error": error}, status)
    if protocol == "ollama":
        return json_answer({"error": message}, status)
    if protocol == "anthropic":
        return json_answer(_anthropic_error(status, message), status)
    return json_answer(OPENAI_ERRORS[kind](status, refusal.reason, message), status)


async def _one(event: Event) -> Events:
    yield event


def error_events(kind: str, path: str) -> tuple[Event, ...]:
    """Return the events that a server of that kind sends when its engine fails during a stream."""
    message = "the engine broke"
    if protocol_of(path) == "ollama":
        return (line_event({"error": message}, "end"),)
    if protocol_of(path) == "anthropic":
        # llama.cpp sends the error without an envelope (0.6.0).
        bare = {"code": 500, "message": message, "type": "server_error"}
        body = bare if kind == "llamacpp" else _anthropic_error(500, message)
        return (Event(b"event: error\ndata: " + msgspec.json.encode(body) + b"\n\n", "end"),)
    if path.endswith("/responses"):
        return (named_event({"type": "error", "code": "server_error", "message": message, "param": None}, "end"),)
    if kind == "ollama":
        # Ollama turns its own error into an empty delta, and sends no terminal marker (0.33).
        return (data_event({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": None}]}),)
    error = data_event({"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}})
    return (error, Event(b"data: [DONE]\n\n", "end")) if kind == "vllm" else (error,)


def unknown_path_answer(method: str, path: str, kind: str) -> Answer:
    """Return the answer of a server of that kind to an unknown path."""
    if kind == "lmstudio":
        # LM Studio answers with status 200.
        return json_answer({"error": f"Unexpected endpoint or method. ({method} {path})"})
    if kind == "ollama":
        return text_answer("404 page not found", 404)
    if kind == "llamacpp":
        return json_answer({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, 404)
    return json_answer({"detail": "Not Found"}, 404)


def wrong_method_answer(kind: str) -> Answer:
    return text_answer("405 method not allowed", 405) if kind == "ollama" else json_answer(METHOD_NOT_ALLOWED, 405)


METHOD_NOT_ALLOWED: Final = {"detail": "Method Not Allowed"}

STATUSES: Final[Mapping[Reason, int]] = {
    "bad_json": 400,
    "invalid": 400,
    "load_failed": 500,
    "loading": 503,
    "not_kept": 404,
    "unknown_previous": 400,
    "unauthorized": 401,
    "unknown_model": 404,
    "unsupported": 400,
    "encoded": 400,
    "foreign_host": 403,
    "overloaded": 503,
    "rate_limited": 429,
    "too_long": 400,
}
KIND_STATUSES: Final[Mapping[tuple[Reason, str], int]] = {
    ("unknown_previous", "vllm"): 404,
    ("unsupported", "vllm"): 404,
    # Of its router: a server for one model answers to any name.
    ("unknown_model", "llamacpp"): 400,
    ("unsupported", "llamacpp"): 501,
    ("encoded", "llamacpp"): 415,
}
WITHOUT_BODY: Final = frozenset({("encoded", "llamacpp"), ("foreign_host", "ollama")})
"""Refusals without a body."""
ANTHROPIC_OVERLOADED: Final = 529

MESSAGES: Final[Mapping[Reason, str]] = {
    "bad_json": "We could not parse the JSON body of your request.",
    "invalid": "{detail}",
    "loading": "Loading model",
    "load_failed": "The model `{model}` could not be loaded.",
    "not_kept": "No object found with id '{detail}'.",
    "unknown_previous": "Previous response with id '{detail}' not found.",
    "unauthorized": "Incorrect API key provided.",
    "unknown_model": "The model `{model}` does not exist or you do not have access to it.",
    "unsupported": "The model `{model}` does not support {detail}.",
    "encoded": "We could not parse the JSON body of your request.",
    "foreign_host": "",
    "overloaded": "The server is overloaded, please try again later.",
    "rate_limited": "Rate limit reached for requests. Please try again in 7s.",
    "too_long": "This model's maximum context length is {lengths.context} tokens. However, you requested"
    " {lengths.total} tokens ({lengths.prompt} in the messages, {lengths.answer} in the completion)."
    " Please reduce the length of the messages or completion.",
}
KIND_MESSAGES: Final[Mapping[tuple[Reason, str], str]] = {
    ("bad_json", "ollama"): "invalid character in request body",
    ("unknown_model", "ollama"): "model '{model}' not found",
    ("unsupported", "ollama"): '"{model}" does not support {detail}',
    ("overloaded", "ollama"): "server busy, please try again.  maximum pending requests exceeded",
    ("unknown_model", "vllm"): "The model `{model}` does not exist. Valid aliases: {detail}.",
    ("overloaded", "vllm"): "The engine is currently busy and cannot accept new requests. Please try again later or"
    " on a different instance.",
    ("unknown_model", "llamacpp"): "model '{model}' not found",
    ("unauthorized", "llamacpp"): "Invalid API Key",
    ("unsupported", "llamacpp"): "This server does not support {detail}. Start it with `--{detail}`",
    ("overloaded", "sglang"): "The request queue is full.",
    ("too_long", "vllm"): "This model's maximum context length is {lengths.context} tokens. However, you requested"
    " {lengths.answer} output tokens and your prompt contains {lengths.prompt} input tokens, for a total of"
    " {lengths.total} tokens. Please reduce the length of the input prompt or the number of requested output tokens.",
    ("too_long", "sglang"): "The input ({lengths.prompt} tokens) is longer than the model's context length"
    " ({lengths.context} tokens).",
    ("too_long", "llamacpp"): "request ({lengths.prompt} tokens) exceeds the available context size"
    " ({lengths.context} tokens), try increasing it",
    ("too_long", "ollama"): "the input length exceeds the context length",
    ("too_long", "lmstudio"): "Trying to keep the first {lengths.prompt} tokens when context the overflows. However,"
    " the model is loaded with context length of only {lengths.context} tokens, which is not enough. Try to load the"
    " model with a larger context length, or provide a shorter input",
}
ANTHROPIC_TOO_LONG: Final = "prompt is too long: {lengths.prompt} tokens > {lengths.context} maximum"
"""The message of Anthropic's own API."""


def _status(reason: Reason, kind: str, protocol: Protocol) -> int:
    if reason == "overloaded" and protocol == "anthropic" and kind == "generic":
        return ANTHROPIC_OVERLOADED
    return KIND_STATUSES.get((reason, kind), STATUSES[reason])


def _message(refusal: Refusal, kind: str, path: str) -> str:
    if (refusal.reason, path) == ("unknown_model", "/api/embed"):
        return f'model "{refusal.model}" not found, try pulling it first'
    template = KIND_MESSAGES.get((refusal.reason, kind), MESSAGES[refusal.reason])
    if (refusal.reason, kind, protocol_of(path)) == ("too_long", "generic", "anthropic"):
        template = ANTHROPIC_TOO_LONG
    return template.format(model=refusal.model, detail=refusal.detail, lengths=refusal.lengths)


def _anthropic_error(status: int, message: str) -> Mapping[str, Any]:
    kind = ANTHROPIC_TYPES.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_simulated"}


ANTHROPIC_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def _openai(status: int, reason: Reason, message: str) -> Any:
    kind = "server_error" if status in SERVER_ERRORS else "invalid_request_error"
    if reason == "rate_limited":
        kind = "requests"
    code = OPENAI_CODES.get(reason)
    param = "previous_response_id" if reason == "unknown_previous" else None
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


OPENAI_CODES: Final[Mapping[Reason, str]] = {
    "unknown_model": "model_not_found",
    "unauthorized": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "too_long": "context_length_exceeded",
    "unknown_previous": "previous_response_not_found",
}


def _ollama(status: int, reason: Reason, message: str) -> Any:
    del reason
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _vllm(status: int, reason: Reason, message: str) -> Any:
    kind = VLLM_TYPES.get(reason, "BadRequestError")
    param = "model" if reason == "unknown_model" else None
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def _llamacpp(status: int, reason: Reason, message: str) -> Any:
    del reason
    return {"error": {"code": status, "message": message, "type": LLAMACPP_TYPES[status]}}


def _sglang(status: int, reason: Reason, message: str) -> Any:
    error: Mapping[str, Any] = _vllm(status, reason, message)["error"]
    return {"object": "error", **error}


SERVER_ERRORS: Final = range(500, 600)
VLLM_TYPES: Final[Mapping[Reason, str]] = {
    "unknown_model": "NotFoundError",
    "unsupported": "NotFoundError",
    "bad_json": "Bad Request",
    "overloaded": "Service Unavailable",
}
LLAMACPP_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "server_error",
    501: "not_supported_error",
    503: "unavailable_error",
}
OPENAI_ERRORS: Final[Mapping[str, Callable[[int, Reason, str], Any]]] = {
    "generic": _openai,
    "lmstudio": _openai,
    "ollama": _ollama,
    "vllm": _vllm,
    "llamacpp": _llamacpp,
    "sglang": _sglang,
}
