"""Anthropic's Messages API, whole or streamed."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.simulator.call import Call, conversation, first_tool, text_of, whole_number
from nexus.simulator.messages import Answer, Events, json_answer, named_event, sse_answer
from nexus.simulator.refusals import Refusal
from nexus.simulator.replies import Ask, Reply, Tool, count_tokens

STOP_REASONS: Final[Mapping[str, str]] = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}


async def messages(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"), "completion")
    if whole_number(body.get("max_tokens")) is None:
        raise Refusal("invalid", detail="max_tokens: Field required")
    reply = call.compose(_ask(body), body)
    if body.get("stream"):
        return sse_answer(_events(call, body, reply))
    text = await call.generate_all(reply)
    content = [_block(call, reply, text, msgspec.json.decode(text) if reply.tool else None)]
    stop_reason = STOP_REASONS[reply.finish]
    whole = _message(call, body, reply, len(reply.tokens)) | {"content": content, "stop_reason": stop_reason}
    return json_answer(whole, headers={"request-id": f"req_{call.id}"})


async def complete(call: Call) -> Answer:
    """Answer the legacy text completion API."""
    body = call.json()
    call.model(body.get("model"), "completion")
    prompt = text_of(body.get("prompt"))
    ask = Ask(prompt=prompt, last_words=prompt, max_tokens=whole_number(body.get("max_tokens_to_sample")))
    reply = call.compose(ask, body)
    if body.get("stream"):
        return sse_answer(_completion_events(call, body, reply))
    return json_answer(_completed(call, body, await call.generate_all(reply), "stop_sequence"))


async def _completion_events(call: Call, body: Mapping[str, Any], reply: Reply) -> Events:
    async for token in call.generate(reply):
        yield named_event(_completed(call, body, token, None))
    yield named_event(_completed(call, body, "", "stop_sequence"), "end")


def _completed(call: Call, body: Mapping[str, Any], text: str, stop_reason: str | None) -> dict[str, Any]:
    head = {"type": "completion", "id": f"compl_{call.id}", "model": call.model_name(body)}
    return head | {"completion": text, "stop_reason": stop_reason, "stop": None}


async def count(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"))
    return json_answer({"input_tokens": count_tokens(_ask(body).prompt)})


def _ask(body: Mapping[str, Any]) -> Ask:
    prompt, last_words = conversation(body.get("messages"))
    return Ask(
        prompt=text_of(body.get("system")) + prompt,
        last_words=last_words,
        max_tokens=whole_number(body.get("max_tokens")),
        tool=_wanted_tool(body),
        schema=_schema(body),
    )


def _wanted_tool(body: Mapping[str, Any]) -> Tool | None:
    last = body["messages"][-1].get("content") if body["messages"] else None
    has_result = isinstance(last, list) and any(block.get("type") == "tool_result" for block in last)
    is_forbidden = (body.get("tool_choice") or {}).get("type") == "none"
    return None if has_result or is_forbidden else first_tool(body.get("tools"))


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    return wanted.get("schema", {}) if wanted.get("type") == "json_schema" else None


def _message(call: Call, body: Mapping[str, Any], reply: Reply, output_tokens: int) -> dict[str, Any]:
    return {
        "id": f"msg_{call.id}",
        "type": "message",
        "role": "assistant",
        "model": call.model_name(body),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(reply, output_tokens),
    }


def _usage(reply: Reply, output_tokens: int) -> dict[str, int]:
    """Return the usage, whose ``input_tokens`` are only those that were not in the cache."""
    cached = {} if reply.cached_tokens is None else {"cache_read_input_tokens": reply.cached_tokens}
    return {"input_tokens": reply.prompt_tokens - (reply.cached_tokens or 0), **cached, "output_tokens": output_tokens}


def _block(call: Call, reply: Reply, text: str, arguments: Any) -> Mapping[str, Any]:
    if reply.tool is None:
        return {"type": "text", "text": text}
    return {"type": "tool_use", "id": f"toolu_{call.id}", "name": reply.tool.name, "input": arguments}


async def _events(call: Call, body: Mapping[str, Any], reply: Reply) -> Events:
    began = False
    async for token in call.generate(reply):
        if not began:
            began = True
            block = _block(call, reply, "", {})
            yield named_event({"type": "message_start", "message": _message(call, body, reply, 1)}, "start")
            yield named_event({"type": "content_block_start", "index": 0, "content_block": block}, "start")
            if call.dialect.name == "generic":
                # Only Anthropic's own API pings.
                yield named_event({"type": "ping"}, "start")
        yield named_event({"type": "content_block_delta", "index": 0, "delta": _delta(reply, token)})
    yield named_event({"type": "content_block_stop", "index": 0}, "finish")
    stop = {"stop_reason": STOP_REASONS[reply.finish], "stop_sequence": None}
    usage = _usage(reply, len(reply.tokens))
    yield named_event({"type": "message_delta", "delta": stop, "usage": usage}, "finish")
    yield named_event({"type": "message_stop"}, "end")


def _delta(reply: Reply, token: str) -> Mapping[str, str]:
    if reply.tool is None:
        return {"type": "text_delta", "text": token}
    return {"type": "input_json_delta", "partial_json": token}
