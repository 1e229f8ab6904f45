"""Hypothesis strategies for models, backends, fleets and requirements."""

from hypothesis import strategies as st

from nexus.domain.backend import Backend, Breaker, Status
from nexus.domain.backend_load import BackendLoad
from nexus.domain.model import ModelFacts
from nexus.domain.request import Requirements
from nexus.testing.builders import make_backend

MODELS = ("llama3", "qwen3", "org/mixtral-8x7b")


# Made once: hypothesis checks each strategy when it is first drawn from.
_KNOWN = st.none() | st.booleans()
_MODEL_FACTS = st.builds(
    ModelFacts,
    name=st.sampled_from(MODELS),
    context_length=st.none() | st.integers(1, 9000),
    vision=_KNOWN,
    tools=_KNOWN,
    json_mode=_KNOWN,
    embeddings=_KNOWN,
    zone=st.none() | st.sampled_from(["restricted", "open"]),
    tier=st.none() | st.integers(1, 5),
)
_LOADS = st.builds(
    BackendLoad,
    in_flight=st.integers(0, 4),
    latency_ms=st.none() | st.integers(0, 5000),
    probing=st.booleans(),
)
_FIELDS = st.fixed_dictionaries(
    {
        "status": st.sampled_from([*Status, Status.HEALTHY, Status.HEALTHY]),
        "breaker": st.sampled_from([*Breaker, Breaker.CLOSED]),
        "is_cooling": st.booleans(),
        "is_busy": st.booleans(),
        "is_refusing": st.booleans(),
        "is_replaced": st.booleans(),
        "priority": st.integers(0, 100),
        "tier": st.integers(1, 5),
        "max_in_flight": st.integers(1, 4),
        "endpoints": st.sampled_from([frozenset({"openai.chat"}), frozenset({"ollama.chat"})]),
        "load": _LOADS,
        "zone": st.sampled_from(["local", "cloud"]),
        "models": st.lists(_MODEL_FACTS, max_size=3, unique_by=lambda facts: facts.name),
    }
)


def model_facts() -> st.SearchStrategy[ModelFacts]:
    """Generate facts about one of a few models, many of them unknown."""
    return _MODEL_FACTS


def backends(name: str = "gpu-1") -> st.SearchStrategy[Backend]:
    """Generate a backend in any state."""
    return _FIELDS.map(lambda fields: make_backend(name, **fields))


def loads() -> st.SearchStrategy[BackendLoad]:
    """Generate live counters, below any limit."""
    return _LOADS


def fleets(max_size: int = 6) -> st.SearchStrategy[tuple[Backend, ...]]:
    """Generate the backends of a fleet, with unique names; the fleet may be empty."""
    return st.lists(_FIELDS, max_size=max_size).map(
        lambda rows: tuple([make_backend(f"gpu-{number}", **fields) for number, fields in enumerate(rows)])
    )


def requirements() -> st.SearchStrategy[Requirements]:
    """Generate the requirements of a request for one of a few models."""
    return st.builds(
        Requirements,
        model=st.sampled_from(MODELS),
        is_stream=st.booleans(),
        prompt_tokens=st.integers(0, 9000),
        max_tokens=st.none() | st.integers(1, 4000),
        needs_vision=st.booleans(),
        needs_tools=st.booleans(),
        needs_json=st.booleans(),
        needs_embeddings=st.booleans(),
        # Prompts that begin alike, up to a length.
        prompt_blocks=st.integers(0, 20).map(lambda length: tuple(range(length))),
        conversation=st.integers(0, 2),
    )
