"""The tables of ``nexus-proxy backends``: backends, servers that wait for approval, and watched files."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from nexus.cli.output.columns import Layout
from nexus.cli.output.printing import table

Row = Mapping[str, Any]

HEADINGS: Final = (
    "NAME",
    "STATUS",
    "TYPE",
    "ZONE",
    "TIER",
    "IN FLIGHT",
    "CAPACITY",
    "OLDEST WAIT",
    "LATENCY",
    "MODELS",
    "SOURCE",
    "AGE",
    "SEEN",
    "URL",
    "LAST ERROR",
)
SOURCES: Final[Mapping[str, str]] = {"static": "config"}
"""Sources that have another name in the table."""
LEAVE_OUT: Final = (
    "TIER",
    "ZONE",
    "TYPE",
    "LATENCY",
    "AGE",
    "MODELS",
    "URL",
    "SEEN",
    "CAPACITY",
    "OLDEST WAIT",
    "IN FLIGHT",
    "SOURCE",
)
NAME_WIDTH: Final = 21
"""The length of ``192.168.100.100:11434``: names that are cut further look alike."""
LAYOUT: Final = Layout(
    cut=tuple(map(HEADINGS.index, ("NAME", "LAST ERROR", "URL"))),
    leave_out=tuple(map(HEADINGS.index, LEAVE_OUT)),
    least={HEADINGS.index("NAME"): NAME_WIDTH},
)
PENDING_HEADINGS: Final = ("NAME", "APPROVAL", "TYPE", "URL", "SOURCE", "HOST", "FIRST SEEN", "NOT RECOGNISED")
PENDING_LAYOUT: Final = Layout(
    # Never the URL: whether a server is trusted depends on its address and port.
    cut=tuple(map(PENDING_HEADINGS.index, ("NAME", "NOT RECOGNISED", "HOST"))),
    leave_out=tuple(map(PENDING_HEADINGS.index, ("FIRST SEEN", "SOURCE", "HOST", "NOT RECOGNISED"))),
    least={PENDING_HEADINGS.index("NAME"): NAME_WIDTH},
)


def backend_table(rows: Iterable[Row]) -> str:
    """Return *rows* of ``/admin/backends`` as a table."""
    cells = [*map(_cells, rows)]
    return table([HEADINGS, *cells], layout=LAYOUT) if cells else "no backends"


def pending_table(rows: Iterable[Row]) -> str:
    """Return the servers that are not in the fleet, of which there must be at least one, as a table."""
    heading = "not in the fleet: `nexus-proxy backends approve NAME` adds one"
    return f"{heading}\n{table([PENDING_HEADINGS, *map(_pending_cells, rows)], layout=PENDING_LAYOUT)}"


def _cells(row: Row) -> tuple[str, ...]:
    latency = "" if row["avg_latency_ms"] is None else f"{row['avg_latency_ms']}ms"
    return (
        row["name"],
        _status(row),
        row["backend_type"],
        row["zone"],
        str(row["tier"]),
        f"{row['pending_requests']}/{row['max_in_flight']}",
        _capacity(row),
        f"{row['oldest_unanswered_s']:.0f}s" if row["oldest_unanswered_s"] >= 1 else "",
        latency,
        str(len(row["models"])),
        ", ".join(SOURCES.get(source, source) for source in (row["discovery_source"], *row.get("also_found_by", ()))),
        _age(row.get("joined_at")),
        _seen(row),
        row["url"],
        row["misconfigured"] or row["last_error"] or _staleness(row),
    )


def _capacity(row: Row) -> str:
    """Return how many requests it works on at once, and in a word how that is known; empty if it is not."""
    if row.get("capacity") is None:
        return ""
    return f"{row['capacity']:.0f} {row['capacity_source'].split()[0]}"


def _seen(row: Row) -> str:
    """Return how long ago its discoverer saw the backend; empty when it has no discoverer."""
    if row.get("last_seen") is None:
        return ""
    return f"{_age(row['last_seen'])} ago{', stale' if row['is_stale'] else ''}"


def _age(instant: str | None) -> str:
    return "" if instant is None else age(instant)


def _staleness(row: Row) -> str:
    """Return why the address of a backend may be out of date, empty when it is not."""
    since = row.get("address_stale_since")
    return f"its name has not been looked up for {_age(since)}: last good addresses in use" if since else ""


def _status(row: Row) -> str:
    if row["misconfigured"]:
        return f"{row['status']}, misconfigured"
    status = f"{row['status']}, busy" if row["is_busy"] else str(row["status"])
    return status if row["breaker"] == "closed" else f"{status}, breaker {row['breaker']}"


def _pending_cells(row: Row) -> tuple[str, ...]:
    # The kind of a rejected server is not detected.
    is_explained = row["backend_type"] is None and row["trust"] != "rejected"
    return (
        row["name"],
        row["trust"],
        row["backend_type"] or "unknown",
        row["url"],
        row["discovery_source"],
        row["host"],
        f"{age(row['first_seen'])} ago",
        (row["last_error"] or "not asked yet") if is_explained else "",
    )


def file_lines(rows: Iterable[Row], now: datetime | None = None) -> str:
    """Return the watched files *rows* of ``/admin/backends``, each with its backends, its age and its error."""
    moment = now or datetime.now(UTC)
    return "\n".join(line for row in rows for line in _lines(row, moment))


def _lines(row: Row, now: datetime) -> list[str]:
    names = ", ".join(row["backends"]) or "no backends"
    read = f" (read {age(row['read_at'], now)} ago)" if row["read_at"] else ""
    lines = [f"{row['path']}: {names}{read}"]
    if row["ignored"]:
        lines.append(
            f"  not in the fleet, for another backend has the name or the address: {', '.join(row['ignored'])}"
        )
    if row["failure"]:
        lines.append(f"  not used as it is now, since {age(row['failed_at'], now)}: {row['failure']}")
    return lines


def age(instant: str, now: datetime | None = None) -> str:
    """Return how long ago *instant* was, in one unit; 0 when the clock of this machine is behind the proxy's."""
    seconds = max(0, int(((now or datetime.now(UTC)) - datetime.fromisoformat(instant)).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
