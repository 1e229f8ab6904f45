"""Rules of the metrics that hold for whatever names a fleet has and whatever requests come."""

import asyncio
import re
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of
from prometheus_client.parser import text_string_to_metric_families as metrics_of

from nexus.admin.metrics.fleet import FleetMetrics
from nexus.admin.metrics.page import MetricsPage
from nexus.domain.outcome import Ending
from nexus.domain.request import TokenUsage
from nexus.domain.routes import PageRequest
from nexus.fleet.loads.counts import ReadCounts
from nexus.fleet.probing.counts import ProbeCounts
from nexus.observability.metrics import merging, totals
from nexus.observability.metrics.exchanges import ExchangeMetrics
from nexus.observability.metrics.label_values import sanitized
from nexus.observability.metrics.totals import Totals, totals_of
from nexus.testing.builders import make_attempt, make_backend, make_fleet, make_outcome
from nexus.workers.peers import Answer, Answers

# No backend may be called none: it stands for nobody.
NAMES = st.text(min_size=1, max_size=12).filter(lambda name: name.lower() != "none")
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


@given(st.text(max_size=20))
def test_a_sanitised_name_is_an_identifier_and_stays_it(name):
    plain = sanitized(name)

    assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", plain)
    assert sanitized(plain) == plain


@given(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True))
def test_an_identifier_is_left_as_it_is(name):
    assert sanitized(name) == name


def page(metrics, fleet, accept="", *, sanitizes_labels=False):
    """The page, read back: the value of each sample, by name and labels."""
    return read_page(MetricsPage(sources_of(metrics, fleet), sanitizes_labels=sanitizes_labels), accept)


def sources_of(metrics, fleet):
    return metrics.families, FleetMetrics(lambda: fleet, ProbeCounts(), ReadCounts()).families


def read_page(respond, accept=""):
    text = asyncio.run(respond(PageRequest(method="GET", path="/metrics", accept=accept))).body.decode()
    parse = openmetrics_of if accept else metrics_of
    return [(s.name, tuple(sorted(s.labels.items())), s.value) for family in parse(text) for s in family.samples]


@st.composite
def attempts(draw, backends, models):
    is_stream, status = draw(st.booleans()), draw(st.sampled_from([200, 400, 404, 503, None]))
    return make_attempt(
        draw(st.sampled_from(backends)),
        model=draw(st.sampled_from(models)),
        status=status,
        ending=Ending.FINISHED if status and status < 500 else Ending.BACKEND_FAILED,
        fault="refused" if status is None else "status" if status >= 500 else None,
        is_stream=is_stream,
        last_content_s=draw(st.floats(0.1, 9)) if is_stream else None,
        usage=draw(st.none() | st.builds(TokenUsage, st.integers(0, 99), st.integers(0, 99))),
    )


@st.composite
def traffic(draw):
    """A fleet and what it has carried, with histograms of either kind."""
    models = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    backends = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    fleet = make_fleet(*(make_backend(name, models=models) for name in backends))
    tried = st.lists(attempts(backends, models), max_size=3)
    asked = st.sampled_from(models) | NAMES
    outcomes = [make_outcome(*draw(tried), model=draw(asked)) for _ in range(draw(st.integers(0, 8)))]
    metrics = ExchangeMetrics(lambda: fleet)
    metrics.count_pairs(times=draw(st.booleans()))
    for outcome in outcomes:
        metrics.observe(outcome)
    return fleet, metrics, outcomes


@settings(max_examples=40, deadline=None)
@given(traffic(), st.booleans(), st.sampled_from(["", OPENMETRICS]))
def test_both_parsers_read_the_page_and_find_no_series_twice(carried, sanitizes_labels, accept):
    fleet, metrics, _ = carried

    read = page(metrics, fleet, accept, sanitizes_labels=sanitizes_labels)

    counts = Counter((name, labels) for name, labels, _ in read)
    assert [series for series, count in counts.items() if count > 1] == []


