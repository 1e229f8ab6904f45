"""The refusal of what cannot be translated."""

from nexus.errors import RequestError


def not_translatable(param: str, remedy: str) -> RequestError:
    """Return the refusal of a request that would mean something else without *param*."""
    return RequestError(
        "not_translatable",
        f"'{param}' cannot be translated for the backends that have this model; {remedy}",
        param=param,
    )
