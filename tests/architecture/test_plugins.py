"""Each folder of plugins/ is one distribution of one shape, under one short name, and uses the plugins' door."""

import configparser
import re

import pytest

from nexus.testing.imports import assert_only_uses_api
from nexus.testing.readme_contract import HEADINGS, Readme


@pytest.fixture(scope="session")
def metadata(plugin_folders):
    """What each setup.cfg says, by the plugin's name."""
    return {folder.name: read(folder / "setup.cfg") for folder in plugin_folders}


def read(path):
    setup = configparser.ConfigParser()
    setup.read(path)
    return setup


def test_a_plugin_imports_the_api_and_nothing_else_of_nexus(plugin_folders):
    for folder in plugin_folders:
        assert_only_uses_api(folder)


def test_one_short_name_serves_a_plugin_everywhere(metadata):
    for name, setup in metadata.items():
        assert setup["metadata"]["name"] == f"nexus-proxy-{name}"
        assert setup["options.entry_points"]["nexus"].split() == [name, "=", f"nexus_{name}.plugin"]
        assert setup["options.packages.find"]["include"] == f"nexus_{name}*"


def test_a_plugin_can_be_found_and_says_which_nexus_it_needs(metadata):
    for setup in metadata.values():
        assert "nexus-proxy-plugin" in setup["metadata"]["keywords"]
        assert re.search(r"^nexus-proxy>=\d", setup["options"]["install_requires"], re.MULTILINE)
        assert setup["options"]["python_requires"] == ">=3.11"


def test_a_plugin_has_every_file_that_one_has(plugin_folders):
    for folder in plugin_folders:
        package = f"nexus_{folder.name}"
        expected = ["pyproject.toml", "README.rst", "CHANGES.rst", "LICENSE", "tests", f"{package}/py.typed"]
        modules = [f"{package}/{module}.py" for module in ("__init__", "plugin", "config")]
        # What it is for: a stage, a finder of backends, or a store.
        work = [f"{package}/{module}.py" for module in ("reconciler", "discoverer", "store")]

        assert [name for name in (*expected, *modules) if not (folder / name).exists()] == []
        assert [name for name in work if (folder / name).exists()] != []


def test_every_readme_has_the_headings_in_which_an_operator_looks(plugin_folders):
    for folder in plugin_folders:
        assert Readme(folder / "README.rst").headings() == HEADINGS


def test_every_plugin_has_the_license_of_the_core(plugin_folders, root):
    texts = {(folder / "LICENSE").read_text() for folder in plugin_folders}

    assert texts <= {(root / "LICENSE").read_text()}


def test_the_layers_know_every_plugin_and_every_part_of_the_core(plugin_folders, root):
    layers = configparser.ConfigParser()
    layers.read(root / ".importlinter")
    packages = {f"nexus_{folder.name}" for folder in plugin_folders}
    parts = {
        path.stem for path in (root / "nexus").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    door = layers["importlinter:contract:plugins"]

    assert packages <= set(layers["importlinter"]["root_packages"].split())
    assert packages <= set(door["source_modules"].split())
    assert set(door["forbidden_modules"].split()) == {f"nexus.{part}" for part in parts - {"__init__", "api"}}
