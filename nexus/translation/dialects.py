"""The table of dialects, and of the endpoints between which requests are translated."""

from collections.abc import Collection, Mapping
from typing import Final

from nexus.domain.translation import pair
from nexus.errors import RequestError
from nexus.translation import anthropic, ollama, openai, responses
from nexus.translation.conversion import About, Conversion
from nexus.translation.dialect import Dialect, Target
from nexus.translation.embeddings import EMBEDDINGS, EmbeddingsConversion
from nexus.translation.token_counts import TokenCount
from nexus.translation.translator import ChatConversion
from nexus.wire.characters import check_encoding, with_whole_characters

DIALECTS: Final[Mapping[str, Dialect]] = {
    dialect.endpoint: dialect
    for dialect in (openai.DIALECT, responses.DIALECT, anthropic.DIALECT, ollama.DIALECT, ollama.COMPLETION_DIALECT)
}
"""By the name of the endpoint that takes their requests."""

PREFERENCE: Final = ("openai.chat", "anthropic.messages", "openai.responses", "ollama.chat")
"""The endpoints that a translated chat may go to, best first: a backend may have several."""

_NOT_CHATS: Final[Mapping[str, tuple[str, ...]]] = {
    "anthropic.count_tokens": ("openai.tokenize",),
    "openai.embeddings": ("ollama.embed",),
    "ollama.embed": ("openai.embeddings",),
    "ollama.embeddings": ("openai.embeddings",),
}
"""The same for all other requests, by the endpoint of the client."""


def translations(disabled_pairs: Collection[str] = ()) -> Mapping[str, tuple[str, ...]]:
    """Return, by the name of each endpoint, those to which its requests can be translated, best first."""
    found = {endpoint: _alternatives(endpoint, disabled_pairs) for endpoint in (*DIALECTS, *_NOT_CHATS)}
    return {endpoint: others for endpoint, others in found.items() if others}


def _alternatives(endpoint: str, disabled_pairs: Collection[str]) -> tuple[str, ...]:
    of_chat = (name for name in PREFERENCE if name in DIALECTS and name != endpoint)
    return tuple(name for name in _NOT_CHATS.get(endpoint, of_chat) if pair(endpoint, name) not in disabled_pairs)


def convert(endpoint: str, other: str, body: bytes, target: Target, about: About) -> Conversion:
    """Translate a request to *endpoint* into one to *other*, which :func:`translations` lists for it.

    :raises RequestError: *body* is invalid, or cannot be said there without changing its meaning: ``not_translatable``.
    """
    try:
        if not body.isascii():
            check_encoding(body)
        return _conversion(endpoint, other, body, target, about)
    except UnicodeDecodeError:
        repaired = with_whole_characters(body)
    except RequestError as exc:
        repaired = with_whole_characters(body) if exc.code == "invalid_json" else body
        if repaired == body:
            raise
    return _conversion(endpoint, other, repaired, target, about)


def _conversion(endpoint: str, other: str, body: bytes, target: Target, about: About) -> Conversion:
    if endpoint in EMBEDDINGS:
        return EmbeddingsConversion(body, EMBEDDINGS[endpoint], EMBEDDINGS[other], target, about)
    if other == "openai.tokenize":
        return TokenCount(body, target, about)
    return ChatConversion(body, DIALECTS[endpoint], DIALECTS[other], target, about)


def headers_of(endpoint: str) -> Mapping[bytes, bytes]:
    """Return the headers, by lower-case name, that a translated request to *endpoint* must have."""
    dialect = DIALECTS.get(endpoint)
    return {} if dialect is None else dialect.headers
