"""Endpoints for objects that a server stores: responses, conversations, files, uploads and batches."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nexus.simulator.call import CREATED, Call
from nexus.simulator.messages import Answer, Event, Events, json_answer
from nexus.simulator.multipart import form_fields

Endpoint = Callable[[Call], Awaitable[Answer]]


def show(kind: str) -> Endpoint:
    async def shown(call: Call) -> Answer:
        return json_answer(call.store.get(call.ids[0], kind))

    return shown


def delete(kind: str) -> Endpoint:
    async def deleted(call: Call) -> Answer:
        return json_answer(call.store.delete(call.ids[0], kind))

    return deleted


def rows(kind: str) -> Endpoint:
    async def listed(call: Call) -> Answer:
        return json_answer(_list(call.store.rows(kind)))

    return listed


def become(kind: str, status: str) -> Endpoint:
    """Set the status of an object."""

    async def changed(call: Call) -> Answer:
        thing = call.store.get(call.ids[0], kind)
        thing["status"] = status
        return json_answer(thing)

    return changed


def update(kind: str) -> Endpoint:
    """Set the metadata of an object."""

    async def updated(call: Call) -> Answer:
        thing = call.store.get(call.ids[0], kind)
        thing["metadata"] = call.json().get("metadata")
        return json_answer(thing)

    return updated


def parts(kind: str, member: str) -> Endpoint:
    """List the items in *member* of an object."""

    async def listed(call: Call) -> Answer:
        return json_answer(_list(call.store.get(call.ids[0], kind).get(member) or []))

    return listed


async def upload_file(call: Call) -> Answer:
    fields = form_fields(call.request)
    content = fields.get("file", b"")
    purpose = fields.get("purpose", b"user_data").decode()
    return json_answer(call.store.put(_file(call, f"file-{call.id}", len(content), purpose), content))


async def file_content(call: Call) -> Answer:
    call.store.get(call.ids[0], "file")
    content = call.store.contents[call.ids[0]]
    return Answer(_pieces(content), content_type="application/jsonl")


async def begin_upload(call: Call) -> Answer:
    body = call.json()
    upload = {"id": f"upload_{call.id}", "object": "upload", "created_at": CREATED, "status": "pending", "file": None}
    return json_answer(call.store.put(upload | {name: body.get(name) for name in ("bytes", "filename", "purpose")}))


async def upload_part(call: Call) -> Answer:
    call.store.get(call.ids[0], "upload")
    content = form_fields(call.request).get("data", b"")
    part = {"id": f"part_{call.id}", "object": "upload.part", "created_at": CREATED, "upload_id": call.ids[0]}
    return json_answer(call.store.put(part, content))


async def complete_upload(call: Call) -> Answer:
    upload = call.store.get(call.ids[0], "upload")
    content = b"".join(call.store.contents[id_] for id_ in call.json()["part_ids"])
    file = call.store.put(_file(call, f"file-{call.id}", len(content), upload["purpose"]), content)
    upload.update(status="completed", file=file)
    return json_answer(upload)


async def create_batch(call: Call) -> Answer:
    body = call.json()
    call.store.get(body["input_file_id"], "file")
    output = call.store.put(_file(call, f"file-out-{call.id}", 3, "batch_output"), b"{}\n")
    batch = {
        "id": f"batch_{call.id}",
        "object": "batch",
        "endpoint": body["endpoint"],
        "input_file_id": body["input_file_id"],
        "output_file_id": output["id"],
        "completion_window": body["completion_window"],
        "created_at": CREATED,
        "status": "completed",
    }
    return json_answer(call.store.put(batch))


async def create_conversation(call: Call) -> Answer:
    body = call.json() if call.request.body else {}
    conversation = {"id": f"conv_{call.id}", "object": "conversation", "created_at": CREATED, "metadata": {}}
    return json_answer(call.store.put(conversation | {"items": body.get("items") or []}))


async def create_message_batch(call: Call) -> Answer:
    requests = call.json()["requests"]
    counts = {"processing": 0, "succeeded": len(requests), "errored": 0, "canceled": 0, "expired": 0}
    batch = {
        "id": f"msgbatch_{call.id}",
        "object": "message_batch",
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": counts,
        "created_at": "2023-11-14T22:13:20Z",
        "expires_at": "2023-11-15T22:13:20Z",
        "results_url": None,
    }
    lines = b"".join(b'{"custom_id":"%b"}\n' % request["custom_id"].encode() for request in requests)
    return json_answer(call.store.put(batch, lines))


async def message_batch_results(call: Call) -> Answer:
    call.store.get(call.ids[0], "message_batch")
    return Answer(_pieces(call.store.contents[call.ids[0]]), content_type="application/x-jsonl")


async def moderations(call: Call) -> Answer:
    body = call.json()
    given = body.get("input")
    texts = given if isinstance(given, list) else [given]
    results = [{"flagged": "kill" in str(text), "categories": {}, "category_scores": {}} for text in texts]
    model = body.get("model") or "omni-moderation-latest"
    return json_answer({"id": f"modr-{call.id}", "model": model, "results": results})


async def input_tokens(call: Call) -> Answer:
    call.model(call.json().get("model"))
    return json_answer({"object": "response.input_tokens", "input_tokens": len(call.request.body) // 4})


def _file(call: Call, id_: str, size: int, purpose: str) -> dict[str, Any]:
    head = {"id": id_, "object": "file", "bytes": size, "created_at": CREATED, "status": "processed"}
    return head | {"filename": f"{call.settings.name}.jsonl", "purpose": purpose}


def _list(things: list[Any]) -> Mapping[str, Any]:
    ids = [thing.get("id") for thing in things if isinstance(thing, dict)] or [None]
    return {"object": "list", "data": things, "first_id": ids[0], "last_id": ids[-1], "has_more": False}


async def _pieces(content: bytes) -> Events:
    yield Event(content)
