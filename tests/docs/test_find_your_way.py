"""The page that leads from a question to a file."""

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
