"""``auto`` is one worker per core that this process may use."""

import pytest

from nexus.app.process.cores import usable_cores, wanted_workers
from nexus.config.schema import ServerConfig


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 1),
        ("20000 100000", 1),
        ("1600000 100000", 8),
        ("", 8),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path, limit, cores):
    file = tmp_path / "cpu.max"
    file.write_text(limit)

    assert usable_cores(file, lambda: 8) == cores


def test_without_control_groups_the_affinity_counts(tmp_path):
    assert usable_cores(tmp_path / "missing", lambda: 4) == 4


def test_a_number_is_taken_as_it_is():
    assert wanted_workers(ServerConfig(workers=3)) == 3
    assert wanted_workers(ServerConfig(workers="auto")) == usable_cores()
