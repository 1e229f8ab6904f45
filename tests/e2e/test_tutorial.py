"""The tutorial of the first plugin, step by step: its files, its configuration, and its commands as it shows them."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from nexus.testing.client import ask, chat
from tests.support.installing import install_plugin

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial"
PAGE = (TUTORIAL / "first-plugin.rst").read_text()
FILE = "no_cloud_at_night.py"


@pytest.fixture
def toml(simulate):
    """Give the tables that the page shows, with the ports of servers that run."""
    fleet, table = (dedent(text) for text in re.findall(r"code-block:: toml\n\n((?:      .*\n|\n)+)", PAGE))
    for name, port in re.findall(r"simulator --name (\S+) --port (\d+)", PAGE):
        fleet = fleet.replace(f"http://127.0.0.1:{port}", simulate(name=name).url)
    return fleet, table


@pytest.fixture
def folder(tmp_path, toml):
    """Give the folder of somebody who has come to the end of the page."""
    for path in (TUTORIAL / "night").iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    (tmp_path / "nexus.toml").write_text("".join(toml))
    return tmp_path


def words(line):
    """Return the words of a command that the page shows, behind the program's name."""
    assert f"      {line}\n" in PAGE
    return shlex.split(line.removesuffix(" &"))[1:]


def test_the_pipeline_shows_where_the_file_lands(command, folder):
    shown = command(*words(f"nexus-proxy pipeline --plugin ./{FILE}")).stdout

    assert re.search(rf"^ 250 no-cloud-at-night +{FILE} +skips on error$", shown, re.MULTILINE)


def test_explain_says_why_not_the_other(command, folder):
    shown = command(*words(f"nexus-proxy explain --plugin ./{FILE} --model llama3")).stdout

    assert "cloud backends rest at night" in shown


def test_the_file_changes_who_answers(start_nexus, folder, toml):
    fleet, table = toml
    arguments = tuple(words(f"nexus-proxy --plugin ./{FILE} &"))

    asked = [start_nexus(config, arguments=more) for config, more in ((fleet, ()), (fleet + table, arguments))]
    replies = [ask(nexus.url, "/v1/chat/completions", chat()) for nexus in asked]

    assert [reply.headers["X-Nexus-Backend"] for reply in replies] == ["cloud", "gpu-1"]


def test_its_tests_pass(folder):
    line = words(f"python -m pytest test_{FILE}")

    ended = subprocess.run([sys.executable, *line], cwd=folder, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_once_installed_it_needs_no_option(command, folder, tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    install_plugin(folder, site)

    listed = command(*words("nexus-proxy plugins"), PYTHONPATH=str(site)).stdout
    pipeline = command("pipeline", PYTHONPATH=str(site)).stdout
    checked = command(*words("nexus-proxy plugins check nexus-proxy-no-cloud-at-night"), PYTHONPATH=str(site))

    assert "\nno_cloud_at_night  nexus-proxy-no-cloud-at-night 0.1.0  enabled\n" in listed
    assert "no-cloud-at-night" in pipeline
    assert checked.returncode == 0, checked.stdout
