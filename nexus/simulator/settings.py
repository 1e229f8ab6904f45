"""The settings of a simulated server: name, kind, models, speed and limits."""

from ssl import SSLContext

import msgspec

from nexus.simulator.blocks import Block

DEFAULT_CONTEXT_LENGTH = 8192
DEFAULT_CAPABILITIES = ("completion", "tools", "embedding")


class SimulatedModel(msgspec.Struct, frozen=True):
    """A model that a simulator serves."""

    name: str
    context_length: int = DEFAULT_CONTEXT_LENGTH
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    """Ollama's names: completion, tools, insert, vision, embedding, thinking. ``completion`` and ``embedding`` decide
    which requests it accepts; the others are only listed."""
    embedding_length: int = 8
    aliases: tuple[str, ...] = ()
    """Other names, as for ``llama-server --alias``."""
    status: str = ""
    """Its status in llama.cpp's router mode, such as ``loaded``; empty outside of router mode."""
    load_s: float | None = None
    """How long it takes to load it into memory; None: as set for all models."""
    remote_host: str = ""
    """The remote host that Ollama lists for the model; the simulator answers all the same. Empty: none."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one simulator."""

    name: str = "simulator"
    """Every answer begins with it, which shows the server that answered."""
    kind: str = "generic"
    """The kind of server that it simulates: a key of :data:`nexus.simulator.kinds.KINDS`."""
    models: tuple[SimulatedModel | str, ...] = ("llama3",)
    ttft_s: float = 0.0
    """Time to first token, once a slot is free."""
    tokens_per_s: float = 0.0
    """Zero: as fast as possible."""
    prefill_tokens_per_s: float = 0.0
    """How fast it reads prompts, one after the other, as far as they are not in its cache. Zero: in no time."""
    cache_tokens: int = 0
    """The size of its cache of prompts. Zero: it has none, and does not report how much of a prompt was cached."""
    load_s: float = 0.0
    """How long it takes to load a model into memory. A model that takes no time is in memory from the start, as far as
    there is room."""
    max_loaded: int = 0
    """How many models are in memory at once; zero: all."""
    keep_loaded_s: float | None = None
    """How long an idle model stays in memory; None: until it is evicted."""
    answer_tokens: int = 16
    """The length of an answer, unless the request sets a smaller limit."""
    script: tuple[Block, ...] = ()
    """What it answers, as far as the request allows; empty: text, a call of the first tool, or JSON that fits a schema.
    The answer to the result of a tool, and to a schema, is not from the script."""
    is_strict: bool = False
    """Whether it refuses requests that the API's own servers refuse, but most copies of them take."""
    picture_bytes: int = 0
    """The size of a picture in base64; zero: one pixel."""
    concurrency: int = 64
    """How many requests generate at once; others wait."""
    queue_size: int = 512
    """How many requests may wait; others are refused."""
    missing_paths: tuple[str, ...] = ()
    """Paths of its kind that it lacks, as an older or smaller server does."""
    hidden_pages: tuple[str, ...] = ()
    """Pages about its load that the server was started without: ``/metrics``, ``/slots`` or ``/v1/loads``."""
    api_key: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    """Zero: any free one."""
    tls: SSLContext | None = None

    @property
    def catalogue(self) -> tuple[SimulatedModel, ...]:
        return tuple(SimulatedModel(model) if isinstance(model, str) else model for model in self.models)

    def load_time_s(self, model: SimulatedModel) -> float:
        """Return how long it takes to load *model* into memory."""
        return self.load_s if model.load_s is None else model.load_s
