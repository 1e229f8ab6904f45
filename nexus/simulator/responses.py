"""OpenAI's Responses API, whole or streamed."""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from nexus.simulator.blocks import CallTool, Say, Spoken, Think
from nexus.simulator.call import CREATED, Call, conversation, count_images, tools_of, whole_number
from nexus.simulator.messages import Answer, Event, Events, Part, json_answer, named_event, sse_answer
from nexus.simulator.refusals import Refusal
from nexus.simulator.replies import Ask, Reply
from nexus.simulator.strictness import check_responses


async def responses(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"), "completion")
    _check_references(call, body)
    if call.settings.is_strict:
        check_responses(body)
    reply = call.compose(_ask(body), body)
    if body.get("stream"):
        return sse_answer(_Stream(call, body, reply).events())
    await call.generate_all(reply)
    whole = _response(call, body, reply, output=_output(call, body, reply))
    _store(call, body, whole)
    return json_answer(whole)


def _check_references(call: Call, body: Mapping[str, Any]) -> None:
    """Refuse references to responses and conversations that are not stored."""
    previous, conversation_ = body.get("previous_response_id"), body.get("conversation")
    if call.dialect.keeps_responses and previous is not None and previous not in call.store.objects:
        raise Refusal("unknown_previous", detail=previous)
    if call.dialect.keeps_responses and isinstance(conversation_, str):
        call.store.get(conversation_, "conversation")


def _store(call: Call, body: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    if call.dialect.keeps_responses and body.get("store", True):
        given = body.get("input")
        call.store.put({**whole, "input": [{"role": "user", "content": given}] if isinstance(given, str) else given})


def _ask(body: Mapping[str, Any]) -> Ask:
    given = body.get("input")
    rows: Any = [{"role": "user", "content": given}] if isinstance(given, str) else given
    prompt, last_words = conversation(rows)
    return Ask(
        prompt=f"{body.get('instructions') or ''}{prompt}",
        last_words=last_words,
        max_tokens=whole_number(body.get("max_output_tokens")),
        images=count_images(rows),
        tools=() if body.get("tool_choice") == "none" else tools_of(body.get("tools")),
        is_parallel=body.get("parallel_tool_calls") is not False,
        thinks=(body.get("reasoning") or {}).get("effort") != "none",
        has_result=bool(rows) and rows[-1].get("type") == "function_call_output",
        schema=_schema(body.get("text")),
    )


def _schema(text: Any) -> Mapping[str, Any] | None:
    wanted = text.get("format", {}) if isinstance(text, dict) else {}
    return wanted.get("schema", {}) if wanted.get("type", "text") != "text" else None


def _response(
    call: Call, body: Mapping[str, Any], reply: Reply, *, output: list[Any], is_done: bool = True
) -> dict[str, Any]:
    status = ("incomplete" if reply.finish == "length" else "completed") if is_done else "in_progress"
    return {
        "id": f"resp_{call.id}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "model": call.model_name(body),
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
        "text": body.get("text") or {"format": {"type": "text"}},
        "temperature": 1.0,
        "top_p": 1.0,
        "metadata": {},
        "usage": _usage(reply) if is_done else None,
    }


def _usage(reply: Reply) -> Mapping[str, Any]:
    prompt, completion = reply.prompt_tokens, len(reply.tokens)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": reply.cached_tokens or 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": reply.thought_tokens},
        "total_tokens": prompt + completion,
    }


def _output(call: Call, body: Mapping[str, Any], reply: Reply) -> list[Mapping[str, Any]]:
    return [_item(call, body, reply, number) for number in range(len(reply.blocks))]


def _item(call: Call, body: Mapping[str, Any], reply: Reply, number: int, *, is_done: bool = True) -> dict[str, Any]:
    """Return the item with this number, without its content unless it is done."""
    spoken = reply.blocks[number]
    status = "completed" if is_done else "in_progress"
    item_id = f"{PREFIXES[type(spoken.block)]}_{call.id}{f'-{number}' if number else ''}"
    if isinstance(spoken.block, CallTool):
        index = sum(isinstance(earlier.block, CallTool) for earlier in reply.blocks[:number])
        head = {"type": "function_call", "id": item_id, "call_id": call.tool_call_id("call_", index), "status": status}
        return head | {"name": spoken.block.name, "arguments": spoken.text if is_done else ""}
    if isinstance(spoken.block, Think):
        return {"type": "reasoning", "id": item_id, **_thoughts(call, body, spoken, is_done=is_done)}
    content = [_text_part(spoken.text)] if is_done else []
    return {"type": "message", "id": item_id, "status": status, "role": "assistant", "content": content}


PREFIXES = {CallTool: "fc", Think: "rs", Say: "msg"}
"""Of the ids of items."""


def _thoughts(call: Call, body: Mapping[str, Any], spoken: Spoken, *, is_done: bool) -> Mapping[str, Any]:
    """Return the thoughts: OpenAI summarizes them for clients that ask for it, open models show them."""
    shown = [{"type": "reasoning_text", "text": spoken.text}] if is_done else []
    if call.dialect.name != "generic":
        return {"summary": [], "content": shown}
    summary = [{"type": "summary_text", "text": spoken.text}] if is_done and _wants_summary(body) else []
    return {"summary": summary, "encrypted_content": "c2ltdWxhdGVk" if is_done and _wants_secret(body) else None}


