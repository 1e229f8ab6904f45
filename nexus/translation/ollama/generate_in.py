"""Reads Ollama's requests for a completion, as those for a chat with one message."""

from typing import Final

import msgspec

from nexus.translation.chat import ChatRequest, Message, Text
from nexus.translation.ollama.history_in import images_and_text
from nexus.translation.ollama.options import COMMON, Common, lost_fields
from nexus.translation.reading import decode_body
from nexus.translation.refusals import not_translatable
from nexus.wire.documents import is_given


def decode_request(body: bytes) -> ChatRequest:
    """Read a request. :raises RequestError: it is invalid, or cannot be said as a chat."""
    request = decode_body(_DECODER, body)
    for name, (why, remedy) in _UNTRANSLATED.items():
        if is_given(getattr(request, name)):
            raise not_translatable(name, f"it {why}; {remedy}")
    if not request.prompt and not request.images:
        raise not_translatable("prompt", "without one, the request loads or unloads a model, which only Ollama does")
    system = (Message("system", (Text(request.system),)),) if request.system else ()
    asked = Message("user", images_and_text(request.images or (), request.prompt or ""))
    lost = lost_fields(body, _KNOWN)
    return ChatRequest(messages=(*system, asked), lost=lost, **request.fields())


class _Request(Common, kw_only=True):
    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    suffix: msgspec.Raw = msgspec.Raw()
    template: msgspec.Raw = msgspec.Raw()
    context: msgspec.Raw = msgspec.Raw()
    raw: msgspec.Raw = msgspec.Raw()


_DECODER: Final = msgspec.json.Decoder(_Request)
_UNTRANSLATED: Final = {
    "raw": ("sends a prompt without the model's template", "leave it out, or use a backend of kind ollama"),
    "template": ("replaces the model's template", "leave it out, or use a backend of kind ollama"),
    "suffix": ("asks for the text in between", "leave it out, or use a backend of kind ollama"),
    "context": ("is a conversation in the tokens of an Ollama model", "send it as messages to /api/chat"),
}
"""Fields without which the request would mean something else: what each does, and what to do instead."""
_KNOWN: Final = COMMON | {"prompt", "system", "images", *_UNTRANSLATED}
