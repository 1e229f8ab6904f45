"""Estimates the tokens of prompts, and of answers that report no usage."""

import re
from typing import Final, NamedTuple

import msgspec

from nexus.domain.request import Endpoint, Requirements, TokenUsage
from nexus.wire.documents import read
from nexus.wire.message_text import MESSAGE_BYTES, escape_bytes, measure_messages

BYTES_PER_TOKEN: Final = 4

ESCAPES_SEARCHED: Final = 1024
MIN_DECODED_BYTES: Final = 4096
"""In shorter messages, searches are faster than a decode."""

_BACKSLASH: Final = 0x5C
"""A number, because Python looks for one faster than for bytes."""
_IMAGE_PART: Final = re.compile(rb'"type"[ \t\n\r]*+:[ \t\n\r]*+"(?:image_url|input_image|image)"')
_HAS_ITEM: Final = re.compile(rb"[\[{][ \t\n\r]*+[^\]} \t\n\r]")
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def has_items(raw: bytes | msgspec.Raw) -> bool:
    """Whether *raw* is a list or an object that is not empty."""
    return len(raw) > len("[]") and _HAS_ITEM.match(bytes(raw)) is not None


def measure(raw: bytes) -> tuple[int, bool]:
    """Return the size of the text in *raw* in bytes of UTF-8, and whether *raw* contains an image.

    :param raw: messages or a string, as JSON without long files, whose tokens do not depend on their size.
    """
    if len(raw) >= MIN_DECODED_BYTES and (measured := measure_messages(raw)) is not None:
        return measured
    size = len(raw) - MESSAGE_BYTES * raw.count(b'"role"')
    if _BACKSLASH in raw:
        size -= escape_bytes(raw)
    if raw.startswith(b'"'):
        return max(size - len('""'), 0), False
    return max(size, 0), raw.find(b"image") >= 0 and _IMAGE_PART.search(raw) is not None


def measure_tools(raw: bytes) -> int:
    """Return the size in bytes of the tools in *raw*, which chat templates write as JSON, without Unicode escapes."""
    # A client that writes such escapes does so everywhere.
    return len(raw) - 3 * raw.count(b"\\u") if b"\\u" in raw[:ESCAPES_SEARCHED] else len(raw)


class Prompts(NamedTuple):
    """The sizes of prompts that are answered separately."""

    longest_tokens: int = 0
    further_tokens: int = 0
    """Of all other prompts together."""
    number: int = 1
    longest_ids: int = 0
    """The number of token ids of the longest one; 0 if it is text."""


def measure_each(raw: bytes) -> Prompts:
    """Return the sizes of the prompts in *raw*: one or a list of them, each of which is text or a list of token ids."""
    items = read(_ITEMS, raw) if raw.startswith(b"[") else None
    if not items:
        return Prompts(measure(raw)[0] // BYTES_PER_TOKEN)
    first = bytes(items[0])[:1]
    if first.isdigit():
        return Prompts(len(items), longest_ids=len(items))
    if first == b"[":
        sizes = [bytes(item).count(b",") + 1 for item in items]
        return Prompts(max(sizes), sum(sizes) - max(sizes), len(sizes), longest_ids=max(sizes))
    sizes = [measure(bytes(item))[0] for item in items]
    longest = max(sizes) // BYTES_PER_TOKEN
    return Prompts(longest, sum(sizes) // BYTES_PER_TOKEN - longest, len(sizes))


COUNTED: Final = frozenset({"chat", "embeddings", "rerank"})
"""Capabilities that are measured in tokens, unlike audio and images."""


def is_uncounted(usage: TokenUsage | None, requirements: Requirements) -> bool:
    """Whether a backend has reported no usage; some report zero where they do not count."""
    return usage is None or not (usage.completion_tokens or usage.prompt_tokens or requirements.answers == 0)


def tokens_of(text: str) -> int:
    """Estimate the tokens of *text*."""
    return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)


def estimated_usage(endpoint: Endpoint, requirements: Requirements, completion_tokens: int) -> TokenUsage | None:
    """Return the estimated usage of an answer; None for endpoints that are not measured in tokens.

    A chat without text has none either: some of these endpoints only count, or accept work for later.
    """
    is_chat = endpoint.capability == "chat"
    if endpoint.capability not in COUNTED or (is_chat and not completion_tokens):
        return None
    prompt = requirements.prompt_tokens + requirements.further_prompt_tokens
    return TokenUsage(prompt, completion_tokens if is_chat else 0, is_estimated=True)
