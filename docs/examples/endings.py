"""Counts how requests end, and shows it at ``/admin/endings``."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.api import AdminReply, AdminRoute, ExchangeOutcome, hookimpl


@hookimpl
def nexus_exchange_finished(outcome: ExchangeOutcome, state: dict[str, Any]) -> None:
    # In the state, so that a reload keeps it. There are few endings, so it stays small.
    state.setdefault("endings", Counter())[outcome.ending] += 1


@hookimpl
def nexus_routes(state: dict[str, Any]) -> list[AdminRoute]:
    def respond(query: Mapping[str, str]) -> AdminReply:
        del query
        return 200, "application/json", msgspec.json.encode(state.get("endings", {}))

    return [AdminRoute("/", respond)]
