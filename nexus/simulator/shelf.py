"""What a simulated server keeps for its clients: responses, conversations, files, batches; gone when it ends."""

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.simulator.refusals import Refusal


class Shelf(msgspec.Struct):
    """Everything by its id, in the order in which it was put there."""

    objects: dict[str, dict[str, Any]] = {}
    contents: dict[str, bytes] = {}
    """Of files."""

    def put(self, thing: Mapping[str, Any], content: bytes | None = None) -> Mapping[str, Any]:
        self.objects[thing["id"]] = dict(thing)
        if content is not None:
            self.contents[thing["id"]] = content
        return thing

    def get(self, id_: str, kind: str) -> dict[str, Any]:
        """Return the object of that id and kind. :raises Refusal: there is none."""
        found = self.objects.get(id_)
        if found is None or found["object"] != kind:
            raise Refusal("not_kept", detail=id_)
        return found

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Return all of one kind, the newest first."""
        return [thing for thing in reversed(self.objects.values()) if thing["object"] == kind]

    def delete(self, id_: str, kind: str) -> Mapping[str, Any]:
        self.get(id_, kind)
        del self.objects[id_]
        self.contents.pop(id_, None)
        return {"id": id_, "object": f"{kind}.deleted" if kind != "file" else kind, "deleted": True}
