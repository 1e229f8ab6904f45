"""Calendar months in UTC, written as ``2026-11``."""

from datetime import UTC, datetime


def month_of(unix_s: float) -> str:
    """Return the month at that instant."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m}"


def first_day_after(month: str) -> str:
    """Return the day on which the month after *month* begins: ``2026-12-01``."""
    return f"{_begin_after(month):%Y-%m-%d}"


def bounds(month: str) -> tuple[float, float]:
    """Return the Unix seconds at which *month* begins and ends."""
    return _begin(month).timestamp(), _begin_after(month).timestamp()


def _begin(month: str) -> datetime:
    # strptime would take longer than the rest of the stage.
    year, _, number = month.partition("-")
    return datetime(int(year), int(number), 1, tzinfo=UTC)


def _begin_after(month: str) -> datetime:
    begin = _begin(month)
    return begin.replace(year=begin.year + begin.month // 12, month=begin.month % 12 + 1)
