"""A page that a server does not have is not asked for again and again."""

import pytest

from nexus.fleet.kinds import LLAMACPP, OLLAMA
from nexus.fleet.loads.endpoints import Endpoints


def test_the_next_page_is_asked_for_when_the_first_is_missing():
    endpoints = Endpoints(LLAMACPP.load_lookups)
    metrics = endpoints.best(10.0)
    endpoints.skip(metrics, "HTTP 501", until=100.0)

    assert (metrics.path, endpoints.best(10.0).path, endpoints.best(100.0).path) == ("/metrics", "/slots", "/metrics")


@pytest.mark.parametrize(
    ("version", "page"),
    [
        ("b11434-f00d", "/metrics"),
        ("b12000-f00d", "/metrics"),
        # b10434 loads its model to answer, if it sleeps.
        ("b10434-f00d", "/props"),
        ("b0-unknown", "/props"),
        ("11434", "/props"),
        (None, "/props"),
    ],
)
def test_no_page_is_asked_for_that_might_wake_an_idle_server(version, page):
    endpoints = Endpoints(LLAMACPP.load_lookups)

    assert endpoints.best(0.0, version=version, is_busy=False).path == page
    assert endpoints.best(0.0, version=version, is_busy=True).path == "/metrics"


def test_an_idle_llamacpp_is_never_asked_for_its_slots():
    # Any build would wake for it.
    endpoints = Endpoints(LLAMACPP.load_lookups)
    endpoints.skip(endpoints.best(0.0), "HTTP 501", until=100.0)

    assert endpoints.best(0.0, version="b11434-f00d", is_busy=False).path == "/props"


def test_a_restarted_server_is_asked_for_everything_again():
    endpoints = Endpoints(LLAMACPP.load_lookups)
    endpoints.skip(endpoints.best(0.0), "HTTP 501", until=100.0)

    endpoints.forget()

    assert endpoints.best(0.0).path == "/metrics"


def test_a_page_without_requests_is_not_all_that_the_server_could_report():
    endpoints = Endpoints(LLAMACPP.load_lookups)
    metrics, _, props, _ = LLAMACPP.load_lookups
    sleeps = endpoints.why_no_requests(props)
    endpoints.skip(metrics, "HTTP 501", until=100.0)

    assert sleeps == "read only while requests run there, so that the server can sleep"
    assert endpoints.why_no_requests(props) == "start it with --metrics; /metrics: HTTP 501"


def test_a_router_and_a_server_with_one_page_get_no_advice():
    endpoints = Endpoints(LLAMACPP.load_lookups)
    metrics, *_, models = LLAMACPP.load_lookups
    endpoints.skip(metrics, "HTTP 400", until=100.0)

    assert not endpoints.why_no_requests(models)
    assert not Endpoints(OLLAMA.load_lookups).why_no_requests(OLLAMA.load_lookups[0])


def test_the_operator_is_told_what_would_help():
    endpoints = Endpoints(LLAMACPP.load_lookups)
    while (lookup := endpoints.best(0.0)) is not None:
        endpoints.skip(lookup, "HTTP 501", until=100.0)

    assert endpoints.why_none == "start it with --metrics; /metrics: HTTP 501"
    assert Endpoints(()).why_none == "servers of its kind report none"
