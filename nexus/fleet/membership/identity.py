"""The id of a backend: made from its name, so that it is the same after a restart."""

import uuid
from typing import Final

_BACKENDS: Final = uuid.UUID("6d3cf3a4-4f0b-5c53-9a57-2d6f9f0a8c11")


def backend_id(name: str) -> str:
    """Return the id of the backend of that name: 32 hexadecimal digits."""
    return uuid.uuid5(_BACKENDS, name).hex
