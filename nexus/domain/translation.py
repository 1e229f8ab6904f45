"""The names of translations: from the dialect of a client to that of a backend."""

from collections.abc import Mapping
from typing import Final

DIALECTS: Final[Mapping[str, str]] = {
    "openai.chat": "openai",
    "openai.responses": "responses",
    "anthropic.messages": "anthropic",
    "anthropic.count_tokens": "anthropic",
    "ollama.chat": "ollama",
    "ollama.generate": "generate",
    "openai.embeddings": "openai",
    "ollama.embed": "ollama",
    "ollama.embeddings": "ollama",
    "openai.tokenize": "tokenize",
}
"""The dialect, as people are shown it, of each endpoint from or to which requests are translated."""

PAIRS: Final = tuple(
    f"{client}->{backend}"
    for client in ("openai", "responses", "anthropic", "ollama", "generate")
    for backend in ("openai", "responses", "anthropic", "ollama", "tokenize")
    if client != backend and (backend != "tokenize" or client == "anthropic")
)
"""Every translation, as in ``translation.disabled_pairs``, ``X-Nexus-Translated``, the log and the metrics."""


def pair(client_endpoint: str, backend_endpoint: str) -> str:
    """Return the name of the translation between two endpoints, such as ``anthropic->openai``."""
    return f"{DIALECTS[client_endpoint]}->{DIALECTS[backend_endpoint]}"
