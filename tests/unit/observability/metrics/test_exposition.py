"""Prometheus's parsers read the written text back, whatever the names."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_of
from prometheus_client.parser import text_string_to_metric_families as metrics_of

from nexus.observability.metrics.exposition import pieces
from nexus.observability.metrics.families import counter, gauge, histogram
from nexus.observability.metrics.histogram import Histogram, TracedHistogram

ODD = 'a\\b"c\nd{e}%s%%\x7fé'


def written(*families, is_openmetrics=False):
    return b"".join(pieces(families, is_openmetrics=is_openmetrics)).decode()


def samples(text):
    return {(s.name, tuple(s.labels.items())): s.value for family in metrics_of(text) for s in family.samples}


def test_a_number_is_one_line():
    text = written(gauge("nexus_queue_depth", "Waiting.", 3))

    assert text == "# HELP nexus_queue_depth Waiting.\n# TYPE nexus_queue_depth gauge\nnexus_queue_depth 3\n"


def test_a_counter_is_named_total_in_text_and_its_samples_in_openmetrics():
    things = counter("nexus_things", "Things.", {("a",): 2}, "kind")

    assert written(things).splitlines()[1:] == ["# TYPE nexus_things_total counter", 'nexus_things_total{kind="a"} 2']
    assert written(things, is_openmetrics=True).splitlines()[1:] == [
        "# TYPE nexus_things counter",
        'nexus_things_total{kind="a"} 2',
    ]


def test_odd_names_come_back_as_they_were():
    text = written(gauge("nexus_it", "It.", {(ODD, "plain"): 1.5}, "model", "backend"))

    assert samples(text) == {("nexus_it", (("model", ODD), ("backend", "plain"))): 1.5}


def test_a_name_with_a_surrogate_breaks_nothing():
    assert 'model="?"' in written(gauge("nexus_it", "It.", {("\udcff",): 1}, "model"))


@pytest.mark.parametrize("parse", [metrics_of, lambda text: openmetrics_of(f"{text}# EOF\n")])
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e300, 0.1])
def test_any_number_comes_back(parse, value):
    text = written(gauge("nexus_it", "It.", value), is_openmetrics=parse is not metrics_of)

    (family,) = parse(text)
    assert (family.documentation, [sample.value for sample in family.samples]) == ("It.", [value])
    assert "inf" not in text


@pytest.mark.parametrize("documentation", ["It\\s.", "It\nis.", 'It "is".', "It\udcff."])
def test_a_description_cannot_break_the_page(documentation):
    for is_openmetrics, parse in ((False, metrics_of), (True, openmetrics_of)):
        text = written(gauge("nexus_it", documentation, 1), is_openmetrics=is_openmetrics)

        (family,) = parse(f"{text}# EOF\n")
        assert family.documentation == documentation.replace("\udcff", "?")


@pytest.mark.parametrize("labels", [(), ("model",)])
def test_a_histogram_comes_back_with_its_counts(labels):
    counted = Histogram((0.1, 1.0))
    for value in (0.1, 0.5, 7.0):
        counted.observe(value)

    text = written(histogram("nexus_it", "It.", {(ODD,): counted} if labels else counted, *labels))

    named = {"model": ODD} if labels else {}
    read = {(s.name, s.labels.get("le")): s.value for family in metrics_of(text) for s in family.samples}
    assert read == {
        ("nexus_it_bucket", "0.1"): 1,
        ("nexus_it_bucket", "1.0"): 2,
        ("nexus_it_bucket", "+Inf"): 3,
        ("nexus_it_count", None): 3,
        ("nexus_it_sum", None): 7.6,
    }
    assert all(named.items() <= s.labels.items() for family in metrics_of(text) for s in family.samples)


def test_only_openmetrics_has_exemplars():
    counted = TracedHistogram((0.1, 1.0))
    counted.trace(("id{1}#", 0.5, 1_777_777_777.25))
    family = histogram("nexus_it", "It.", {("m",): counted}, "model")

    (parsed,) = openmetrics_of(written(family, is_openmetrics=True) + "# EOF\n")

    (exemplar,) = [s.exemplar for s in parsed.samples if s.exemplar]
    assert (exemplar.labels, exemplar.value, float(exemplar.timestamp)) == (
        {"request_id": "id{1}#"},
        0.5,
        1_777_777_777.25,
    )
    assert "#" not in written(family).split("\n", 2)[2]


@pytest.mark.parametrize("request_id", ["x" * 119, 'a"b', "a\\b"])
def test_an_id_that_some_parsers_cannot_read_is_omitted(request_id):
    counted = TracedHistogram((1.0,))
    counted.trace((request_id, 0.5, 1.0))

    text = written(histogram("nexus_it", "It.", counted), is_openmetrics=True)

    assert "request_id" not in text


def test_many_rows_come_in_pieces():
    rows = {(f"m-{number}",): number for number in range(1000)}

    parts = list(pieces([gauge("nexus_it", "It.", rows, "model")], is_openmetrics=False))

    assert len(parts) > 10
    assert len(samples(b"".join(parts).decode())) == 1000


def test_counting_while_the_page_is_written_changes_nothing():
    counts = {("a",): 1}
    family = counter("nexus_it", "It.", counts, "model")

    counts["b",] = 1

    assert len(family.rows) == 1
