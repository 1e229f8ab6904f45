"""The metrics of the process equal those of Prometheus's client library."""

import sys

import pytest
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families as metrics_of

from nexus.observability.metrics.exposition import pieces
from nexus.observability.metrics.process import process_families

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def read(text):
    families = list(metrics_of(text))
    described = {(family.name, family.type, family.documentation) for family in families}
    return described, {(s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples}


def test_they_have_the_names_types_and_values_that_dashboards_expect():
    registry = CollectorRegistry()
    PlatformCollector(registry=registry)
    ProcessCollector(registry=registry)

    described, values = read(generate_latest(registry).decode())
    own_described, own_values = read(b"".join(pieces(process_families(), is_openmetrics=False)).decode())

    assert own_described == described
    assert own_values.keys() == values.keys()
    for key, value in own_values.items():
        # Memory and time go on between the two.
        assert value == pytest.approx(values[key], rel=0.1, abs=1), key
