"""Rewrites JSON schemas for providers that take only a part of the language."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.translation.quirks import Quirks

MAX_DEPTH: Final = 64
"""Deeper schemas are cut; so are those that refer to themselves, where references cannot be sent."""
MAX_NODES: Final = 200_000
"""Per request, as references that are replaced can make a schema grow exponentially."""

_DECODER: Final = msgspec.json.Decoder(dict[str, Any])
_NAMED: Final = frozenset({"properties"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_ANYTHING: Final = "string"
"""The type of a node that allows any: the provider requires one."""


class Schemas:
    """The schemas of one request, as its provider takes them."""

    def __init__(self, quirks: Quirks) -> None:
        self._keys = quirks.schema_keys
        self._root: Mapping[str, Any] = {}
        self._nodes = 0

    def adapted(self, schema: msgspec.Raw) -> msgspec.Raw:
        """Return *schema* byte for byte, unless the provider takes only some keys."""
        if not self._keys:
            return schema
        try:
            self._root = _DECODER.decode(schema)
        except msgspec.DecodeError:
            return schema
        return msgspec.Raw(msgspec.json.encode(self.node(self._root, ())))

    def node(self, node: Any, within: tuple[str, ...]) -> dict[str, Any]:
        """Return *node* in the provider's part of the language; *within* has the references that led to it."""
        self._nodes += 1
        if not isinstance(node, Mapping) or len(within) > MAX_DEPTH or self._nodes > MAX_NODES:
            return {"type": _ANYTHING}
        parts = node.get("allOf")
        if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], Mapping):
            node = {**parts[0], **{key: value for key, value in node.items() if key != "allOf"}}
        reference = node.get("$ref")
        if isinstance(reference, str):
            target = None if reference in within else self._find(reference)
            beside = {key: value for key, value in node.items() if key != "$ref"}
            # The depth of a reference to itself is unbounded, so it ends as an object of any kind.
            found = {"type": "object"} if target is None else self.node(target, (*within, reference))
            return {**found, **({"description": beside["description"]} if "description" in beside else {})}
        return self._with_type(
            {key: self._value(key, value, within) for key, value in _in_other_words(node).items() if key in self._keys}
        )

    def _value(self, key: str, value: Any, within: tuple[str, ...]) -> Any:
        if key in _NAMED and isinstance(value, Mapping):
            return {name: self.node(each, (*within, "")) for name, each in value.items()}
        if key in _LISTS and isinstance(value, list):
            return [self.node(each, (*within, "")) for each in value]
        if key == "items":
            return self.node(value[0] if isinstance(value, list) and value else value, (*within, ""))
        return value

    @staticmethod
    def _with_type(node: dict[str, Any]) -> dict[str, Any]:
        """Return *node* with what the provider requires: a type, that of items, and strings as values."""
        if "type" not in node and "anyOf" not in node:
            node = {"type": "object" if "properties" in node else "array" if "items" in node else _ANYTHING, **node}
        if node.get("type") == "array" and "items" not in node:
            node["items"] = {"type": _ANYTHING}
        if node.get("type") != "string":
            node.pop("enum", None)
        if "required" in node:
            known = node.get("properties") or {}
            node["required"] = [name for name in node["required"] if name in known]
            if not node["required"]:
                del node["required"]
        return node

    def _find(self, reference: str) -> Any:
        """Return what a reference within the schema points to, as in RFC 6901; None if it points elsewhere."""
        if not reference.startswith("#"):
            return None
        found: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if not step:
                continue
            if not isinstance(found, Mapping):
                return None
            found = found.get(step.replace("~1", "/").replace("~0", "~"))
        return found


def _in_other_words(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return *node* without the keys that have an equivalent which more providers take."""
    said = dict(node)
    types = said.get("type")
    if isinstance(types, list):
        others = [each for each in types if each != "null"]
        if len(others) < len(types):
            said["nullable"] = True
        if len(others) == 1:
            said["type"] = others[0]
        else:
            del said["type"]
            if others:
                said["anyOf"] = [{"type": each} for each in others]
    if "const" in said:
        said.setdefault("enum", [said["const"]])
    if "oneOf" in said:
        said.setdefault("anyOf", said["oneOf"])
    if isinstance(said.get("enum"), list):
        said["enum"] = [value for value in said["enum"] if isinstance(value, str)]
        if not said["enum"]:
            del said["enum"]
    if said.get("format") not in _FORMATS:
        said.pop("format", None)
    return said


_FORMATS: Final = frozenset({"enum", "date-time", "int32", "int64", "float", "double"})
"""The formats of Google's API; it refuses all others."""
