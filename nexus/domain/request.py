"""What one request asks for, read from its bytes once."""

from typing import Literal

import msgspec

Protocol = Literal["openai", "ollama", "anthropic"]
"""The API that a client speaks, and in whose shape it gets its errors."""


class Endpoint(msgspec.Struct, frozen=True):
    """One path that clients may call and that is carried to a backend."""

    name: str
    """Unique, a metric label and what a backend kind lists: ``openai.chat``, ``ollama.generate``."""
    protocol: Protocol
    path: str
    """As backends know it; ``{id}`` stands for one segment that names something a backend keeps."""
    capability: str = "chat"
    """What a model must be able to do: chat, embeddings, rerank, audio, images, tokenize; ``keep`` where no model is
    asked for anything."""
    body: Literal["json", "multipart"] = "json"
    streams_by_default: bool = False
    """What a missing ``stream`` field means; true for Ollama's chat and generate."""
    may_be_text: bool = False
    """Whether an answer that is not streamed may be sound, subtitles or bare text."""
    methods: tuple[str, ...] = ("POST",)
    model: Literal["body", "maybe", "own", "none"] = "body"
    """Where the model stands: in the body; in the body if the client or the operator wants to name one; in the body,
    or it is the backend's own choice; nowhere."""
    makes_ids: bool = False
    """Whether its answer names something that only the backend that made it can go on with: a response, a file."""
    answers_bytes: bool = False
    """Whether its answer is whatever a client once stored, rather than what the protocol says."""
    also: tuple[str, ...] = ()
    """Other paths that mean the same; a backend is asked at :attr:`path`."""

    @property
    def is_modelled(self) -> bool:
        """Whether a model reads the body of its requests, which may be explained and composed therefore."""
        return self.model != "none" and self.methods == ("POST",) and "{" not in self.path


class Reference(msgspec.Struct, frozen=True):
    """An id by which a request refers to something that one backend keeps."""

    id: str
    param: str | None = None
    """The member of the body that holds it; None when it stands in the path."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """Where something is kept that a request refers to."""

    reference: Reference
    backend: str
    """The name of the backend that keeps it."""
    model: str = ""
    """The model that made it, as the client asked for it; empty when none did."""


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What the body of one request asks of a model; all that routing may know of the body."""

    model: str
    """As the client sent it; empty when it named none."""
    is_stream: bool = False
    prompt_tokens: int = 0
    """Estimated from the size of the text, bytes div 4; images do not count. It may weigh, and never refuses."""
    max_tokens: int | None = None
    """The longest answer that the client accepts; None when it did not say."""
    needs_vision: bool = False
    needs_tools: bool = False
    needs_json: bool = False
    needs_embeddings: bool = False
    further_prompt_tokens: int = 0
    """Of all prompts but the longest, where several are answered one by one: each has the context for itself."""
    answers: int = 1
    """How many answers are asked for at once, each of them as long as ``max_tokens`` lets it be; 0 where it is certain
    that none is: Ollama's calls that only load a model, or unload it."""
    references: tuple[Reference, ...] = ()
    """What the request refers to that a backend keeps, such as the response that it goes on with."""
    is_kept: bool = False
    """Whether the backend is to keep the answer, so that a later request can refer to it."""

    prompt_token_ids: int = 0
    """How many tokens the longest prompt has for certain: the client sent it as token ids. 0 of a text: a chat template
    may leave parts of it out, and tokens have no greatest length that holds for all vocabularies."""
    refused_context: int = 0
    """The longest context, in tokens, that a backend has refused this very request for as too short; 0: none has."""
    is_refused_unknown: bool = False
    """Whether one has whose context is not known."""

    @property
    def context_tokens(self) -> int:
        """The context that prompt and answer need together, an estimate."""
        return self.prompt_tokens + (self.max_tokens or 0)

    @property
    def certain_tokens(self) -> int:
        """What prompt and answer need at least where ``max_tokens`` is set aside for the answer."""
        return self.prompt_token_ids + (self.max_tokens or 0)


class TokenUsage(msgspec.Struct, frozen=True):
    """The tokens of one answer, as its backend counted them, or estimated where it did not."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    is_estimated: bool = False
    """Whether the backend reported nothing: then the prompt is as estimated, the answer by its content."""

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens
