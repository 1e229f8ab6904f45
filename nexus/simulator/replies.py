"""Composes replies: text that begins with the server's name, a call of the first tool, or JSON that fits a schema."""

import re
from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any, Literal

import msgspec

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
    is_stream: bool = False
    max_tokens: int | None = None
    tool: Tool | None = None
    """If set, the reply calls this tool."""
    schema: Mapping[str, Any] | None = None
    """If set, the reply is JSON that fits this schema; an empty schema accepts any object."""


class Reply(msgspec.Struct, frozen=True):
    """A reply as tokens."""

    tokens: tuple[str, ...]
    finish: Literal["stop", "length", "tool"]
    prompt_tokens: int
    tool: Tool | None = None
    """The tool to call; the joined tokens are its arguments."""
    cached_tokens: int | None = None
    """How many tokens of the prompt are in the cache; None without a cache."""

    @property
    def text(self) -> str:
        return "".join(self.tokens)


def compose(ask: Ask, speaker: str, answer_tokens: int) -> Reply:
    """Return a reply that depends on the arguments alone."""
    prompt_tokens = count_tokens(ask.prompt)
    if ask.tool is not None:
        arguments = _json_text(sample(ask.tool.parameters, speaker))
        return Reply(split(arguments), "tool", prompt_tokens, ask.tool)
    if ask.schema is not None:
        text = _json_text(sample(ask.schema or {"properties": {"answer": {"type": "string"}}}, speaker))
        tokens = split(text)
    else:
        tokens = _sentence(ask.last_words, speaker, min(answer_tokens, ask.max_tokens or answer_tokens))
    if ask.max_tokens is not None and len(tokens) >= ask.max_tokens:
        return Reply(tokens[: ask.max_tokens], "length", prompt_tokens)
    return Reply(tokens, "stop", prompt_tokens)


def count_tokens(text: str) -> int:
    """Count tokens as the simulated tokenizer does: four bytes make one."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def tokenize(text: str) -> list[int]:
    encoded = text.encode()
    return [int.from_bytes(encoded[at : at + BYTES_PER_TOKEN], "big") for at in range(0, len(encoded), BYTES_PER_TOKEN)]


def detokenize(tokens: list[int]) -> str:
    return b"".join(token.to_bytes((token.bit_length() + 7) // 8, "big") for token in tokens).decode(errors="replace")


def split(text: str) -> tuple[str, ...]:
    """Split *text* roughly as a tokenizer would."""
    return tuple(re.findall(r"\s*\S{1,8}", text))


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


def _sentence(last_words: str, speaker: str, length: int) -> tuple[str, ...]:
    """Return *length* tokens: the speaker, an echo of the user's words, and filler."""
    echo = last_words.split()[:MAX_ECHOED_WORDS]
    opening = [f"{speaker}:", *(["you", "said", *echo, "so"] if echo else [])]
    words = [*opening, *islice(cycle(FILLER), max(0, length - len(opening)))][:length]
    return tuple(word if position == 0 else f" {word}" for position, word in enumerate(words))


def _json_text(content: Any) -> str:
    return msgspec.json.encode(content).decode()
