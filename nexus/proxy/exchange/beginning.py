"""The inquiry of one request, made of what is known of it."""

from nexus.domain.request import Kept, Requirements
from nexus.proxy.client.incoming import IncomingRequest
from nexus.proxy.exchange.context import DataPlane, Settings
from nexus.proxy.exchange.failover import Failover
from nexus.proxy.exchange.record import Record
from nexus.proxy.exchange.retry import Retries


def begin_failover(  # noqa: PLR0913 - what is known of one request
    plane: DataPlane,
    settings: Settings,
    request: IncomingRequest,
    record: Record,
    body: bytes,
    requirements: Requirements,
    kept: Kept | None = None,
) -> Failover:
    """Return the inquiry of one request, before any backend is asked."""
    config, head = settings.config, request.head
    server = config.server
    limit_s = server.stream_timeout_seconds if requirements.is_stream else server.request_timeout_seconds
    routing = settings.router.begin(
        request_id=record.request_id,
        endpoint=request.endpoint,
        requirements=requirements,
        headers=head.hints,
        received_unix_s=record.received_unix_s,
        client_request_id=record.client_request_id,
        key_digest=request.key_digest,
        kept=kept,
    )
    if head.hints and routing.request.wants_explanation:
        plane.decisions.add_with_facts(routing.record)
        record.decision_line = b"X-Nexus-Decision-Id: %b\r\n" % record.request_id.encode()
    else:
        plane.decisions.add(routing.record)
    retries = Retries(max_retries=config.routing.max_retries, budget=plane.budget)
    deadline = record.began_at + limit_s
    return Failover(plane, settings, request, record, body, requirements, deadline, routing, retries, kept=kept)
