"""Keeps Google's signatures of tool calls in the ids of the calls, which every client sends back.

Google requires the signature of an answer's calls in later requests, and no other dialect has a place for it.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NamedTuple

SKIP: Final = "skip_thought_signature_validator"
"""Google's documented value for calls that have no signature, as other models made them."""

_MARK: Final = "__ts_"
"""Between an id and its signature; every dialect accepts its characters in ids."""


class SignedId(NamedTuple):
    id: str
    signature: str
    """Empty: none."""


def signed(id_: str, signature: str) -> str:
    """Return an id with letters, digits, ``-`` and ``_`` only that carries the *signature*."""
    return f"{id_}{_MARK}{urlsafe_b64encode(signature.encode()).decode().rstrip('=')}"


def split(id_: str) -> SignedId:
    """Return the backend's own id, and the signature byte for byte."""
    own, mark, carried = id_.rpartition(_MARK)
    if not mark:
        return SignedId(id_, "")
    try:
        return SignedId(own, urlsafe_b64decode(carried + "=" * (-len(carried) % 4)).decode())
    except ValueError:
        return SignedId(id_, "")
