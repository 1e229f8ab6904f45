"""Hypothesis strategies for models, backends, fleets and requirements."""

from typing import Any

from hypothesis import strategies as st

from nexus.domain.backend import Backend, BackendLoad, Breaker, Status
from nexus.domain.model import ModelFacts
from nexus.domain.request import Requirements
from nexus.testing.builders import make_backend

MODELS = ("llama3", "qwen3", "org/mixtral-8x7b")


def model_facts() -> st.SearchStrategy[ModelFacts]:
    """Generate facts about one of a few models, many of them unknown."""
    known = st.none() | st.booleans()
    return st.builds(
        ModelFacts,
        name=st.sampled_from(MODELS),
        context_length=st.none() | st.integers(1, 9000),
        vision=known,
        tools=known,
        json_mode=known,
        embeddings=known,
        zone=st.none() | st.sampled_from(["restricted", "open"]),
        tier=st.none() | st.integers(1, 5),
    )


@st.composite
def backends(draw: st.DrawFn, name: str = "gpu-1") -> Backend:
    """Generate a backend in any state."""
    fields: dict[str, Any] = {
        "status": draw(st.sampled_from([*Status, Status.HEALTHY, Status.HEALTHY])),
        "breaker": draw(st.sampled_from([*Breaker, Breaker.CLOSED])),
        "is_cooling": draw(st.booleans()),
        "is_busy": draw(st.booleans()),
        "is_refusing": draw(st.booleans()),
        "is_replaced": draw(st.booleans()),
        "priority": draw(st.integers(0, 100)),
        "tier": draw(st.integers(1, 5)),
        "max_in_flight": draw(st.integers(1, 4)),
        "endpoints": draw(st.sampled_from([frozenset({"openai.chat"}), frozenset({"ollama.chat"})])),
        "load": draw(loads()),
    }
    models = draw(st.lists(model_facts(), max_size=3, unique_by=lambda facts: facts.name))
    return make_backend(name, zone=draw(st.sampled_from(["local", "cloud"])), models=models, **fields)


@st.composite
def loads(draw: st.DrawFn) -> BackendLoad:
    """Generate live counters, below any limit."""
    return BackendLoad(
        in_flight=draw(st.integers(0, 4)),
        latency_ms=draw(st.none() | st.integers(0, 5000)),
        probing=draw(st.booleans()),
    )


@st.composite
def fleets(draw: st.DrawFn, max_size: int = 6) -> tuple[Backend, ...]:
    """Generate the backends of a fleet, with unique names; the fleet may be empty."""
    return tuple(draw(backends(name=f"gpu-{number}")) for number in range(draw(st.integers(0, max_size))))


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
