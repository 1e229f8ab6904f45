"""Guesses unknown facts from the name of a model; a guess is never negative."""

import re
from typing import Final

import msgspec

from nexus.domain.model import ModelFacts

_VISION: Final = re.compile(
    r"llava|vision|llama-?4|gemma.*[-:](4|12|27)b|pixtral|moondream|minicpm-v|gpt-4o|claude-"
    r"|(^|[-_/.\d])vl([-_:.]|$)"
)
_TOOLS: Final = re.compile(
    r"mistral|llama-?3\.[123]|llama-?4|qwen-?2\.5|qwen-?3|command-r|firefunction|functionary|hermes"
    r"|gpt-4|gpt-3\.5-turbo|claude-"
)
_RUNS_IN_CLOUD: Final = re.compile(r"[:-]cloud$")
"""Ollama's names for models that it forwards to its cloud: ``glm-4.6:cloud``, ``gpt-oss:120b-cloud``. It applies to
servers of all kinds, because an Ollama may not be recognised as one."""


def with_guesses(facts: ModelFacts) -> ModelFacts:
    """Return *facts* with the unknown ones filled in that the name suggests."""
    name = facts.name.lower()
    return msgspec.structs.replace(
        facts,
        vision=True if facts.vision is None and _VISION.search(name) else facts.vision,
        tools=True if facts.tools is None and _TOOLS.search(name) else facts.tools,
        zone="open" if facts.zone is None and _RUNS_IN_CLOUD.search(name) else facts.zone,
    )
