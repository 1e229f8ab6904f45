"""Estimates how many tokens a prompt has, in a few passes over its JSON and without decoding it."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from nexus.wire.documents import read

BYTES_PER_TOKEN: Final = 4

MESSAGE_BYTES: Final = len('{"role":"user","content":""},')
"""What a message takes beside its text."""

_IMAGE_PART: Final = re.compile(rb'"type"[ \t\n\r]*+:[ \t\n\r]*+"(?:image_url|input_image|image)"')
_HERE: Final = re.compile(rb"")
_OPENED_STRING: Final = re.compile(rb'[ \t\n\r]*+:[ \t\n\r]*+"')
_HAS_ITEM: Final = re.compile(rb"[\[{][ \t\n\r]*+[^\]} \t\n\r]")
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def has_items(raw: bytes | msgspec.Raw) -> bool:
    """Whether *raw* is a list or an object that is not empty."""
    return len(raw) > len("[]") and _HAS_ITEM.match(bytes(raw)) is not None


def measure(raw: bytes) -> tuple[int, bool]:
    """Return the size of the text in *raw*, and whether there is an image in it, whose base64 does not count.

    :param raw: messages, tools or a string, as JSON.
    """
    size = len(raw) - MESSAGE_BYTES * raw.count(b'"role"')
    has_image = False
    if raw.startswith(b'"'):
        size -= len('""')
    elif b'"type"' in raw:
        # Whatever is no text says its type; in text the quotes would be escaped.
        size -= sum(_embedded(raw))
        has_image = b"image" in raw and _IMAGE_PART.search(raw) is not None
    return max(size, 0), has_image


class Prompts(NamedTuple):
    """The sizes of several prompts that are answered one by one."""

    longest_tokens: int = 0
    further_tokens: int = 0
    """Of all the others together."""
    number: int = 1


def measure_each(raw: bytes) -> Prompts:
    """Return the sizes of the prompts in *raw*: one, or a list of them. Each may be text, or a list of tokens."""
    items = read(_ITEMS, raw) if raw.startswith(b"[") else None
    if not items:
        return Prompts(measure(raw)[0] // BYTES_PER_TOKEN)
    first = bytes(items[0])[:1]
    if first.isdigit():
        return Prompts(len(items))
    if first == b"[":
        sizes = [bytes(item).count(b",") + 1 for item in items]
        return Prompts(max(sizes), sum(sizes) - max(sizes), len(sizes))
    sizes = [measure(bytes(item))[0] for item in items]
    longest = max(sizes) // BYTES_PER_TOKEN
    return Prompts(longest, sum(sizes) // BYTES_PER_TOKEN - longest, len(sizes))


def _embedded(raw: bytes) -> Iterator[int]:
    """Yield the sizes of images and other files in *raw*, which can be most of it: so no byte of them is looked at."""
    for mark, opening in ((b";base64,", _HERE), (b'"data"', _OPENED_STRING)):
        at = raw.find(mark)
        while at >= 0:
            at += len(mark)
            if opened := opening.match(raw, at):
                start, at = opened.end(), raw.find(b'"', opened.end())
                # In base64 there is no space: what has one is a text about it.
                if raw.find(b" ", start, at) < 0:
                    yield at - start
            # Each string is passed over only once, whatever number of marks is in it.
            at = raw.find(mark, at)
