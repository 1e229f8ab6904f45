import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.wire.responses.model_name import restore_in_document, restore_in_events


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"model":"big"}', b'{"model":"fast"}'),
        (b'\n{ "id":1, "model" :\t"b\\u0069g" , "x":1.10}\n', b'\n{ "id":1, "model" :\t"fast" , "x":1.10}\n'),
        (b'{"model":"other"}', b'{"model":"other"}'),
        (b'{"input":{"model":"big"},"model":"big"}', b'{"input":{"model":"big"},"model":"fast"}'),
        (b'{"input":{"model":"big"}}', b'{"input":{"model":"big"}}'),
        (b'{"model":7}', b'{"model":7}'),
        (b'{"text":"\\"model\\":\\"big\\""}', b'{"text":"\\"model\\":\\"big\\""}'),
        (b'["model","big"]', b'["model","big"]'),
        (b'{"model":"big"', b'{"model":"big"'),
        (b'{"model":"big","model":"big"}', b'{"model":"big","model":"big"}'),
        (b"", b""),
    ],
)
def test_only_the_document_s_own_model_is_restored(before, after):
    assert restore_in_document(before, "big", "fast") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'data: {"model":"big"}\n\ndata: [DONE]\n\n', b'data: {"model":"fast"}\n\ndata: [DONE]\n\n'),
        (
            b'event: message_start\r\ndata: {"message":{ "model": "big" }}\r\n\r\n',
            b'event: message_start\r\ndata: {"message":{ "model": "fast" }}\r\n\r\n',
        ),
        (
            b'{"model":"big","message":{"tool_calls":[{"arguments":{"model":"big"}}]}}\n{"model":"big"}\n',
            b'{"model":"fast","message":{"tool_calls":[{"arguments":{"model":"big"}}]}}\n{"model":"fast"}\n',
        ),
        (b'data: {"model":"other"}\n\n', b'data: {"model":"other"}\n\n'),
        (b'data: "model":"\\q"\n\n', b'data: "model":"\\q"\n\n'),
    ],
)
def test_each_event_s_own_model_is_restored(before, after):
    assert restore_in_events(before, "big", "fast") == after


@given(st.binary(max_size=80), st.sampled_from([restore_in_document, restore_in_events]))
def test_an_answer_without_a_model_is_unchanged(noise, restore):
    assert restore(noise, "big", "fast") == noise


@given(st.lists(st.sampled_from([b"\n", b"\r", b"data: ", b'{"model":"big"}', b"x"]), max_size=12))
def test_no_line_of_events_is_lost(pieces):
    events = b"".join(pieces)

    restored = restore_in_events(events, "big", "fast")

    assert restored.replace(b"fast", b"big") == events
