"""The inquiry of one request, made of what is known of it."""

from nexus.domain.request import Kept, Requirements
from nexus.proxy.client.incoming import Admission
from nexus.proxy.exchange.context import DataPlane
from nexus.proxy.exchange.failover import Inquiry
from nexus.proxy.exchange.record import Record
from nexus.proxy.exchange.retry import Retries


def begin_inquiry(  # noqa: PLR0913 - what is known of one request
    plane: DataPlane,
    admission: Admission,
    record: Record,
    body: bytes,
    requirements: Requirements,
    kept: Kept | None = None,
) -> Inquiry:
    """Return the inquiry of one request, before any backend is asked."""
    config, head = admission.settings.config, admission.head
    server = config.server
    limit_s = server.stream_timeout_seconds if requirements.is_stream else server.request_timeout_seconds
    routing = admission.settings.router.begin(
        request_id=record.request_id,
        endpoint=admission.endpoint,
        requirements=requirements,
        headers=head.hints,
        received_unix_s=record.received_unix_s,
        client_request_id=record.client_request_id,
        key_digest=admission.key_digest,
        kept=kept,
    )
    if head.hints and routing.request.wants_explanation:
        plane.decisions.add_with_facts(routing.record)
        record.decision_line = b"X-Nexus-Decision-Id: %b\r\n" % record.request_id.encode()
    else:
        plane.decisions.add(routing.record)
    retries = Retries(max_retries=config.routing.max_retries, budget=plane.budget)
    deadline = record.began_at + limit_s
    return Inquiry(plane, admission, record, body, requirements, deadline, routing, retries, kept=kept)
