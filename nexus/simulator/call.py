"""One call of an endpoint: the request, and what answering it needs."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from nexus.simulator.blocks import Spoken
from nexus.simulator.dialects import Dialect
from nexus.simulator.engine import Engine, Turn
from nexus.simulator.messages import Request
from nexus.simulator.object_store import ObjectStore
from nexus.simulator.refusals import Lengths, Refusal
from nexus.simulator.replies import Ask, Reply, Tool, compose
from nexus.simulator.settings import Settings, SimulatedModel

CREATED = 1_700_000_000
"""Every answer carries this time, so that the same request always gets the same bytes."""
CREATED_RFC3339 = "2023-11-14T22:13:20Z"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint is called with."""

    number: int
    request: Request
    settings: Settings
    dialect: Dialect
    engine: Engine
    store: ObjectStore
    """The objects that the server stores for its clients."""
    ids: tuple[str, ...] = ()
    """The path segments that match the stars of its route."""
    turn: Turn | None = None
    """The place in the engine; None for endpoints that do not use it."""

    @property
    def id(self) -> str:
        """Return the unique part of the ids in this call's answer."""
        given = self.request.header("X-Request-Id") if self.dialect.reads_request_id else ""
        return given or f"{self.settings.name}-{self.number}"

    def tool_call_id(self, prefix: str, index: int) -> str:
        """Return the id of one call of a tool in the answer."""
        return f"{prefix}{self.id}{f'-{index}' if index else ''}"

    def json(self) -> Mapping[str, Any]:
        """Decode the body. :raises Refusal: when it is no JSON object."""
        if self.request.header("Content-Encoding") not in {"", "identity"}:
            raise Refusal("encoded")
        try:
            return msgspec.json.decode(self.request.body, type=dict[str, Any])
        except msgspec.DecodeError as exc:
            raise Refusal("bad_json") from exc

    def model(self, name: Any, capability: str = "") -> SimulatedModel:
        """Find a model by name.

        :raises Refusal: when there is none of that name, or it lacks *capability*.
        """
        if not isinstance(name, str) or not name:
            if not (self.answers_to_any_model or self.dialect.has_default_model):
                raise Refusal("invalid", detail="model is required")
            name = "" if self.answers_to_any_model else self.settings.catalogue[0].name
        catalogue = self.settings.catalogue
        found = next((model for model in catalogue if self._full(model.name) == self._full(name)), None) or next(
            (model for model in catalogue if name in model.aliases), None
        )
        if found is None and self.answers_to_any_model:
            found = catalogue[0]
        if found is None:
            raise Refusal("unknown_model", model=name, detail=", ".join(model.name for model in catalogue))
        if capability and capability not in found.capabilities:
            raise Refusal("unsupported", model=name, detail=CAPABILITY_NAMES[capability])
        if self.turn is not None:
            self.turn.ask(found)
        return found

    @property
    def answers_to_any_model(self) -> bool:
        """Whether the model name in a request is ignored; llama.cpp in router mode uses it."""
        return self.dialect.answers_to_any_model and not any(model.status for model in self.settings.catalogue)

    def model_name(self, body: Mapping[str, Any]) -> str:
        """Return the model name in the answer: the client's, unless the server ignores it."""
        name = body.get("model")
        if self.answers_to_any_model or not isinstance(name, str):
            return self.settings.catalogue[0].name
        return name

    def listed_name(self, model: SimulatedModel) -> str:
        """Return the name of *model* in listings."""
        return model.name if ":" in model.name or not self.dialect.has_latest_tag else f"{model.name}:latest"

    def compose(self, ask: Ask, body: Mapping[str, Any]) -> Reply:
        """Compose the reply to *ask*. :raises Refusal: when the request is too long for the model."""
        reply = compose(ask, self.settings.name, self.settings.answer_tokens, self.settings.script)
        model = self.model(body.get("model"))
        if self.dialect.checks_tools and body.get("tools") and "tools" not in model.capabilities:
            raise Refusal("unsupported", model=model.name, detail="tools")
        context = model.context_length
        if self.dialect.long_prompts == "cut" and body.get("truncate") is not False:
            return self._looked_up(
                msgspec.structs.replace(reply, prompt_tokens=min(reply.prompt_tokens, context)), ask, model
            )
        answer = (ask.max_tokens or 0) if self.dialect.long_prompts == "refused_with_answer" else 0
        if reply.prompt_tokens + answer > context:
            lengths = Lengths(reply.prompt_tokens, answer, context)
            raise Refusal("too_long", lengths=lengths, is_stream=bool(body.get("stream")))
        return self._looked_up(reply, ask, model)

    def _looked_up(self, reply: Reply, ask: Ask, model: SimulatedModel) -> Reply:
        """Return *reply* with what the cache has of its prompt."""
        if not self.settings.cache_tokens:
            return reply
        return msgspec.structs.replace(reply, cached_tokens=self.engine.cache.read(model.name, ask.prompt))

    def generate(self, reply: Reply) -> AsyncIterator[str]:
        """Yield the reply's tokens at the engine's pace."""
        assert self.turn is not None  # noqa: S101 - routes with is_inference have a turn
        return self.turn.generate(reply.tokens, reply.prompt_tokens, reply.cached_tokens or 0)

    async def generate_blocks(self, reply: Reply) -> AsyncIterator[tuple[int, Spoken, str]]:
        """Yield each token with its block, and the number of the block."""
        places = [(number, spoken) for number, spoken in enumerate(reply.blocks) for _ in spoken.tokens]
        position = 0
        async for token in self.generate(reply):
            yield *places[position], token
            position += 1

    async def generate_all(self, reply: Reply) -> str:
        return "".join([token async for token in self.generate(reply)])

    async def compute(self, prompt_tokens: int) -> None:
        assert self.turn is not None  # noqa: S101 - as above
        await self.turn.compute(prompt_tokens)

    def _full(self, name: str) -> str:
        if not self.dialect.has_latest_tag:
            return name
        return name.lower() if ":" in name else f"{name.lower()}:latest"


CAPABILITY_NAMES: Mapping[str, str] = {"completion": "chat", "embedding": "embeddings"}
"""The names of capabilities in error messages."""


def text_of(content: Any) -> str:
    """Return the text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(
            text_of(part.get("text", part.get("content", ""))) for part in content if isinstance(part, dict)
        )
    return ""


def conversation(messages: Any) -> tuple[str, str]:
    """Return all text of *messages*, and the text of the last user message."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise Refusal("invalid", detail="messages must be a list of objects")
    texts = [text_of(message.get("content")) for message in messages]
    said = [text for message, text in zip(messages, texts, strict=True) if message.get("role") == "user"]
    return "\n".join(texts), said[-1] if said else ""


def count_images(messages: Any) -> int:
    """Count the images of the last user message, in any API's form."""
    users = [message for message in messages or () if isinstance(message, dict) and message.get("role") == "user"]
    last = users[-1] if users else {}
    content = last.get("content")
    parts = content if isinstance(content, list) else ()
    in_parts = sum(isinstance(part, dict) and part.get("type") in IMAGE_PARTS for part in parts)
    return in_parts + len(last.get("images") or ())


IMAGE_PARTS = frozenset({"image", "image_url", "input_image"})


def tools_of(tools: Any) -> tuple[Tool, ...]:
    """Return the tools that the client runs, flat or nested under ``function``."""
    found = []
    for tool in tools if isinstance(tools, list) else ():
        function = tool.get("function", tool)
        if "name" in function:
            parameters = function.get("parameters") or function.get("input_schema") or {"properties": {}}
            found.append(Tool(function["name"], parameters))
    return tuple(found)


def whole_number(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
