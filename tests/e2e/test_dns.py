"""A real DNS server changes its answers under load: no request fails, and traffic follows."""

from collections import Counter

import pytest
from dnslib import RCODE

from nexus.fleet.discovery.dns.answers import MIN_TTL_S
from nexus.testing.waiting import until
from tests.support.steady_load import SteadyLoad, simulator_of

NAME = "_llm._tcp.gpu.test"
TTL_S = 0.3
CONFIG = """
[discovery]
nameservers = ["127.0.0.1:{port}"]

[[discovery.dns]]
name = "_llm._tcp.gpu.test"
"""


@pytest.fixture
def start(start_nexus, zone, asking_zone):
    """Start a proxy that asks the zone; often, if need be."""

    def start(*, is_quick=True, config=CONFIG):
        arguments = asking_zone(TTL_S) if is_quick else ()
        return start_nexus(config.format(port=zone.port), arguments=arguments)

    return start


@pytest.fixture
def serve(simulate, zone):
    """Start a server with an address in the zone."""

    def serve(name, address="127.0.0.1", **settings):
        zone.addresses(f"{name}.test", address)
        return simulate(name=name, kind="vllm", models=("llama3",), host=address, ttft_s=0.02, **settings)

    return serve


def rows(nexus):
    return nexus.get_json("/admin/backends")["backends"]


def healthy(nexus):
    return [row["name"] for row in rows(nexus) if row["status"] == "healthy"]


def target(simulator, *more):
    return f"{simulator.name}.test.", simulator.port, *more


def name_of(simulator):
    return f"{simulator.name}.test:{simulator.port}"


@pytest.mark.timeout(60)
def test_traffic_follows_the_records_within_their_ttl_and_no_request_fails(serve, start, zone):
    one, two = serve("one"), serve("two")
    zone.servers(NAME, target(one))
    nexus = start(is_quick=False)
    until(lambda: healthy(nexus) == [name_of(one)])
    with SteadyLoad(nexus.url) as load:
        assert load.goes_to(name_of(one))

        zone.servers(NAME, target(two))
        until(lambda: load.goes_to(name_of(two)), within_s=MIN_TTL_S + 3)

        zone.code = RCODE.SERVFAIL
        nexus.wait_for_log("name_lookup_failed", within_s=MIN_TTL_S + 5)
        assert load.goes_to(name_of(two))

    assert load.failures == []
    assert healthy(nexus) == [name_of(two)]


@pytest.mark.timeout(60)
def test_whatever_name_servers_say_or_fail_to_say_no_request_fails(serve, start, zone):
    one, two = serve("one"), serve("two")
    serve("elsewhere", "127.0.0.2", port=one.port)
    zone.servers(NAME, target(one))
    nexus = start()
    until(lambda: healthy(nexus) == [name_of(one)])
    with SteadyLoad(nexus.url, server_of=simulator_of) as load:
        assert load.goes_to("one")

        # The address of a target changes, and its SRV record does not.
        zone.addresses("one.test", "127.0.0.2")
        until(lambda: load.goes_to("elsewhere"))

        zone.servers(NAME, target(one), target(two))
        until(lambda: load.goes_to("elsewhere", "two"))

        for failure in ({"code": RCODE.SERVFAIL}, {"is_silent": True}):
            failed_before, asked_before = len(nexus.log_lines("name_lookup_failed")), len(zone.asked)
            for key, value in failure.items():
                setattr(zone, key, value)
            nexus.wait_for_log("name_lookup_failed", failed_before + 1)
            until(lambda: all(row["is_stale"] for row in rows(nexus)))
            assert load.goes_to("elsewhere", "two")
            until(lambda before=asked_before: len(zone.asked) >= before + 2)
            zone.code, zone.is_silent = RCODE.NOERROR, False
            nexus.wait_for_log("name_lookup_recovered", failed_before + 1)
            until(lambda: not any(row["is_stale"] for row in rows(nexus)))

        zone.servers(NAME, target(two))
        until(lambda: load.goes_to("two"))

    assert load.failures == []
    assert len(nexus.log_lines("name_lookup_failed")) == len(nexus.log_lines("name_lookup_recovered")) == 2


def test_a_denial_is_believed_the_second_time(serve, start, zone):
    one = serve("one")
    zone.servers(NAME, target(one))
    nexus = start()
    until(lambda: healthy(nexus) == [name_of(one)])

    asked = []
    zone.on_denial = lambda: asked.append(len(rows(nexus)))
    zone.code = RCODE.NXDOMAIN
    until(lambda: not rows(nexus))
    zone.code = RCODE.NOERROR
    until(lambda: healthy(nexus) == [name_of(one)])

    # When the second denial was asked for, the first one had taken nothing away.
    assert asked[:2] == [1, 1]


def test_an_answer_that_is_too_long_for_a_datagram_is_asked_for_by_tcp(serve, start, zone):
    servers = [serve(f"a-machine-with-a-rather-long-name-{number}") for number in range(8)]
    zone.servers(NAME, *map(target, servers))
    nexus = start()

    until(lambda: sorted(healthy(nexus)) == sorted(map(name_of, servers)), within_s=10)

    assert zone.asked_by_tcp


def test_priorities_and_weights_divide_the_requests(serve, start, zone):
    big, small, spare = serve("big"), serve("small"), serve("spare")
    zone.servers(NAME, target(big, 10, 60), target(small, 10, 20), target(spare, 20, 60))
    nexus = start()
    until(lambda: len(healthy(nexus)) == 3)
    with SteadyLoad(nexus.url) as load:
        until(lambda: len(load.answers) >= 200, within_s=20)

    counts = Counter(load.answers)
    assert {row["name"]: (row["priority"], round(row["share"], 2)) for row in rows(nexus)} == {
        name_of(big): (50, 1.0),
        name_of(small): (50, 0.33),
        name_of(spare): (100, 1.0),
    }
    assert counts.keys() == {name_of(big), name_of(small)}
    assert 0.65 < counts[name_of(big)] / len(load.answers) < 0.85
    assert load.failures == []
