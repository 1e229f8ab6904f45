"""What is published builds, holds what it must, and works in an empty venv."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    # sdist first and the wheel from it: what the sdist lacks, the wheel lacks too.
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def wheel(dist):
    (path,) = dist.glob("nexus_proxy-*-py3-none-any.whl")
    return path


@pytest.fixture(scope="session")
def names(wheel):
    return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_tells_that_it_is_typed(names):
    assert "nexus/py.typed" in names


def test_the_wheel_holds_the_dashboard(names):
    static = {f"nexus/dashboard/static/{path.name}" for path in (ROOT / "nexus/dashboard/static").iterdir()}

    assert "nexus/dashboard/static/index.html" in names
    assert static <= set(names)


def test_the_wheel_holds_the_package_alone(names):
    tops = {name.partition("/")[0] for name in names}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"nexus"}


def test_the_wheel_runs_nothing_at_start(names):
    assert [name for name in names if name.endswith(".pth")] == []


def test_every_module_is_in_the_wheel(names):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "nexus").rglob("*.py")}

    assert modules <= set(names)


def test_the_sdist_holds_what_the_tests_need(dist):
    (path,) = dist.glob("nexus_proxy-*.tar.gz")
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}

    assert {
        "LICENSE",
        "README.rst",
        "CHANGES.rst",
        "tox.ini",
        "docs/index.rst",
        "tests/pkg/test_distribution.py",
    } <= held


def test_the_wheel_installs_into_an_empty_venv_and_says_its_version(wheel, tmp_path):
    venv.create(tmp_path / "v", with_pip=True)
    subprocess.run([tmp_path / "v/bin/pip", "install", "-q", wheel], check=True)

    said = subprocess.run([tmp_path / "v/bin/nexus-proxy", "--version"], check=True, capture_output=True, text=True)

    assert said.stdout.startswith(f"nexus-proxy {wheel.name.split('-')[1]} (python 3.")
