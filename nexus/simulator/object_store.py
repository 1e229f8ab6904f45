"""Stores responses, conversations, files and batches in memory."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.simulator.refusals import Refusal


class ObjectStore(msgspec.Struct):
    """Objects by id, in insertion order."""

    objects: dict[str, dict[str, Any]] = {}
    contents: dict[str, bytes] = {}
    """The contents of files, by id."""

    def put(self, thing: Mapping[str, Any], content: bytes | None = None) -> Mapping[str, Any]:
        self.objects[thing["id"]] = dict(thing)
        if content is not None:
            self.contents[thing["id"]] = content
        return thing

    def get(self, id_: str, kind: str) -> dict[str, Any]:
        """Return an object by id and kind. :raises Refusal: when there is none."""
        found = self.objects.get(id_)
        if found is None or found["object"] != kind:
            raise Refusal("not_kept", detail=id_)
        return found

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Return all objects of one kind, newest first."""
        return [thing for thing in reversed(self.objects.values()) if thing["object"] == kind]

    def delete(self, id_: str, kind: str) -> Mapping[str, Any]:
        self.get(id_, kind)
        del self.objects[id_]
        self.contents.pop(id_, None)
        return {"id": id_, "object": f"{kind}.deleted" if kind != "file" else kind, "deleted": True}
