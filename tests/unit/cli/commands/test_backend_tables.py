"""On a narrow terminal, names and the addresses to approve are never cut."""

from datetime import UTC, datetime

import pytest

from nexus.cli.commands.backend_tables import (
    HEADINGS,
    LAYOUT,
    PENDING_HEADINGS,
    PENDING_LAYOUT,
    backend_table,
    file_lines,
    pending_table,
)
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
    "last_error": "no known kind responds like this (HTTP 404)",
}
NOW = datetime(2026, 1, 2, 12, 0, 30, tzinfo=UTC)
FILE = {
    "path": "/etc/nexus/fleet.toml",
    "backends": ["gpu-1", "gpu-2"],
    "ignored": [],
    "read_at": "2026-01-02T12:00:00Z",
    "failure": None,
    "failed_at": None,
}


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("reason", ["", "no known kind responds like this (HTTP 404)"])
def test_the_address_of_a_pending_server_is_never_cut(width, reason):
    row = ("desk", "pending", "unknown", ADDRESS, "mdns", "desk.local", "4 s ago", reason)

    shown = in_columns([PENDING_HEADINGS, row], layout=PENDING_LAYOUT, width=width)

    assert ADDRESS in shown.split()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_names_stay_distinct_beside_a_long_error(width):
    error = "connection failed: Connect call failed ('192.168.77.4', 9001)"
    rows = [
        (
            name,
            "unhealthy",
            "vllm",
            "open",
            "1",
            "0/1024",
            "4 usual",
            "",
            "7ms",
            "1",
            "hosts",
            "5 s",
            "",
            f"http://{name}",
            error,
        )
        for name in ("192.168.77.4:8000", "192.168.77.4:8001")
    ]

    _, *shown = in_columns([HEADINGS, *rows], layout=LAYOUT, width=width).split("\n")

    assert [line.split()[0] for line in shown] == ["192.168.77.4:8000", "192.168.77.4:8001"]


def test_a_backend_shows_its_capacity_and_how_that_is_known():
    row = {"name": "gpu", "status": "healthy", "misconfigured": None, "backend_type": "vllm", "zone": "restricted"}
    row |= {"tier": 1, "pending_requests": 3, "max_in_flight": 1024, "oldest_unanswered_s": 0.0, "models": []}
    row |= {"avg_latency_ms": None, "discovery_source": "static", "url": "http://gpu", "last_error": None}
    row |= {"breaker": "closed", "is_busy": False, "is_refusing": False, "is_replaced": False, "is_cooling": False}

    known = backend_table([row | {"capacity": 9.43, "capacity_source": "learned"}])
    unknown = backend_table([row | {"capacity": None, "capacity_source": "none known"}])

    assert "3/1024     9 learned" in known
    assert "none" not in unknown


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "no known kind responds like this (HTTP 404)"),
        ({"last_error": None}, "not asked yet"),
        ({"last_error": None, "trust": "rejected"}, "ago"),
        ({"backend_type": "ollama"}, "ago"),
    ],
)
def test_an_unrecognised_server_shows_the_reason_unless_it_is_rejected(changed, said):
    assert pending_table([WAITING | changed]).endswith(said)


def test_a_file_shows_its_backends_and_its_age():
    assert file_lines([FILE], NOW) == "/etc/nexus/fleet.toml: gpu-1, gpu-2 (read 30 s ago)"


def test_an_invalid_file_shows_since_when_and_why():
    row = FILE | {"failure": "fleet.toml: is empty", "failed_at": "2026-01-02T11:58:00Z", "ignored": ["gpu-2"]}

    assert file_lines([row], NOW).splitlines()[1:] == [
        "  not in the fleet, for another backend has the name or the address: gpu-2",
        "  not used as it is now, since 2 min: fleet.toml: is empty",
    ]


def test_a_file_that_was_never_valid_has_no_age():
    row = FILE | {"backends": [], "read_at": None, "failure": "no such file", "failed_at": "2026-01-01T11:00:00Z"}

    assert file_lines([row], NOW) == (
        "/etc/nexus/fleet.toml: no backends\n  not used as it is now, since 1 d: no such file"
    )
