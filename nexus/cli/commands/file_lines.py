"""How ``nexus-proxy backends`` shows the watched files: what each lists, how old that is, and what is wrong with it."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from nexus.cli.output.ages import age

Row = Mapping[str, Any]


def file_lines(rows: Iterable[Row], now: datetime | None = None) -> str:
    """Return what there is to say of the files *rows* of ``/admin/backends``."""
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
