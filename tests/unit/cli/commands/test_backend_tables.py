"""On a terminal, what is needed to choose a server stays whole: its name, and before an approval its address."""

import pytest

from nexus.cli.commands.backend_tables import HEADINGS, LAYOUT, PENDING_HEADINGS, PENDING_LAYOUT, pending_table
from nexus.cli.output.columns import in_columns

ADDRESS = "http://192.168.178.222:11434"
WAITING = {
    "name": "desk",
    "trust": "pending",
    "backend_type": None,
    "url": ADDRESS,
    "discovery_source": "mdns",
    "host": "desk.local",
    "first_seen": "2026-11-29T12:00:00Z",
    "last_error": "no kind answers like this (HTTP 404)",
}


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("reason", ["", "no kind answers like this (HTTP 404)"])
def test_the_address_of_a_server_that_waits_is_never_cut(width, reason):
    row = ("desk", "pending", "unknown", ADDRESS, "mdns", "desk.local", "4 s ago", reason)

    shown = in_columns([PENDING_HEADINGS, row], layout=PENDING_LAYOUT, width=width)

    assert ADDRESS in shown.split()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_names_are_told_apart_however_long_an_error_is(width):
    error = "connection failed: Connect call failed ('192.168.77.4', 9001)"
    rows = [
        (name, "unhealthy", "vllm", "open", "1", "0/1024", "", "7ms", "1", "hosts", "5 s", "", f"http://{name}", error)
        for name in ("192.168.77.4:8000", "192.168.77.4:8001")
    ]

    _, *shown = in_columns([HEADINGS, *rows], layout=LAYOUT, width=width).split("\n")

    assert [line.split()[0] for line in shown] == ["192.168.77.4:8000", "192.168.77.4:8001"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "no kind answers like this (HTTP 404)"),
        ({"last_error": None}, "not asked yet"),
        ({"last_error": None, "trust": "rejected"}, "ago"),
        ({"backend_type": "ollama"}, "ago"),
    ],
)
def test_a_server_that_is_not_recognised_says_why_unless_it_is_rejected(changed, said):
    assert pending_table([WAITING | changed]).endswith(said)
