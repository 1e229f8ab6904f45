"""Decides about a request without sending it, and tries the translation that the decision needs."""

from nexus.domain.fleet import FleetSnapshot
from nexus.errors import RequestError
from nexus.proxy.exchange.translating import NOT_TRANSLATABLE, converted
from nexus.routing.decision import Reject, Reserved
from nexus.routing.decision_record import Request
from nexus.routing.explain.build import DryRun, Source, as_explanation
from nexus.routing.explain.model import Explanation
from nexus.routing.router import Router


async def explained(  # noqa: PLR0913 - what is known of one request
    router: Router,
    request: Request,
    body: bytes,
    snapshot: FleetSnapshot,
    *,
    source: Source = "proxy",
    instead_of_waiting: Reject | None = None,
) -> Explanation:
    """Return what *router* would decide now about *request*, whose body is *body*, and why.

    :param instead_of_waiting: the rejection when all backends are at their limit; None when the request may wait.
    :raises RequestError: the request is invalid for whatever backend it is translated.
    """
    dry_run = DryRun(router, request)
    lost: tuple[str, ...] = ()
    while isinstance(decision := dry_run.decide(snapshot), Reserved) and decision.translated_to is not None:
        try:
            lost = (await converted(request, body, decision, decision.translated_to)).lost
        except RequestError as exc:
            if exc.code != NOT_TRANSLATABLE:
                raise
            dry_run.record.note_untranslatable(exc.message, exc.param)
        else:
            break
    return as_explanation(dry_run.record, source=source, instead_of_waiting=instead_of_waiting, untranslated=lost)