@settings(max_examples=40, deadline=None)
@given(traffic(), st.booleans())
def test_every_request_and_every_attempt_is_counted_once(carried, sanitizes_labels):
    fleet, metrics, outcomes = carried

    read = page(metrics, fleet, sanitizes_labels=sanitizes_labels)

    def total(name, **labels):
        return sum(value for sample, its, value in read if sample == name and labels.items() <= dict(its).items())

    assert total("nexus_requests_total") == len(outcomes)
    assert total("nexus_request_duration_seconds_count") == len(outcomes)
    assert total("nexus_backend_request_duration_seconds_count") == sum(bool(o.attempts) for o in outcomes)
    durations_s = sum(outcome.duration_s for outcome in outcomes)
    assert total("nexus_request_duration_seconds_sum") == pytest.approx(durations_s)
    assert total("nexus_endpoint_requests_total") == len(outcomes)
    assert total("nexus_requests_total", status="404") == sum(o.status == 404 for o in outcomes)
    assert total("nexus_attempts_total") == sum(len(o.attempts) for o in outcomes)
    assert total("nexus_retries_total") == sum(max(0, len(o.attempts) - 1) for o in outcomes)
    faults = [attempt.fault for outcome in outcomes for attempt in outcome.attempts if attempt.fault]
    assert total("nexus_attempt_failures_total") == len(faults)
    usages = [outcome.usage for outcome in outcomes if outcome.usage]
    assert total("nexus_tokens_total", type="completion") == sum(usage.completion_tokens for usage in usages)


@settings(max_examples=40, deadline=None)
@given(traffic())
def test_names_come_from_the_fleet_alone(carried):
    fleet, metrics, _ = carried
    known = {*fleet.by_model, *(backend.name for backend in fleet.backends), "other", "none"}

    read = page(metrics, fleet)

    named = {v for _, labels, _ in read for k, v in labels if k in ("model", "backend", "from_model", "to_model")}
    assert named <= known


class Workers:
    """Other workers whose metrics are given; one answers late, and one has ended."""

    def __init__(self, parts, past):
        self.parts, self.past = parts, past

    def answers(self, *_):
        pass

    async def ask(self, *_, **__):
        answers = [
            Answer(str(number), msgspec.Raw(msgspec.msgpack.encode(await part())))
            for number, part in enumerate(self.parts, 1)
        ]
        left = [msgspec.Raw(msgspec.msgpack.encode(await part())) for part in self.past]
        folded = [Answer("", merging.fold(left), is_current=False)] if left else []
        return Answers("1", (*folded, *answers))


@settings(max_examples=40, deadline=None)
@given(traffic(), st.data(), st.booleans(), st.sampled_from(["", OPENMETRICS]))
def test_workers_together_show_what_one_process_would(carried, data, has_pair_times, accept):
    fleet, _, outcomes = carried
    count, past = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2))
    several = [ExchangeMetrics(lambda: fleet) for _ in range(1 + count + past)]
    for metrics in several:
        metrics.count_pairs(times=has_pair_times)
    alone, *apart = several
    for outcome in outcomes:
        alone.observe(outcome)
        data.draw(st.sampled_from(apart)).observe(outcome)
    parts = [MetricsPage(sources_of(metrics, fleet)).part for metrics in apart]
    peers = Workers(parts[:count], parts[count:])

    merged = values_of(MetricsPage((), peers=peers), accept)

    assert merged == pytest.approx(values_of(MetricsPage(sources_of(alone, fleet)), accept, answered=count))


def values_of(respond, accept, **changed):
    """The value of each sample, by name and labels."""
    values = {(name, labels): value for name, labels, value in read_page(respond, accept)}
    if "answered" in changed:
        values["nexus_workers_answered", ()] = changed["answered"]
    return values


@settings(max_examples=40, deadline=None)
@given(traffic(), st.data())
def test_the_totals_of_workers_add_up_to_those_of_one_process(carried, data):
    fleet, _, outcomes = carried
    alone, *apart = [ExchangeMetrics(lambda: fleet) for _ in range(4)]
    for outcome in outcomes:
        alone.observe(outcome)
        data.draw(st.sampled_from(apart)).observe(outcome)
    first, *others = map(totals_of, apart)

    folded = msgspec.msgpack.decode(
        totals.fold([msgspec.Raw(msgspec.msgpack.encode(each)) for each in others]), type=Totals
    )
    merged, expected = totals.merge((first, folded)), totals_of(alone)

    assert {name: counted(backend) for name, backend in merged.backends.items()} == {
        name: counted(backend) for name, backend in expected.backends.items()
    }
    assert {name: counted(model) for name, model in merged.models.items()} == {
        name: counted(model) for name, model in expected.models.items()
    }


def counted(figures):
    """The figures of one backend or model, without rounding errors of sums."""
    tally, *others = msgspec.structs.astuple(figures)
    return (
        dict(tally.statuses),
        round(tally.duration_s, 6),
        round(tally.first_content_s, 6),
        tally.first_contents,
        *others,
    )
