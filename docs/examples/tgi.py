"""Adds a kind of server: ``type = "tgi"`` in a ``[[backends]]`` table."""

import msgspec

from nexus.api import BackendKind, ModelFacts, ModelListing, hookimpl


class Served(msgspec.Struct):
    """The server's description of its only model; unknown fields are skipped."""

    model_id: str
    max_total_tokens: int


def decode(body: bytes) -> tuple[ModelFacts, ...]:
    """Return the model; msgspec raises a ValueError if the answer is invalid."""
    served = msgspec.json.decode(body, type=Served)
    return (ModelFacts(name=served.model_id, context_length=served.max_total_tokens),)


TGI = BackendKind(
    name="tgi",
    endpoints=frozenset({"openai.chat", "openai.completions"}),
    health_path="/health",
    listing=ModelListing("/info", decode),
)


@hookimpl
def nexus_backend_kinds() -> list[BackendKind]:
    return [TGI]
