"""Reads the content of Anthropic's messages."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from nexus.errors import RequestError
from nexus.translation.anthropic.signatures import is_foreign
from nexus.translation.chat import File, Image, Part, Text, Thinking, ToolCall, ToolResult
from nexus.translation.refusals import not_translatable

NOTHING: Final = msgspec.Raw()


class Source(msgspec.Struct, gc=False):
    """Where the bytes of an image or a document are."""

    type: str | None = None
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: "str | list[Block] | None" = None


class Block(msgspec.Struct):
    """A block of content, with the members that blocks of any type have."""

    type: str | None = None
    text: str | None = None
    source: Source | str | None = None
    """A text in the results of a search."""
    title: str | None = None
    context: str | None = None
    """What else the model is told of a document."""
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NOTHING
    tool_use_id: str | None = None
    content: "str | list[Block] | Block | None" = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    cache_control: msgspec.Raw = NOTHING
    citations: msgspec.Raw = NOTHING


Content = str | list[Block] | None


BILLING_MARK: Final = "x-anthropic-billing-header:"
"""Begins a line that Claude Code puts before its system prompt, for Anthropic's API alone. It changes with the version
and the conversation, so that no cache of prompts would ever find the rest again."""


def system_parts(content: Content, lost: set[str]) -> tuple[Part, ...]:
    """Return the parts of a system prompt."""
    parts = parts_of(content, lost)
    kept = tuple(part for part in parts if not (isinstance(part, Text) and part.text.startswith(BILLING_MARK)))
    if len(kept) < len(parts):
        lost.add("x-anthropic-billing-header")
    return kept


def parts_of(content: Content, lost: set[str]) -> tuple[Part, ...]:
    """Return *content* as parts, and add to *lost* what has no place there.

    :raises RequestError: ``not_translatable``: it refers to a file that only the provider has.
    """
    if not content:
        return ()
    if isinstance(content, str):
        return (Text(content),)
    return tuple(part for block in content for part in _parts_of_block(block, lost))


def _parts_of_block(block: Block, lost: set[str]) -> Iterable[Part]:
    if is_given(block.cache_control):
        lost.add("cache_control")
    if is_given(block.citations):
        lost.add("citations")
    read = _READERS.get(block.type or "")
    if read is None:
        lost.add(f"messages.{block.type}")
        return ()
    return read(block, lost)


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a member is present, and not null."""
    return bool(raw) and bytes(raw) != b"null"


def _text(block: Block, _lost: set[str]) -> Iterable[Part]:
    return (Text(block.text),) if block.text else ()


def _image(block: Block, _lost: set[str]) -> Iterable[Part]:
    source = block.source
    if isinstance(source, Source):
        if source.data:
            return (Image(data=source.data, media_type=source.media_type or ""),)
        if source.url:
            return (Image(url=source.url),)
    raise _unavailable("an image")


def _document(block: Block, lost: set[str]) -> Iterator[Part]:
    source, name = block.source, block.title or ""
    if block.context:
        yield Text(block.context)
    if not isinstance(source, Source):
        raise _unavailable("a document")
    if source.type == "text":
        yield File(text=source.data or "", media_type=source.media_type or "text/plain", name=name)
    elif source.content:
        yield from parts_of(source.content, lost)
    elif source.data:
        yield File(data=source.data, media_type=source.media_type or "application/pdf", name=name)
    elif source.url:
        yield File(url=source.url, media_type="application/pdf", name=name)
    else:
        raise _unavailable("a document")


def _search_result(block: Block, lost: set[str]) -> Iterator[Part]:
    """Return what a search of the client found as text: other dialects have no other place for it."""
    where = block.source if isinstance(block.source, str) else ""
    if heading := "\n".join(line for line in (block.title, where) if line):
        yield Text(heading)
    yield from parts_of(_nested(block), lost)


def _thinking(block: Block, lost: set[str]) -> Iterable[Part]:
    # What Anthropic's API has signed is of no use to other servers. Thoughts without a signature came from one of those
    # by a translation, as did signatures with their marks, and some models need them.
    signature = block.signature or ""
    if signature and not is_foreign(signature):
        lost.add("messages.thinking")
        return ()
    return (Thinking(block.thinking or "", signature),) if block.thinking or signature else ()


def _tool_use(block: Block, _lost: set[str]) -> Iterable[Part]:
    arguments = bytes(block.input).decode(errors="replace") if is_given(block.input) else "{}"
    return (ToolCall(block.id or "", block.name or "", arguments),)


def _tool_result(block: Block, lost: set[str]) -> Iterable[Part]:
    parts = tuple(p for p in parts_of(_nested(block), lost) if isinstance(p, Text | Image | File))
    return (ToolResult(block.tool_use_id or "", parts, is_error=bool(block.is_error)),)


def _compaction(block: Block, lost: set[str]) -> Iterable[Part]:
    """Return the summary that stands for the turns before it."""
    return parts_of(_nested(block), lost)


def _container_upload(_block: Block, _lost: set[str]) -> Iterable[Part]:
    raise _unavailable("a file")


def _nested(block: Block) -> Content:
    return [block.content] if isinstance(block.content, Block) else block.content


def _unavailable(what: str) -> RequestError:
    return not_translatable("messages", f"send {what} in base64 or as a URL, not by the id of a file")


_READERS: Final[Mapping[str, Callable[[Block, set[str]], Iterable[Part]]]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "thinking": _thinking,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "compaction": _compaction,
    "container_upload": _container_upload,
}
"""By the type of the block. Blocks of any other type are of tools that the provider runs, or encrypted thoughts."""
