"""OpenAI's chat and text completions, whole or streamed."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.simulator.blocks import CallTool, Say, Spoken, Think
from nexus.simulator.call import CREATED, Call, conversation, count_images, text_of, tools_of, whole_number
from nexus.simulator.messages import Answer, Event, Events, data_event, json_answer, sse_answer
from nexus.simulator.replies import Ask, Reply
from nexus.simulator.strictness import check_chat

DONE: Final = Event(b"data: [DONE]\n\n", "end")
FINISH_REASONS: Final[Mapping[str, str]] = {"stop": "stop", "length": "length", "tool": "tool_calls"}


async def chat(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"), "completion")
    if call.settings.is_strict:
        check_chat(body)
    reply = call.compose(_chat_ask(body), body)
    shape = _ChatShape(call, body, reply)
    if body.get("stream"):
        return sse_answer(_stream(call, reply, shape))
    whole = shape.whole(await call.generate_all(reply))
    if body.get("store") is True:
        call.store.put({**whole, "input": body["messages"]})
    return json_answer(whole)


async def completions(call: Call) -> Answer:
    body = call.json()
    call.model(body.get("model"), "completion")
    prompt = text_of(body.get("prompt")) or " ".join(str(part) for part in body.get("prompt") or ())
    ask = Ask(prompt=prompt, last_words=prompt, max_tokens=whole_number(body.get("max_tokens")))
    reply = call.compose(ask, body)
    shape = _TextShape(call, body, reply)
    if body.get("stream"):
        return sse_answer(_stream(call, reply, shape))
    return json_answer(shape.whole(await call.generate_all(reply)))


def _chat_ask(body: Mapping[str, Any]) -> Ask:
    prompt, last_words = conversation(body.get("messages"))
    return Ask(
        prompt=prompt,
        last_words=last_words,
        max_tokens=whole_number(body.get("max_completion_tokens")) or whole_number(body.get("max_tokens")),
        images=count_images(body["messages"]),
        tools=() if body.get("tool_choice") == "none" else tools_of(body.get("tools")),
        is_parallel=body.get("parallel_tool_calls") is not False,
        thinks=body.get("reasoning_effort") != "none",
        has_result=bool(body["messages"]) and body["messages"][-1].get("role") == "tool",
        schema=_schema(body.get("response_format")),
    )


def _schema(response_format: Any) -> Mapping[str, Any] | None:
    if not isinstance(response_format, dict) or response_format.get("type") == "text":
        return None
    schema: Mapping[str, Any] = response_format.get("json_schema", {}).get("schema", {})
    return schema


def usage_of(reply: Reply) -> dict[str, Any]:
    prompt, completion = reply.prompt_tokens, len(reply.tokens)
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    cached = {} if reply.cached_tokens is None else {"prompt_tokens_details": {"cached_tokens": reply.cached_tokens}}
    thought = {"completion_tokens_details": {"reasoning_tokens": reply.thought_tokens}} if reply.thought_tokens else {}
    return usage | cached | thought


class _Shape(ABC):
    """The parts that both endpoints share."""

    id_prefix: str
    chunk_object: str
    whole_object: str

    def __init__(self, call: Call, body: Mapping[str, Any], reply: Reply) -> None:
        self.call = call
        self.reply = reply
        options = body.get("stream_options")
        self.includes_usage = bool(isinstance(options, dict) and options.get("include_usage"))
        self._model = call.model_name(body)

    def head(self, name: str) -> dict[str, Any]:
        head = {"id": f"{self.id_prefix}-{self.call.id}", "object": name, "created": CREATED, "model": self._model}
        return head | ({"system_fingerprint": "fp_ollama"} if self.call.dialect.name == "ollama" else {})

    def chunk(self, choice: Mapping[str, Any], finish: str | None = None, **more: Any) -> Event:
        whole = {"index": 0, **choice, "logprobs": None, "finish_reason": finish}
        null_usage = {"usage": None} if self.includes_usage and self.call.dialect.has_null_usage else {}
        content = self.head(self.chunk_object) | {"choices": [whole]} | null_usage | more
        return data_event(content, "finish" if finish else "content")

    def usage_chunk(self) -> Event:
        return data_event(self.head(self.chunk_object) | {"choices": [], "usage": usage_of(self.reply)}, "finish")

    def timings(self) -> dict[str, Any]:
        if not self.call.dialect.has_timings:
            return {}
        rate = self.call.settings.tokens_per_s or None
        cached, predicted = self.reply.cached_tokens or 0, len(self.reply.tokens)
        prompt = self.reply.prompt_tokens - cached
        return {
            "timings": {"cache_n": cached, "prompt_n": prompt, "predicted_n": predicted, "predicted_per_second": rate}
        }

    def opening(self) -> tuple[Event, ...]:
        return ()

    def beginning(self, number: int, spoken: Spoken) -> tuple[Event, ...]:
        """Return what comes before the tokens of a block."""
        del number, spoken
        return ()

    @abstractmethod
    def piece(self, number: int, spoken: Spoken, token: str) -> Mapping[str, Any]:
        """Return the choice of a chunk with *token*, which is of this block."""

    @abstractmethod
    def nothing(self) -> Mapping[str, Any]:
        """Return the choice of a chunk without text."""


class _ChatShape(_Shape):
    id_prefix = "chatcmpl"
    chunk_object = "chat.completion.chunk"
    whole_object = "chat.completion"

    def opening(self) -> tuple[Event, ...]:
        role = {"role": "assistant", "content": self.call.dialect.first_content}
        return (msgspec.structs.replace(self.chunk({"delta": role}), part="start"),)

    def beginning(self, number: int, spoken: Spoken) -> tuple[Event, ...]:
        if not isinstance(spoken.block, CallTool):
            return ()
        called = {"index": self._index(number), **self._called(number, spoken.block, "")}
        return (self.chunk({"delta": {"tool_calls": [called]}}),)

    def piece(self, number: int, spoken: Spoken, token: str) -> Mapping[str, Any]:
        if isinstance(spoken.block, CallTool):
            return {"delta": {"tool_calls": [{"index": self._index(number), "function": {"arguments": token}}]}}
        if isinstance(spoken.block, Think):
            return {"delta": {self.call.dialect.reasoning_field: token}}
        return {"delta": {"content": token}}

    def nothing(self) -> Mapping[str, Any]:
        return {"delta": {}}

    def whole(self, text: str) -> Mapping[str, Any]:
        del text
        said = "".join(spoken.text for spoken in self.reply.blocks if isinstance(spoken.block, Say))
        thought = "".join(spoken.text for spoken in self.reply.blocks if isinstance(spoken.block, Think))
        called = [
            self._called(number, spoken.block, spoken.text)
            for number, spoken in enumerate(self.reply.blocks)
            if isinstance(spoken.block, CallTool)
        ]
        message: dict[str, Any] = {"role": "assistant", "content": said or (None if called else "")}
        message |= {self.call.dialect.reasoning_field: thought} if thought else {}
        message |= {"tool_calls": called} if called else {}
        finish = FINISH_REASONS[self.reply.finish]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return self.head(self.whole_object) | {"choices": [choice], "usage": usage_of(self.reply)} | self.timings()

    def _index(self, number: int) -> int:
        """Return which call of the answer the block with this number is."""
        return sum(isinstance(spoken.block, CallTool) for spoken in self.reply.blocks[:number])

    def _called(self, number: int, block: CallTool, arguments: str) -> Mapping[str, Any]:
        function = {"name": block.name, "arguments": arguments}
        return {"id": self.call.tool_call_id("call_", self._index(number)), "type": "function", "function": function}


class _TextShape(_Shape):
    id_prefix = "cmpl"
    chunk_object = "text_completion"
    whole_object = "text_completion"

    def piece(self, number: int, spoken: Spoken, token: str) -> Mapping[str, Any]:
        del number, spoken
        return {"text": token}

    def nothing(self) -> Mapping[str, Any]:
        return {"text": ""}

    def whole(self, text: str) -> Mapping[str, Any]:
        finish = FINISH_REASONS[self.reply.finish]
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        return self.head(self.whole_object) | {"choices": [choice], "usage": usage_of(self.reply)} | self.timings()


async def _stream(call: Call, reply: Reply, shape: _Shape) -> Events:
    finish = FINISH_REASONS[reply.finish]
    finishing = len(reply.tokens) if call.dialect.finishes_with_last_token else None
    sent, last = 0, -1
    async for number, spoken, token in call.generate_blocks(reply):
        for event in (*(() if sent else shape.opening()), *(shape.beginning(number, spoken) if number != last else ())):
            yield event
        sent, last = sent + 1, number
        yield shape.chunk(shape.piece(number, spoken, token), finish if sent == finishing else None)
    if finishing is None:
        yield shape.chunk(shape.nothing(), finish, **shape.timings())
    if shape.includes_usage:
        yield shape.usage_chunk()
    yield DONE
