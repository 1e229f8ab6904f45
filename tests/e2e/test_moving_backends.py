"""A configured backend follows its name under load; a name that leads to a cloud's secrets is not connected to."""

import sys
import time

import pytest
from dnslib import RCODE

from nexus.testing.client import ask, chat
from nexus.testing.fleets import backend_table
from nexus.testing.waiting import until
from tests.support.steady_load import SteadyLoad, simulator_of

TTL_S = 0.5
CONFIG = """
[health_check]
interval_seconds = 0.5
[timeouts]
upstream_keepalive_seconds = 30
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")


@pytest.fixture
def start(start_nexus, asking_zone):
    """Start a proxy that looks the names of backends up in the zone."""

    def start(config):
        return start_nexus(CONFIG + config, arguments=asking_zone(TTL_S))

    return start


@pytest.fixture
def two_places(simulate):
    """Give two servers that differ in their address alone."""
    first = simulate(name="first", kind="vllm", host="127.0.0.1", ttft_s=0.02)
    return first, simulate(name="second", kind="vllm", host="127.0.0.2", port=first.port, ttft_s=0.02)


def rows(nexus):
    return nexus.get_json("/admin/backends")["backends"]


@pytest.mark.timeout(60)
def test_a_configured_backend_follows_its_name_under_load(start, zone, two_places):
    zone.addresses("gpu.test", "127.0.0.1")
    nexus = start(backend_table("gpu", f"http://gpu.test:{two_places[0].port}", type="vllm"))
    with SteadyLoad(nexus.url, server_of=simulator_of) as load:
        assert load.goes_to("first")

        zone.addresses("gpu.test", "127.0.0.2")
        moved_at = time.monotonic()
        until(lambda: load.goes_to("second"), within_s=TTL_S + 4)
        assert time.monotonic() - moved_at < TTL_S + 2

        # Two addresses: both are used, and one that refuses costs nothing.
        zone.addresses("gpu.test", "127.0.0.1", "127.0.0.2", "127.0.0.3")
        until(lambda: load.goes_to("first", "second"))

        zone.addresses("gpu.test", "127.0.0.1")
        until(lambda: load.goes_to("first"))
        zone.code = RCODE.SERVFAIL
        nexus.wait_for_log("name_lookup_failed")
        assert load.goes_to("first")
        assert rows(nexus)[0]["address_stale_since"] is not None
        zone.code = RCODE.NOERROR
        zone.addresses("gpu.test", "127.0.0.2")
        until(lambda: load.goes_to("second"))
        assert rows(nexus)[0]["address_stale_since"] is None

    assert load.failures == []
    assert len(nexus.log_lines("name_lookup_failed")) == len(nexus.log_lines("name_lookup_recovered")) == 1


def test_a_name_that_moves_to_the_secrets_of_a_cloud_is_not_connected_to(start, zone, two_places):
    zone.addresses("gpu.test", "127.0.0.1")
    nexus = start("")
    added = ask(
        nexus.url, "/admin/backends", {"name": "gpu", "url": f"http://gpu.test:{two_places[0].port}", "type": "vllm"}
    )
    assert added.status == 201
    until(lambda: ask(nexus.url, "/v1/chat/completions", chat()).status == 200)

    zone.addresses("gpu.test", "169.254.169.254")
    until(lambda: ask(nexus.url, "/v1/chat/completions", chat()).status != 200)
    (row,) = until(lambda: [r for r in rows(nexus) if "leads to" in (r["last_error"] or "")])

    assert row["last_error"] == (
        "connection refused: gpu.test leads to 169.254.169.254, a link-local address, where clouds keep a machine's"
        " secrets; only the configuration file may name one"
    )
    reply = ask(nexus.url, "/v1/chat/completions", chat())
    assert reply.status in (502, 503)
    assert b"169.254" not in reply.body


def test_a_server_that_dns_finds_there_is_not_connected_to(start, zone):
    zone.addresses("many.test", "169.254.169.254")
    nexus = start(
        f'[discovery]\nnameservers = ["127.0.0.1:{zone.port}"]\n[[discovery.dns]]\nname = "many.test"\nport = 8000'
    )

    (row,) = until(lambda: [r for r in rows(nexus) if r["last_error"]])

    assert row["last_error"].startswith("connection refused: 169.254.169.254, a link-local address")


def test_check_says_which_names_and_ports_lead_nowhere(command, zone, simulate, tmp_path):
    zone.servers("_llm._tcp.known.test", ("127.0.0.1.", 8000))
    (tmp_path / "nexus.toml").write_text(
        backend_table("gpu", "http://gpu.invalid:8000")
        + backend_table("here", simulate().url)
        + backend_table("closed", "http://localhost:1")
        + f'[discovery]\nnameservers = ["127.0.0.1:{zone.port}"]\n'
        + "".join(f'[[discovery.dns]]\nname = "_llm._tcp.{name}.test"\n' for name in ("known", "unknown"))
    )

    done = command("check")

    warnings = [line for line in done.stderr.splitlines() if " cannot be reached" in line or " finds no server" in line]
    assert done.returncode == 0
    assert "  names whose servers are used: _llm._tcp.known.test, _llm._tcp.unknown.test\n" in done.stdout
    assert [warning.partition(" (")[0] for warning in warnings] == [
        "nexus-proxy: warning: backend 'gpu' cannot be reached now: its host name 'gpu.invalid' cannot be looked up",
        "nexus-proxy: warning: backend 'closed' cannot be reached now, at localhost port 1",
        "nexus-proxy: warning: discovery.dns finds no server now: '_llm._tcp.unknown.test' has no SRV records",
    ]
