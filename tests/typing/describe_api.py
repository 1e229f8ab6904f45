"""What a plugin can rely on, a line each: ``python tests/typing/describe_api.py > tests/typing/released_api.txt``.

Run at a release. Until the next one, whatever differs from the file must be named in the news.
"""

import enum
import inspect
from collections.abc import Iterator
from typing import Any

import msgspec

import nexus.api
import nexus.hookspecs


def described() -> list[str]:
    """Return every name of ``nexus.api`` and every hook, with what can be done with each."""
    names = [line for name in nexus.api.__all__ for line in _lines(name, getattr(nexus.api, name))]
    hooks = [f"{name}{_signature(hook)}" for name, hook in vars(nexus.hookspecs).items() if name.startswith("nexus_")]
    return sorted([*names, *hooks])


def _lines(name: str, thing: Any) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield name
        return
    if issubclass(thing, msgspec.Struct):
        fields = msgspec.structs.fields(thing)
        yield f"{name}({', '.join(f.name if f.required else f'{f.name}=' for f in fields)})"
    elif not inspect.isabstract(thing) and not issubclass(thing, enum.Enum | BaseException):
        yield f"{name}{_signature(thing)}"
    else:
        yield name
    for member in sorted({*vars(thing), *thing.__annotations__}.difference(getattr(thing, "__struct_fields__", ()))):
        if not member.startswith("_"):
            yield f"{name}.{member}{_signature(vars(thing).get(member))}"


def _signature(thing: Any) -> str:
    """Return the parameters, each by its name alone, and ``=`` where it has a default; empty when there are none."""
    if not callable(thing):
        return ""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return ""
    words, is_keyword_only = [], False
    for parameter in parameters:
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword_only:
            is_keyword_only = True
            words.append("*")
        words.append(parameter.name + ("=" if parameter.default is not parameter.empty else ""))
    return f"({', '.join(words)})"


if __name__ == "__main__":
    print("\n".join(described()))  # noqa: T201 - this is what it is for
