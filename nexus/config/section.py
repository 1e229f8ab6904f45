"""What all tables of the configuration have in common."""

from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
"""A deadline or an interval: more than nothing, a year at most."""
SecondsOrZero = Annotated[float, Meta(ge=0, le=31_536_000)]
"""The same where 0 means something."""
Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file; an unknown key is an error."""
