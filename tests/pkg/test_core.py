"""The core's wheel and sdist hold what they must, and the core needs nothing else to run."""

import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(300)


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
        "tests/pkg/test_core.py",
    } <= held


def test_in_an_empty_venv_it_says_its_version_and_that_there_is_no_plugin(environment, wheel, tmp_path):
    said = environment.nexus_proxy("--version", cwd=tmp_path).stdout

    assert said.startswith(f"nexus-proxy {wheel.name.split('-')[1]} (python 3.")
    assert said.endswith("\nplugins: none\n")


def test_without_any_plugin_it_answers(environment, answered_by, tmp_path):
    with environment.simulator("--name", "gpu-1") as url:
        (tmp_path / "nexus.toml").write_text(f'[[backends]]\nname = "gpu-1"\nurl = "{url}"\n')

        with environment.proxy(tmp_path) as proxy:
            assert answered_by(proxy) == "gpu-1"
