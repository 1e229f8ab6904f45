"""The weights in Accept choose the format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.admin.metrics.format import OPENMETRICS, wants_openmetrics


def om(parameters):
    return f"{OPENMETRICS};{parameters}"


PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7"
OF_PROMETHEUS = {
    "the first to weigh": (om("version=0.0.1;q=0.75"), om("version=1.0.0"), "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
    "version 2": (om("version=1.0.0;q=0.6"), om("version=0.0.1;q=0.5"), "text/plain;version=0.0.4;q=0.4,*/*;q=0.1"),
    "version 3": (
        om("version=1.0.0;escaping=allow-utf-8;q=0.6"),
        om("version=0.0.1;q=0.5"),
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4",
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    ),
    "protobuf first": (PROTOBUF, om("version=1.0.0;escaping=underscores;q=0.6"), "text/plain;version=0.0.4;q=0.4"),
}


@pytest.mark.parametrize("parts", OF_PROMETHEUS.values(), ids=OF_PROMETHEUS.keys())
def test_prometheus_gets_openmetrics(parts):
    assert wants_openmetrics(",".join(parts))


@pytest.mark.parametrize(
    "accept",
    [
        OPENMETRICS,
        'Application/OpenMetrics-Text; Version="1.0.0"',
        f"text/plain, {OPENMETRICS}",
        f"text/plain;q=0.3, {OPENMETRICS};q=0.4",
        f"{OPENMETRICS};q=0.001, text/plain;q=0",
        f"{OPENMETRICS};q=0.5",
        f"{OPENMETRICS}, */*",
        "application/*",
        "text/*;q=0, */*;q=0.1",
    ],
)
def test_a_client_that_prefers_openmetrics_gets_it(accept):
    assert wants_openmetrics(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "application/json",
        f"{OPENMETRICS};q=0",
        f"{OPENMETRICS};q=0, text/plain;q=0",
        f"{OPENMETRICS}; q=0.0, */*",
        f"text/plain, {OPENMETRICS};q=0.5",
        f"*/*, {OPENMETRICS};q=0.5",
        f"{OPENMETRICS};version=2.0.0",
        f"{OPENMETRICS};version=0.0.1",
        f"{OPENMETRICS};version=x",
        f"{OPENMETRICS};version=0.0.1, */*;q=0.1",
    ],
)
def test_any_other_client_gets_the_text_format(accept):
    assert not wants_openmetrics(accept)


@given(st.lists(st.sampled_from([*f'{OPENMETRICS},;=q.0159*/ \t"', "text/plain", "version=", "nan", "é"]), max_size=30))
def test_any_accept_header_can_be_parsed(parts):
    assert wants_openmetrics("".join(parts)) in (True, False)
