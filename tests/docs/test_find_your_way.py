"""The page that leads from a question to a file."""

import ast
import re

import pytest

import nexus


@pytest.fixture
def answers(page):
    """Each question with the files that its answer names."""
    found = re.findall(r"^(\S.*\?)\n((?:   .+\n?)+)", page("explanation/find-your-way"), re.MULTILINE)
    return {question: re.findall(r"``(nexus/[^`]+\.py)``", answer) for question, answer in found}


def test_there_are_twenty_questions(answers):
    assert len(answers) == 20


def test_every_answer_names_a_file_that_exists(answers, root):
    assert [q for q, files in answers.items() if not files or not all((root / f).is_file() for f in files)] == []


def test_every_module_that_a_page_names_exists(root):
    named = {
        file
        for page in [root / "CONTRIBUTING.rst", *(root / "docs").rglob("*.rst")]
        for file in re.findall(r"``(nexus/[\w/]+\.py)``", page.read_text())
    }

    assert {file for file in named if not (root / file).is_file()} == set()


def test_the_docstrings_of_the_packages_lead_to_every_file(answers, root):
    named = {file for files in answers.values() for file in files if "/proxy/" not in file}

    assert {step for file in named for step in missing_steps(root / file, root)} == set()


def missing_steps(file, root):
    """Packages above *file* whose docstring does not name the next step towards it."""
    step = file
    while (package := step.parent) != root:
        docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
        if f"``{step.stem}``" not in docstring:
            yield f"{step.stem} in {package.relative_to(root)}"
        step = package


def test_the_map_of_the_top_level_is_complete(root):
    parts = {
        path.stem for path in (root / "nexus").iterdir() if (path / "__init__.py").exists() or path.suffix == ".py"
    }

    assert set(re.findall(r"^``(\w+)``", nexus.__doc__, re.MULTILINE)) == parts - {"__init__", "__main__"}
