"""What a model's name suggests, for facts that nobody has told: a guess says yes or nothing, never no."""

import re
from typing import Final

import msgspec

from nexus.domain.model import ModelFacts

_SEES: Final = re.compile(
    r"llava|vision|llama-?4|gemma.*[-:](4|12|27)b|pixtral|moondream|minicpm-v|gpt-4o|claude-"
    r"|(^|[-_/.\d])vl([-_:.]|$)"
)
_CALLS_TOOLS: Final = re.compile(
    r"mistral|llama-?3\.[123]|llama-?4|qwen-?2\.5|qwen-?3|command-r|firefunction|functionary|hermes"
    r"|gpt-4|gpt-3\.5-turbo|claude-"
)
_LEAVES_THE_HOUSE: Final = re.compile(r"[:-]cloud$")
"""So Ollama calls the models that it passes on to its cloud: ``glm-4.6:cloud``, ``gpt-oss:120b-cloud``. A server that
is not recognised as one may still be one, so the name counts everywhere."""


def with_guesses(facts: ModelFacts) -> ModelFacts:
    """Return *facts* with those filled in that the name suggests and that are unknown."""
    name = facts.name.lower()
    return msgspec.structs.replace(
        facts,
        vision=True if facts.vision is None and _SEES.search(name) else facts.vision,
        tools=True if facts.tools is None and _CALLS_TOOLS.search(name) else facts.tools,
        zone="open" if facts.zone is None and _LEAVES_THE_HOUSE.search(name) else facts.zone,
    )
