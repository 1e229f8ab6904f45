"""Plays a fault on one request, in place of its answer or by changing its answer."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import msgspec

from nexus.simulator import faults
from nexus.simulator.errors import error_events, refusal_answer
from nexus.simulator.messages import Answer, Event, Events, Request, json_answer
from nexus.simulator.refusals import Refusal
from nexus.simulator.sending import Delivery, chunk, head_of, send, send_events, silence

ARRIVAL_S: Final = 0.02
"""A pause before RST, so that the client receives what was sent: RST discards it."""


def changed(request: Request, fault: faults.Fault | None) -> Request:
    """Return *request* as a server with this fault would read it."""
    if not isinstance(fault, faults.IgnoreStream):
        return request
    try:
        body = msgspec.json.decode(request.body, type=dict[str, Any])
    except msgspec.DecodeError:
        return request
    return msgspec.structs.replace(request, body=msgspec.json.encode({**body, "stream": fault.streams}))


def replaces_answer(fault: faults.Fault) -> bool:
    """Return whether the fault replaces the answer, so that the engine has nothing to do."""
    if isinstance(fault, faults.Stall):
        return fault.phase in {"before_headers", "status_line"}
    return type(fault) in REPLACING


async def replace_answer(delivery: Delivery, fault: faults.Fault) -> None:
    """Play a fault that replaces the answer."""
    await REPLACING[type(fault)](delivery, fault)


async def send_broken(delivery: Delivery, answer: Answer, fault: faults.Fault) -> None:
    """Send *answer* with the fault applied."""
    await CHANGING[type(fault)](delivery, answer, fault)


# Faults that replace the answer.


async def _stall_at_once(delivery: Delivery, fault: faults.Stall) -> None:
    if fault.phase == "status_line":
        await delivery.write(b"HTTP/1.1 20")
    await silence()


async def _hang_up(delivery: Delivery, fault: faults.HangUp) -> None:
    del fault
    delivery.connection.close()


async def _reset(delivery: Delivery, fault: faults.Reset) -> None:
    del fault
    delivery.connection.reset()


async def _status(delivery: Delivery, fault: faults.Status) -> None:
    overloaded = refusal_answer(Refusal("overloaded"), delivery.dialect.name, delivery.record.path)
    retry_after = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
    body = overloaded.body if fault.body is None else fault.body.encode()
    await send(delivery, Answer(body, fault.status, headers={**fault.headers, **retry_after}), delivery.write)


async def _decline(delivery: Delivery, fault: faults.Decline) -> None:
    request = delivery.record.request
    is_stream = b'"stream":true' in request.body.replace(b" ", b"")
    refusal = Refusal(fault.reason, is_stream=is_stream)
    answer = refusal_answer(refusal, delivery.dialect.name, delivery.record.path)
    await send(delivery, answer, delivery.write)


async def _garbage(delivery: Delivery, fault: faults.Garbage) -> None:
    await delivery.write((bytes(range(256)) * (fault.size // 256 + 1))[: fault.size])
    delivery.connection.close()


async def _informational_flood(delivery: Delivery, fault: faults.InformationalFlood) -> None:
    while True:
        await delivery.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await asyncio.sleep(fault.interval_s)


async def _html_page(delivery: Delivery, fault: faults.HtmlPage) -> None:
    del fault
    page = b"<!doctype html><title>Error</title><h1>Something went wrong</h1>"
    await send(delivery, Answer(page, content_type="text/html"), delivery.write)


async def _error_in_success(delivery: Delivery, fault: faults.ErrorInSuccess) -> None:
    await send(delivery, Answer(ERROR_SHAPES[fault.shape]), delivery.write)


ERROR_SHAPES: Final[Mapping[str, bytes]] = {
    "object": b'{"error":{"message":"the engine broke","type":"server_error","code":null}}',
    "printed": b'{\n  "id": "x-1",\n  "created": 1,\n  "error": {\n    "message": "the engine broke"\n  }\n}\n',
    "text": b'{"error":"the engine broke"}',
    "flat": b'{"object":"error","message":"the engine broke","type":"InternalServerError","param":null,"code":500}',
    "anthropic": b'{"type":"error","error":{"type":"api_error","message":"the engine broke"}}',
    "detail": b'{"detail":"the engine broke"}',
}


async def _verbatim(delivery: Delivery, fault: faults.Verbatim) -> None:
    await send(delivery, Answer(fault.body.encode(), content_type=fault.content_type), delivery.write)


async def _redirect(delivery: Delivery, fault: faults.Redirect) -> None:
    await send(delivery, Answer(b"", 302, headers={"Location": fault.location}), delivery.write)


REPLACING: Final[Mapping[type[faults.Fault], Callable[[Delivery, Any], Awaitable[None]]]] = {
    faults.Stall: _stall_at_once,
    faults.HangUp: _hang_up,
    faults.Reset: _reset,
    faults.Status: _status,
    faults.Decline: _decline,
    faults.Garbage: _garbage,
    faults.InformationalFlood: _informational_flood,
    faults.HtmlPage: _html_page,
    faults.Verbatim: _verbatim,
    faults.ErrorInSuccess: _error_in_success,
    faults.Redirect: _redirect,
}


# Faults that change the answer.


async def _stall_later(delivery: Delivery, answer: Answer, fault: faults.Stall) -> None:
    await _send_beginning(delivery, answer, fault.after_events if fault.phase == "mid_stream" else None)
    await silence()


async def _cut(delivery: Delivery, answer: Answer, fault: faults.Cut) -> None:
    is_whole = fault.ending == "terminate"
    await _send_beginning(delivery, answer, fault.after_events, half=fault.mid_event, is_whole=is_whole)
    if is_whole and not isinstance(answer.body, bytes):
        await delivery.write(b"0\r\n\r\n")
    elif fault.ending == "reset":
        await asyncio.sleep(ARRIVAL_S)
        delivery.connection.reset()
    delivery.connection.close()


async def _send_beginning(
    delivery: Delivery, answer: Answer, after_events: int | None, *, half: bool = False, is_whole: bool = False
) -> None:
    """Send the head and, unless *after_events* is None, part of the body.

    :param is_whole: frame that part as a complete body.
    """
    delivery.record.status = answer.status
    if isinstance(answer.body, bytes):
        part = b"" if after_events is None else answer.body[: len(answer.body) // 2]
        length = len(part if is_whole else answer.body)
        await delivery.write(head_of(answer, delivery.dialect, {"Content-Length": str(length)}) + part)
        return
    head = head_of(answer, delivery.dialect, {"Transfer-Encoding": "chunked"})
    async with aclosing(answer.body) as events:
        await send_events(delivery, head, _first(events, after_events or 0), delivery.write)
        if half and (event := await anext(events, None)) is not None:
            piece = event.wire[: len(event.wire) // 2]
            await delivery.write(chunk(piece) if is_whole else chunk(event.wire)[: -len(event.wire) + len(piece)])


async def _first(events: Events, count: int) -> Events:
    for _ in range(count):
        if (event := await anext(events, None)) is None:
            return
        yield event


async def _comments_only(delivery: Delivery, answer: Answer, fault: faults.CommentsOnly) -> None:
    delivery.record.status = answer.status
    await delivery.write(head_of(answer, delivery.dialect, {"Transfer-Encoding": "chunked"}))
    comment = chunk(b": still there\n\n" if answer.content_type == "text/event-stream" else b"\n")
    while True:
        await delivery.write(comment)
        await asyncio.sleep(fault.interval_s)


async def _unfinished(delivery: Delivery, answer: Answer, fault: faults.Unfinished) -> None:
    dropped = {"end"} if fault.has_finish_reason else {"end", "finish"}

    async def kept(events: Events) -> Events:
        async for event in events:
            if event.part not in dropped:
                yield event

    await send(delivery, _with_events(answer, kept), delivery.write)


async def _error_event(delivery: Delivery, answer: Answer, fault: faults.ErrorEvent) -> None:
    kind, path = delivery.dialect.name, delivery.record.path

    async def broken(events: Events) -> Events:
        async for event in _first(events, fault.after_events):
            yield event
        for event in error_events(kind, path):
            yield event

    is_stream = not isinstance(answer.body, bytes)
    error = json_answer({"error": {"message": "the engine broke", "type": "server_error", "code": None}}, 500)
    await send(delivery, _with_events(answer, broken) if is_stream else error, delivery.write)


async def _mislabel(delivery: Delivery, answer: Answer, fault: faults.Mislabel) -> None:
    await send(delivery, msgspec.structs.replace(answer, content_type=fault.content_type), delivery.write)


async def _ignore_stream(delivery: Delivery, answer: Answer, fault: faults.IgnoreStream) -> None:
    # changed() has already changed the request, and so the answer.
    del fault
    await send(delivery, answer, delivery.write)


async def _heartbeats(delivery: Delivery, answer: Answer, fault: faults.Heartbeats) -> None:
    comment = Event(b": still there\n\n" if answer.content_type == "text/event-stream" else b"\n", "start")
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + fault.for_s

    async def late(events: Events) -> Events:
        while loop.time() < ends_at:
            yield comment
            await asyncio.sleep(fault.interval_s)
        async for event in events:
            yield event

    if isinstance(answer.body, bytes):
        await asyncio.sleep(fault.for_s)
    await send(delivery, _with_events(answer, late), delivery.write)


async def _huge_event(delivery: Delivery, answer: Answer, fault: faults.HugeEvent) -> None:
    async def padded(events: Events) -> Events:
        sent = 0
        async for event in events:
            is_padded = 0 <= sent - fault.after_events < fault.count
            yield _pad(event, fault.size) if is_padded else event
            sent += 1

    if isinstance(answer.body, bytes):
        answer = msgspec.structs.replace(answer, body=_pad(Event(answer.body), fault.size).wire)
    await send(delivery, _with_events(answer, padded), delivery.write)


def _pad(event: Event, size: int) -> Event:
    # JSON allows whitespace after an opening brace.
    return msgspec.structs.replace(event, wire=event.wire.replace(b"{", b"{" + b" " * size, 1))


def _with_events(answer: Answer, change: Callable[[Events], AsyncGenerator[Event, None]]) -> Answer:
    if isinstance(answer.body, bytes):
        return answer
    return msgspec.structs.replace(answer, body=change(answer.body))


async def _drip(delivery: Delivery, answer: Answer, fault: faults.Drip) -> None:
    async def drop_by_drop(wire: bytes) -> None:
        for position in range(len(wire)):
            await delivery.write(wire[position : position + 1])
            await asyncio.sleep(fault.interval_s)

    await send(delivery, answer, drop_by_drop)


async def _wrong_length(delivery: Delivery, answer: Answer, fault: faults.WrongLength) -> None:
    delivery.record.status = answer.status
    body = answer.body
    if not isinstance(body, bytes):
        body = b"".join([event.wire async for event in body])
    length = {"Content-Length": str(max(0, len(body) + fault.by_bytes))}
    await delivery.write(head_of(answer, delivery.dialect, length) + body)
    if fault.by_bytes > 0:
        delivery.connection.close()


async def _bad_headers(delivery: Delivery, answer: Answer, fault: faults.BadHeaders) -> None:
    headers = {**answer.headers, **FLAWS[fault.flaw]}
    await send(delivery, msgspec.structs.replace(answer, headers=headers), delivery.write)


FLAWS: Final[Mapping[str, Mapping[str, str]]] = {
    "control_characters": {"X-Odd": "a\x01b\x7f"},
    "too_many": {f"X-Odd-{number}": "1" for number in range(300)},
    "too_long": {"X-Odd": "a" * 20_480},
}

CHANGING: Final[Mapping[type[faults.Fault], Callable[[Delivery, Answer, Any], Awaitable[None]]]] = {
    faults.Stall: _stall_later,
    faults.Cut: _cut,
    faults.CommentsOnly: _comments_only,
    faults.Unfinished: _unfinished,
    faults.ErrorEvent: _error_event,
    faults.HugeEvent: _huge_event,
    faults.Mislabel: _mislabel,
    faults.IgnoreStream: _ignore_stream,
    faults.Heartbeats: _heartbeats,
    faults.Drip: _drip,
    faults.WrongLength: _wrong_length,
    faults.BadHeaders: _bad_headers,
}
