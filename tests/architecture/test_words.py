"""The code speaks of components by their names: no word that only fits a person, where none is meant."""

import io
import re
import tokenize

import pytest

WORDS = re.compile(
    r"\b(who|whom|whoever|nobody|somebody|anybody|everybody|he|him|heard)\b|\bknown again|\blet in\b|of the house",
    re.IGNORECASE,
)

PEOPLE = re.compile(
    r"\b(people|person|operators?|users?|authors?|administrators?|readers?|maintainers?|those|engineers?) who\b",
    re.IGNORECASE,
)
"""After these, "who" is what English says."""

ALLOWED = {
    "documented, for those who extend asyncio": "people",
    ": heard {len(sound)} bytes": "what a simulated transcription answers",
}
"""A phrase with one of the words, lower case, and why it stays."""

TEXT = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))


@pytest.fixture(scope="module")
def texts(modules):
    return [
        (f"{module.name}:{token.start[0]}", token.string)
        for module in modules
        for token in tokenize.generate_tokens(io.StringIO(module.text).readline)
        if token.type in TEXT
    ]


def test_a_component_is_called_by_its_name(texts):
    found = [f"{where}: {match.group()}" for where, text in texts for match in WORDS.finditer(without_allowed(text))]

    assert found == []


def without_allowed(text):
    text = PEOPLE.sub("", " ".join(text.split()))
    for phrase in ALLOWED:
        text = re.sub(re.escape(phrase), "", text, flags=re.IGNORECASE)
    return text


def test_what_is_allowed_is_still_said(texts):
    said = " ".join(" ".join(text.split()).lower() for _, text in texts)

    assert [phrase for phrase in ALLOWED if phrase.lower() not in said] == []
