"""The endpoints of OpenAI's API and of engines that follow it: those that ask models, and those of stored things."""

from functools import partial
from typing import Final

from nexus.domain.request import Endpoint
from nexus.wire.kept.endpoints import kept

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


_keeps = partial(kept, _PROTOCOL)

KEEPING: Final = (
    _keeps("response", "/v1/responses/{id}", "GET", "DELETE"),
    _keeps("response_cancel", "/v1/responses/{id}/cancel", "POST"),
    _keeps("response_items", "/v1/responses/{id}/input_items", "GET"),
    _keeps("stored_chats", "/v1/chat/completions", "GET", makes_ids=True),
    _keeps("stored_chat", "/v1/chat/completions/{id}", "GET", "POST", "DELETE"),
    _keeps("stored_chat_messages", "/v1/chat/completions/{id}/messages", "GET"),
    _keeps("conversations", "/v1/conversations", "POST", makes_ids=True),
    _keeps("conversation", "/v1/conversations/{id}", "GET", "POST", "DELETE"),
    _keeps("conversation_items", "/v1/conversations/{id}/items", "GET", "POST"),
    _keeps("conversation_item", "/v1/conversations/{id}/items/{id}", "GET", "DELETE"),
    _keeps("files", "/v1/files", "GET", makes_ids=True),
    _keeps("file_upload", "/v1/files", "POST", body="multipart", makes_ids=True),
    _keeps("file", "/v1/files/{id}", "GET", "DELETE"),
    _keeps("file_content", "/v1/files/{id}/content", "GET", answers_bytes=True),
    _keeps("uploads", "/v1/uploads", "POST", makes_ids=True),
    _keeps("upload_part", "/v1/uploads/{id}/parts", "POST", body="multipart"),
    _keeps("upload_complete", "/v1/uploads/{id}/complete", "POST", makes_ids=True),
    _keeps("upload_cancel", "/v1/uploads/{id}/cancel", "POST"),
    _keeps("batches", "/v1/batches", "GET", makes_ids=True),
    # It asks models, and costs money, unlike the other endpoints here.
    Endpoint("openai.batch_create", _PROTOCOL, "/v1/batches", model="none", makes_ids=True),
    _keeps("batch", "/v1/batches/{id}", "GET", makes_ids=True),
    _keeps("batch_cancel", "/v1/batches/{id}/cancel", "POST", makes_ids=True),
)
"""Endpoints of things that one backend keeps by their ids."""
