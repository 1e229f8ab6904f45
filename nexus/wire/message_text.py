"""Measures the text of long messages in few passes over their JSON, and cuts files in base64 out of it."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from nexus.wire.documents import read, without_quotes

FILE_BYTES: Final = 4096
"""An ASCII string without blanks of at least this length is taken for a file in base64."""
MESSAGE_BYTES: Final = len('{"role":"user","content":""},')
"""The size of a message without its text."""
SAMPLES: Final = 16
SAMPLE_BYTES: Final = 128
"""Of each sample: they are spread over the text, as a part of it may have most of the escapes."""
MAX_DEPTH: Final = 8
"""Messages hold parts, and the results of tools hold parts again; what is nested deeper is not looked at."""

_WINDOW: Final = FILE_BYTES // 2
_IMAGES: Final = frozenset({"image_url", "input_image", "image"})


def nothing(_file: bytes) -> bytes:
    """Leave nothing of a file."""
    return b""


def without_files(raw: bytes, replaced: Callable[[bytes], bytes] = nothing) -> bytes:
    """Return the JSON in *raw* with what *replaced* returns for each file in base64; *raw* itself if it has none.

    What is no string may be cut out as well, such as a long list of numbers: the result is then no valid JSON. If it is
    valid, *raw* is, except that a file may contain a control character.
    """
    kept: list[bytes] = []
    begin = 0
    for start, end in without_quotes(raw, _WINDOW):
        is_string = start > 0 and end < len(raw) and end - start >= FILE_BYTES
        if is_string and raw.find(b" ", start, end) < 0 and raw.find(b"\\", start, end) < 0:
            file = raw[start:end]
            if file.isascii():
                kept += raw[begin:start], replaced(file)
                begin = end
    return b"".join((*kept, raw[begin:])) if kept else raw


def measure_messages(raw: bytes) -> tuple[int, bool] | None:
    """Return the size of the text in *raw* in bytes of UTF-8, and whether *raw* contains an image.

    None when *raw* is no list of messages or parts.

    :param raw: JSON without long files.
    """
    items = read(_ITEMS, raw)
    if not items:
        return None
    # The brackets count, and the comma that the last message lacks does not.
    size = len(raw) - MESSAGE_BYTES * len(items) - escape_bytes(raw)
    return max(size, 0), _shows(items, MAX_DEPTH)


class _Item(msgspec.Struct, gc=False):
    """A message, a part of one, or an item of a response's input, in any of the APIs."""

    type: str | None = None
    content: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()
    images: list[str] | None = None
    """Of Ollama."""


_ITEMS: Final = msgspec.json.Decoder(list[_Item])
_LIST: Final = ord("[")


def _shows(items: Iterable[_Item], depth: int) -> bool:
    """Whether there is an image in *items*."""
    contents: list[msgspec.Raw] = []
    for item in items:
        if item.type in _IMAGES or item.images:
            return True
        if item.content:
            contents.append(item.content)
        if item.output:
            contents.append(item.output)
    if depth:
        for raw in contents:
            if memoryview(raw)[0] == _LIST and _shows(_parts(raw), depth - 1):
                return True
    return False


def _parts(raw: msgspec.Raw) -> Iterable[_Item]:
    # The decoder has found valid JSON here; what it is, the backend may judge.
    try:
        return _ITEMS.decode(raw)
    except (msgspec.ValidationError, RecursionError):
        return ()


def escape_bytes(raw: bytes) -> int:
    """Estimate by how many bytes the escapes in *raw* exceed the characters that they stand for."""
    step = len(raw) // SAMPLES
    if step <= SAMPLE_BYTES:
        return _excess(raw)
    sample = b"".join([raw[at : at + SAMPLE_BYTES] for at in range(0, step * SAMPLES, step)])
    return _excess(sample) * len(raw) // len(sample)


def _excess(raw: bytes) -> int:
    escapes = raw.count(b"\\") - raw.count(b"\\\\")
    # A Unicode escape is six bytes for three, or for two up to U+07FF; any other escape is two bytes for one.
    return max(escapes, 0) + 2 * raw.count(b"\\u") + raw.count(b"\\u0")
