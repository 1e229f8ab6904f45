"""An exchange has one span for itself and one per attempt and phase, named by OpenTelemetry's conventions."""

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind, StatusCode

from nexus.domain.outcome import Ending
from nexus.domain.request import TokenUsage
from nexus.observability.tracing.spans import SpanMaker, resource_of
from nexus.observability.tracing.trace import Ended, Tracer
from nexus.testing.builders import make_attempt, make_backend, make_outcome
from nexus.wire.protocols import ENDPOINTS

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RECEIVED_AT = 1_777_777_777.0
MAKER = SpanMaker(Resource({}), {endpoint.name: endpoint for endpoint in ENDPOINTS.values()})
PHASES = (("receive", 10.0), ("relay", 10.1))


def spans_of(*attempts, backends=None, headers=(), **fields):
    trace = Tracer(lambda _: None, sample_ratio=1.0).begin(headers)
    for number, attempt in enumerate(attempts):
        trace.attempt((backends or {}).get(attempt.backend, make_backend(attempt.backend)), 10.0 + number)
    outcome = make_outcome(*attempts, received_at=RECEIVED_AT, **fields)
    return MAKER.spans_of(Ended(trace, outcome, PHASES, settling_since=11.0, ended_at=11.25))


def kinds(spans, kind):
    return [span for span in spans if span.kind is kind]


def test_each_exchange_attempt_and_phase_has_its_span():
    own, *children = spans_of(make_attempt("gpu-1", ending=Ending.BACKEND_FAILED, fault="reset"), make_attempt("gpu-2"))

    assert (own.name, own.kind) == ("chat llama3", SpanKind.SERVER)
    assert [(span.name, span.kind) for span in children] == [
        ("chat llama3", SpanKind.CLIENT),
        ("chat llama3", SpanKind.CLIENT),
        ("receive", SpanKind.INTERNAL),
        ("relay", SpanKind.INTERNAL),
        ("settle", SpanKind.INTERNAL),
    ]
    assert {span.parent.span_id for span in children} == {own.context.span_id}
    assert len({span.context.span_id for span in (own, *children)}) == 6
    assert len({span.context.trace_id for span in (own, *children)}) == 1


def test_spans_have_the_times_of_the_exchange():
    own, attempt, receive, *_ = spans_of(make_attempt(duration_s=0.5))

    assert (own.start_time, own.end_time) == (1_777_777_777_000_000_000, 1_777_777_778_250_000_000)
    assert (attempt.start_time, attempt.end_time) == (1_777_777_777_000_000_000, 1_777_777_777_500_000_000)
    assert receive.end_time == 1_777_777_777_100_000_000


def test_the_span_of_the_client_is_the_parent():
    own, *_ = spans_of(headers=[(b"traceparent", f"traceparent: 00-{TRACE}-{PARENT}-01".encode())])

    assert f"{own.context.trace_id:032x}" == TRACE
    assert f"{own.parent.span_id:016x}" == PARENT
    assert own.parent.is_remote


def test_a_trace_that_begins_here_has_no_parent():
    assert spans_of()[0].parent is None


def test_attributes_follow_the_conventions():
    cloud = make_backend("cloud-1", kind="openai", url="https://api.example:8443/base")
    usage = TokenUsage(10, 20)
    attempt = make_attempt("cloud-1", model="gpt-4o", usage=usage, is_stream=True)

    own, asked, *_ = spans_of(attempt, backends={"cloud-1": cloud}, model="smart", first_byte_s=0.2)

    assert dict(own.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.request.body.size": 800,
        "http.response.status_code": 200,
        "http.response.body.size": 2000,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "smart",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.response.time_to_first_chunk": 0.2,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "server.address": "api.example",
        "server.port": 8443,
        "nexus.request_id": "test",
        "nexus.endpoint": "openai.chat",
        "nexus.backend": "cloud-1",
        "nexus.ending": "finished",
        "nexus.result": "finished",
        "nexus.termination": "--",
        "nexus.route_reason": "capability-match",
    }
    assert asked.attributes["gen_ai.request.model"] == "gpt-4o"
    assert (asked.attributes["server.address"], asked.attributes["gen_ai.provider.name"]) == ("api.example", "openai")


def test_what_the_client_calls_its_request_is_an_attribute():
    own, *_ = spans_of(make_attempt(), client_request_id="mine")

    assert own.attributes["nexus.client_request_id"] == "mine"


def test_a_second_attempt_has_a_resend_count():
    first, second = kinds(spans_of(make_attempt("a", fault="reset"), make_attempt("b")), SpanKind.CLIENT)

    assert "http.request.resend_count" not in first.attributes
    assert second.attributes["http.request.resend_count"] == 1


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("openai.completions", "text_completion llama3"),
        ("ollama.generate", "text_completion llama3"),
        ("openai.embeddings", "embeddings llama3"),
        ("anthropic.messages", "chat llama3"),
    ],
)
def test_operations_follow_the_conventions(endpoint, name):
    assert spans_of(make_attempt(), endpoint=endpoint)[0].name == name


def test_every_endpoint_has_spans():
    assert {spans_of(endpoint=endpoint.name, model=None)[0].name for endpoint in ENDPOINTS.values()} >= {"chat"}


@pytest.mark.parametrize(
    ("fields", "error", "is_failed"),
    [
        ({"ending": Ending.FINISHED, "status": 200, "code": None}, None, False),
        ({"ending": Ending.FINISHED, "status": 422, "code": None}, "422", False),
        ({"ending": Ending.FINISHED, "status": 500, "code": None}, "500", True),
        ({"ending": Ending.REJECTED, "status": 503, "code": "overloaded"}, "overloaded", True),
        ({"ending": Ending.REJECTED, "status": 404, "code": "model_not_found"}, "model_not_found", False),
        ({"ending": Ending.BAD_REQUEST, "status": 400, "code": "invalid_json"}, "invalid_json", False),
        ({"ending": Ending.CLIENT_LEFT, "status": 499, "code": None}, "client_left", False),
        ({"ending": Ending.BACKEND_FAILED, "status": 200, "code": "upstream_error"}, "upstream_error", True),
    ],
)
def test_errors_have_a_type_and_fail_the_span_unless_the_client_caused_them(fields, error, is_failed):
    own, *_ = spans_of(make_attempt(), **fields)

    assert own.attributes.get("error.type") == error
    assert (own.status.status_code is StatusCode.ERROR) is is_failed


def test_a_failed_attempt_is_an_error_even_when_the_exchange_is_none():
    own, failed, good, *_ = spans_of(
        make_attempt("a", ending=Ending.BACKEND_FAILED, fault="status", status=503), make_attempt("b")
    )

    assert (failed.attributes["error.type"], failed.status.status_code) == ("status", StatusCode.ERROR)
    assert StatusCode.ERROR not in (own.status.status_code, good.status.status_code)


def test_a_long_name_is_cut():
    assert len(spans_of(model="m" * 9000)[0].name) == 256


def test_the_service_has_the_name_that_it_is_given(monkeypatch):
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    assert resource_of(None).attributes["service.name"] == "nexus-proxy"

    monkeypatch.setenv("OTEL_SERVICE_NAME", "of-the-environment")
    assert resource_of(None).attributes["service.name"] == "of-the-environment"
    assert resource_of("of-the-file").attributes["service.name"] == "of-the-file"
