"""The blocks that a reply consists of: thoughts, text and calls of tools."""

import re
from collections.abc import Iterable

import msgspec

SIGNATURE = "simulated-"
"""Begins the signatures of a simulator's thoughts; it takes back no others."""


class Think(msgspec.Struct, frozen=True):
    """Thoughts before the answer; dropped if the request wants none."""

    text: str
    signature: str = f"{SIGNATURE}c2lnbmVk"

    @property
    def wire(self) -> str:
        return self.text


class Say(msgspec.Struct, frozen=True):
    """Text of the answer."""

    text: str

    @property
    def wire(self) -> str:
        return self.text


class CallTool(msgspec.Struct, frozen=True):
    """A call; dropped unless the request offers a tool of that name."""

    name: str
    arguments: str = "{}"
    """Their JSON text, which is sent byte for byte."""

    @property
    def wire(self) -> str:
        return self.arguments


Block = Think | Say | CallTool


class Spoken(msgspec.Struct, frozen=True):
    """A block as tokens."""

    block: Block
    tokens: tuple[str, ...]
    is_whole: bool = True
    """Whether no token of it was cut off by a limit."""

    @property
    def text(self) -> str:
        """Return the text, or the JSON text of the arguments, as far as it goes."""
        return "".join(self.tokens)


def split(text: str) -> tuple[str, ...]:
    """Split *text* roughly as a tokenizer would."""
    return tuple(re.findall(r"\s*\S{1,8}", text))


def speak(blocks: Iterable[Block], max_tokens: int | None = None) -> tuple[Spoken, ...]:
    """Return *blocks* as tokens, cut off after *max_tokens*."""
    left = max_tokens
    spoken = []
    for block in blocks:
        tokens = split(block.wire)
        kept = tokens if left is None else tokens[:left]
        if kept:
            spoken.append(Spoken(block, kept, is_whole=len(kept) == len(tokens)))
        left = None if left is None else left - len(kept)
    return tuple(spoken)
