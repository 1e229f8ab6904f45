"""Keeps the keys of Nexus, ``api_keys`` and ``admin_keys``, out of requests to backends."""

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
"""Bytes of a header line that is remembered as free of keys, as clients send the same lines again."""

MAX_WORDS: Final = 32
"""Words of one header, or parameters of one query, that are searched; a misplaced key is among the first."""

MAX_WORD: Final = 1024
"""Bytes of one word that are searched."""

_PART: Final = re.compile(rb"[^,;\"'<>(){}]+")


class KeyFilter:
    """Recognises the keys of Nexus in any header or parameter of the query.

    :param checks: for each list of keys, a function that tells in constant time whether a key is in it.
    """

    def __init__(self, *checks: Callable[[bytes], bool]) -> None:
        self._checks = checks
        self._harmless: set[bytes] = set()
        """Header lines without such a key."""

    def withhold(self, head: Head) -> None:
        """Remove each header that holds one of the keys from those that are sent on."""
        if not self._checks:
            return
        forward = [header for header in head.forward if self._is_harmless(header[1])]
        # Not remembered: these are the keys of clients.
        credentials = [header for header in head.credentials if not self._holds_key(_value_of(header[1]))]
        if len(forward) < len(head.forward) or len(credentials) < len(head.credentials):
            head.forward, head.credentials = forward, credentials
            head.prepared.clear()
        if head.request_id and self._holds_key(head.request_id.encode()):
            head.request_id = ""
        if head.hints:
            hints = {name: text for name, text in head.hints.items() if not self._holds_key(text.encode())}
            head.hints = ReadOnlyDict(hints)

    def may_pass(self, value: bytes) -> bool:
        """Whether a header with *value*, which is not remembered, may be sent on: it holds none of the keys."""
        return not self._checks or not self._holds_key(value)

    def without_keys(self, query: bytes) -> bytes:
        """Return *query* without the parameters that hold one of the keys."""
        if not self._checks or not query:
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
        return any(check(candidate) for candidate in _candidates(text) for check in self._checks)


def _value_of(line: bytes) -> bytes:
    return line.partition(b":")[2].strip()


def _candidates(text: bytes) -> Iterator[bytes]:
    """Yield the parts of *text* that could be keys: words, values after ``=`` or ``:``, and credentials of Basic."""
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
    match words:
        case [scheme, encoded] if scheme.lower() == b"basic":
            yield from _user_and_password(encoded)


def _user_and_password(encoded: bytes) -> Iterator[bytes]:
    try:
        user, _, password = b64decode(encoded).partition(b":")
    except (Base64Error, ValueError):
        return
    yield from (user, password)


def digest_of(key: bytes) -> bytes:
    """Return a digest that identifies *key* without revealing it."""
    return hashlib.sha256(key).digest()
