"""A thread exports spans without delaying requests, and counts those that are lost."""

import threading
import time

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from nexus.observability.tracing import writing as span_writing
from nexus.observability.tracing.writing import SpanWriter


class Exporter(SpanExporter):
    """Takes spans, does what it is told with them, and can be made to wait."""

    def __init__(self, result=SpanExportResult.SUCCESS):
        self.spans = []
        self.result = result
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_shut_down = False

    def export(self, spans):
        self.may_go_on.wait(10)
        if isinstance(self.result, Exception):
            raise self.result
        self.spans += spans
        return self.result

    def shutdown(self):
        self.is_shut_down = True


def twice(ended):
    return [ended, ended]


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(span_writing, "GATHER_S", 0.01)


def outcome_of(writer):
    return writer.counts.exported, writer.counts.failed, writer.counts.dropped


def test_the_queue_is_exported_before_the_stop():
    exporter = Exporter()
    writer = SpanWriter(exporter, twice)
    for number in range(200):
        writer.put(number)

    writer.stop(5.0)

    assert sorted(exporter.spans) == sorted([*range(200)] * 2)
    assert outcome_of(writer) == (200, 0, 0)
    assert exporter.is_shut_down


def test_a_collector_that_does_not_answer_costs_limited_memory_and_no_time():
    exporter = Exporter()
    exporter.may_go_on.clear()
    writer = SpanWriter(exporter, twice)

    for number in range(span_writing.MAX_WAITING + 500):
        writer.put(number)

    assert 0 < writer.counts.dropped <= 500
    began = time.monotonic()
    writer.stop(0.1)
    assert time.monotonic() - began < 2
    exporter.may_go_on.set()


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, ValueError("canary")])
def test_spans_that_the_collector_refuses_are_counted_and_logged_once(result):
    with capture_logs() as lines:
        writer = SpanWriter(Exporter(result), twice)
        for number in range(200):
            writer.put(number)
        writer.stop(5.0)

    assert outcome_of(writer) == (0, 200, 0)
    assert [line["event"] for line in lines] == ["spans_not_exported"]
