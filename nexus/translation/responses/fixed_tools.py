"""Tools of the Responses API with a fixed name and schema that the client runs, as functions."""

from collections.abc import Mapping
from typing import Final

import msgspec

from nexus.wire.documents import read


class FixedTool(msgspec.Struct, frozen=True):
    """One type of tools; its calls and their results are items of types of their own."""

    call: str
    """The type of the item of a call."""
    member: str
    """The member of that item which holds what a function has as its arguments."""
    output: str
    """The type of the item of a result."""
    description: str
    schema: bytes
    required: Mapping[str, msgspec.Raw] = {}
    """What the member of a call must have beside the arguments."""


FIXED_TOOLS: Final[Mapping[str, FixedTool]] = {
    "local_shell": FixedTool(
        "local_shell_call",
        "action",
        "local_shell_call_output",
        "Runs a command on the user's machine and returns its output.",
        b'{"type":"object","properties":{'
        b'"command":{"type":"array","items":{"type":"string"},"description":"The program and its arguments"},'
        b'"working_directory":{"type":"string"},"timeout_ms":{"type":"integer"}},"required":["command"]}',
        {"type": msgspec.Raw(b'"exec"'), "env": msgspec.Raw(b"{}")},
    ),
    "shell": FixedTool(
        "shell_call",
        "action",
        "shell_call_output",
        "Runs shell commands on the user's machine and returns their output.",
        b'{"type":"object","properties":{"commands":{"type":"array","items":{"type":"string"}},'
        b'"timeout_ms":{"type":"integer"},"max_output_length":{"type":"integer"}},"required":["commands"]}',
    ),
    "apply_patch": FixedTool(
        "apply_patch_call",
        "operation",
        "apply_patch_call_output",
        "Creates, changes or deletes one file.",
        b'{"type":"object","properties":{"type":{"type":"string","enum":["create_file","update_file","delete_file"]},'
        b'"path":{"type":"string"},"diff":{"type":"string","description":"The changes, in the V4A format of diffs; for'
        b' a new file, each line begins with +"}},"required":["type","path"]}',
    ),
    "tool_search": FixedTool(
        "tool_search_call",
        "arguments",
        "tool_search_output",
        "Finds further tools; those that it returns can be called afterwards.",
        b'{"type":"object","properties":{"query":{"type":"string"}},"required":["query"]}',
    ),
}
"""By the type of the tool, which is its name as a function."""

TYPE_OF_CALL: Final[Mapping[str, str]] = {tool.call: type_ for type_, tool in FIXED_TOOLS.items()}
TYPE_OF_OUTPUT: Final[Mapping[str, str]] = {tool.output: type_ for type_, tool in FIXED_TOOLS.items()}


def member_of_call(tool: FixedTool, arguments: str) -> bytes | None:
    """Return the JSON text of the call's member for a function's *arguments*; None if they are no object."""
    given = read(_OBJECT, arguments.encode())
    if given is None:
        return None
    missing = {name: value for name, value in tool.required.items() if name not in given}
    return msgspec.json.encode({**missing, **given}) if missing else arguments.encode()


_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
