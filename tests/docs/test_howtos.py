"""What the pages for authors and operators of plugins show is what happens."""

import re
from textwrap import dedent

import pytest
from click.testing import CliRunner

from nexus.cli.main import main
from nexus.config.loading import load
from nexus.plugin_manager import find_plugins

FIRST_PARTY = {"affinity", "budget", "kubernetes", "privacy", "quality", "redis", "tier"}


@pytest.fixture
def shown(root):
    """Give the literal blocks of a page in one language, in their order."""

    def blocks(page, language):
        text = (root / "docs" / f"{page}.rst").read_text()
        pattern = rf"^( *)\.\. code-block:: {language}\n\n((?:\1   .*\n|\n)+)"
        return [dedent(block).strip() + "\n" for _, block in re.findall(pattern, text, re.MULTILINE)]

    return blocks


@pytest.fixture
def run(root, tmp_path, monkeypatch):
    """Run ``nexus-proxy`` in a folder that has the examples, and a configuration."""
    for example in (root / "docs/examples").glob("*.py"):
        (tmp_path / example.name).write_text(example.read_text())
    monkeypatch.chdir(tmp_path)

    def nexus_proxy(words, config):
        (tmp_path / "nexus.toml").write_text(config)
        return CliRunner().invoke(main, words.split(), catch_exceptions=False)

    return nexus_proxy


def without_spaces(text):
    return [line.split() for line in text.strip().splitlines()]


@pytest.mark.skipif(
    {candidate.name for candidate in find_plugins()} != FIRST_PARTY, reason="the page shows the plugins of this project"
)
def test_the_pipeline_is_ordered_as_the_page_shows(shown, run):
    (config,), (session,) = shown("howto/order-stages", "toml"), shown("howto/order-stages", "text")
    command, _, output = session.partition("\n")

    ended = run(command.removeprefix("$ nexus-proxy "), config)

    assert without_spaces(ended.output) == without_spaces(output)


@pytest.mark.parametrize(
    ("page", "example"), [("configure-a-plugin", "office_hours"), ("background-refresh", "daily_quota")]
)
def test_the_configuration_that_a_page_shows_fits_its_plugin(shown, run, page, example):
    (config,) = shown(f"howto/{page}", "toml")

    assert run(f"check --plugin {example}.py", config).exit_code == 0
    assert run(f"check --plugin {example}.py", config.replace("[plugins.", "[plugins.x")).exit_code == 78


def test_a_table_can_be_set_by_a_variable(root, tmp_path):
    page = (root / "docs/howto/configure-a-plugin.rst").read_text()
    (name, value) = re.search(r"``(NEXUS_PLUGINS__\w+)=(\d+)``", page).groups()
    (tmp_path / "nexus.toml").write_text("")

    loaded = load(tmp_path / "nexus.toml", environ={name: value}, overrides={})

    assert loaded.config.plugins == {"office_hours": {"first_hour": 7}}


def test_what_the_page_of_failures_shows_is_a_configuration(shown, run):
    observed, disabled, _ = shown("howto/failing-stages", "toml")

    assert run("check --plugin office_hours.py", observed).exit_code == 0
    assert "office-hours" not in run("pipeline --plugin office_hours.py", disabled).output


def test_every_file_that_the_page_of_publishing_speaks_of_is_made_by_the_template(root):
    page = (root / "docs/howto/publish-a-plugin.rst").read_text()
    made = {path.name.removesuffix(".jinja") for path in (root / "contrib/plugin-template/template").rglob("*")}

    assert {"CHANGES.rst", "py.typed", "setup.cfg"} <= made & set(re.findall(r"``([\w.]+)``", page))
    assert "[testenv:oldest]" in (root / "contrib/plugin-template/template/tox.ini.jinja").read_text()


def test_a_page_of_the_index_of_plugins_has_each_plugin_of_this_project(root):
    text = (root / "docs/reference/plugins.rst").read_text()
    listed = re.findall(r"^   \* - ``(\w+)``$", text.partition("Plugins of this project")[2], re.MULTILINE)

    assert set(listed) == FIRST_PARTY
