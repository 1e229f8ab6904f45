"""Keeps the keys of Nexus itself, a client's or an administrator's, out of what is sent to a backend."""

import hashlib
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from nexus.domain.read_only import ReadOnlyDict
from nexus.proxy.headers.from_client import Head

MAX_REMEMBERED: Final = 1024
MAX_REMEMBERED_LINE: Final = 256
"""Bytes of a header line that is remembered as harmless: a client sends the same ones again and again."""

MAX_WORDS: Final = 32
"""Of one header, or parameters of one query, that are looked at; a key that was sent by mistake stands alone."""

MAX_WORD: Final = 1024
"""Bytes of one word in which keys are looked for."""

_PART: Final = re.compile(rb"[^,;\"'<>(){}]+")


class OwnKeys:
    """Recognises the keys of Nexus, wherever a client puts them.

    :param rings: one function for each list of keys, which says whether a key is in it, in constant time.
    """

    def __init__(self, *rings: Callable[[bytes], bool]) -> None:
        self._rings = rings
        self._harmless: set[bytes] = set()
        """Whole header lines that hold none of the keys."""

    def withhold(self, head: Head) -> None:
        """Remove from *head* each header with one of the keys in it, so that none of them is sent on."""
        if not self._rings:
            return
        forward = [header for header in head.forward if self._is_harmless(header[1])]
        # Clients' own keys are not remembered.
        credentials = [header for header in head.credentials if not self._holds_key(_value_of(header[1]))]
        if len(forward) < len(head.forward) or len(credentials) < len(head.credentials):
            head.forward, head.credentials = forward, credentials
            head.made.clear()
        if head.request_id and self._holds_key(head.request_id.encode()):
            head.request_id = ""
        if head.hints:
            hints = {name: text for name, text in head.hints.items() if not self._holds_key(text.encode())}
            head.hints = ReadOnlyDict(hints)

    def without_keys(self, query: bytes) -> bytes:
        """Return *query*, what follows the ``?`` of a target, without the parameters that hold one of the keys."""
        if not self._rings or not query:
            return query
        *parts, rest = query.split(b"&", MAX_WORDS)
        if len(parts) < MAX_WORDS:
            parts, rest = [*parts, rest], b""
        kept = [part for part in parts if not self._holds_key(unquote_to_bytes(part.replace(b"+", b" ")))]
        return b"&".join([*kept, rest] if rest else kept)

    def _is_harmless(self, line: bytes) -> bool:
        if line in self._harmless:
            return True
        if self._holds_key(_value_of(line)):
            return False
        if len(line) <= MAX_REMEMBERED_LINE:
            if len(self._harmless) >= MAX_REMEMBERED:
                self._harmless.clear()
            self._harmless.add(line)
        return True

    def _holds_key(self, text: bytes) -> bool:
        return any(ring(candidate) for candidate in _candidates(text) for ring in self._rings)


def _value_of(line: bytes) -> bytes:
    return line.partition(b":")[2].strip()


def _candidates(text: bytes) -> Iterator[bytes]:
    """Yield what of *text* could be a key: each word, what follows a name in it, and the password of Basic."""
    words = text.split(maxsplit=MAX_WORDS)[:MAX_WORDS]
    for word in words:
        yield word
        parts = _PART.findall(word, 0, MAX_WORD)[:MAX_WORDS]
        if parts != [word]:
            yield from parts
        for part in parts:
            for separator in (b"=", b":"):
                value = part.partition(separator)[2]
                if value:
                    yield value
    if len(words) == len((b"Basic", b"dXNlcjprZXk=")) and words[0].lower() == b"basic":
        yield from _user_and_password(words[1])


def _user_and_password(encoded: bytes) -> Iterator[bytes]:
    try:
        user, _, password = b64decode(encoded).partition(b":")
    except (Base64Error, ValueError):
        return
    yield from (user, password)


def digest_of(key: bytes) -> bytes:
    """Return what stands for *key* where nothing but the same key is to be recognised."""
    return hashlib.sha256(key).digest()
