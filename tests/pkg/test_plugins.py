"""Each plugin's wheel and sdist hold what they must; installed beside the core, it does what its README says."""

import configparser
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/setup.cfg"))

pytestmark = pytest.mark.timeout(300)
of_each = pytest.mark.parametrize("name", PLUGINS)


class Wheel:
    """One wheel, unpacked as far as a test asks."""

    def __init__(self, path):
        self._archive = zipfile.ZipFile(path)
        self.names = self._archive.namelist()
        self.version = path.name.split("-")[1]

    def text_of(self, ending):
        (name,) = (name for name in self.names if name.endswith(ending))
        return self._archive.read(name).decode()

    @property
    def metadata(self):
        return message_from_string(self.text_of(".dist-info/METADATA"))


@pytest.fixture
def plugin_wheel(dist, name):
    (path,) = dist.glob(f"nexus_proxy_{name}-*-py3-none-any.whl")
    return Wheel(path)


@of_each
def test_the_wheel_holds_the_package_whole_and_alone(plugin_wheel, name):
    package = ROOT / "plugins" / name / f"nexus_{name}"
    expected = {
        str(path.relative_to(package.parent))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    held = {path for path in plugin_wheel.names if ".dist-info/" not in path}

    assert held == expected
    assert f"nexus_{name}/py.typed" in held


@of_each
def test_the_wheel_says_what_it_is(plugin_wheel, name):
    told = plugin_wheel.metadata
    readme = (ROOT / "plugins" / name / "README.rst").read_text()

    assert (told["Name"], told["Description-Content-Type"]) == (f"nexus-proxy-{name}", "text/x-rst")
    assert f'__version__ = "{told["Version"]}"' in plugin_wheel.text_of(f"nexus_{name}/__init__.py")
    assert any(re.match(r"nexus-proxy>=\d", needed) for needed in told.get_all("Requires-Dist"))
    assert told.get_payload().strip() == readme.strip()


@of_each
def test_the_wheel_has_the_entry_point_and_the_license(plugin_wheel, name):
    points = configparser.ConfigParser()
    points.read_string(plugin_wheel.text_of("entry_points.txt"))

    assert dict(points["nexus"]) == {name: f"nexus_{name}.plugin"}
    assert plugin_wheel.text_of(".dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_text()


@of_each
def test_the_sdist_holds_news_and_tests(dist, name):
    (path,) = dist.glob(f"nexus_proxy_{name}-*.tar.gz")
    with tarfile.open(path) as archive:
        held = {member.partition("/")[2] for member in archive.getnames()}
    tests = {
        str(test.relative_to(ROOT / "plugins" / name)) for test in (ROOT / "plugins" / name / "tests").rglob("*.py")
    }

    assert {"CHANGES.rst", "README.rst", "LICENSE", *tests} <= held


@of_each
@pytest.mark.parametrize("page", ["README.rst", "CHANGES.rst"])
def test_an_index_can_show_its_pages(name, page, tmp_path):
    command = [sys.executable, "-m", "docutils", "--halt=warning", ROOT / "plugins" / name / page, tmp_path / "page"]

    shown = subprocess.run(command, capture_output=True, text=True, check=False)

    assert shown.returncode == 0, shown.stderr


TWO_BACKENDS = """
[[backends]]
name = "preferred"
url = "{preferred}"
priority = 0
zone = "open"
tier = 1

[[backends]]
name = "other"
url = "{other}"
priority = 90
zone = "restricted"
tier = 3
"""

POLICY = '[[routing.policies]]\nmodel_pattern = "llama*"\n'

SENDS_TO_THE_OTHER = {
    "budget": POLICY
    + 'max_cost_per_request = 0.01\n[[plugins.budget.prices]]\nbackend = "preferred"\nrequest_usd = 1.0\n',
    "privacy": POLICY + 'privacy = "restricted"\n',
    "quality": "[plugins.quality]\nmin_samples = 1\n",
    "tier": POLICY + "min_tier = 3\n",
}
"""By plugin that has a stage, what makes it keep requests from the preferred backend."""

TAKES_A_TABLE = {
    "affinity": "[plugins.affinity]\nassumed_cache_tokens = 100_000\n",
    "kubernetes": '[[plugins.kubernetes.services]]\nservice = "vllm"\n',
    "redis": '[plugins.redis]\nurl = "redis://127.0.0.1:6379/1"\n',
}
"""By plugin that finds backends, or chooses only among equal ones, a table of it."""


def test_every_plugin_is_tried():
    assert sorted([*SENDS_TO_THE_OTHER, *TAKES_A_TABLE]) == PLUGINS


@pytest.fixture
def second_answer_by(environment, answered_by, tmp_path):
    """Start a proxy before two backends, of which the preferred one fails once; tell who answers then, and why."""

    def ask(more=""):
        once = '{"kind": "status", "status": 500, "times": 1}'
        with (
            environment.simulator("--name", "preferred", "--fault", once) as preferred,
            environment.simulator("--name", "other") as other,
        ):
            (tmp_path / "nexus.toml").write_text(more + TWO_BACKENDS.format(preferred=preferred, other=other))
            with environment.proxy(tmp_path) as url:
                answered_by(url)
                why = environment.nexus_proxy("explain", "--model", "llama3", "--url", url, cwd=tmp_path).stdout
                return answered_by(url), why

    return ask


@pytest.mark.parametrize("name", sorted(SENDS_TO_THE_OTHER))
def test_it_is_installed_decides_and_is_missed(environment, second_answer_by, name, tmp_path):
    insisting = f'[plugin_loading]\nrequired = ["{name}>=0.1"]\n{SENDS_TO_THE_OTHER[name]}'

    without, _ = second_answer_by()
    environment.pip("install", f"nexus-proxy-{name}")
    installed, why = second_answer_by(insisting)
    environment.pip("uninstall", "-y", f"nexus-proxy-{name}")
    missed = environment.nexus_proxy(cwd=tmp_path)

    assert (without, installed) == ("preferred", "other")
    assert re.search(rf"not preferred +.*\b{name}\b", why)
    assert_it_is_missed(missed, name)


@pytest.mark.parametrize("name", sorted(TAKES_A_TABLE))
def test_another_is_installed_takes_its_table_and_is_missed(environment, name, tmp_path):
    insisting = f'[plugin_loading]\nrequired = ["{name}>=0.1"]\n{TAKES_A_TABLE[name]}'
    (tmp_path / "nexus.toml").write_text(insisting)

    if foreign := foreign_requirements(name):
        environment.pip_from_index("install", *foreign)
    environment.pip("install", f"nexus-proxy-{name}")
    checked = environment.nexus_proxy("check", cwd=tmp_path)
    environment.pip("uninstall", "-y", f"nexus-proxy-{name}")
    missed = environment.nexus_proxy(cwd=tmp_path)

    assert checked.returncode == 0, checked.stderr
    assert_it_is_missed(missed, name)


def foreign_requirements(name):
    """What a plugin requires beside Nexus."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "plugins" / name / "setup.cfg")
    return [line for line in setup["options"]["install_requires"].split() if not line.startswith("nexus-proxy")]


def assert_it_is_missed(ended, name):
    assert ended.returncode == 78
    assert ended.stderr.strip().endswith(
        f"plugin '{name}' is required by [plugin_loading] in nexus.toml but is not installed;"
        f" pip install nexus-proxy-{name}"
    )
