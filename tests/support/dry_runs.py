"""Explains what would be decided about a request that no backend needs translated."""

from typing import Any

from nexus.domain.fleet import FleetSnapshot
from nexus.routing.decision_record import Request
from nexus.routing.explain.build import DryRun, as_explanation
from nexus.routing.explain.model import Explanation
from nexus.routing.router import Router


def explain(router: Router, request: Request, snapshot: FleetSnapshot, **said: Any) -> Explanation:
    """Return what *router* would decide now; *said* goes to :func:`~nexus.routing.explain.build.as_explanation`."""
    dry_run = DryRun(router, request)
    dry_run.decide(snapshot)
    return as_explanation(dry_run.record, **{"source": "proxy", **said})
