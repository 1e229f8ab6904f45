"""Composes sample requests for every endpoint, which are routed to explain a decision and never sent."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.domain.request import Endpoint
from nexus.errors import RequestError
from nexus.wire.documents import read
from nexus.wire.protocols import PROTOCOLS
from nexus.wire.requests import multipart

JSON: Final = b"application/json"
BOUNDARY: Final = b"composed"
WORD: Final = "any "
"""One token by the estimate; a long text without blanks would be taken for a file."""
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class SampleRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of the composed request."""

    model: str
    prompt_tokens: int = 0
    max_tokens: int | None = None
    needs_vision: bool = False
    needs_tools: bool = False
    needs_json: bool = False


def compose(endpoint: Endpoint, wanted: SampleRequest) -> tuple[bytes, bytes]:
    """Return the content type and the body of the request.

    :raises RequestError: a request to *endpoint* cannot express *wanted*.
    """
    if endpoint.body == "multipart":
        if wanted != SampleRequest(model=wanted.model):
            raise RequestError("unsupported_parameter", f"a form for {endpoint.path} can only name the model")
        return _form(wanted.model)
    understand = PROTOCOLS[endpoint.protocol].understand
    empty = _document(endpoint, wanted, prompt="")
    # The members around the prompt count a little, differently in each protocol.
    missing = wanted.prompt_tokens - understand(endpoint, empty).prompt_tokens
    return JSON, _document(endpoint, wanted, prompt=WORD * missing)


def with_model(endpoint: Endpoint, content_type: bytes, body: bytes, model: str) -> bytes:
    """Return *body* with *model* as its model; an invalid body as it is, to be refused later."""
    if endpoint.body == "multipart":
        return multipart.replace_model(body, content_type, model)
    members = read(_OBJECT, body)
    return body if members is None else msgspec.json.encode({**members, "model": model})


def form_type(body: bytes) -> bytes:
    """Return the content type of the form *body*, whose first line gives the boundary."""
    first_line = body.partition(b"\r\n")[0].removeprefix(b"--")
    return b'multipart/form-data; boundary="%b"' % first_line


def _form(model: str) -> tuple[bytes, bytes]:
    field = b'Content-Disposition: form-data; name="model"'
    body = b"--%b\r\n%b\r\n\r\n%b\r\n--%b--\r\n" % (BOUNDARY, field, model.encode(), BOUNDARY)
    return form_type(body), body


def _document(endpoint: Endpoint, wanted: SampleRequest, *, prompt: str) -> bytes:
    document: dict[str, Any] = {"model": wanted.model, **_prompt(endpoint, wanted, prompt)}
    if wanted.max_tokens is not None:
        # Each API reads one of these names and ignores the others.
        document |= {"max_tokens": wanted.max_tokens, "max_output_tokens": wanted.max_tokens}
        document["options"] = {"num_predict": wanted.max_tokens}
    if wanted.needs_tools:
        document["tools"] = [{"type": "function", "function": {"name": "any"}}]
    if wanted.needs_json:
        document |= _JSON_FORMATS
    return msgspec.json.encode(document)


def _prompt(endpoint: Endpoint, wanted: SampleRequest, prompt: str) -> Mapping[str, Any]:
    member = _MEMBERS.get(endpoint.name, "messages")
    if not wanted.needs_vision:
        return {member: [{"role": "user", "content": prompt}] if member == "messages" else prompt}
    parts = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": _IMAGE}}]
    message = {"role": "user", "content": parts, "images": ["AA"]}
    shown = {"input": [message], "messages": [message]}.get(member, prompt)
    # Ollama's generate takes images beside the prompt.
    return {member: shown, "images": ["AA"]}


_IMAGE: Final = "data:image/png;base64,AA"

_MEMBERS: Final[Mapping[str, str]] = {
    "openai.completions": "prompt",
    "openai.embeddings": "input",
    "openai.responses": "input",
    "openai.rerank": "query",
    "openai.score": "text_1",
    "openai.speech": "input",
    "openai.images": "prompt",
    "openai.response_tokens": "input",
    "openai.response_compact": "input",
    "openai.moderations": "input",
    "openai.native_completion": "prompt",
    "openai.infill": "prompt",
    "openai.native_embedding": "content",
    "openai.generate": "text",
    "openai.pooling": "input",
    "openai.classify": "input",
    "openai.embed_v2": "texts",
    "anthropic.complete": "prompt",
    "openai.tokenize": "prompt",
    "ollama.generate": "prompt",
    "ollama.embed": "input",
    "ollama.embeddings": "prompt",
}
"""The member that holds the prompt, by endpoint; ``messages`` for all others."""

_JSON_FORMATS: Final[Mapping[str, Any]] = {
    "response_format": {"type": "json_object"},
    "text": {"format": {"type": "json_object"}},
    "format": "json",
    "output_config": {"format": {"type": "json_schema"}},
}
"""How the APIs ask for JSON; each reads one of these and ignores the others."""
