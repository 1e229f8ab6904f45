"""The files around the code agree with each other."""

import configparser
import os
import re
import subprocess
import tomllib

TOX_ENVS = {
    "lint", "type", "layers", "unit", "property", "integration", "contract", "e2e", "docs", "bench", "demo", "pkg",
    "template", "py311", "py312", "py313",
}  # fmt: skip


def code_blocks(rst):
    """The lines of the README's literal blocks of shell."""
    return re.findall(r"\.\. code-block:: sh\n\n    (.+)\n", rst)


def test_ci_calls_the_readmes_test_command(root):
    _, test_command = code_blocks((root / "README.rst").read_text())

    assert test_command in (root / ".ci/run").read_text().splitlines()
    assert os.access(root / ".ci/run", os.X_OK)


def test_ci_refuses_an_old_python_and_says_so(root, tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)

    ran = subprocess.run(
        ["bash", root / ".ci/run"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 1
    assert "3.11 or newer" in ran.stderr
    assert "Python 3.9.2" in ran.stderr


def test_every_tox_env_says_what_it_asks(root, plugin_folders):
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(root / "tox.ini")
    sections = {name.removeprefix("testenv:"): tox[name] for name in tox.sections() if name.startswith("testenv:")}
    default = set(one_by_one(tox["tox"]["env_list"]))
    oldest = {f"plugin-{folder.name}-oldest" for folder in plugin_folders}

    assert all(section.get("description") for section in [tox["testenv"], *sections.values()])
    assert set(one_by_one(",".join(sections))) | default >= TOX_ENVS | oldest


def one_by_one(names):
    """Yield each env that *names* stands for: ``plugin-{tier,budget}-oldest`` stands for two."""
    for name in re.findall(r"(?:[^,\s{]|{[^}]*})+", names):
        before, brace, rest = name.partition("{")
        middle, _, after = rest.partition("}")
        yield from (before + word + after for word in middle.split(",")) if brace else (name,)


def test_contributing_fits_two_screens(root):
    assert len((root / "CONTRIBUTING.rst").read_text().splitlines()) <= 80


def test_the_license_is_whole(root):
    text = (root / "LICENSE").read_text()

    assert text.count("\n") == 202
    assert "END OF TERMS AND CONDITIONS" in text


def test_every_change_has_a_type_that_towncrier_knows(root):
    config = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["towncrier"]
    types = {row["directory"] for row in config["type"]}
    fragments = {path.name for path in (root / "changes.d").iterdir()} - {"README.rst"}

    assert [name for name in fragments if not re.fullmatch(rf"\+[a-z0-9-]+\.({'|'.join(types)})\.rst", name)] == []


def test_every_unit_test_stands_where_its_module_does(root):
    tests = [path.relative_to(root / "tests/unit") for path in (root / "tests/unit").rglob("test_*.py")]

    homeless = [str(path) for path in tests if not (root / "nexus" / path.parent).is_dir()]

    assert homeless == []
