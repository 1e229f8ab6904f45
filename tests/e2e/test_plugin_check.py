"""``nexus-proxy plugins check`` tells who keeps what plugins promise, and who does not."""

from pathlib import Path

import pytest

from tests.support.installing import install_plugin

PLUGINS = Path(__file__).parents[1] / "plugins"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install two distributions, and give the environment of processes that have them."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("nexus-proxy-night", "nexus-proxy-rogue"):
        install_plugin(PLUGINS / name, folder)
    return {"PYTHONPATH": str(folder)}


def lines(checked, outcome):
    return [line.split(maxsplit=1)[1] for line in checked.stdout.splitlines() if line.startswith(f"{outcome} ")]


@pytest.mark.parametrize("name", ["night", "nexus-proxy-night", "Nexus_Proxy.Night"])
def test_a_good_plugin_passes_by_either_of_its_names_and_leaves_nothing_behind(command, tmp_path, installed, name):
    checked = command("plugins", "check", name, **installed)

    assert (checked.returncode, lines(checked, "failed")) == (0, [])
    assert "night: it imports nothing of Nexus but nexus.api" in lines(checked, "ok")
    assert "stage no-cloud-at-night: it never adds a candidate" in lines(checked, "ok")
    assert any("the usual headings" in line for line in lines(checked, "advice"))
    assert list(tmp_path.iterdir()) == []


def test_a_plugin_that_behaves_by_default_is_not_saved_by_that_from_its_table(command, tmp_path, installed):
    (tmp_path / "nexus.toml").write_text('[plugins.rogue]\ndoes = "leaks"\n')

    by_default = command("plugins", "check", "rogue", "-c", "/dev/null", **installed)
    as_configured = command("plugins", "check", "rogue", **installed)

    assert (by_default.returncode, as_configured.returncode) == (0, 1)
    (broken, objection) = sorted(lines(as_configured, "failed"))[-2:]
    assert "nexus has no objection" in broken + objection
    assert "what it holds can be given back" in broken + objection


def test_a_table_that_is_wrong_fails_the_check(command, tmp_path, installed):
    (tmp_path / "nexus.toml").write_text('[plugins.night]\nfirst_hour = "eight"\n')

    checked = command("plugins", "check", "night", **installed)

    assert checked.returncode == 1
    assert "expected `int`, got `str`" in lines(checked, "failed")[0]


def test_a_file_is_checked_too(command, tmp_path):
    source = (PLUGINS / "nexus-proxy-night" / "nexus_night.py").read_text()
    (tmp_path / "night.py").write_text(
        source.replace("stage=self.name", 'stage="privacy"').replace("on_error", "other")
    )
    # At every hour of which the check makes a request, and not only at some of them.
    (tmp_path / "nexus.toml").write_text("[plugins.night]\nfirst_hour = 8\nlast_hour = 8\n")

    checked = command("plugins", "check", "night", "--plugin", "night.py")

    assert checked.returncode == 1
    failed = lines(checked, "failed")
    assert any("it says what a failure of it means" in line for line in failed)
    assert any("it explains in its own name whatever it says" in line for line in failed)


def test_what_is_not_installed_is_named(command, installed):
    checked = command("plugins", "check", "nite", **installed)

    assert (checked.returncode, checked.stderr) == (
        1,
        "nexus-proxy: no installed plugin or distribution is named 'nite'; did you mean 'night'?\n",
    )


def test_without_hypothesis_it_says_what_to_install(command, tmp_path):
    (tmp_path / "hide" / "sitecustomize.py").parent.mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text("import sys\nsys.modules['hypothesis'] = None\n")

    checked = command("plugins", "check", "night", PYTHONPATH=str(tmp_path / "hide"))

    assert (checked.returncode, "pip install hypothesis" in checked.stderr) == (1, True)
