"""Ollama's requests for embeddings, and their answers; the older kind has one text, and only clients use it."""

from typing import Final

import msgspec

from nexus.errors import RequestError
from nexus.translation import ollama
from nexus.translation.conversion import About
from nexus.translation.dialect import EncodedRequest, Target
from nexus.translation.embeddings.dialect import Embeddings, EmbeddingsDialect, EmbeddingsRequest, has_texts, is_empty
from nexus.translation.embeddings.vectors import as_list
from nexus.translation.ollama.options import lost_fields
from nexus.translation.reading import decode_body
from nexus.translation.refusals import not_translatable
from nexus.wire.documents import read


def _decode_request(body: bytes) -> EmbeddingsRequest:
    request = decode_body(_REQUEST, body)
    if is_empty(request.input):
        raise not_translatable("input", "without a text, the request loads a model, which only Ollama can do")
    return EmbeddingsRequest(input=request.input, dimensions=request.dimensions, lost=lost_fields(body, _KNOWN))


def _decode_old_request(body: bytes) -> EmbeddingsRequest:
    request = decode_body(_OLD_REQUEST, body)
    if not request.prompt:
        raise not_translatable("prompt", "without a text, the request loads a model, which only Ollama can do")
    prompt = msgspec.Raw(msgspec.json.encode(request.prompt))
    return EmbeddingsRequest(input=prompt, lost=lost_fields(body, _OLD_KNOWN))


def _encode_request(request: EmbeddingsRequest, target: Target) -> EncodedRequest:
    if is_empty(request.input):
        raise RequestError("invalid_value", "'input' is empty; give a text or a list of texts", param="input")
    if not has_texts(request.input):
        raise not_translatable("input", "send it as a text or a list of texts, not as tokens")
    return EncodedRequest(msgspec.json.encode(_Written(target.model, request.input, request.dimensions)))


def _decode_answer(body: bytes) -> Embeddings:
    answer = read(_ANSWER, body)
    if answer is None or not answer.embeddings:
        raise ValueError("the backend's answer has no embeddings")
    tokens = answer.prompt_eval_count
    return Embeddings([bytes(vector) for vector in answer.embeddings], tokens if type(tokens) is int else None)


def _encode_answer(embeddings: Embeddings, _request: EmbeddingsRequest, about: About) -> bytes:
    vectors = [msgspec.Raw(as_list(vector)) for vector in embeddings.vectors]
    return msgspec.json.encode(_WrittenAnswer(about.model, vectors, embeddings.prompt_tokens))


def _encode_old_answer(embeddings: Embeddings, _request: EmbeddingsRequest, _about: About) -> bytes:
    return msgspec.json.encode(_OldAnswer(msgspec.Raw(as_list(embeddings.vectors[0]))))


class _Request(msgspec.Struct):
    model: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    dimensions: int | None = None


class _OldRequest(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None


class _Written(msgspec.Struct, omit_defaults=True):
    model: str
    input: msgspec.Raw
    dimensions: int | None = None


class _Answer(msgspec.Struct):
    embeddings: list[msgspec.Raw] | None = None
    prompt_eval_count: object = None


class _WrittenAnswer(msgspec.Struct, omit_defaults=True):
    model: str
    embeddings: list[msgspec.Raw]
    prompt_eval_count: int | None = None


class _OldAnswer(msgspec.Struct):
    embedding: msgspec.Raw


_REQUEST: Final = msgspec.json.Decoder(_Request)
_OLD_REQUEST: Final = msgspec.json.Decoder(_OldRequest)
_ANSWER: Final = msgspec.json.Decoder(_Answer)
_KNOWN: Final = frozenset({*_Request.__struct_fields__, "options"})
_OLD_KNOWN: Final = frozenset({*_OldRequest.__struct_fields__, "options"})

DIALECT: Final = EmbeddingsDialect(
    endpoint="ollama.embed",
    decode_request=_decode_request,
    encode_request=_encode_request,
    decode_answer=_decode_answer,
    encode_answer=_encode_answer,
    decode_error=ollama.DIALECT.decode_error,
    encode_error=ollama.DIALECT.encode_error,
)

OLD_DIALECT: Final = EmbeddingsDialect(
    endpoint="ollama.embeddings",
    decode_request=_decode_old_request,
    encode_request=None,
    decode_answer=None,
    encode_answer=_encode_old_answer,
    decode_error=ollama.DIALECT.decode_error,
    encode_error=ollama.DIALECT.encode_error,
)
