"""The base of all tables of the configuration, and the types of their numbers."""

from typing import Annotated

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
"""A deadline or an interval: above 0, at most a year."""
SecondsOrZero = Annotated[float, Meta(ge=0, le=31_536_000)]
"""The same, with 0 allowed."""
Positive = Annotated[int, Meta(ge=1)]
NotNegative = Annotated[int, Meta(ge=0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file; an unknown key is an error."""
