"""The APIs of servers that know one only: OpenAI's chat completions, and Ollama's own."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tests.support.coding_model import THOUGHT, Api, Json, Request, Turn

CHAT_FIELDS: Final = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "stop", "seed"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "verbosity"),
        *("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "logit_bias"),
        *("user", "safety_identifier", "prompt_cache_key", "store", "metadata", "service_tier"),
    }
)
"""OpenAI refuses others: "Unrecognized request argument supplied"."""
OLLAMA_FIELDS: Final = frozenset({"model", "messages", "stream", "tools", "format", "options", "think", "keep_alive"})
TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def read_chat(body: Json) -> Request:
    """Read a request as OpenAI does, and as templates do that take system messages only at the top (Qwen)."""
    _known(body, CHAT_FIELDS)
    tools = _tools(body)
    results: list[str] = []
    open_calls: set[str] = set()
    may_be_system = True
    for number, message in enumerate(body["messages"]):
        role = message["role"]
        _expect(role in {"system", "developer", "user", "assistant", "tool"}, f"messages[{number}].role")
        may_be_system = may_be_system and role in {"system", "developer"}
        _expect(may_be_system or role not in {"system", "developer"}, "System message must be at the beginning")
        _expect(bool(open_calls) == (role == "tool"), f"messages[{number}]: answers {open_calls or 'no call'}")
        text = _chat_text(message.get("content"), images=role == "user")
        if role == "tool":
            open_calls.remove(message["tool_call_id"])
            results.append(text)
        for call in message.get("tool_calls") or ():
            _expect(call["type"] == "function" and len(call["id"]) <= 40, "tool_calls")
            _expect(isinstance(json.loads(call["function"]["arguments"]), dict), "arguments")
            _expect(call["function"]["name"] in tools, "name of a call")
            open_calls.add(call["id"])
    _expect(not open_calls, "calls without an answer")
    return Request(tools, tuple(results), bool(body.get("stream")))


def _chat_text(content: Any, *, images: bool) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    _expect(all(part["type"] in ({"text", "image_url"} if images else {"text"}) for part in content), "content")
    return "".join(part.get("text", "") for part in content)


def write_chat(turn: Turn, request: Request, model: str) -> Iterator[bytes]:
    """Write a turn as chunks; the arguments of parallel calls come interleaved."""
    reason = "tool_calls" if turn.calls else "stop"
    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    same = {"id": "chatcmpl-1", "created": 1, "model": model}
    calls = [
        {
            "index": index,
            "id": f"call_{len(request.results) + index}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }
        for index, call in enumerate(turn.calls)
    ]
    if not request.is_stream:
        message = {"role": "assistant", "content": turn.text or None, "tool_calls": calls}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        yield _dump({**same, "object": "chat.completion", "choices": [choice], "usage": usage})
        return
    deltas: list[Json] = [{"role": "assistant", "content": ""}, {"reasoning_content": THOUGHT}]
    deltas += [{"content": turn.text}] if turn.text else []
    texts = [str(call["function"]["arguments"]) for call in calls]  # type: ignore[index]
    deltas += [{"tool_calls": [{**call, "function": {**call["function"], "arguments": ""}}]} for call in calls]  # type: ignore[dict-item]
    for at in range(0, max(map(len, texts), default=0), 9):
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": text[at : at + 9]}}]}
            for index, text in enumerate(texts)
            if text[at : at + 9]
        ]
    chunk = {**same, "object": "chat.completion.chunk"}
    for delta in deltas:
        yield _event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    yield _event({**chunk, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def chat_pages(models: Sequence[str]) -> Mapping[str, Json]:
    """Return the list of models."""
    rows = [{"id": name, "object": "model", "created": 1, "owned_by": "me"} for name in models]
    return {"/v1/models": {"object": "list", "data": rows}}


def read_ollama(body: Json) -> Request:
    """Read a request for a chat as Ollama decodes it."""
    _known(body, OLLAMA_FIELDS)
    results = []
    for message in body["messages"]:
        _expect(message["role"] in {"system", "user", "assistant", "tool"}, "role")
        _expect(isinstance(message.get("content", ""), str), "content")
        _expect(all("," not in image for image in message.get("images") or ()), "images")
        for call in message.get("tool_calls") or ():
            _expect(isinstance(call["function"]["arguments"], dict), "arguments")
        if message["role"] == "tool":
            results.append(message["content"])
    return Request(_tools(body), tuple(results), body.get("stream", True))


def write_ollama(turn: Turn, request: Request, model: str) -> Iterator[bytes]:
    """Write a turn as lines."""
    calls = [{"function": {"name": call.name, "arguments": call.arguments}} for call in turn.calls]
    same = {"model": model, "created_at": "2026-11-28T12:00:00Z"}
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 20, "eval_count": 10, "total_duration": 1}
    messages: list[Json] = [
        {"role": "assistant", "content": "", "thinking": THOUGHT},
        {"role": "assistant", "content": turn.text},
        *({"role": "assistant", "content": "", "tool_calls": [call]} for call in calls),
    ]
    if not request.is_stream:
        whole = {"role": "assistant", "content": turn.text, "thinking": THOUGHT, "tool_calls": calls}
        yield _dump({**same, "message": whole, **end})
        return
    for message in messages:
        yield _dump({**same, "message": message, "done": False}) + b"\n"
    yield _dump({**same, "message": {"role": "assistant", "content": ""}, **end}) + b"\n"


def ollama_pages(models: Sequence[str]) -> Mapping[str, Json]:
    """Return what Nexus asks an Ollama for."""
    rows = [{"name": name, "model": name, "size": 1, "digest": "0", "details": {}} for name in models]
    shown = {"details": {"family": "qwen3"}, "model_info": {}, "capabilities": ["completion", "tools", "thinking"]}
    return {
        "/api/version": {"version": "0.33.0"},
        "/api/tags": {"models": rows},
        "/api/ps": {"models": []},
        "/api/show": shown,
    }


def _tools(body: Json) -> dict[str, Json]:
    tools: dict[str, Json] = {}
    for tool in body.get("tools") or ():
        function = tool["function"]
        _expect(tool["type"] == "function", f"tools: {tool['type']}")
        _expect(TOOL_NAME.fullmatch(function["name"]) is not None, f"tools: name {function['name']}")
        tools[function["name"]] = function.get("parameters") or {"type": "object", "properties": {}}
    return tools


def _known(body: Json, fields: frozenset[str]) -> None:
    unknown = sorted(body.keys() - fields)
    _expect(not unknown, f"unrecognized request argument supplied: {', '.join(unknown)}")


def _expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise ValueError(what)


def _event(document: Json) -> bytes:
    return b"data: %b\n\n" % _dump(document)


def _dump(document: Json) -> bytes:
    return json.dumps(document).encode()


CHAT: Final = Api("/v1/chat/completions", read_chat, write_chat, "text/event-stream", chat_pages)
OLLAMA: Final = Api("/api/chat", read_ollama, write_ollama, "application/x-ndjson", ollama_pages)
