"""OpenAI's Responses API, whole or streamed."""

from collections.abc import Mapping
from itertools import count
from typing import Any

from nexus.simulator.call import CREATED, Call, conversation, first_tool, whole_number
from nexus.simulator.messages import Answer, Event, Events, Part, json_answer, named_event, sse_answer
from nexus.simulator.refusals import Refusal
from nexus.simulator.replies import Ask, Reply, Tool


async def responses(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"), "completion")
    _check_references(call, body)
    reply = call.compose(_ask(body), body)
    if body.get("stream"):
        return sse_answer(_Stream(call, body, reply).events())
    text = await call.generate_all(reply)
    whole = _response(call, body, reply, output=[_item(call, reply, text)])
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
    rows = [{"role": "user", "content": given}] if isinstance(given, str) else given
    prompt, last_words = conversation(rows)
    return Ask(
        prompt=f"{body.get('instructions') or ''}{prompt}",
        last_words=last_words,
        max_tokens=whole_number(body.get("max_output_tokens")),
        tool=_wanted_tool(body, rows),
        schema=_schema(body.get("text")),
    )


def _wanted_tool(body: Mapping[str, Any], rows: Any) -> Tool | None:
    has_result = bool(rows) and rows[-1].get("type") == "function_call_output"
    return None if has_result or body.get("tool_choice") == "none" else first_tool(body.get("tools"))


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
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }


def _item(call: Call, reply: Reply, text: str, status: str = "completed") -> dict[str, Any]:
    if reply.tool is not None:
        head = {"type": "function_call", "id": f"fc_{call.id}", "call_id": f"call_{call.id}", "status": status}
        return head | {"name": reply.tool.name, "arguments": text}
    content = [_text_part(text)] if status == "completed" else []
    return {"type": "message", "id": f"msg_{call.id}", "status": status, "role": "assistant", "content": content}


def _text_part(text: str) -> Mapping[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class _Stream:
    """The numbered events of one streamed response."""

    def __init__(self, call: Call, body: Mapping[str, Any], reply: Reply) -> None:
        self._call = call
        self._body = body
        self._reply = reply
        self._numbers = count()

    async def events(self) -> Events:
        call, body, reply = self._call, self._body, self._reply
        sent: list[str] = []
        async for token in call.generate(reply):
            if not sent:
                for event in self._opening():
                    yield event
            sent.append(token)
            yield self._delta(token)
        item = _item(call, reply, "".join(sent))
        for event in self._closing("".join(sent), item):
            yield event
        whole = _response(call, body, reply, output=[item])
        _store(call, body, whole)
        yield self._event(f"response.{whole['status']}", "end", response=whole)

    def _opening(self) -> tuple[Event, ...]:
        begun = _response(self._call, self._body, self._reply, output=[], is_done=False)
        item = _item(self._call, self._reply, "", "in_progress")
        opening = (
            self._event("response.created", "start", response=begun),
            self._event("response.in_progress", "start", response=begun),
            self._event("response.output_item.added", "start", output_index=0, item=item),
        )
        if self._reply.tool is not None:
            return opening
        return (*opening, self._event("response.content_part.added", "start", part=_text_part(""), **self._place))

    def _delta(self, token: str) -> Event:
        if self._reply.tool is not None:
            return self._event("response.function_call_arguments.delta", delta=token, **self._tool_place)
        return self._event("response.output_text.delta", delta=token, logprobs=[], **self._place)

    def _closing(self, text: str, item: Mapping[str, Any]) -> tuple[Event, ...]:
        item_done = "response.output_item.done"
        if self._reply.tool is not None:
            done = {"arguments": text, "name": self._reply.tool.name, **self._tool_place}
            return (
                self._event("response.function_call_arguments.done", "finish", **done),
                self._event(item_done, "finish", output_index=0, item=item),
            )
        return (
            self._event("response.output_text.done", "finish", text=text, logprobs=[], **self._place),
            self._event("response.content_part.done", "finish", part=_text_part(text), **self._place),
            self._event(item_done, "finish", output_index=0, item=item),
        )

    @property
    def _place(self) -> Mapping[str, Any]:
        return {"item_id": f"msg_{self._call.id}", "output_index": 0, "content_index": 0}

    @property
    def _tool_place(self) -> Mapping[str, Any]:
        return {"item_id": f"fc_{self._call.id}", "output_index": 0}

    def _event(self, kind: str, part: Part = "content", /, **content: Any) -> Event:
        number = {"sequence_number": next(self._numbers)} if self._call.dialect.has_sequence_numbers else {}
        return named_event({"type": kind, **number, **content}, part)