def _wants_summary(body: Mapping[str, Any]) -> bool:
    return bool((body.get("reasoning") or {}).get("summary"))


def _wants_secret(body: Mapping[str, Any]) -> bool:
    return "reasoning.encrypted_content" in (body.get("include") or ())


def _text_part(text: str) -> Mapping[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class _Stream:
    """The numbered events of one streamed response."""

    def __init__(self, call: Call, body: Mapping[str, Any], reply: Reply) -> None:
        self._call = call
        self._body = body
        self._reply = reply
        self._numbers = count()
        self._is_summary = call.dialect.name == "generic"

    async def events(self) -> Events:
        call, body, reply = self._call, self._body, self._reply
        last = -1
        async for number, spoken, token in call.generate_blocks(reply):
            if last < 0:
                begun = _response(call, body, reply, output=[], is_done=False)
                yield self._event("response.created", "start", response=begun)
                yield self._event("response.in_progress", "start", response=begun)
            if number != last:
                for event in (*self._closing(last), *self._opening(number, spoken)):
                    yield event
            last = number
            for event in self._delta(number, spoken, token):
                yield event
        for event in self._closing(last, "finish"):
            yield event
        whole = _response(call, body, reply, output=_output(call, body, reply))
        _store(call, body, whole)
        yield self._event(f"response.{whole['status']}", "end", response=whole)

    def _opening(self, number: int, spoken: Spoken) -> Iterator[Event]:
        part: Part = "content" if number else "start"
        item = _item(self._call, self._body, self._reply, number, is_done=False)
        yield self._event("response.output_item.added", part, output_index=number, item=item)
        if isinstance(spoken.block, Say):
            yield self._event(PART_ADDED, part, **self._place(number, spoken), part=_text_part(""))
        elif isinstance(spoken.block, Think) and not self._is_summary:
            thought = {"type": "reasoning_text", "text": ""}
            yield self._event(PART_ADDED, part, **self._place(number, spoken), part=thought)
        elif isinstance(spoken.block, Think) and _wants_summary(self._body):
            summary = {"type": "summary_text", "text": ""}
            yield self._event(
                "response.reasoning_summary_part.added", part, **self._place(number, spoken), part=summary
            )

    def _delta(self, number: int, spoken: Spoken, token: str) -> Iterator[Event]:
        name = self._name(spoken)
        if name is not None:
            more: dict[str, Any] = {"logprobs": []} if isinstance(spoken.block, Say) else {}
            yield self._event(f"response.{name}.delta", delta=token, **more, **self._place(number, spoken))

    def _closing(self, number: int, part: Part = "content") -> Iterator[Event]:
        """Yield what ends the item with this number; nothing if it is negative."""
        if number < 0:
            return
        spoken = self._reply.blocks[number]
        place, text, name = self._place(number, spoken), spoken.text, self._name(spoken)
        if isinstance(spoken.block, CallTool):
            done = {"arguments": text, "name": spoken.block.name, **place}
            yield self._event("response.function_call_arguments.done", part, **done)
        elif isinstance(spoken.block, Say):
            yield self._event("response.output_text.done", part, text=text, logprobs=[], **place)
            yield self._event(PART_DONE, part, **place, part=_text_part(text))
        elif name is not None:
            yield self._event(f"response.{name}.done", part, text=text, **place)
            if self._is_summary:
                summary = {"type": "summary_text", "text": text}
                yield self._event("response.reasoning_summary_part.done", part, **place, part=summary)
            else:
                yield self._event(PART_DONE, part, **place, part={"type": "reasoning_text", "text": text})
        item = _item(self._call, self._body, self._reply, number)
        yield self._event("response.output_item.done", part, output_index=number, item=item)

    def _name(self, spoken: Spoken) -> str | None:
        """Return the middle of the names of events with the tokens of a block; None: they are not sent."""
        if isinstance(spoken.block, CallTool):
            return "function_call_arguments"
        if isinstance(spoken.block, Say):
            return "output_text"
        if not self._is_summary:
            return "reasoning_text"
        return "reasoning_summary_text" if _wants_summary(self._body) else None

    def _place(self, number: int, spoken: Spoken) -> Mapping[str, Any]:
        item_id = _item(self._call, self._body, self._reply, number, is_done=False)["id"]
        place = {"item_id": item_id, "output_index": number}
        if isinstance(spoken.block, CallTool):
            return place
        is_summary = isinstance(spoken.block, Think) and self._is_summary
        return {**place, "summary_index" if is_summary else "content_index": 0}

    def _event(self, kind: str, role: Part = "content", /, **content: Any) -> Event:
        number = {"sequence_number": next(self._numbers)} if self._call.dialect.has_sequence_numbers else {}
        return named_event({"type": kind, **number, **content}, role)


PART_ADDED = "response.content_part.added"
PART_DONE = "response.content_part.done"
