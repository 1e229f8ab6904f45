"""Makes the ids of responses and their items, each with the prefix of its type."""

import re
from typing import Final

MAX_ID: Final = 64
_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_-]")
_PREFIX: Final = re.compile(r"^(?:call|toolu|chatcmpl|resp|fc|ctc|msg)[_-]")
"""The prefix that another type, or another API, gives an id."""


def response_id(backend_id: str, own_id: str) -> str:
    """Return the id of a response: the backend's, if it gave one that is unique."""
    return prefixed("resp", backend_id or own_id)


def prefixed(prefix: str, id_: str) -> str:
    """Return *id_* with the prefix of a type; the same for the same id."""
    bare = _PREFIX.sub("", _NOT_ALLOWED.sub("_", id_))
    return f"{prefix}_{bare}"[:MAX_ID]
