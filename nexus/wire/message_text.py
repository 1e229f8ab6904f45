"""Measures the text of long messages in one decode, which is faster than searching their JSON for what is no text."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from nexus.wire.documents import read

FILE_BYTES: Final = 4096
"""An ASCII string without blanks of at least this length is taken for a file in base64."""
MESSAGE_BYTES: Final = len('{"role":"user","content":""},')
"""The size of a message without its text."""
MAX_DEPTH: Final = 8
"""Messages hold parts, and the results of tools hold parts again; what is nested deeper is not looked at."""

_WINDOW: Final = FILE_BYTES // 2
_IMAGES: Final = frozenset({"image_url", "input_image", "image"})
_NOTHING: Final = msgspec.Raw()


def without_files(raw: bytes, replaced: Callable[[bytes], bytes] = lambda _file: b"") -> bytes:
    """Return the JSON in *raw* with what *replaced* returns for each file in base64; *raw* itself if it has none.

    What is no string may be cut out as well, such as a long list of numbers: the result is then no valid JSON. If it is
    valid, *raw* is, except that a file may contain a control character.
    """
    kept: list[bytes] = []
    begin = at = 0
    while at + _WINDOW <= len(raw):
        # The string fills at least one window, and elsewhere a quote is found after a few bytes of each.
        if raw.find(b'"', at, at + _WINDOW) >= 0:
            at += _WINDOW
            continue
        start, end = raw.rfind(b'"', begin, at) + 1, raw.find(b'"', at)
        if end < 0:
            break
        at = end
        if start and end - start >= FILE_BYTES and raw.find(b" ", start, end) < 0 and raw.find(b"\\", start, end) < 0:
            file = raw[start:end]
            if file.isascii():
                kept += raw[begin:start], replaced(file)
                begin = end
    return b"".join((*kept, raw[begin:])) if kept else raw


def measure_messages(raw: bytes) -> tuple[int, bool] | None:
    """Return the size of the text in *raw* in bytes of UTF-8, and whether *raw* contains an image.

    None when *raw* is no list of messages or parts, or when most of it is in members that are not known here.

    :param raw: JSON without long files.
    """
    items = read(_ITEMS, raw)
    if not items:
        return None
    size, has_image = _measure(items, MAX_DEPTH)
    unknown_bytes = len(raw) - MESSAGE_BYTES * len(items) - size
    # The brackets count, and the comma that the last message lacks does not.
    return None if unknown_bytes > len(raw) // 2 else (size + 1, has_image)


class _Function(msgspec.Struct, gc=False):
    name: str = ""
    arguments: str | dict[str, msgspec.Raw] | None = None
    """JSON in a string; of Ollama, an object."""

    @property
    def size(self) -> int:
        arguments = self.arguments or ""
        if isinstance(arguments, str):
            return len(self.name) + _bytes_of(arguments)
        return len(self.name) + sum(_bytes_of(name) + len(value) for name, value in arguments.items())


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None


class _Item(msgspec.Struct, gc=False):
    """A message of a chat, a part of one, or an item of a response's input, in any of the APIs."""

    type: str | None = None
    content: "str | list[_Item] | None" = None
    text: str | None = None
    tool_calls: list[_Call] | None = None
    images: list[str] | None = None
    """Of Ollama."""
    arguments: str | None = None
    output: "str | list[_Item] | None" = None
    input: msgspec.Raw = _NOTHING
    """Of a tool, as JSON."""
    source: msgspec.Raw = _NOTHING
    """Of a document, which may be a text."""


_ITEMS: Final = msgspec.json.Decoder(list[_Item])


def _measure(items: Iterable[_Item], depth: int) -> tuple[int, bool]:
    size, has_image = 0, False
    for item in items:
        if item.type in _IMAGES or item.images:
            has_image = True
        if item.text:
            size += _bytes_of(item.text)
        if item.arguments:
            size += _bytes_of(item.arguments)
        for content in (item.content, item.output) if item.output else (item.content,):
            if isinstance(content, str):
                size += _bytes_of(content)
            elif content and depth:
                more, shows = _measure(content, depth - 1)
                size, has_image = size + more, has_image or shows
        if item.tool_calls:
            size += sum([call.function.size for call in item.tool_calls if call.function is not None])
        if item.input or item.source:
            size += len(item.input) + len(item.source)
    return size, has_image


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
