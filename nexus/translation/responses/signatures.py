"""Carries thoughts, with what their providers signed, through clients that send them back.

The encrypted content of a reasoning item can only be read by the server that made it. What other providers made is
packed with a mark, by which it is recognised when it returns; it is not encrypted, as the client has seen it.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

from nexus.translation.chat import Thinking
from nexus.wire.documents import read

_PACKED: Final = "nexus."
"""Begins the encrypted content that a client of the Responses API gets for thoughts of other providers."""
_ENCRYPTED: Final = "responses."
"""Begins the signature that clients of other dialects get for an encrypted content."""


class _Thoughts(msgspec.Struct, omit_defaults=True):
    text: str = ""
    signature: str = ""
    redacted: str = ""


_THOUGHTS: Final = msgspec.json.Decoder(_Thoughts)


def packed(thinking: Thinking) -> str:
    """Return what a client of the Responses API gets as the encrypted content."""
    thoughts = _Thoughts(thinking.text, thinking.signature, thinking.redacted)
    return _PACKED + urlsafe_b64encode(msgspec.json.encode(thoughts)).decode()


def unpacked(encrypted: str) -> Thinking | None:
    """Return the thoughts that :func:`packed` has made *encrypted* of; None if it is another server's."""
    if not encrypted.startswith(_PACKED):
        return None
    try:
        thoughts = read(_THOUGHTS, urlsafe_b64decode(encrypted.removeprefix(_PACKED)))
    except ValueError:
        return None
    return None if thoughts is None else Thinking(thoughts.text, thoughts.signature, thoughts.redacted)


def signature_of_encrypted(item_id: str, encrypted: str) -> str:
    """Return the signature that a client of another dialect gets for a backend's reasoning item."""
    return f"{_ENCRYPTED}{item_id}.{encrypted}"


def encrypted_in(signature: str) -> tuple[str, str] | None:
    """Return the id and the encrypted content of the item whose *signature* this is; None if it is another's."""
    if not signature.startswith(_ENCRYPTED):
        return None
    item_id, dot, encrypted = signature.removeprefix(_ENCRYPTED).partition(".")
    return (item_id, encrypted) if dot else None
