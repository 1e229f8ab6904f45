"""Reloads and signals while every discoverer is at work: what was found stays as it is, and the end comes in time."""

import re
import signal
import time

import pytest
from zeroconf import ServiceBrowser, Zeroconf

from nexus.fleet.discovery.mdns.announcer import own_addresses
from nexus.testing.client import ask, chat
from nexus.testing.fleets import table_of
from nexus.testing.waiting import until
from tests.support.streaming import Streaming

NETWORK = pytest.mark.skipif(not own_addresses(), reason="this machine has no network")
MOST_S = 4.0
"""How long the end may take once the last stream has ended."""


def reload(nexus, change):
    before = len(nexus.log_lines("config_reloaded"))
    nexus.config_file.write_text(change(nexus.config_file.read_text()))
    nexus.send(signal.SIGHUP)
    nexus.wait_for_log("config_reloaded", before + 1)


def without(table):
    """Take a table of the list of DNS names out of the configuration."""
    return lambda text: re.sub(rf'\[\[discovery\.dns\]\]\nname = "{re.escape(table)}"\n(type.*\n|port.*\n)*', "", text)


def more(lines):
    return lambda text: text.replace("[discovery]\n", f"[discovery]\n{lines}\n", 1)


@NETWORK
def test_a_reload_of_discovery_keeps_what_was_found_and_what_it_turns_off_leaves_when_it_is_done(start_found):
    found = start_found(tokens_per_s=12.0, answer_tokens=30)
    nexus = found.nexus
    found.cluster.put("pod", found.faulty.port)
    until(lambda: found.is_healthy("pod"))
    until(lambda: [row for row in found.pending() if row["name"] == found.rogue_name and row["backend_type"]])
    assert ask(nexus.url, f"/admin/backends/{found.rogue_name}/approve", b"").status == 200
    names = {found.well_name, found.desk_name, found.rogue_name, "pod"}
    until(lambda: all(map(found.is_healthy, names)))
    models = {"pod": "lonely", found.desk_name: "desk", found.rogue_name: "rogue"}
    streams = {name: Streaming(nexus.url, model=model) for name, model in models.items()}
    before = found.rows()

    reload(nexus, more('service_types = ["_llm._tcp", "_ollama._tcp"]'))
    reload(nexus, lambda text: text.replace("interval_seconds = 0.2", "interval_seconds = 0.3"))
    reload(nexus, lambda text: text + '\n[[discovery.dns]]\nname = "_llm._tcp.later.test"\n')
    reload(nexus, without("_llm._tcp.broken.test"))
    time.sleep(1)
    after = found.rows()

    assert {name: stream.backend for name, stream in streams.items()} == {name: name for name in models}
    left = [line["backend"] for line in nexus.log_lines("backend_left")]
    assert not names & set(left)
    for name in names:
        for key in ("id", "status", "total_requests", "pending_requests", "discovery_source"):
            assert after[name][key] == before[name][key], (name, key)

    reload(nexus, more("mdns = false"))
    reload(nexus, without("_llm._tcp.well.test"))
    until(lambda: not {found.well_name, found.desk_name, found.rogue_name} & found.rows().keys())
    assert all(stream.is_under_way for stream in streams.values())
    assert ask(nexus.url, "/v1/chat/completions", chat("desk")).status == 404
    assert all(stream.is_done() for stream in streams.values())
    assert found.defects() == []


def announcing(text):
    """Let the proxy announce itself, for which it must listen where other machines can connect."""
    return text.replace("[discovery]\n", "[discovery]\nannounce = true\n").replace(
        "[server]\n", '[server]\nhost = "0.0.0.0"\nlame_duck_seconds = 0\ndrain_timeout_seconds = 20\n'
    )


def leave_unanswered(found):
    """Let nothing that discovery asks be answered any more: neither the API server, nor name servers, nor pods."""
    found.zone.is_silent = True
    found.cluster.api.is_hanging = True
    found.cluster.call(found.cluster.api.drop_watches)
    found.cluster.put("blackhole", 8000, address="10.255.255.1")


class Goodbyes:
    """Listens for what the proxy says of itself on the network."""

    def __init__(self):
        self.added, self.removed = set(), set()

    def add_service(self, zeroconf, service_type, name):
        self.added.add(name)

    def update_service(self, zeroconf, service_type, name):
        pass

    def remove_service(self, zeroconf, service_type, name):
        self.removed.add(name)


@NETWORK
def test_at_the_end_streams_end_in_peace_a_goodbye_is_said_and_nothing_is_waited_for(start_found):
    """Row 41."""
    found = start_found(change=announcing, arguments=("--insecure",), tokens_per_s=20.0, answer_tokens=30)
    nexus = found.nexus
    (announced,) = nexus.wait_for_log("announced")
    name = f"{announced['name']}._llm._tcp.local."
    with Zeroconf() as network:
        heard = Goodbyes()
        ServiceBrowser(network, "_llm._tcp.local.", heard)
        until(lambda: name in heard.added)
        streams = [Streaming(nexus.url, model=model) for model in ("desk", "listed")]
        leave_unanswered(found)

        nexus.send(signal.SIGTERM)
        assert all(stream.is_done() for stream in streams)
        ended_at = time.monotonic()
        code = nexus.process.wait(10)

        assert time.monotonic() - ended_at < MOST_S
        until(lambda: name in heard.removed)
    assert code == 0
    assert found.defects() == []
    assert nexus.log_lines("stopped")


@NETWORK
def test_a_proxy_that_is_not_announced_yet_drains_too(start_nexus, simulate):
    gpu = simulate(tokens_per_s=20.0)
    nexus = start_nexus(announcing(f"[server]\n[discovery]\n{table_of(gpu)}"), arguments=("--insecure",))
    until(lambda: ask(nexus.url, "/ready").status == 200)
    stream = Streaming(nexus.url)

    assert nexus.stop() == 0

    assert stream.is_done()
    assert [line["ending"] for line in nexus.log_lines("exchange_finished")] == ["finished"]


@NETWORK
def test_a_second_signal_is_a_hurry(start_found):
    """Row 42."""
    found = start_found(change=announcing, arguments=("--insecure",), tokens_per_s=5.0, answer_tokens=400)
    stream = Streaming(found.nexus.url, model="listed")
    leave_unanswered(found)

    # At the first signal, the proxy may not have been announced yet: a start does not wait for that.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        found.nexus.send(number)
        found.nexus.wait_for_log("draining")
    code = found.nexus.process.wait(12)

    assert (code, stream.is_done()) == (0, False)
    assert b"server_shutdown" in stream.received
    assert found.defects() == []


def test_what_answers_nothing_holds_up_neither_the_start_nor_the_end(start_found):
    began = time.monotonic()
    found = start_found(is_reachable=False)
    started_s = time.monotonic() - began
    found.nexus.wait_for_log("started")

    began = time.monotonic()
    assert found.nexus.stop() == 0

    assert time.monotonic() - began < MOST_S
    assert started_s < 8
    assert found.defects() == []


def test_check_looks_at_all_discoverers(start_found):
    found = start_found()

    told = found.check()

    assert told.returncode == 0, told.stdout + told.stderr
    names = "raises, hangs, lies, cancels, blocks, kubernetes, dns, file, hosts, local, mdns"
    discovery = next(line.strip() for line in told.stdout.splitlines() if "discovery" in line)
    assert set(discovery.removeprefix("discovery: ").split(", ")) == set(names.split(", "))
    assert "no server on the network" not in told.stderr
