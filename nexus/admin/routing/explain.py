"""Answers ``/v1/route/explain``: routes a request without sending it."""

import time
from collections.abc import Callable, Mapping
from math import inf

import msgspec
from msgspec.structs import replace

from nexus.admin.openapi.operation import OPTIONAL_MODEL, DescribedRoute, Operation, Parameter
from nexus.admin.page import json_page
from nexus.config.schema import QueueConfig
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.priorities import PRIORITIES, rank_of
from nexus.domain.routes import Page, PageRequest
from nexus.proxy.client.access import AccessRules
from nexus.proxy.client.body import understand
from nexus.proxy.dispatch.explained_path import EXPLAIN_PATH, explained_endpoint
from nexus.proxy.exchange.dry_run import explained
from nexus.proxy.exchange.rejection import rejection
from nexus.proxy.exchange.slot_wait import longest_wait_s
from nexus.proxy.waiting.claim import Claim
from nexus.proxy.waiting.request_queue import RequestQueue
from nexus.routing.decision import Reject, Reserved
from nexus.routing.decision_record import Request
from nexus.routing.explain.model import Explanation, WaitReport
from nexus.routing.rejections import no_model_named
from nexus.routing.router import Router
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS
from nexus.wire.requests.prompt_blocks import Marking


class Explainer(msgspec.Struct, frozen=True):
    """Routes a request against the current fleet and explains the decision."""

    router: Router
    snapshot: Callable[[], FleetSnapshot]
    config: QueueConfig
    access: AccessRules
    queue: "RequestQueue[Reserved]"

    def route(self) -> DescribedRoute:
        """Return ``/v1/route/explain``."""
        return DescribedRoute(
            path=EXPLAIN_PATH,
            methods=frozenset({"POST"}),
            respond=self.respond,
            takes_requests=True,
            operation=Operation(
                summary="What would be decided about a request, and why; its body is the request's",
                answers=(Explanation,),
                refusals=(400, 413, 415),
                query=(
                    Parameter(
                        "endpoint",
                        "For which endpoint, by its path or its name; else the chat of the client's protocol.",
                        {"enum": sorted([*ENDPOINTS, *(endpoint.name for endpoint in ENDPOINTS.values())])},
                    ),
                ),
                body=OPTIONAL_MODEL,
            ),
        )

    async def respond(self, page_request: PageRequest) -> Page:
        """Explain the request in the body of *page_request*.

        :raises RequestError: the request itself would be refused with this error.
        """
        endpoint = explained_endpoint(page_request.query, is_anthropic=page_request.is_anthropic)
        snapshot = self.snapshot()
        protocol, is_wanted = PROTOCOLS[endpoint.protocol], self.router.marks_wanted(snapshot)
        marking = None if is_wanted is None else Marking((), is_wanted)
        requirements = await understand(protocol, endpoint, page_request, page_request.body, marking=marking)
        if not requirements.model and self.router.resolve_nameless(endpoint, None, snapshot) is None:
            raise rejection(no_model_named(snapshot))
        received_unix_s = time.time()  # noqa: TID251 - an instant for people and policies, not a duration
        request = Request(
            page_request.request_id,
            endpoint,
            requirements,
            page_request.hints,
            received_unix_s,
            page_request.client_request_id,
        )
        claim = self._claim(page_request)
        instead = self._instead_of_waiting(claim)
        found = await explained(self.router, request, page_request.body, snapshot, instead_of_waiting=instead)
        if found.decision.decision == "queue":
            wait = self._wait(claim, frozenset(found.decision.full), page_request.hints)
            last = replace(found.rounds[-1], decision=replace(found.decision, wait=wait))
            found = replace(found, rounds=(*found.rounds[:-1], last), decision=last.decision)
        return json_page(found)

    def _claim(self, request: PageRequest) -> Claim:
        client = self.access.client_of(request.key_digest, "")
        rank = rank_of(request.hints.get("x-nexus-priority", ""), client.max_priority)
        return Claim(client=client.id, rank=rank, size_bytes=len(request.body))

    def _instead_of_waiting(self, claim: Claim) -> Reject | None:
        if not self.config.enabled:
            return Reject("overloaded", "every backend is at its limit", retry_after_s=1)
        if not self.queue.has_room_for(claim):
            return Reject("queue_full", "every backend is at its limit and the queue is full (queue.max_size)")
        return None

    def _wait(self, claim: Claim, backends: frozenset[str], hints: Mapping[str, str]) -> WaitReport:
        forecast = self.queue.forecast(claim, backends)
        limit_s, limit = self.queue.limit_of(inf, longest_wait_s(hints.get("x-nexus-queue-timeout", "")))
        return WaitReport(
            priority=PRIORITIES[claim.rank],
            position=forecast.ahead + 1,
            expected_wait_s=round(forecast.expected_s, 3),
            is_measured=forecast.is_measured,
            limit_s=limit_s if limit else None,
            limited_by=limit or None,
        )
