"""Reads whole answers of backends with the Responses API."""

from collections.abc import Sequence
from typing import Final

import msgspec

from nexus.translation.events import AnswerEvent, Start
from nexus.translation.responses.output_in import ResponseOut, events_of_item, last_events
from nexus.wire.documents import read

_UNFINISHED: Final = frozenset({"queued", "in_progress"})
_RESPONSE: Final = msgspec.json.Decoder(ResponseOut)


def decode_answer(body: bytes) -> Sequence[AnswerEvent]:
    """Return the events that *body* stands for. :raises ValueError: it is no answer, or has not ended."""
    response = read(_RESPONSE, body)
    if response is None or (not response.output and response.object != "response"):
        raise ValueError("the backend's answer is no response")
    if response.status in _UNFINISHED:
        raise ValueError(f"the backend's response is still {response.status}")
    events: list[AnswerEvent] = [Start(response.id or "", response.model or "")]
    for index, item in enumerate(response.items):
        events += events_of_item(index, item)
    return [*events, *last_events(response)]
