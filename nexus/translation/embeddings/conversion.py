"""Translates a request for embeddings, and its answer."""

from typing import Never

from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.embeddings.dialect import EmbeddingsDialect
from nexus.wire.streams.scan import Framing


class EmbeddingsConversion:
    """One request in the dialect of a backend, and its answer in that of the client."""

    __slots__ = ("_about", "_backend", "_client", "_request", "body", "lost")

    def __init__(
        self, body: bytes, client: EmbeddingsDialect, backend: EmbeddingsDialect, target: Target, about: About
    ) -> None:
        """:raises RequestError: *body* is invalid, or the backend's dialect cannot say it: ``not_translatable``."""
        if backend.encode_request is None:
            raise LookupError(f"no request is translated to {backend.endpoint}")
        self._request = client.decode_request(body)
        encoded = backend.encode_request(self._request, target)
        self.body = encoded.body
        self.lost = tuple(sorted({*self._request.lost, *encoded.lost}))
        self._client = client
        self._backend = backend
        self._about = about

    def answer(self, body: bytes) -> bytes:
        """Return a whole answer in the dialect of the client. :raises ValueError: *body* is none of the backend's."""
        if self._backend.decode_answer is None:
            raise LookupError(f"no answer is translated from {self._backend.endpoint}")
        return self._client.encode_answer(self._backend.decode_answer(body), self._request, self._about)

    def answer_as_stream(self, body: bytes) -> bytes:
        """Return the same: embeddings are never streamed."""
        return self.answer(body)

    def error(self, status: int, body: bytes, request_id: str) -> bytes:
        """Return the body of an error in the dialect of the client."""
        return self._client.encode_error(self._backend.decode_error(status, body), request_id)

    def stream(self, _framing: Framing) -> Never:
        raise LookupError("embeddings are never streamed")
