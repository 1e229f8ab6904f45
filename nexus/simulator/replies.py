"""Composes replies: a script, text that begins with the server's name, a call of the first tool, or fitting JSON."""

from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any, Literal

import msgspec

from nexus.simulator.blocks import Block, CallTool, Say, Spoken, Think, speak

FILLER = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "the",
    "lazy",
    "dog",
    "and",
    "none",
    "waits",
    "for",
    "long",
)
MAX_ECHOED_WORDS = 8
MAX_SCHEMA_DEPTH = 32
BYTES_PER_TOKEN = 4


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call."""

    name: str
    parameters: Mapping[str, Any]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A request for text, independent of its protocol."""

    prompt: str = ""
    last_words: str = ""
    """The last user message, which the reply echoes."""
    images: int = 0
    """How many it has."""
    is_stream: bool = False
    max_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    """If any, the reply calls the first one, or those of its script."""
    is_parallel: bool = True
    """Whether the reply may call several tools."""
    thinks: bool = True
    """Whether the reply may have thoughts; only a script has some."""
    has_result: bool = False
    """The last message has the result of a tool: the reply is text, as an agent would call the tool without end."""
    schema: Mapping[str, Any] | None = None
    """If set, the reply is JSON that fits this schema; an empty schema accepts any object."""


class Reply(msgspec.Struct, frozen=True):
    """A reply as tokens, one block after the other."""

    blocks: tuple[Spoken, ...]
    finish: Literal["stop", "length", "tool"]
    prompt_tokens: int
    cached_tokens: int | None = None
    """How many tokens of the prompt are in the cache; None without a cache."""

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(token for spoken in self.blocks for token in spoken.tokens)

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def thought_tokens(self) -> int:
        return sum(len(spoken.tokens) for spoken in self.blocks if isinstance(spoken.block, Think))

    @property
    def calls(self) -> tuple[Spoken, ...]:
        return tuple(spoken for spoken in self.blocks if isinstance(spoken.block, CallTool))


def compose(ask: Ask, speaker: str, answer_tokens: int, script: tuple[Block, ...] = ()) -> Reply:
    """Return a reply that depends on the arguments alone."""
    if ask.schema is None and not ask.has_result and (played := _played(script, ask)):
        return _limited(played, ask)
    if ask.tools and not ask.has_result:
        tool = ask.tools[0]
        arguments = CallTool(tool.name, _json_text(sample(tool.parameters, speaker)))
        return Reply(speak((arguments,)), "tool", count_tokens(ask.prompt))
    if ask.schema is not None:
        text = _json_text(sample(ask.schema or {"properties": {"answer": {"type": "string"}}}, speaker))
        return _limited((Say(text),), ask)
    tokens = _sentence(ask, speaker, min(answer_tokens, ask.max_tokens or answer_tokens))
    is_cut = ask.max_tokens is not None and len(tokens) >= ask.max_tokens
    spoken = Spoken(Say("".join(tokens)), tokens)
    return Reply((spoken,), "length" if is_cut else "stop", count_tokens(ask.prompt))


def _played(script: tuple[Block, ...], ask: Ask) -> tuple[Block, ...]:
    """Return the blocks of *script* that the request allows."""
    offered = {tool.name for tool in ask.tools}
    played: list[Block] = []
    calls = 0
    for block in script:
        if isinstance(block, CallTool):
            if block.name not in offered or (calls and not ask.is_parallel):
                continue
            calls += 1
        if ask.thinks or not isinstance(block, Think):
            played.append(block)
    return tuple(played)


def _limited(blocks: tuple[Block, ...], ask: Ask) -> Reply:
    spoken = speak(blocks, ask.max_tokens)
    length = sum(len(one.tokens) for one in spoken)
    if ask.max_tokens is not None and length >= ask.max_tokens:
        return Reply(spoken, "length", count_tokens(ask.prompt))
    calls = any(isinstance(block, CallTool) for block in blocks)
    return Reply(spoken, "tool" if calls else "stop", count_tokens(ask.prompt))


def count_tokens(text: str) -> int:
    """Count tokens as the simulated tokenizer does: four bytes make one."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def tokenize(text: str) -> list[int]:
    encoded = text.encode()
    return [int.from_bytes(encoded[at : at + BYTES_PER_TOKEN], "big") for at in range(0, len(encoded), BYTES_PER_TOKEN)]


def detokenize(tokens: list[int]) -> str:
    return b"".join(token.to_bytes((token.bit_length() + 7) // 8, "big") for token in tokens).decode(errors="replace")


def sample(schema: Mapping[str, Any], speaker: str) -> Any:
    """Return a value that fits a simple JSON schema; strings without constraints are *speaker*."""
    return _sample(schema, speaker, schema.get("$defs", {}), MAX_SCHEMA_DEPTH)


def _sample(schema: Mapping[str, Any], speaker: str, definitions: Mapping[str, Any], depth: int) -> Any:
    if not depth:
        return None
    if "$ref" in schema:
        return _sample(definitions.get(schema["$ref"].rpartition("/")[2], {}), speaker, definitions, depth - 1)
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return _sample(schema[choice][0], speaker, definitions, depth - 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = _type(schema)
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: _sample(inner, speaker, definitions, depth - 1) for name, inner in properties.items()}
    if kind == "array":
        item = _sample(schema.get("items", {}), speaker, definitions, depth - 1)
        return [item] * max(1, schema.get("minItems", 1))
    if kind == "string":
        return speaker.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
    return _scalar(kind, schema)


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return str(kind[0] if isinstance(kind, list) else kind)


def _scalar(kind: str, schema: Mapping[str, Any]) -> Any:
    lowest = schema.get("minimum", schema.get("maximum", 1))
    return {"integer": int(lowest), "number": float(lowest), "boolean": True}.get(kind)


def _sentence(ask: Ask, speaker: str, length: int) -> tuple[str, ...]:
    """Return *length* tokens: the speaker, an echo of the user's words, and filler."""
    echo = ask.last_words.split()[:MAX_ECHOED_WORDS]
    seen = ["with", str(ask.images), "images"] if ask.images else []
    opening = [f"{speaker}:", *(["you", "said", *echo, *seen, "so"] if echo or seen else [])]
    words = [*opening, *islice(cycle(FILLER), max(0, length - len(opening)))][:length]
    return tuple(word if position == 0 else f" {word}" for position, word in enumerate(words))


def _json_text(content: Any) -> str:
    return msgspec.json.encode(content).decode()
