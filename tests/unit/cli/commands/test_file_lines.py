from datetime import UTC, datetime

from nexus.cli.commands.file_lines import file_lines

NOW = datetime(2026, 1, 2, 12, 0, 30, tzinfo=UTC)
ROW = {
    "path": "/etc/nexus/fleet.toml",
    "backends": ["gpu-1", "gpu-2"],
    "ignored": [],
    "read_at": "2026-01-02T12:00:00Z",
    "failure": None,
    "failed_at": None,
}


def test_a_file_tells_its_backends_and_their_age():
    assert file_lines([ROW], NOW) == "/etc/nexus/fleet.toml: gpu-1, gpu-2 (read 30 s ago)"


def test_a_file_that_is_not_used_says_since_when_and_why():
    row = ROW | {"failure": "fleet.toml: is empty", "failed_at": "2026-01-02T11:58:00Z", "ignored": ["gpu-2"]}

    assert file_lines([row], NOW).splitlines()[1:] == [
        "  not in the fleet, for another backend has the name or the address: gpu-2",
        "  not used as it is now, since 2 min: fleet.toml: is empty",
    ]


def test_a_file_that_was_never_in_order_has_no_age():
    row = ROW | {"backends": [], "read_at": None, "failure": "no such file", "failed_at": "2026-01-01T11:00:00Z"}

    assert file_lines([row], NOW) == (
        "/etc/nexus/fleet.toml: no backends\n  not used as it is now, since 1 d: no such file"
    )
