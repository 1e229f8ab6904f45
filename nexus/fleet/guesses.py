"""What a model's name suggests, for flags that nobody has told: a guess says yes or nothing, never no."""

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


def with_guesses(facts: ModelFacts) -> ModelFacts:
    """Return *facts* with the flags on that the name suggests and that are unknown."""
    name = facts.name.lower()
    return msgspec.structs.replace(
        facts,
        vision=True if facts.vision is None and _SEES.search(name) else facts.vision,
        tools=True if facts.tools is None and _CALLS_TOOLS.search(name) else facts.tools,
    )
