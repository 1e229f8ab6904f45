"""Asks the same questions with each of the client libraries that people use, and reads the answers alike."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import anthropic
import msgspec
import ollama
import openai

MAX_TOKENS: Final = 3000
TIMEOUT_S: Final = 10.0


class Called(msgspec.Struct, frozen=True):
    """A call of a tool."""

    id: str
    """Empty where the library has none."""
    name: str
    arguments: Mapping[str, Any]


class Said(msgspec.Struct):
    """An answer."""

    text: str = ""
    thoughts: str = ""
    calls: Sequence[Called] = ()
    finish: str = ""
    output_tokens: int = 0
    turn: Any = None
    """The answer as its library puts it into the next request."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and what else the request has."""

    model: str
    text: str = "hello there"
    image: str = ""
    """A PNG in base64; empty: none."""
    tools: Mapping[str, Any] = {}
    """The schemas of tools by their names."""
    schema: Mapping[str, Any] | None = None
    """Of the answer."""
    thinks: bool = False
    is_parallel: bool = True
    is_stream: bool = False


class Library(ABC):
    """One client library, connected to one server."""

    failures: tuple[type[Exception], ...]
    """What it raises when an answer fails."""
    status_error: type[Exception]
    """What it raises when a server answers with an error."""

    def ask(self, asked: Asked) -> Said:
        """Ask a question."""
        return self._send(asked, [self._question(asked)])

    def answer(self, asked: Asked, said: Said, results: Sequence[str]) -> Said:
        """Send the results of the calls in *said*, the answer to *asked*."""
        return self._send(asked, [self._question(asked), *self._results(said, results)])

    @abstractmethod
    def words(self, asked: Asked) -> Iterator[str]:
        """Yield the text of a stream as it comes; closing it disconnects."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _question(self, asked: Asked) -> Any: ...

    @abstractmethod
    def _results(self, said: Said, results: Sequence[str]) -> list[Any]: ...

    @abstractmethod
    def _send(self, asked: Asked, turns: list[Any]) -> Said: ...


class _OpenAI(Library):
    failures = (openai.OpenAIError,)
    status_error = openai.APIStatusError

    def __init__(self, url: str) -> None:
        self._client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=TIMEOUT_S)

    def close(self) -> None:
        self._client.close()


class Chat(_OpenAI):
    """openai, chat completions."""

    def _question(self, asked: Asked) -> Any:
        if not asked.image:
            return {"role": "user", "content": asked.text}
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{asked.image}"}}
        return {"role": "user", "content": [{"type": "text", "text": asked.text}, image]}

    def _results(self, said: Said, results: Sequence[str]) -> list[Any]:
        pairs = zip(said.calls, results, strict=True)
        return [said.turn, *({"role": "tool", "tool_call_id": call.id, "content": text} for call, text in pairs)]

    def _options(self, asked: Asked, turns: list[Any]) -> dict[str, Any]:
        tools = [
            {"type": "function", "function": {"name": name, "description": "a tool", "parameters": schema}}
            for name, schema in asked.tools.items()
        ]
        form = {"name": "answer", "strict": True, "schema": asked.schema}
        return {
            "model": asked.model,
            "messages": turns,
            "max_completion_tokens": MAX_TOKENS,
            **({"tools": tools} if tools else {}),
            **({} if asked.is_parallel else {"parallel_tool_calls": False}),
            **({"reasoning_effort": "medium"} if asked.thinks else {}),
            **({"response_format": {"type": "json_schema", "json_schema": form}} if asked.schema else {}),
        }

    def _send(self, asked: Asked, turns: list[Any]) -> Said:
        options = self._options(asked, turns)
        if asked.is_stream:
            stream_options: Any = {"include_usage": True}
            with self._client.chat.completions.stream(**options, stream_options=stream_options) as stream:
                answer: Any = stream.get_final_completion()
        else:
            answer = self._client.chat.completions.create(**options)
        (choice,) = answer.choices
        message = choice.message
        calls = [
            Called(call.id, call.function.name, json.loads(call.function.arguments))
            for call in message.tool_calls or ()
        ]
        return Said(
            text=message.content or "",
            thoughts=getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None) or "",
            calls=calls,
            finish=choice.finish_reason,
            output_tokens=answer.usage.completion_tokens,
            turn=message.model_dump(exclude_none=True, exclude={"parsed"}),
        )

    def words(self, asked: Asked) -> Iterator[str]:
        with self._client.chat.completions.create(
            **self._options(asked, [self._question(asked)]), stream=True
        ) as chunks:
            for chunk in chunks:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content


class Responses(_OpenAI):
    """openai, responses."""

    def _question(self, asked: Asked) -> Any:
        if not asked.image:
            return {"role": "user", "content": asked.text}
        image = {"type": "input_image", "image_url": f"data:image/png;base64,{asked.image}", "detail": "auto"}
        return {"role": "user", "content": [{"type": "input_text", "text": asked.text}, image]}

    def _results(self, said: Said, results: Sequence[str]) -> list[Any]:
        pairs = zip(said.calls, results, strict=True)
        outputs = [{"type": "function_call_output", "call_id": call.id, "output": text} for call, text in pairs]
        return [*said.turn, *outputs]

    def _options(self, asked: Asked, turns: list[Any]) -> dict[str, Any]:
        tools = [
            {"type": "function", "name": name, "description": "a tool", "parameters": schema, "strict": False}
            for name, schema in asked.tools.items()
        ]
        form = {"type": "json_schema", "name": "answer", "strict": True, "schema": asked.schema}
        return {
            "model": asked.model,
            "input": turns,
            "store": False,
            "max_output_tokens": MAX_TOKENS,
            **({"tools": tools} if tools else {}),
            **({} if asked.is_parallel else {"parallel_tool_calls": False}),
            **({"reasoning": {"effort": "medium", "summary": "auto"}} if asked.thinks else {}),
            **({"text": {"format": form}} if asked.schema else {}),
        }

    def _send(self, asked: Asked, turns: list[Any]) -> Said:
        options = self._options(asked, turns)
        if asked.is_stream:
            with self._client.responses.stream(**options) as stream:
                answer: Any = stream.get_final_response()
        else:
            answer = self._client.responses.create(**options)
        thoughts = [
            part.text
            for item in answer.output
            if item.type == "reasoning"
            for part in (*item.summary, *(item.content or ()))
        ]
        calls = [item for item in answer.output if item.type == "function_call"]
        turn = [item.model_dump(exclude_none=True, exclude={"parsed_arguments", "status"}) for item in answer.output]
        return Said(
            text=answer.output_text,
            thoughts="".join(thoughts),
            calls=[Called(call.call_id, call.name, json.loads(call.arguments)) for call in calls],
            finish=answer.status,
            output_tokens=answer.usage.output_tokens,
            turn=turn,
        )

    def words(self, asked: Asked) -> Iterator[str]:
        with self._client.responses.create(**self._options(asked, [self._question(asked)]), stream=True) as events:
            for event in events:
                if event.type == "response.output_text.delta":
                    yield event.delta
                elif event.type == "response.failed":
                    raise openai.OpenAIError(event.response.error.message)


class Messages(Library):
    """anthropic."""

    failures = (anthropic.AnthropicError,)
    status_error = anthropic.APIStatusError

    def __init__(self, url: str) -> None:
        self._client = anthropic.Anthropic(base_url=url, api_key="unused", max_retries=0, timeout=TIMEOUT_S)

    def close(self) -> None:
        self._client.close()

    def _question(self, asked: Asked) -> Any:
        if not asked.image:
            return {"role": "user", "content": asked.text}
        source = {"type": "base64", "media_type": "image/png", "data": asked.image}
        return {"role": "user", "content": [{"type": "text", "text": asked.text}, {"type": "image", "source": source}]}

    def _results(self, said: Said, results: Sequence[str]) -> list[Any]:
        pairs = zip(said.calls, results, strict=True)
        blocks = [{"type": "tool_result", "tool_use_id": call.id, "content": text} for call, text in pairs]
        return [{"role": "assistant", "content": said.turn}, {"role": "user", "content": blocks}]

    def _options(self, asked: Asked, turns: list[Any]) -> dict[str, Any]:
        tools = [
            {"name": name, "description": "a tool", "input_schema": schema} for name, schema in asked.tools.items()
        ]
        form = {"format": {"type": "json_schema", "schema": asked.schema}}
        one = {"type": "auto", "disable_parallel_tool_use": True}
        return {
            "model": asked.model,
            "messages": turns,
            "max_tokens": MAX_TOKENS,
            **({"tools": tools} if tools else {}),
            **({} if asked.is_parallel else {"tool_choice": one}),
            **({"thinking": {"type": "enabled", "budget_tokens": 1024}} if asked.thinks else {}),
            **({"output_config": form} if asked.schema else {}),
        }

    def _send(self, asked: Asked, turns: list[Any]) -> Said:
        options = self._options(asked, turns)
        if asked.is_stream:
            with self._client.messages.stream(**options) as stream:
                answer: Any = stream.get_final_message()
        else:
            answer = self._client.messages.create(**options)
        calls = [block for block in answer.content if block.type == "tool_use"]
        return Said(
            text="".join(block.text for block in answer.content if block.type == "text"),
            thoughts="".join(block.thinking for block in answer.content if block.type == "thinking"),
            calls=[Called(call.id, call.name, call.input) for call in calls],
            finish=answer.stop_reason,
            output_tokens=answer.usage.output_tokens,
            turn=[block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in answer.content],
        )

    def words(self, asked: Asked) -> Iterator[str]:
        with self._client.messages.stream(**self._options(asked, [self._question(asked)])) as stream:
            yield from stream.text_stream


class Ollama(Library):
    """ollama."""

    failures = (ollama.ResponseError, ConnectionError)
    status_error = ollama.ResponseError

    def __init__(self, url: str) -> None:
        self._client: Any = ollama.Client(url, timeout=TIMEOUT_S)

    def close(self) -> None:
        self._client.close()

    def _question(self, asked: Asked) -> Any:
        return {"role": "user", "content": asked.text, **({"images": [asked.image]} if asked.image else {})}

    def _results(self, said: Said, results: Sequence[str]) -> list[Any]:
        pairs = zip(said.calls, results, strict=True)
        return [said.turn, *({"role": "tool", "tool_name": call.name, "content": text} for call, text in pairs)]

    def _options(self, asked: Asked, turns: list[Any]) -> dict[str, Any]:
        tools = [
            {"type": "function", "function": {"name": name, "description": "a tool", "parameters": schema}}
            for name, schema in asked.tools.items()
        ]
        return {
            "model": asked.model,
            "messages": turns,
            "options": {"num_predict": MAX_TOKENS},
            **({"tools": tools} if tools else {}),
            **({"think": True} if asked.thinks else {}),
            **({"format": asked.schema} if asked.schema else {}),
        }

    def _send(self, asked: Asked, turns: list[Any]) -> Said:
        answer: Any = self._client.chat(**self._options(asked, turns), stream=asked.is_stream)
        lines = list(answer) if asked.is_stream else [answer]
        messages = [line.message for line in lines]
        calls = [call.function for message in messages for call in message.tool_calls or ()]
        text = "".join(message.content or "" for message in messages)
        called = [{"function": {"name": call.name, "arguments": dict(call.arguments)}} for call in calls]
        return Said(
            text=text,
            thoughts="".join(message.thinking or "" for message in messages),
            calls=[Called("", call.name, dict(call.arguments)) for call in calls],
            finish=lines[-1].done_reason,
            output_tokens=lines[-1].eval_count,
            turn={"role": "assistant", "content": text, "tool_calls": called},
        )

    def words(self, asked: Asked) -> Iterator[str]:
        lines: Any = self._client.chat(**self._options(asked, [self._question(asked)]), stream=True)
        try:
            for line in lines:
                if line.message.content:
                    yield line.message.content
        finally:
            lines.close()


LIBRARIES: Final[Mapping[str, type[Library]]] = {
    "openai": Chat,
    "responses": Responses,
    "anthropic": Messages,
    "ollama": Ollama,
}
"""By the dialect that they speak."""
