"""What the log of a run promises: no defects, and one access line for each request."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from enduring.traffic import Sent
from tests.support.bookkeeping import DEFECTS

EXPECTED: Final = frozenset({"worker_ended", "exchange_finished"})
"""Errors that the run causes on purpose: the kill, and failures of backends."""
AROUND_S: Final = 1.5
"""Lines of requests that ended this shortly before a worker was killed may not have been written."""


def defects(text: str, lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what a log must not contain."""
    found = [line["event"] for line in lines if line["event"] in DEFECTS or "defect" in line["event"]]
    found += [
        f"{line['event']}: {line.get('reason') or line.get('error')}"
        for line in lines
        if line["level"] in {"error", "critical"} and line["event"] not in EXPECTED | DEFECTS
    ]
    found += [line[:200] for line in text.splitlines() if line and not line.startswith("{")]
    return [*found, *(["a traceback"] if "Traceback" in text else [])]


def wrongly_logged(
    sent: Mapping[str, Sent], lines: Sequence[Mapping[str, Any]], killed_at: float
) -> tuple[list[str], int]:
    """Return the requests that have not exactly one access line, and how many have none because of the kill."""
    logged = Counter(
        line.get("client_request_id", "a request without an id")
        for line in lines
        if line["event"] == "exchange_finished"
    )
    wrong, lost = [], 0
    for name, each in sent.items():
        if logged[name] == 1 or (not logged[name] and not each.is_sent and each.status is None):
            continue
        if not logged[name] and each.began <= killed_at + AROUND_S and each.ended >= killed_at - AROUND_S:
            lost += 1
        else:
            wrong.append(f"{name}: {logged[name]} lines, {each}")
    strangers = [name for name in logged if name not in sent]
    return wrong + [f"{name}: never sent" for name in strangers], lost
