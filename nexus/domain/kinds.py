"""A kind of backend as one row: its endpoints, its probes, its listing of models, its quirks."""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from nexus.domain.engine_report import EngineReport
from nexus.domain.model import ModelFacts, Zone


class ModelListing(msgspec.Struct, frozen=True):
    """A request that lists models, and the decoder of its answer."""

    path: str
    decode: Callable[[bytes], tuple[ModelFacts, ...]]
    """Raises ValueError when the answer is not one."""


class FactsLookup(msgspec.Struct, frozen=True):
    """A further request that completes the facts of one model, or of all."""

    path: str
    decode: Callable[[bytes, tuple[ModelFacts, ...]], tuple[ModelFacts, ...]]
    """Completes, of all models of the backend or the one that was asked for, those that the answer describes. Raises
    ValueError when the answer is invalid."""
    body: Callable[[str], bytes] | None = None
    """Builds the body of a POST from the model's name; None: a GET."""
    is_per_model: bool = False
    """Sent once for each revision of each model, instead of once for all models."""


class ServerFacts(msgspec.Struct, frozen=True):
    """What a server reports about itself. None: it does not report it."""

    version: str | None = None
    max_in_flight: int | None = None
    """How many requests it works on at once. Not a limit: further ones wait at the server."""
    has_one_model: bool | None = None
    """Whether it was started for one model, and does not select models by name."""
    max_loaded: int | None = None
    """How many models it keeps in memory at once."""

    def completed_by(self, other: "ServerFacts") -> "ServerFacts":
        """Return these facts, with those of *other* where they are unknown."""
        return ServerFacts(
            self.version or other.version,
            self.max_in_flight or other.max_in_flight,
            other.has_one_model if self.has_one_model is None else self.has_one_model,
            self.max_loaded or other.max_loaded,
        )


class ServerLookup(msgspec.Struct, frozen=True):
    """A GET that returns facts about the server itself."""

    path: str
    decode: Callable[[bytes], ServerFacts]
    """Raises ValueError when the answer is not one."""
    is_once: bool = False
    """Sent only once, and again after the server was away: its answer costs the server something, or never changes."""


class LoadLookup(msgspec.Struct, frozen=True):
    """A GET that returns what the engine reports about its load, and costs it next to nothing."""

    path: str
    decode: Callable[[bytes, EngineReport], EngineReport]
    """Completes a report that has only its times. Raises ValueError when the answer is not one, and NoReport when the
    server will not have one there before it restarts."""
    needs: str = ""
    """What the operator must do so that the server has this page, such as ``start it with --metrics``."""
    run_header: str | None = None
    """The header of the answer that names the run of the server's process."""
    wakes: Callable[[str | None], bool] | None = None
    """Whether the request would load the model of a sleeping server of this version (None: not known), or keep it
    awake: it is then sent only while requests of this Nexus run there. None: no version does."""


class BackendKind(msgspec.Struct, frozen=True, kw_only=True):
    """What all servers of one kind have in common. Plugins add rows through ``nexus_backend_kinds``."""

    name: str
    is_local: bool = True
    endpoints: frozenset[str]
    """Names of the endpoints that it supports natively."""
    health_path: str
    """A GET that costs no tokens and disturbs nothing; any 2xx means healthy."""
    listing: ModelListing
    lookups: tuple[FactsLookup, ...] = ()
    server_lookups: tuple[ServerLookup, ...] = ()
    load_lookups: tuple[LoadLookup, ...] = ()
    """Those that report the engine's load, best first: the first one that the server has is used."""
    min_load_interval_s: float = 0.0
    """The least time between two of them while requests run, however short the configured one is."""
    probe_headers: Mapping[str, str] = {}
    """Sent with each of these requests."""
    default_max_in_flight: int = 1024
    """Requests that are sent to such a server at once: as many as it accepts without refusing one."""
    default_slots: int | None = None
    """How many of them it usually works on at once, unless the server reports a number; the others wait at the server.
    None: no number is usual. It weighs when backends are compared, and is no limit."""
    caches_by_slot: bool = False
    """Whether its cache of prompts is that of its slots: each keeps the last prompt that it worked on, and nothing else
    is cached. Other kinds cache blocks of any prompts, as long as there is room."""
    loads_models: bool = False
    """Whether it loads a model when a request asks for it, which may take minutes."""
    first_byte_s: float = 300.0
    """How long a streamed answer may take to begin, unless configured. Nearly every kind loads models, queues without a
    limit, or thinks silently; Ollama gives up a load that makes no progress after five minutes."""
    key_header: Literal["authorization", "x-api-key", "api-key"] = "authorization"
    default_tag: str | None = None
    """``latest`` for a kind in which ``x`` and ``x:latest`` are one model, and letter case does not count."""
    closes_after_stream: bool = False
    """It closes the connection after a streamed answer without announcing it: never reuse that connection."""
    dropped_headers: frozenset[str] = frozenset()
    """Request headers, lower case, that would let a client change how the server works."""
    answers_to_any_model: bool = False
    """A server of this kind that has one model ignores the name in a request: 200 proves nothing."""
    refuses_beyond_context: frozenset[str] = frozenset()
    """Names of the endpoints that always refuse a request whose prompt and ``max_tokens`` together exceed the context.
    Other endpoints and kinds may truncate the answer or the prompt instead."""
    needs_model_name: bool = True
    """It refuses a request that names no model, even where it has only one."""
    has_unreliable_500: bool = False
    """It answers 500 where the request is at fault, so a 500 does not count against it."""

    @property
    def default_zone(self) -> Zone:
        return "restricted" if self.is_local else "open"
