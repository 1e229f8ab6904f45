"""How long ago something was, in one unit."""

from datetime import UTC, datetime


def age(instant: str, now: datetime | None = None) -> str:
    """Return how long ago *instant*, which a page of the proxy says, was; a clock that is behind makes it 0."""
    seconds = max(0, int(((now or datetime.now(UTC)) - datetime.fromisoformat(instant)).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
