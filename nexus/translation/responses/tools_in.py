"""Decodes the tools of a request of the Responses API."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from nexus.errors import RequestError
from nexus.translation.chat import KnownAs, OneTool, Tool, ToolChoice
from nexus.translation.refusals import not_translatable
from nexus.translation.responses.fixed_tools import FIXED_TOOLS
from nexus.translation.responses.names import namespace_of, single_name


class ToolIn(msgspec.Struct):
    """Any tool; a type uses some of the members."""

    type: str = ""
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None
    format: msgspec.Raw = msgspec.Raw()
    tools: list["ToolIn"] | None = None
    execution: str | None = None
    environment: msgspec.Raw = msgspec.Raw()


class _Choice(msgspec.Struct):
    type: str = ""
    name: str | None = None
    namespace: str | None = None
    mode: str | None = None
    tools: list["_Choice"] | None = None


_REMEDY: Final = "choose a tool that the client runs, or 'auto'"
TOOLS: Final = msgspec.json.Decoder(list[ToolIn], strict=False)
CHOICE: Final = msgspec.json.Decoder(str | _Choice)


class Toolbox:
    """The tools of one request, which may be given in several places."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}
        self.lost: set[str] = set()
        """Types of tools that only the server of the Responses API can run, as ``tools.web_search``."""

    def add(self, tools: Iterable[ToolIn]) -> None:
        """Add *tools*; of several with the same name, the first counts."""
        for tool in tools:
            for found in self._read(tool):
                self._tools.setdefault(found.name, found)

    def chosen(self, choice: str | _Choice | None) -> tuple[tuple[Tool, ...], ToolChoice | None]:
        """Return the tools that may be called, and how they are to be chosen.

        :raises RequestError: a tool must be called that only a server of the Responses API can run.
        """
        tools = tuple(self._tools.values())
        if choice is None:
            return tools, None
        if isinstance(choice, _Choice) and choice.type == "allowed_tools":
            allowed = {self._name_of(each) for each in choice.tools or ()}
            tools = tuple(tool for tool in tools if tool.name in allowed)
            choice = choice.mode or "auto"
        return tools, self._mode(choice, tools) if isinstance(choice, str) else self._one(choice)

    def _read(self, tool: ToolIn) -> Iterator[Tool]:
        if tool.type == "namespace":
            for inner in tool.tools or ():
                for found in self._read(inner):
                    yield _in_namespace(namespace_of(tool.name), found)
        elif tool.type in ("function", "custom"):
            yield _named(tool)
        elif tool.type in FIXED_TOOLS and _is_run_by_client(tool):
            yield _fixed(tool)
        else:
            self.lost.add(f"tools.{tool.type}")

    def _mode(self, choice: str, tools: tuple[Tool, ...]) -> ToolChoice | None:
        if choice == "required":
            if not tools:
                raise not_translatable("tool_choice", _REMEDY)
            return "required"
        if choice in ("auto", "none"):
            return "none" if choice == "none" else "auto"
        raise RequestError(
            "invalid_value", "tool_choice must be auto, none, required or an object", param="tool_choice"
        )

    def _one(self, choice: _Choice) -> OneTool:
        name = self._name_of(choice)
        if name not in self._tools:
            raise not_translatable("tool_choice", _REMEDY)
        return OneTool(name)

    @staticmethod
    def _name_of(choice: _Choice) -> str:
        return single_name(choice.namespace, choice.name) if choice.name else choice.type


def _named(tool: ToolIn) -> Tool:
    if not tool.name:
        raise RequestError("invalid_value", f"a tool of type '{tool.type}' needs a name", param="tools")
    description = tool.description or ""
    if tool.type == "custom":
        return Tool(tool.name, description, kind="custom", grammar=_given(tool.format))
    return Tool(tool.name, description, _given(tool.parameters), tool.strict)


def _in_namespace(namespace: str, tool: Tool) -> Tool:
    if not namespace:
        return tool
    return replace(tool, name=single_name(namespace, tool.name), known_as=KnownAs(tool.name, namespace))


def _fixed(tool: ToolIn) -> Tool:
    fixed = FIXED_TOOLS[tool.type]
    schema = _given(tool.parameters) or msgspec.Raw(fixed.schema)
    known_as = KnownAs(tool.type, type=tool.type)
    return Tool(tool.type, tool.description or fixed.description, schema, known_as=known_as)


def _is_run_by_client(tool: ToolIn) -> bool:
    """Whether the client runs the tool; a search of tools, and a shell in a container, may be the server's."""
    if tool.type == "tool_search":
        return tool.execution == "client"
    return tool.type != "shell" or b"container" not in bytes(tool.environment)


def _given(raw: msgspec.Raw) -> msgspec.Raw | None:
    return raw if raw and bytes(raw) != b"null" else None
