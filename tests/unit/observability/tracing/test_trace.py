"""An exchange continues its client's trace, and passes the trace on to backends."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.observability.tracing.trace import Tracer
from nexus.testing.builders import make_backend, make_outcome

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def begin(*headers, sample_ratio=1.0):
    """Return the trace of a request with *headers*, and the list of what it hands over."""
    ended = []
    lines = [(name, b"%b: %b\r\n" % (name, value.encode())) for name, value in headers]
    return Tracer(ended.append, sample_ratio=sample_ratio).begin(lines), ended


def traceparent(text):
    return (b"traceparent", text)


def test_without_a_parent_a_trace_begins():
    trace, _ = begin()

    assert re.fullmatch("[0-9a-f]{32}", trace.trace_id)
    assert re.fullmatch("[0-9a-f]{16}", trace.span_id)
    assert (trace.parent_id, trace.is_sampled, trace.state) == (None, True, b"")


def test_the_trace_of_the_client_is_continued():
    trace, _ = begin(traceparent(f"00-{TRACE}-{PARENT}-01"), (b"tracestate", "a=1"), (b"tracestate", "b=2"))

    assert (trace.trace_id, trace.parent_id, trace.state) == (TRACE, PARENT, b"a=1,b=2")
    assert trace.span_id != PARENT


@pytest.mark.parametrize(("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("03", True)])
@pytest.mark.parametrize("sample_ratio", [0.0, 1.0])
def test_the_client_decides_whether_it_is_sampled(flags, is_sampled, sample_ratio):
    trace, _ = begin(traceparent(f"00-{TRACE}-{PARENT}-{flags}"), sample_ratio=sample_ratio)

    assert trace.is_sampled is is_sampled


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "00",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
    ],
)
def test_an_invalid_parent_is_ignored_with_its_state(wrong):
    trace, _ = begin(traceparent(wrong), (b"tracestate", "a=1"))

    assert trace.trace_id != TRACE
    assert (trace.parent_id, trace.state) == (None, b"")


def test_two_parents_are_ignored():
    one = traceparent(f"00-{TRACE}-{PARENT}-01")

    assert begin(one, one)[0].parent_id is None


def test_a_later_version_is_read_as_far_as_possible():
    assert begin(traceparent(f"01-{TRACE}-{PARENT}-01-more"))[0].parent_id == PARENT


@given(st.binary(max_size=80))
def test_no_header_breaks_it(value):
    trace = Tracer(lambda _: None, sample_ratio=1.0).begin([(b"traceparent", b"traceparent: " + value)])

    assert len(trace.trace_id) == 32


def test_the_sampled_share_is_about_the_configured_one():
    tracer = Tracer(lambda _: None, sample_ratio=0.25)

    sampled = sum(tracer.begin([]).is_sampled for _ in range(4000))

    assert 800 < sampled < 1200


def test_a_backend_gets_the_span_of_its_attempt():
    trace, _ = begin(traceparent(f"00-{TRACE}-{PARENT}-01"), (b"tracestate", "a=1"))
    trace.attempt(make_backend("gpu-1"), 1.0)
    first = trace.lines()
    trace.attempt(make_backend("gpu-2"), 2.0)

    one, two = (attempt.span_id for attempt in trace.attempts)
    assert first == f"traceparent: 00-{TRACE}-{one}-01\r\ntracestate: a=1\r\n".encode()
    assert two.encode() in trace.lines()
    assert one != two


def test_a_backend_gets_the_flag_of_a_trace_that_is_not_sampled():
    trace, _ = begin(sample_ratio=0.0)
    trace.attempt(make_backend(), 1.0)

    assert trace.lines().endswith(b"-00\r\n")


def test_an_ended_exchange_is_handed_over_with_its_phases():
    trace, ended = begin()

    trace.end(make_outcome(), [("receive", 1.0), ("route", 1.5)], 2.0)

    (record,) = ended
    assert [(visit.phase, visit.began_at) for visit in record.visits] == [
        ("receive", 1.0),
        ("route", 1.5),
        ("settle", 2.0),
    ]
    assert [visit.ended_at for visit in record.visits[:2]] == [1.5, 2.0]


def test_an_exchange_that_is_not_sampled_is_not_handed_over():
    trace, ended = begin(sample_ratio=0.0)

    trace.end(make_outcome(), [("receive", 1.0)], 2.0)

    assert ended == []
