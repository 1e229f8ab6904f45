"""Carries the signatures that providers make of thoughts, in both directions.

The encrypted content of a reasoning item can only be read by the server that made it. What other providers signed is
sent to clients with a mark, by which it is recognised when it comes back.
"""

from typing import Final

_SIGNED: Final = "nexus.signed."
_REDACTED: Final = "nexus.redacted."
_ENCRYPTED: Final = "responses."
"""Begins the signature that clients of other dialects get for an encrypted content."""


def encrypted_of_signature(signature: str) -> str:
    """Return what a client of the Responses API gets as the encrypted content for a *signature*."""
    return _SIGNED + signature


def encrypted_of_redacted(redacted: str) -> str:
    """Return the same for thoughts without text."""
    return _REDACTED + redacted


def signature_in(encrypted: str) -> str:
    """Return the signature that was sent as *encrypted*; empty if it is another server's."""
    return encrypted.removeprefix(_SIGNED) if encrypted.startswith(_SIGNED) else ""


def redacted_in(encrypted: str) -> str:
    """Return the thoughts without text that were sent as *encrypted*; empty if there are none."""
    return encrypted.removeprefix(_REDACTED) if encrypted.startswith(_REDACTED) else ""


def signature_of_encrypted(item_id: str, encrypted: str) -> str:
    """Return the signature that a client of another dialect gets for a backend's reasoning item."""
    return f"{_ENCRYPTED}{item_id}.{encrypted}"


def encrypted_in(signature: str) -> tuple[str, str] | None:
    """Return the id and the encrypted content of the item whose *signature* this is; None if it is another's."""
    if not signature.startswith(_ENCRYPTED):
        return None
    item_id, dot, encrypted = signature.removeprefix(_ENCRYPTED).partition(".")
    return (item_id, encrypted) if dot else None
