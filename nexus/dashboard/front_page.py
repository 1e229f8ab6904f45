"""``/`` in a browser: one row per backend, readable without a script."""

from datetime import timedelta
from html import escape
from string import Template
from types import MappingProxyType
from typing import Final

from nexus.admin.health import count, health_word
from nexus.admin.page import NEVER_STALE
from nexus.domain.backend import Backend
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.routes import Page

# Names of models and backends are untrusted. They are escaped, and if one ever is not, only our own scripts may run.
SAFE_HTML: Final = MappingProxyType(
    {
        **NEVER_STALE,
        "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
    }
)


def status_page(template: str, snapshot: FleetSnapshot, *, uptime_s: float, now_unix_s: float) -> Page:
    """Fill ``$summary`` and ``$rows`` of *template*, the dashboard's ``index.html``."""
    rows = "\n".join(_row(backend, now_unix_s) for backend in snapshot.backends) or _NO_ROWS
    html = Template(template).substitute(summary=escape(_summary(snapshot, uptime_s)), rows=rows)
    return Page(200, "text/html; charset=utf-8", html.encode(errors="replace"), SAFE_HTML)


def locked_page(template: str) -> Page:
    """Fill *template* for a client without a key: without any content."""
    html = Template(template).substitute(summary="A key is needed to look at this proxy", rows="")
    return Page(200, "text/html; charset=utf-8", html.encode(), SAFE_HTML)


_NO_ROWS: Final = '<tr><td colspan="7">No backends configured</td></tr>'


def _summary(snapshot: FleetSnapshot, uptime_s: float) -> str:
    counts = count(snapshot)
    return (
        f"{health_word(counts)}: {counts.healthy} of {counts.total} backends, {len(snapshot.models)} models,"
        f" up {timedelta(seconds=int(uptime_s))}"
    )


def _row(backend: Backend, now_unix_s: float) -> str:
    latency = "" if backend.load.latency_ms is None else f"{backend.load.latency_ms} ms"
    checked = "never" if backend.last_check_at is None else f"{max(0, round(now_unix_s - backend.last_check_at))} s ago"
    cells = (
        backend.kind.name,
        f"{backend.load.everywhere} of {backend.max_in_flight}",
        latency,
        checked,
        ", ".join(sorted(backend.models)) or "none",
    )
    return (
        f'<tr><th scope="row" title="{escape(backend.url)}">{escape(backend.name)}</th>'
        f'<td><span class="status {escape(backend.status)}" title="{escape(backend.last_error or "")}">'
        f"{escape(backend.status)}{' (busy)' if backend.is_busy else ''}</span></td>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )
