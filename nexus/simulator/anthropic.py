"""Anthropic's Messages API, whole or streamed."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from nexus.simulator.blocks import CallTool, Spoken, Think
from nexus.simulator.call import Call, conversation, count_images, text_of, tools_of, whole_number
from nexus.simulator.messages import Answer, Event, Events, Part, json_answer, named_event, sse_answer
from nexus.simulator.refusals import Refusal
from nexus.simulator.replies import Ask, Reply, count_tokens
from nexus.simulator.strictness import check_messages

STOP_REASONS: Final[Mapping[str, str]] = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}


async def messages(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"), "completion")
    if whole_number(body.get("max_tokens")) is None:
        raise Refusal("invalid", detail="max_tokens: Field required")
    if call.settings.is_strict:
        check_messages(body)
    reply = call.compose(_ask(body), body)
    if body.get("stream"):
        return sse_answer(_events(call, body, reply))
    await call.generate_all(reply)
    content = [_whole_block(call, reply, number, spoken) for number, spoken in enumerate(reply.blocks)]
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
    choice = body.get("tool_choice") or {}
    last = body["messages"][-1].get("content") if body["messages"] else None
    return Ask(
        prompt=text_of(body.get("system")) + prompt,
        last_words=last_words,
        max_tokens=whole_number(body.get("max_tokens")),
        images=count_images(body["messages"]),
        tools=() if choice.get("type") == "none" else tools_of(body.get("tools")),
        is_parallel=not choice.get("disable_parallel_tool_use"),
        thinks=(body.get("thinking") or {}).get("type", "disabled") != "disabled",
        has_result=isinstance(last, list) and any(block.get("type") == "tool_result" for block in last),
        schema=_schema(body),
    )


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


def _whole_block(call: Call, reply: Reply, number: int, spoken: Spoken) -> Mapping[str, Any]:
    block = spoken.block
    if isinstance(block, CallTool):
        # A call that was cut off has no valid arguments.
        arguments = msgspec.Raw(spoken.text.encode()) if spoken.is_whole else {}
        return {**_begun_block(call, reply, number), "input": arguments}
    if isinstance(block, Think):
        return {"type": "thinking", "thinking": spoken.text, "signature": block.signature}
    return {"type": "text", "text": spoken.text}


def _begun_block(call: Call, reply: Reply, number: int) -> Mapping[str, Any]:
    """Return the block with this number as a stream begins it."""
    block = reply.blocks[number].block
    if isinstance(block, CallTool):
        index = sum(isinstance(spoken.block, CallTool) for spoken in reply.blocks[:number])
        return {"type": "tool_use", "id": call.tool_call_id("toolu_", index), "name": block.name, "input": {}}
    if isinstance(block, Think):
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


async def _events(call: Call, body: Mapping[str, Any], reply: Reply) -> Events:
    last = -1
    async for number, spoken, token in call.generate_blocks(reply):
        if last < 0:
            yield named_event({"type": "message_start", "message": _message(call, body, reply, 1)}, "start")
        if number != last:
            for event in _block_end(reply, last):
                yield event
            begun = {"index": number, "content_block": _begun_block(call, reply, number)}
            yield named_event({"type": "content_block_start", **begun}, "content" if number else "start")
        if last < 0 and call.dialect.name == "generic":
            # Only Anthropic's own API pings.
            yield named_event({"type": "ping"}, "start")
        last = number
        yield named_event({"type": "content_block_delta", "index": number, "delta": _delta(spoken, token)})
    for event in _block_end(reply, last, "finish"):
        yield event
    stop = {"stop_reason": STOP_REASONS[reply.finish], "stop_sequence": None}
    usage = _usage(reply, len(reply.tokens))
    yield named_event({"type": "message_delta", "delta": stop, "usage": usage}, "finish")
    yield named_event({"type": "message_stop"}, "end")


def _block_end(reply: Reply, number: int, part: Part = "content") -> Iterator[Event]:
    """Yield what ends the block with this number; nothing if it is negative."""
    if number < 0:
        return
    block = reply.blocks[number].block
    if isinstance(block, Think):
        signed = {"type": "signature_delta", "signature": block.signature}
        yield named_event({"type": "content_block_delta", "index": number, "delta": signed}, part)
    yield named_event({"type": "content_block_stop", "index": number}, part)


def _delta(spoken: Spoken, token: str) -> Mapping[str, str]:
    if isinstance(spoken.block, CallTool):
        return {"type": "input_json_delta", "partial_json": token}
    if isinstance(spoken.block, Think):
        return {"type": "thinking_delta", "thinking": token}
    return {"type": "text_delta", "text": token}
