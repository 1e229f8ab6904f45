"""``auto`` is one worker per core that this process may use."""

import pytest

from nexus.app.process.cores import usable_cores, wanted_workers
from nexus.config.schema import ServerConfig


@pytest.fixture
def cores(tmp_path):
    """Return a function that writes files of control groups, and says how many of eight cores may be used."""

    def cores(files, membership=""):
        for name, text in files.items():
            file = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (tmp_path / "membership").write_text(membership)
        return usable_cores(tmp_path / "groups", tmp_path / "membership", lambda: 8)

    return cores


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 1),
        ("20000 100000", 1),
        ("1600000 100000", 8),
        ("", 8),
    ],
)
def test_the_limit_of_a_container_counts(cores, limit, expected):
    assert cores({"cpu.max": limit}) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("300000", 3), ("50000", 1), ("", 8)])
def test_the_limit_of_a_container_with_version_1_counts(cores, quota, expected):
    files = {"cpu/cpu.cfs_quota_us": f"{quota}\n", "cpu/cpu.cfs_period_us": "100000\n"}

    assert cores(files, "5:cpu,cpuacct:/docker/of-the-host\n4:memory:/docker/of-the-host\n") == expected


def test_the_limit_of_a_service_of_systemd_counts(cores):
    assert cores({"system.slice/nexus.service/cpu.max": "400000 100000"}, "0::/system.slice/nexus.service\n") == 4


def test_the_limit_of_a_group_above_counts(cores):
    files = {"apps.slice/cpu.max": "200000 100000", "apps.slice/nexus.service/cpu.max": "max 100000"}

    assert cores(files, "0::/apps.slice/nexus.service\n") == 2


def test_the_group_of_version_1_counts(cores):
    files = {"cpu/apps/cpu.cfs_quota_us": "200000", "cpu/apps/cpu.cfs_period_us": "100000"}

    assert cores(files, "3:cpuset:/other\n2:cpuacct,cpu:/apps\n") == 2


def test_a_group_beside_that_of_the_container_is_not_looked_for(cores, tmp_path):
    (tmp_path / "cpu.max").write_text("100000 100000")

    assert cores({"cpu.max": "max 100000"}, "0::/..\n") == 8


def test_without_control_groups_the_affinity_counts(tmp_path):
    assert usable_cores(tmp_path / "missing", tmp_path / "missing", lambda: 4) == 4


def test_a_number_is_taken_as_it_is():
    assert wanted_workers(ServerConfig(workers=3)) == 3
    assert wanted_workers(ServerConfig(workers="auto")) == usable_cores()
