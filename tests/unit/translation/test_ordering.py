"""What is kept back of an answer is limited."""

import pytest

from nexus.translation import ordering
from nexus.translation.events import End, Failure, TextPart, ThinkingPart, ToolArguments, ToolBegin
from nexus.translation.ordering import EVENT_CHARACTERS, Ordering


@pytest.mark.parametrize("event", [TextPart("12345"), ThinkingPart("12345"), ToolArguments(1, "12345")])
def test_an_answer_of_which_too_much_must_wait_fails(monkeypatch, event):
    monkeypatch.setattr(ordering, "MAX_HELD_CHARACTERS", 3 * (EVENT_CHARACTERS + 5))
    answer = Ordering("call_")
    answer.add([ToolBegin(0, "c", "f")])

    assert answer.add([event] * 3) == []
    (failure,) = answer.add([event, End()])
    assert (type(failure), failure.code) == (Failure, "event_too_large")


def test_the_open_call_has_no_limit(monkeypatch):
    monkeypatch.setattr(ordering, "MAX_HELD_CHARACTERS", 0)
    answer = Ordering("call_")
    answer.add([ToolBegin(0, "c", "f")])

    assert len(answer.add([ToolArguments(0, "12345")] * 9)) == 9
