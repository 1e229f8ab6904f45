"""What one request asks for: its endpoint, and what it requires of a model."""

from typing import Final, Literal

import msgspec
from msgspec.structs import replace

Protocol = Literal["openai", "ollama", "anthropic"]
"""The API that a client uses, which is also the format of its errors."""

PROMPT_BLOCK_BYTES: Final = 1024
"""The size of a block of a prompt, as JSON: about 250 tokens."""


class Endpoint(msgspec.Struct, frozen=True):
    """One path that clients may call and that is forwarded to a backend."""

    name: str
    """Unique, a metric label and what a backend kind lists: ``openai.chat``, ``ollama.generate``."""
    protocol: Protocol
    path: str
    """As sent to backends; ``{id}`` stands for one segment that names something a backend keeps."""
    capability: str = "chat"
    """What a model must be able to do: chat, embeddings, rerank, audio, images, tokenize; ``keep`` if the endpoint asks
    no model."""
    body: Literal["json", "multipart"] = "json"
    streams_by_default: bool = False
    """The default of the ``stream`` field; true for Ollama's chat and generate."""
    may_be_text: bool = False
    """Whether an answer that is not streamed may be audio, subtitles or plain text."""
    methods: tuple[str, ...] = ("POST",)
    model: Literal["body", "maybe", "own", "none"] = "body"
    """Where the model is named: in the body (required); in the body (optional, the operator may set one); in the body,
    or the backend chooses; nowhere."""
    makes_ids: bool = False
    """Whether its answer gives the id of something that only this backend has: a response, a file."""
    answers_bytes: bool = False
    """Whether its answer is the content that a client has stored, in any format."""
    also: tuple[str, ...] = ()
    """Other paths of the same endpoint; backends are always sent :attr:`path`."""

    @property
    def is_modelled(self) -> bool:
        """Whether a model reads the body of its requests, so that they can be explained and composed."""
        return self.model != "none" and self.methods == ("POST",) and "{" not in self.path


class Reference(msgspec.Struct, frozen=True):
    """An id in a request of something that one backend keeps."""

    id: str
    param: str | None = None
    """The member of the body that holds it; None if it is in the path."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """Where the target of a reference is kept."""

    reference: Reference
    backend: str
    """The name of the backend that keeps it."""
    model: str = ""
    """The model that made it, by the name that the client used; empty when no model did."""


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What the body of one request requires of a model: all that routing knows of the body."""

    model: str
    """As the client sent it; empty when it named none."""
    is_stream: bool = False
    prompt_tokens: int = 0
    """Estimated from the size of the text, bytes div 4, without images. It affects the ranking, and never refuses."""
    max_tokens: int | None = None
    """The longest answer that the client accepts; None when it sets no limit."""
    needs_vision: bool = False
    needs_tools: bool = False
    needs_json: bool = False
    needs_embeddings: bool = False
    further_prompt_tokens: int = 0
    """Of all prompts but the longest, where each is answered by itself and has the whole context."""
    answers: int = 1
    """How many answers are asked for at once, each of up to ``max_tokens``; 0 for calls of Ollama that only load or
    unload a model."""
    references: tuple[Reference, ...] = ()
    """The things kept by a backend that the request refers to, such as the previous response."""
    is_kept: bool = False
    """Whether the backend is to keep the answer, so that a later request can refer to it."""

    prompt_token_ids: int = 0
    """The exact length of the longest prompt that was sent as token ids. 0 for text, whose tokens cannot be bounded
    from below: a chat template may drop parts, and vocabularies differ."""
    refused_context: int = 0
    """The longest context, in tokens, that a backend has refused this request for as too short; 0: none has."""
    is_refused_unknown: bool = False
    """Whether a backend of unknown context has refused this request as too long."""
    may_wait: bool = True
    """Whether a stage may let it wait for a better moment; False: it cannot wait any longer."""

    prompt_blocks: tuple[int, ...] = ()
    """A hash for each whole block of the prompt, chained on the one before, so that prompts with the same beginning
    have the same first hashes. Of a chat, and only if a stage ``wants_prompt_blocks`` and there are several backends to
    choose from; else empty."""
    conversation: int = 0
    """A hash of the client's name for the conversation, such as a session header or ``prompt_cache_key``; under the
    same conditions. 0: it has none."""

    def refused_by(self, limit: int | None, known: int | None) -> "Requirements":
        """Return it after a backend has refused the request as too long.

        :param limit: the context in tokens that the refusal names; None when it names none.
        :param known: that which the backend reported before; None when it did not.
        """
        return replace(
            self,
            refused_context=max(self.refused_context, limit or known or 0),
            is_refused_unknown=self.is_refused_unknown or known is None,
        )

    @property
    def context_tokens(self) -> int:
        """The estimated context that prompt and answer need together."""
        return self.prompt_tokens + (self.max_tokens or 0)

    @property
    def certain_tokens(self) -> int:
        """The least context that prompt and answer need if ``max_tokens`` is reserved for the answer."""
        return self.prompt_token_ids + (self.max_tokens or 0)


class TokenUsage(msgspec.Struct, frozen=True):
    """The tokens of one answer, as reported by its backend or estimated."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_estimated: bool = False
    """Whether the backend reported none, so that prompt and answer are estimated."""

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens
