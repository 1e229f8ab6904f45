"""A request for embeddings and its answer in no dialect, and the interface of a dialect."""

import re
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from nexus.translation.conversion import About
from nexus.translation.dialect import EncodedRequest, Target
from nexus.translation.events import Failure


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors are asked for."""

    input: msgspec.Raw
    """A text or a list of texts, byte for byte: all dialects have it alike. Or tokens, see :func:`has_texts`."""
    dimensions: int | None = None
    """The length of the vectors; None: as the model makes them."""
    encoding: Literal["float", "base64"] = "float"
    """How the client wants the vectors: as lists, or as 32-bit floats in base64, lowest byte first."""
    lost: tuple[str, ...] = ()
    """Fields with no place here, by their names, sorted, each once."""


class Embeddings(msgspec.Struct, frozen=True):
    """The answer."""

    vectors: Sequence[bytes]
    """In the order of the texts, each as JSON: a list, or base64 in a string."""
    prompt_tokens: int | None = None
    """None: not reported."""


class EmbeddingsDialect(msgspec.Struct, frozen=True, kw_only=True):
    """One way of asking for embeddings."""

    endpoint: str
    decode_request: Callable[[bytes], EmbeddingsRequest]
    """:raises RequestError: the body is invalid, or asks for what only its own backends can do."""
    encode_request: Callable[[EmbeddingsRequest, Target], EncodedRequest] | None
    """None: backends with this endpoint are asked at another one. :raises RequestError: ``not_translatable``."""
    decode_answer: Callable[[bytes], Embeddings] | None
    """:raises ValueError: the body is no answer."""
    encode_answer: Callable[[Embeddings, EmbeddingsRequest, About], bytes]
    """:raises ValueError: a vector is none."""
    decode_error: Callable[[int, bytes], Failure]
    encode_error: Callable[[Failure, str], bytes]


def is_empty(raw: msgspec.Raw) -> bool:
    """Whether *raw*, an input, has nothing to embed."""
    return _EMPTY.fullmatch(bytes(raw)) is not None


def has_texts(raw: msgspec.Raw) -> bool:
    """Whether *raw*, an input, is a text or a list of texts; it may also be one of tokens, or anything else."""
    return _TEXTS.match(bytes(raw)) is not None


_EMPTY: Final = re.compile(rb'(?:null|""|\[\s*\])?')
_TEXTS: Final = re.compile(rb'\[?\s*"')
