"""The table of dialects, and of the endpoints between which requests are translated."""

from collections.abc import Mapping
from typing import Final

from nexus.translation import anthropic, ollama
from nexus.translation.dialect import Dialect

DIALECTS: Final[Mapping[str, Dialect]] = {
    dialect.endpoint: dialect for dialect in (anthropic.DIALECT, ollama.DIALECT, ollama.COMPLETION_DIALECT)
}
"""By the name of the endpoint that takes their requests."""

PREFERENCE: Final = ("openai.chat", "anthropic.messages", "openai.responses", "ollama.chat")
"""The endpoints that a translated request may go to, best first: a backend may have several."""


def alternatives(endpoint: str) -> tuple[str, ...]:
    """Return the endpoints to which requests to *endpoint* can be translated, best first."""
    if endpoint not in DIALECTS:
        return ()
    return tuple(name for name in PREFERENCE if name in DIALECTS and name != endpoint)
