"""A kind of backend as one row: how to probe it, how to list its models, what it speaks, its habits."""

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from nexus.domain.model import ModelFacts, Zone


class ModelListing(msgspec.Struct, frozen=True):
    """A request that lists models, and how its answer reads."""

    path: str
    decode: Callable[[bytes], tuple[ModelFacts, ...]]
    """Raises ValueError when the answer is not one."""


class FactsLookup(msgspec.Struct, frozen=True):
    """A further request whose answer completes the facts of one model, or of all of them."""

    path: str
    decode: Callable[[bytes, tuple[ModelFacts, ...]], tuple[ModelFacts, ...]]
    """Gets all models of the backend, or the one that was asked for, and completes those of which the answer speaks.
    Raises ValueError when the answer is not one."""
    body: Callable[[str], bytes] | None = None
    """Makes the body of a POST from the model's name; None: a GET."""
    is_per_model: bool = False
    """Asked for each model by itself, and then once for each of its revisions."""


class ServerFacts(msgspec.Struct, frozen=True):
    """What a server says of itself as a whole. None means that it does not say."""

    version: str | None = None
    max_in_flight: int | None = None
    """How many requests it works on at once. It is no limit: what comes beyond waits at the server."""
    has_one_model: bool | None = None
    """Whether it was started for one model, and does not choose between several by their names."""

    def completed_by(self, other: "ServerFacts") -> "ServerFacts":
        """Return these facts, and from *other* those that are unknown here."""
        return ServerFacts(
            self.version or other.version,
            self.max_in_flight or other.max_in_flight,
            other.has_one_model if self.has_one_model is None else self.has_one_model,
        )


class ServerLookup(msgspec.Struct, frozen=True):
    """A GET that tells facts of the server itself."""

    path: str
    decode: Callable[[bytes], ServerFacts]
    """Raises ValueError when the answer is not one."""


class BackendKind(msgspec.Struct, frozen=True, kw_only=True):
    """What all servers of one kind have in common. Plugins add rows through ``nexus_backend_kinds``."""

    name: str
    is_local: bool = True
    endpoints: frozenset[str]
    """Names of the endpoints that it speaks natively."""
    health_path: str
    """A GET that costs no tokens and disturbs nothing; any 2xx means healthy."""
    listing: ModelListing
    lookups: tuple[FactsLookup, ...] = ()
    server_lookups: tuple[ServerLookup, ...] = ()
    probe_headers: Mapping[str, str] = {}
    """Sent with each of these requests."""
    default_max_in_flight: int = 1024
    """Requests that such a server is given at once: as many as it surely takes without refusing one."""
    default_slots: int | None = None
    """How many of them it usually works on at once; what comes beyond waits there. A server that says it itself is
    believed. None: no number is usual. It weighs when backends are compared, and limits nothing."""
    loads_models: bool = False
    """Whether it loads a model when a request asks for it, which may take minutes."""
    first_byte_s: float = 300.0
    """How long a streamed answer may take to begin unless configured otherwise. Nearly every kind loads a model, queues
    without a limit, or thinks in silence; Ollama itself gives up a load that makes no progress after five minutes."""
    key_header: Literal["authorization", "x-api-key"] = "authorization"
    default_tag: str | None = None
    """``latest`` for a kind in which ``x`` and ``x:latest`` are one model, and letter case does not count."""
    closes_after_stream: bool = False
    """It closes the connection after a streamed answer without saying so: never reuse that one."""
    dropped_headers: frozenset[str] = frozenset()
    """Request headers, lower case, that change what it does and are not for clients to send."""
    answers_to_any_model: bool = False
    """A server of this kind that has one model ignores the name in a request: 200 proves nothing."""
    refuses_beyond_context: frozenset[str] = frozenset()
    """Names of the endpoints at which it surely refuses a request whose prompt and ``max_tokens`` together exceed the
    context. Elsewhere, and of other kinds, an answer may be cut where the context ends, or the prompt before that."""
    needs_model_name: bool = True
    """It refuses a request that names no model, even where it has only one."""
    has_unreliable_500: bool = False
    """It says 500 where the request is at fault: not a sign of a sick backend."""

    @property
    def default_zone(self) -> Zone:
        return "restricted" if self.is_local else "open"
