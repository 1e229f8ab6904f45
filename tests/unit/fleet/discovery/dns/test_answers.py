"""Which servers follow from the answers of name servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.config.discovery_schema import DnsSourceConfig
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.discovery.dns.answers import MAX_SERVERS, MAX_TTL_S, MIN_TTL_S, NameState, Record, servers_of

SRV = DnsSourceConfig(name="_llm._tcp.test")
MANY = DnsSourceConfig(name="many.test", port=8000)
ONE = (Discovered("gpu:1", "http://gpu:1"),)


def test_a_target_is_reached_at_its_port():
    (found,) = servers_of(SRV, [Record("gpu-1.test", 30, 8001)])

    assert (found.name, found.url) == ("gpu-1.test:8001", "http://gpu-1.test:8001")


def test_an_additional_address_saves_a_lookup_but_not_with_tls():
    record = Record("gpu-1.test", 30, 8001, address="fd00::1")

    assert servers_of(SRV, [record])[0].url == "http://[fd00::1]:8001"
    assert servers_of(DnsSourceConfig(name="_llm._tcp.test", tls=True), [record])[0].url == "https://gpu-1.test:8001"


def test_the_lowest_priority_comes_first_and_the_others_far_behind_it_in_their_order():
    records = [Record("a", 30, 1, 10), Record("b", 30, 1, 20), Record("c", 30, 1, 30), Record("d", 30, 1, 10)]

    assert {found.name: found.priority for found in servers_of(SRV, records)} == {
        "a:1": 50,
        "b:1": 99,
        "c:1": 100,
        "d:1": 50,
    }


@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=MAX_SERVERS, unique=True))
def test_every_priority_is_one_that_a_backend_may_have(priorities):
    records = [Record(f"gpu-{number}", 30, 1, priority) for number, priority in enumerate(priorities)]

    found = [server.priority for server in servers_of(SRV, records)]

    assert found == sorted(found)
    assert found.count(50) == 1
    assert all(50 <= priority <= 100 for priority in found)


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((60, 20), [1, 1 / 3]),
        ((5, 5, 5), [1, 1, 1]),
        ((0, 0), [1, 1]),
        ((1, 0), [1, 0.01]),
        ((65_535, 1), [1, 1 / 65_535]),
    ],
)
def test_weights_are_shares_of_the_heaviest(weights, shares):
    records = [Record(f"gpu-{number}", 30, 1, 0, weight) for number, weight in enumerate(weights)]

    assert [found.share for found in servers_of(SRV, records)] == shares


def test_weights_are_compared_within_one_priority():
    records = [Record("a", 30, 1, 10, 3), Record("b", 30, 1, 20, 60), Record("c", 30, 1, 20, 20)]

    assert [found.share for found in servers_of(SRV, records)] == [1, 1, 1 / 3]


def test_every_address_of_a_name_is_a_server():
    found = servers_of(MANY, [Record("10.0.0.2", 30), Record("10.0.0.1", 30), Record("10.0.0.1", 30)])

    assert [(one.name, one.priority) for one in found] == [("10.0.0.1:8000", None), ("10.0.0.2:8000", None)]


def test_a_service_that_is_not_offered_has_no_servers():
    assert servers_of(SRV, [Record("", 30, 0)]) == ()


def test_a_name_has_a_limited_number_of_servers():
    assert len(servers_of(MANY, [Record(f"10.0.{n // 250}.{n % 250}", 30) for n in range(1000)])) == MAX_SERVERS


def test_a_denial_counts_the_second_time():
    known = NameState().answered(ONE, 30)
    once = known.without_records()

    assert (once.found, once.without_records().found) == (ONE, ())


def test_an_answer_resets_the_count_of_denials():
    state = NameState().answered(ONE, 30).without_records().answered(ONE, 30).without_records()

    assert state.found == ONE


@pytest.mark.parametrize(("ttl_s", "pause_s"), [(0, MIN_TTL_S), (30, 30), (86_400, MAX_TTL_S)])
def test_a_name_is_looked_up_again_when_its_records_expire_within_bounds(ttl_s, pause_s):
    assert NameState().answered(ONE, ttl_s).pause_s == pause_s


@given(failures=st.lists(st.text(), max_size=20))
def test_failures_remove_no_server(failures):
    state = NameState().answered(ONE, 30)

    for failure in failures:
        state = state.failed(failure)

    assert state.found == ONE


def test_the_last_good_answer_is_stale_while_name_servers_fail():
    good = NameState().answered(ONE, 30)
    failing = good.failed("SERVFAIL")

    assert (good.servers, failing.answered(ONE, 30).servers) == (ONE, ONE)
    assert [(found.name, found.is_stale) for found in failing.servers] == [("gpu:1", True)]
