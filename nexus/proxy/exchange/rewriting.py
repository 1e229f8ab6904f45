"""Changes the one value in a body that differs between client and backend: the name of the model."""

from collections.abc import Callable

from nexus.domain.request import Endpoint
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.headers.from_client import Head
from nexus.wire.requests import multipart
from nexus.wire.requests.model_field import insert_model, replace_model
from nexus.wire.responses.model_name import restore_in_document, restore_in_events


def body_for(attempt: Attempt, endpoint: Endpoint, head: Head, body: bytes, requested: str) -> bytes:
    """Return *body* as it is sent to a backend that is asked for another name than *requested*: no other byte changes.

    :param requested: the model that the client named; empty when it named none.
    """
    model = attempt.reserved.model
    if requested:
        attempt.is_renamed = model != attempt.backend.own_name(requested)
        if not attempt.is_renamed:
            return body
        if endpoint.body == "multipart":
            return multipart.replace_model(body, head.content_type, model)
        return replace_model(body, model)
    if not body or not _lacks_name(attempt, endpoint):
        return body
    if endpoint.body == "multipart":
        return multipart.insert_model(body, head.content_type, model)
    return insert_model(body, model)


def _lacks_name(attempt: Attempt, endpoint: Endpoint) -> bool:
    """Whether the backend has to be told the model of a request that names none."""
    backend = attempt.backend
    if not attempt.reserved.model or endpoint.model not in ("body", "maybe"):
        return False
    return len(backend.models) > 1 or (endpoint.model == "body" and backend.kind.needs_model_name)


def event_restorer(attempt: Attempt, requested: str) -> Callable[[bytes], bytes] | None:
    """Return what puts the name that the client used back into the events of a stream; None when nothing has to."""
    if attempt.response.mode != "events" or not _keeps_name(attempt):
        return None
    sent = attempt.reserved.model
    return lambda events: restore_in_events(events, sent, requested)


def restored(body: bytes, attempt: Attempt, requested: str) -> bytes:
    """Return a whole answer with the name that the client used; that of a fallback is left as it is."""
    return restore_in_document(body, attempt.reserved.model, requested) if _keeps_name(attempt) else body


def _keeps_name(attempt: Attempt) -> bool:
    """Whether the answer carries the name that the client used: that of an alias, which is the same model.

    A fallback is another model, and the answer names the one that made it.
    """
    return attempt.is_renamed and attempt.reserved.fallback_model is None
