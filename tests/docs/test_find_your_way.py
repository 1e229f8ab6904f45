"""The page that leads from a question to a file."""

import ast
import re

import pytest


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


def maps(root):
    """Each package with its modules, and with the docstring that should list them."""
    for init in (root / "nexus").rglob("__init__.py"):
        parts = {p.stem for p in init.parent.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
        docstring = ast.get_docstring(ast.parse(init.read_text()))
        yield init.parent.relative_to(root), {part for part in parts if not part.startswith("__")}, docstring


def test_the_docstring_of_each_package_names_all_its_modules(root):
    unnamed = {
        f"{part} in {package}" for package, parts, text in maps(root) for part in parts if f"``{part}``" not in text
    }

    assert unnamed == set()


def test_no_docstring_lists_a_module_that_is_gone(root):
    gone = {
        f"{name} in {package}"
        for package, parts, text in maps(root)
        for name in re.findall(r"^``(\w+)``", text, re.MULTILINE)
        if name not in parts
    }

    assert gone == set()
