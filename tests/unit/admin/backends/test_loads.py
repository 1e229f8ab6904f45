"""The figures of a backend that several workers measure are those that one process would have."""

from time import monotonic

import msgspec
import pytest

from nexus.admin.backends.loads import LoadPart, load_parts, mean_latency_ms, view_of_all
from nexus.fleet.discovery.origins import Origin
from nexus.testing.builders import MODEL, make_backend, make_fleet

ORIGIN = Origin(joined_unix_s=0.0)


def observed(latency_s, requests):
    """Return a fleet of one backend that has answered one request, and has others under way."""
    backend = make_backend("gpu-1")
    backend.load.model(MODEL).first_token.observe(latency_s, monotonic())
    backend.load.count_request(requests)
    for _ in range(requests):
        backend.load.acquire(100, 20)
    return make_fleet(backend)


def sent(fleet):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(load_parts(fleet)), type=dict[str, LoadPart])


def test_counts_are_added_up_and_latencies_averaged():
    apart = observed(0.1, requests=1), observed(0.4, requests=3)

    shown = view_of_all([sent(fleet) for fleet in apart], apart[0].backends[0], ORIGIN)

    assert (shown.total_requests, shown.prompt_tokens, shown.answer_tokens) == (4, 400, 80)
    # The geometric mean, as one process would have it.
    assert shown.models[0].first_token_ms == 200


@pytest.mark.parametrize(
    ("measured", "mean"),
    [([], None), ([(0, None)], None), ([(0, 7), (0, 9)], 7), ([(1, 100), (3, 200)], 175), ([(0, 5), (2, 50)], 50)],
)
def test_a_latency_counts_by_the_requests_behind_it(measured, mean):
    assert mean_latency_ms(measured) == mean
