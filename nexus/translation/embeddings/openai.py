"""OpenAI's requests for embeddings, and their answers."""

from typing import Final, Literal

import msgspec

from nexus.errors import RequestError
from nexus.translation import openai
from nexus.translation.conversion import About
from nexus.translation.dialect import EncodedRequest, Target
from nexus.translation.embeddings.dialect import Embeddings, EmbeddingsDialect, EmbeddingsRequest
from nexus.translation.embeddings.vectors import as_base64, as_list
from nexus.translation.reading import decode_body, other_members
from nexus.wire.documents import read


def _decode_request(body: bytes) -> EmbeddingsRequest:
    request = decode_body(_REQUEST, body)
    if bytes(request.input) in (b"", b"null"):
        raise RequestError("invalid_value", "'input' is missing; give a text or a list of texts", param="input")
    return EmbeddingsRequest(
        input=request.input,
        dimensions=request.dimensions,
        encoding=request.encoding_format or "float",
        lost=tuple(sorted(other_members(_KNOWN, body))),
    )


def _encode_request(request: EmbeddingsRequest, target: Target) -> EncodedRequest:
    # Lists are what this API answers unless it is asked otherwise.
    return EncodedRequest(msgspec.json.encode(_Written(target.model, request.input, request.dimensions)))


def _decode_answer(body: bytes) -> Embeddings:
    answer = read(_ANSWER, body)
    if answer is None or not answer.data:
        raise ValueError("the backend's answer has no embeddings")
    rows = sorted(answer.data, key=lambda row: row.index or 0)
    tokens = answer.usage.prompt_tokens if answer.usage else None
    return Embeddings([bytes(row.embedding) for row in rows], tokens if type(tokens) is int else None)


def _encode_answer(embeddings: Embeddings, request: EmbeddingsRequest, about: About) -> bytes:
    encode = as_base64 if request.encoding == "base64" else as_list
    rows = [
        _WrittenRow("embedding", msgspec.Raw(encode(vector)), index) for index, vector in enumerate(embeddings.vectors)
    ]
    tokens = about.prompt_tokens if embeddings.prompt_tokens is None else embeddings.prompt_tokens
    return msgspec.json.encode(_WrittenAnswer("list", rows, about.model, _WrittenUsage(tokens, tokens)))


class _Request(msgspec.Struct):
    model: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class _Written(msgspec.Struct, omit_defaults=True):
    model: str
    input: msgspec.Raw
    dimensions: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: object = None


class _Row(msgspec.Struct):
    embedding: msgspec.Raw
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Row] | None = None
    usage: _Usage | None = None


class _WrittenRow(msgspec.Struct):
    object: str
    embedding: msgspec.Raw
    index: int


class _WrittenUsage(msgspec.Struct):
    prompt_tokens: int
    total_tokens: int


class _WrittenAnswer(msgspec.Struct):
    object: str
    data: list[_WrittenRow]
    model: str
    usage: _WrittenUsage


_REQUEST: Final = msgspec.json.Decoder(_Request)
_ANSWER: Final = msgspec.json.Decoder(_Answer)
_KNOWN: Final = frozenset(_Request.__struct_fields__)

DIALECT: Final = EmbeddingsDialect(
    endpoint="openai.embeddings",
    decode_request=_decode_request,
    encode_request=_encode_request,
    decode_answer=_decode_answer,
    encode_answer=_encode_answer,
    decode_error=openai.DIALECT.decode_error,
    encode_error=openai.DIALECT.encode_error,
)
