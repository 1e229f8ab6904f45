"""Names for requests whose clients gave none: unique, short, and cheap to make."""

import itertools
import os
from typing import Final

_PREFIX: Final = f"req-{os.urandom(6).hex()}-"
_numbers: Final = itertools.count(1)


def new_request_id() -> str:
    """Return an id that no other request of this process has, and hardly one of any other."""
    return f"{_PREFIX}{next(_numbers):x}"
