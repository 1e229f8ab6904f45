"""A page that a server does not have is not asked for again and again."""

from nexus.fleet.kinds import LLAMACPP
from nexus.fleet.loads.endpoints import Endpoints


def test_the_next_page_is_asked_for_when_the_first_is_missing():
    endpoints = Endpoints(LLAMACPP.load_lookups)
    metrics = endpoints.best(10.0)
    endpoints.skip(metrics, "HTTP 501", until=100.0)

    assert (metrics.path, endpoints.best(10.0).path, endpoints.best(100.0).path) == ("/metrics", "/slots", "/metrics")


def test_a_restarted_server_is_asked_for_everything_again():
    endpoints = Endpoints(LLAMACPP.load_lookups)
    endpoints.skip(endpoints.best(0.0), "HTTP 501", until=100.0)

    endpoints.forget()

    assert endpoints.best(0.0).path == "/metrics"


def test_the_operator_is_told_what_would_help():
    endpoints = Endpoints(LLAMACPP.load_lookups)
    while (lookup := endpoints.best(0.0)) is not None:
        endpoints.skip(lookup, "HTTP 501", until=100.0)

    assert endpoints.why_none == "start it with --metrics; /metrics: HTTP 501"
    assert Endpoints(()).why_none == "servers of its kind report none"
