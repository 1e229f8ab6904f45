"""What a simulated server is: its name, its kind, its models, its speed and its limits."""

from ssl import SSLContext

import msgspec

DEFAULT_CONTEXT_LENGTH = 8192
DEFAULT_CAPABILITIES = ("completion", "tools", "embedding")


class SimulatedModel(msgspec.Struct, frozen=True):
    """A model that a simulator serves."""

    name: str
    context_length: int = DEFAULT_CONTEXT_LENGTH
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    """In Ollama's words: completion, tools, insert, vision, embedding, thinking. ``completion`` and ``embedding``
    decide what it answers; the rest is only told."""
    embedding_length: int = 8
    aliases: tuple[str, ...] = ()
    """Other names for it, as ``llama-server --alias`` takes them."""
    status: str = ""
    """In llama.cpp's router mode: ``loaded``, ``unloaded`` and so on. Empty: it is the one model of its server."""
    remote_host: str = ""
    """Where an Ollama says that it passes the model on to; it answers itself all the same. Empty: nowhere."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How one simulator looks and behaves."""

    name: str = "simulator"
    """Every answer begins with it, so that one sees who answered."""
    kind: str = "generic"
    """Whom it imitates: a key of :data:`nexus.simulator.kinds.KINDS`."""
    models: tuple[SimulatedModel | str, ...] = ("llama3",)
    ttft_s: float = 0.0
    """Time to first token, once a slot is free."""
    tokens_per_s: float = 0.0
    """Zero: as fast as possible."""
    answer_tokens: int = 16
    """How long an answer is when the request sets no smaller limit."""
    picture_bytes: int = 0
    """How long a picture is in base64; zero: one pixel."""
    concurrency: int = 64
    """Requests that generate at once; further ones wait."""
    queue_size: int = 512
    """Requests that may wait; one more is refused in the kind's own words."""
    api_key: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    """Zero: any free one."""
    tls: SSLContext | None = None

    @property
    def catalogue(self) -> tuple[SimulatedModel, ...]:
        return tuple(SimulatedModel(model) if isinstance(model, str) else model for model in self.models)
