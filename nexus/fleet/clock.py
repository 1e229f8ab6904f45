"""The one wall clock of the fleet: instants that people read; durations never come from here."""

from datetime import UTC, datetime


def unix_now() -> float:
    """Return the seconds since 1970, UTC."""
    return datetime.now(UTC).timestamp()
