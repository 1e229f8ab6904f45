"""Finds and replaces what is no whole character in JSON: many servers do so, where the decoder refuses the text."""

import re
from codecs import utf_8_decode
from typing import Final

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
IN_PLACE: Final = "\x7f"
"""Replaces one byte where the length is kept; no name of a model may have it."""
CHECKED_BYTES: Final = 16 * 1024


def check_encoding(text: bytes) -> None:
    """Raise UnicodeDecodeError when *text* is not UTF-8; the decoder does not check what it skips."""
    # In pieces, which need little memory each: a long text would be slower for the memory of its characters.
    at, size = 0, len(text)
    while at < size:
        _, read_bytes = utf_8_decode(text[at : at + CHECKED_BYTES], "strict", at + CHECKED_BYTES >= size)
        at += read_bytes


def with_whole_characters(document: bytes) -> bytes:
    r"""Return *document* with U+FFFD in place of what is no whole character, and without a byte order mark.

    JavaScript writes an escaped surrogate that is not one of a pair, ``\ud83d``, where a text was cut within an emoji;
    consoles of Windows send text that is not UTF-8. Ollama reads both like this.
    """
    text = _text_of(document)
    return text if text.isascii() else text.decode(errors="replace").encode().removeprefix(BYTE_ORDER_MARK)


def as_long_with_whole_characters(document: bytes) -> bytes:
    """Return *document* with every byte in its place, so that what is found in it has the same place there.

    The escape of a surrogate is as long as that of U+FFFD. Each byte that is not UTF-8 is replaced by one byte, and
    each of a byte order mark by a space.
    """
    if document.startswith(BYTE_ORDER_MARK):
        document = b" " * len(BYTE_ORDER_MARK) + document[len(BYTE_ORDER_MARK) :]
    text = _text_of(document)
    return text if text.isascii() else _NO_CHARACTER.sub(IN_PLACE, text.decode(errors="surrogateescape")).encode()


_NO_CHARACTER: Final = re.compile("[\udc80-\udcff]")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE: Final = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]|(u[dD][89a-fA-F]..)|.)", re.DOTALL)


def _text_of(document: bytes) -> bytes:
    """Return *document* with an escaped U+FFFD in place of each escaped surrogate that is not one of a pair."""
    return document if _SURROGATE.search(document) is None else _ESCAPE.sub(_whole, document)


def _whole(escape: re.Match[bytes]) -> bytes:
    return escape[0] if escape[1] is None else rb"\ufffd"
