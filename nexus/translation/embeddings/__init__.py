"""Translates requests for embeddings, and their answers, between OpenAI's dialect and Ollama's.

===============  ======================================================================
``dialect``      one request and its answer in no dialect, and the interface of a dialect
``vectors``      turns a vector from a list into base64, and back
``openai``       OpenAI's dialect
``ollama``       Ollama's two dialects, of which the older one is only read
``conversion``   translates between any two of them
===============  ======================================================================
"""

from collections.abc import Mapping
from typing import Final

from nexus.translation.embeddings import ollama, openai
from nexus.translation.embeddings.conversion import EmbeddingsConversion
from nexus.translation.embeddings.dialect import EmbeddingsDialect

EMBEDDINGS: Final[Mapping[str, EmbeddingsDialect]] = {
    dialect.endpoint: dialect for dialect in (openai.DIALECT, ollama.DIALECT, ollama.OLD_DIALECT)
}
"""By the name of the endpoint that takes their requests."""

__all__ = ["EMBEDDINGS", "EmbeddingsConversion"]
