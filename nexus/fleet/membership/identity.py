"""Makes the id of a backend from its name, so that it is stable across restarts."""

import uuid
from typing import Final

_BACKENDS: Final = uuid.UUID("6d3cf3a4-4f0b-5c53-9a57-2d6f9f0a8c11")


def backend_id(name: str) -> str:
    """Return 32 hexadecimal digits."""
    return uuid.uuid5(_BACKENDS, name).hex
