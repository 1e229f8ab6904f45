"""The endpoints of OpenAI's API and of engines that follow it: those that ask models, and those of stored things."""

from functools import partial
from typing import Final

from nexus.domain.request import Endpoint

_PROTOCOL: Final = "openai"

NATIVE: Final = (
    # llama.cpp's own. Its /completions and /embeddings are treated as OpenAI's, as clients mean these.
    Endpoint("openai.native_completion", _PROTOCOL, "/completion", model="maybe"),
    Endpoint("openai.infill", _PROTOCOL, "/infill", model="maybe"),
    Endpoint("openai.native_embedding", _PROTOCOL, "/embedding", capability="embeddings", model="maybe"),
    Endpoint("openai.apply_template", _PROTOCOL, "/apply-template", capability="tokenize", model="maybe"),
    # SGLang's own.
    Endpoint("openai.generate", _PROTOCOL, "/generate", model="maybe"),
    # vLLM's own.
    Endpoint("openai.pooling", _PROTOCOL, "/pooling", capability="embeddings"),
    Endpoint("openai.classify", _PROTOCOL, "/classify", capability="rerank"),
    Endpoint("openai.embed_v2", _PROTOCOL, "/v2/embed", capability="embeddings"),
)
"""Endpoints of single engines, with errors in OpenAI's format."""

ASKING: Final = (
    Endpoint("openai.chat", _PROTOCOL, "/v1/chat/completions", makes_ids=True),
    Endpoint("openai.chat_tokens", _PROTOCOL, "/v1/chat/completions/input_tokens", capability="tokenize"),
    Endpoint("openai.completions", _PROTOCOL, "/v1/completions"),
    Endpoint("openai.embeddings", _PROTOCOL, "/v1/embeddings", capability="embeddings"),
    Endpoint("openai.responses", _PROTOCOL, "/v1/responses", makes_ids=True),
    Endpoint("openai.response_tokens", _PROTOCOL, "/v1/responses/input_tokens", capability="tokenize"),
    Endpoint("openai.response_compact", _PROTOCOL, "/v1/responses/compact"),
    Endpoint(
        "openai.rerank",
        _PROTOCOL,
        "/v1/rerank",
        capability="rerank",
        also=("/v2/rerank", "/v1/reranking"),
    ),
    Endpoint("openai.score", _PROTOCOL, "/v1/score", capability="rerank"),
    Endpoint("openai.moderations", _PROTOCOL, "/v1/moderations", capability="moderation", model="own"),
    Endpoint(
        "openai.transcriptions",
        _PROTOCOL,
        "/v1/audio/transcriptions",
        capability="audio",
        body="multipart",
        may_be_text=True,
    ),
    Endpoint(
        "openai.translations",
        _PROTOCOL,
        "/v1/audio/translations",
        capability="audio",
        body="multipart",
        may_be_text=True,
    ),
    Endpoint("openai.speech", _PROTOCOL, "/v1/audio/speech", capability="audio", may_be_text=True),
    Endpoint("openai.images", _PROTOCOL, "/v1/images/generations", capability="images"),
    Endpoint("openai.image_edits", _PROTOCOL, "/v1/images/edits", capability="images", body="multipart"),
    Endpoint("openai.image_variations", _PROTOCOL, "/v1/images/variations", capability="images", body="multipart"),
    Endpoint("openai.tokenize", _PROTOCOL, "/tokenize", capability="tokenize"),
    Endpoint("openai.detokenize", _PROTOCOL, "/detokenize", capability="tokenize"),
    *NATIVE,
)
"""Endpoints that ask a model."""


_kept = partial(Endpoint, protocol="openai", capability="keep", model="none")

KEEPING: Final = (
    _kept("openai.response", path="/v1/responses/{id}", methods=("GET", "DELETE")),
    _kept("openai.response_cancel", path="/v1/responses/{id}/cancel"),
    _kept("openai.response_items", path="/v1/responses/{id}/input_items", methods=("GET",)),
    _kept("openai.stored_chats", path="/v1/chat/completions", methods=("GET",), makes_ids=True),
    _kept("openai.stored_chat", path="/v1/chat/completions/{id}", methods=("GET", "POST", "DELETE")),
    _kept("openai.stored_chat_messages", path="/v1/chat/completions/{id}/messages", methods=("GET",)),
    _kept("openai.conversations", path="/v1/conversations", makes_ids=True),
    _kept("openai.conversation", path="/v1/conversations/{id}", methods=("GET", "POST", "DELETE")),
    _kept("openai.conversation_items", path="/v1/conversations/{id}/items", methods=("GET", "POST")),
    _kept("openai.conversation_item", path="/v1/conversations/{id}/items/{id}", methods=("GET", "DELETE")),
    _kept("openai.files", path="/v1/files", methods=("GET",), makes_ids=True),
    _kept("openai.file_upload", path="/v1/files", body="multipart", makes_ids=True),
    _kept("openai.file", path="/v1/files/{id}", methods=("GET", "DELETE")),
    _kept("openai.file_content", path="/v1/files/{id}/content", methods=("GET",), answers_bytes=True),
    _kept("openai.uploads", path="/v1/uploads", makes_ids=True),
    _kept("openai.upload_part", path="/v1/uploads/{id}/parts", body="multipart"),
    _kept("openai.upload_complete", path="/v1/uploads/{id}/complete", makes_ids=True),
    _kept("openai.upload_cancel", path="/v1/uploads/{id}/cancel"),
    _kept("openai.batches", path="/v1/batches", methods=("GET",), makes_ids=True),
    # It asks models, and costs money, unlike the other endpoints here.
    Endpoint("openai.batch_create", _PROTOCOL, "/v1/batches", model="none", makes_ids=True),
    _kept("openai.batch", path="/v1/batches/{id}", methods=("GET",), makes_ids=True),
    _kept("openai.batch_cancel", path="/v1/batches/{id}/cancel", makes_ids=True),
)
"""Endpoints of things that one backend keeps by their ids."""
