"""Makes sure that a body gives the members that routing goes by once, under whatever spelling.

A backend may keep the first of two members, or the last, or take ``MODEL`` for ``model`` as Go's decoder does: then
what was routed and checked is not what is run.
"""

import re
from typing import Final

from nexus.errors import RequestError
from nexus.wire.json_members import CrowdedObjectError, members

GUARDED: Final = ("model", "stream", "max_tokens")

MANY_BYTES: Final = 256 * 1024
MANY_COLONS: Final = 100_000

_ESCAPED_LETTER: Final = re.compile(rb"\\u(?:00[4-7]|017f|212a)")
_LETTERS_THAT_FOLD: Final = ("\u017f".encode(), "\u212a".encode())
"""The long s and the Kelvin sign: Go, for one, takes them for an s and a k."""


def refuse_ambiguous(body: bytes) -> None:
    """Raise RequestError when *body*, valid JSON with a model in it, gives a guarded member more than once."""
    if not is_plain(body):
        _refuse_ambiguous(body)


def is_plain(body: bytes) -> bool:
    """Whether the bytes alone prove that each guarded name stands there at most once, and ``model`` exactly once."""
    lower = body.lower()
    return (
        lower.count(b'"model"') == 1
        and lower.count(b'"stream"') <= 1
        and lower.count(b'"max_tokens"') <= 1
        and not (b"\\u" in lower and _ESCAPED_LETTER.search(lower))
        and (body.isascii() or not any(letter in body for letter in _LETTERS_THAT_FOLD))
        and not (len(body) > MANY_BYTES and body.count(b":") > MANY_COLONS)
    )


def _refuse_ambiguous(body: bytes) -> None:
    found: set[str] = set()
    try:
        for member in members(body):
            name = member.name.casefold()
            if name in found:
                raise given_twice(name)
            if name in GUARDED:
                found.add(name)
    except CrowdedObjectError as exc:
        raise given_twice(exc.name) from None


def given_twice(name: str | None) -> RequestError:
    """Return what a client is told whose body gives the member *name* twice; None: it has too many members."""
    if name in GUARDED:
        return RequestError("invalid_value", f"'{name}' is given more than once", param=name)
    return RequestError("invalid_json", "the body has too many members, or one of them twice")
